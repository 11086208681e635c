"""The reader model's tokenizer: byte-level BPE; an id falls into the same pieces everywhere.

What breaks copying is a piece that holds a value's first letters and the space or quote before
them. So letters, pairs of digits, runs of punctuation and white space never share a piece.
"""

from __future__ import annotations

import argparse
import calendar
import email
import json
import logging
import pathlib
import random
import shutil
import subprocess
import textwrap
import unittest
from collections.abc import Iterable, Iterator
from types import ModuleType

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PIECES = 4096
MAX_LENGTH = 8192
PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant", "tool")
SPECIAL = (PAD, END, *(f"<|{role}|>" for role in ROLES))
TAGS = ("<tool_call>", "</tool_call>")
CHAT_TEMPLATE = pathlib.Path(__file__).with_name("chat_template.jinja")

# Signs that values begin with or consist of (paths, phones, ids) stand alone; others join in runs.
_SIGNS = r"\-/+#@~$._*"
_OTHER = rf"[^\s\p{{L}}\p{{N}}{_SIGNS}]+"
_SPLIT = rf"\p{{L}}+_?|\p{{N}}{{1,2}}|[{_SIGNS}]| ?{_OTHER}(?: {_OTHER})* ?|\s+"
_ENGLISH: tuple[ModuleType, ...] = (
    argparse, calendar, email, json, logging, pathlib, random, shutil, subprocess, textwrap,
    unittest,
)  # fmt: skip


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the pieces on practice texts, the standard library's docstrings and all digit pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(s, special=True, normalized=False) for s in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES - len(TAGS),
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(texts), trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
    return fast


def _corpus(texts: Iterable[str]) -> Iterator[str]:
    yield from texts
    pairs = " ".join(f"{number:02d}" for number in range(100))
    yield from [pairs] * 200
    for module in _ENGLISH:
        for value in vars(module).values():
            for member in (value, *vars(value).values()) if isinstance(value, type) else (value,):
                text = getattr(member, "__doc__", None)
                if isinstance(text, str):
                    yield text
