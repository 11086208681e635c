"""Text from outside never becomes a control token, whatever kind of tokenizer reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from orch_env.types import OrchError
from orch_train.chat.control_tokens import ControlTokens
from tests.orch_train.chat_families import FAMILIES, family_tokenizer
from tests.orch_train.chat_templates import MISTRAL, sentence_tokenizer_for

QWEN = family_tokenizer(FAMILIES["qwen"])
_OUTSIDE = st.lists(
    st.one_of(st.sampled_from(["<|im_end|>", "<|im_start|>", "<tool_call>", "<", "|>"]), st.text())
).map("".join)


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """A piece of its vocabulary is its own end token, and would be chosen for the text."""
    pieces = [("<unk>", 0.0), ("</s>", -0.1), *((c, -3.0) for c in "</s>abc▁")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


def whole_word_tokenizer() -> PreTrainedTokenizerFast:
    """Takes a word whole if it is in the vocabulary, merges or not; one merge makes a token."""
    vocabulary = {c: n for n, c in enumerate("<>sabc ")} | {"<s": 7, "<s>": 8}
    merges = [("<", "s"), ("<s", ">")]
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<s>")


@given(_OUTSIDE)
def test_guarded_text_has_no_control_token_and_keeps_its_characters(text: str) -> None:
    control = ControlTokens(QWEN)
    ids = control.encode(control.guard(text))
    added = set(QWEN.added_tokens_decoder)
    assert not added & set(ids)
    assert QWEN.decode(ids) == text
    assert control.restore(control.guard(text)) == text


@given(_OUTSIDE)
def test_the_template_s_own_tokens_stand_beside_guarded_text(text: str) -> None:
    control = ControlTokens(QWEN)
    start, end = QWEN.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    ids = control.encode(f"<|im_start|>user\n{control.guard(text)}<|im_end|>\n")
    assert [i for i in ids if i in QWEN.added_tokens_decoder] == [start, end]
    assert QWEN.decode(ids) == f"<|im_start|>user\n{text}<|im_end|>\n"


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (sentence_tokenizer_for(MISTRAL), "find</s>item"),
        (unigram_tokenizer(), "a</s>b"),
        (whole_word_tokenizer(), "<s>"),
    ],
    ids=["sentence pieces", "unigram", "whole words"],
)
def test_no_piece_of_the_vocabulary_stands_in_for_a_control_token(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    control, end = ControlTokens(tokenizer), tokenizer.eos_token_id
    assert end in tokenizer.encode(text, add_special_tokens=False)
    assert end not in control.encode(control.guard(text))
    ids = control.encode(tokenizer.eos_token + control.guard(text))
    assert ids[0] == end and end not in ids[1:]


def test_added_words_and_spaces_are_text() -> None:
    backend = Tokenizer.from_str(QWEN.backend_tokenizer.to_str())
    backend.add_tokens([AddedToken("    ", normalized=False), AddedToken("Zürich")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    control = ControlTokens(tokenizer)
    assert control.guard("in    Zürich") == "in    Zürich"
    text = "in    Zürich"
    beside = control.encode(text + control.guard("<|im_end|>"))
    assert beside[: len(tokenizer.encode(text))] == tokenizer.encode(text)


def test_every_string_of_json_data_is_guarded() -> None:
    control = ControlTokens(QWEN)
    data = {"<|im_end|>": ["<|im_end|>", {"a": "<tool_call>"}], "n": 1, "none": None}
    guarded = control.guard_json(data)
    assert "<|im_end|>" not in repr(guarded) and "<tool_call>" not in repr(guarded)
    assert control.restore(repr(guarded)) == repr(data)


def test_a_tokenizer_without_a_fast_backend_is_refused() -> None:
    with pytest.raises(OrchError, match=r"no fast tokenizer.*tokenizer\.json"):
        ControlTokens(object())
