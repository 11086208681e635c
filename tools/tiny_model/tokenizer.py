"""The tiny tokenizer as a standard fast tokenizer, built from its pieces.

It is a unigram model over bytes. Every piece costs the same, so a text falls into
the fewest pieces, whatever stands around it; and every byte is a piece, so any text survives
encoding and decoding. There is no pre-tokenizer that would cut markup apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tools.tiny_model.vocabulary import END, PAD, SPECIAL

MAX_LENGTH = 1024
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def build_tokenizer(pieces: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make the tokenizer: special tokens first, then the 256 bytes, then the pieces.

    Args:
        pieces: strings of at least two characters, each once.
    """
    entries = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    entries += [_as_bytes(piece) for piece in pieces]
    if len(set(entries)) != len(entries):
        raise ValueError("a piece occurs twice, or is a single byte")
    # Special tokens are cut out before the model sees the text; here they only hold their ids.
    scores = [-100.0 if entry in SPECIAL else -1.0 for entry in entries]
    tokenizer = Tokenizer(models.Unigram(list(zip(entries, scores, strict=True))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
    return fast


def _as_bytes(piece: str) -> str:
    """A piece in the alphabet that stands for bytes (one printable character each)."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(text for text, _ in split.pre_tokenize_str(piece))
