"""The second shipped model: small, standard, ids cut alike everywhere; it copies and looks up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from orch_env.formats.hermes import HermesFormat
from orch_env.types import ToolCall, ToolSpec
from orch_train.chat.renderer import ChatRenderer
from orch_train.config.model_folder import BUNDLED_MODELS
from orch_train.models.files import load_tokenizer
from orch_train.models.load import load_model
from tools.reader_model.build import Phase, Recipe, new_model, practise
from tools.reader_model.circuit import COPY_HEADS
from tools.reader_model.conversations import Page, choice, draw_value, episode, lookups, pair
from tools.reader_model.evaluate import choose, look_up, verbatim
from tools.reader_model.practice import Mix, batch, tokens_of
from tools.reader_model.tokenizer import SPECIAL

READER = BUNDLED_MODELS / "reader"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("reader")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return load_model("reader")


def test_it_is_small_and_standard(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert sum(file.stat().st_size for file in READER.iterdir()) < 6_000_000
    config = json.loads((READER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 8192
    assert isinstance(model, LlamaForCausalLM)
    assert len(tokenizer) == model.config.vocab_size == 4096


@pytest.mark.long
def test_the_shipped_tokenizer_is_the_one_the_script_builds(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """In a process of its own: docstrings of modules that others loaded would count as well."""
    code = (
        "import json; from tools.reader_model.build import reader_tokenizer; "
        "print(json.dumps(reader_tokenizer().get_vocab()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == tokenizer.get_vocab()


def test_any_text_survives(tokenizer: PreTrainedTokenizerBase) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def survives(text: str) -> None:
        if not any(special in text for special in SPECIAL):
            assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text

    survives()


@pytest.mark.parametrize("kind", ["id", "date", "time", "moment", "email", "path", "person"])
def test_a_value_falls_into_the_same_pieces_everywhere(
    tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    rng = Random(kind)
    for _ in range(60):
        value = draw_value(kind, rng).text
        pieces = tokenizer.encode(value, add_special_tokens=False)
        for text in (
            f"Cancel {value}, please",
            f"Send it to {value}.",
            f'{{"id": "{value}", "name": "x"}}',
            f'"arguments": {{"source": "x", "target": "{value}"}}}}',
            f'["{value}"]',
            f"({value})\n",
        ):
            found = tokenizer.encode(text, add_special_tokens=False)
            assert pieces in [found[i : i + len(pieces)] for i in range(len(found))], (value, text)


def test_tools_are_offered_in_a_line_each_and_calls_are_quoted_json(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    chat = ChatRenderer(tokenizer, HermesFormat())
    spec = ToolSpec("pay", "Pays.", {"type": "object", "properties": {"to": {}, "amount": {}}})
    opening = tokenizer.decode(chat.start([{"role": "user", "content": "Pay."}], [spec, spec]))
    assert opening == (
        "<|system|>Tools:\npay(to, amount)\npay(to, amount)<|end|><|user|>Pay.<|end|><|assistant|>"
    )
    action = HermesFormat().render_calls([ToolCall("pay", {"to": "A-1", "amount": 2.5})])
    assert chat.decode(chat.encode_action(action)) == action
    results = [{"role": "tool", "content": "{}"}, {"role": "tool", "content": "[]"}]
    seen = tokenizer.decode(chat.observe(results, [spec]))
    assert seen == "<|tool|>{}<|end|><|tool|>[]<|end|><|assistant|>"


@pytest.mark.parametrize(("length", "least"), [(60, 0.97), (1000, 0.97), (4000, 0.97)])
def test_it_copies_over_thousands_of_tokens(
    model: PreTrainedModel, length: int, least: float
) -> None:
    assert verbatim(model, length, Random(length), count=3) >= least


def test_it_answers_a_look_up_by_key(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    exact, _, distance = look_up(model, tokenizer, 340, Random(3), 16)
    assert distance > 300
    assert exact >= 0.93


def test_it_chooses_among_two_rows_better_than_by_chance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert choose(model, tokenizer, 2, Random(3), 30)[0] > 0.65


def test_the_planted_circuit_copies_before_any_practice(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    planted = new_model(tokenizer, Recipe(), seed=3)
    assert verbatim(planted, 250, Random(0), count=1) > 0.95
    planted.model.layers[0].self_attn.o_proj.weight.data.zero_()
    assert verbatim(planted, 250, Random(0), count=1) < 0.2


def test_what_is_to_be_looked_at_is_what_is_to_be_written(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rng, seen = Random(0), 0
    for number in range(20):
        page = Page(varied=True)
        (episode, pair)[number % 2](page, rng)
        choice(page, rng, 3)
        lookups(page, rng, 200, 4)
        made = tokens_of(page, tokenizer)
        assert tokenizer.decode(made.ids) == page.text
        for look in made.looks:
            assert look.start < look.end <= look.place + 1
            if look.head in COPY_HEADS:
                seen += 1
                assert made.ids[look.start] == made.ids[look.place + 1]
    assert seen > 300


def test_practice_is_the_same_each_time_and_changes_the_weights(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    mix = Mix()
    one, two = (batch(tokenizer, 2, 96, mix, Random(1)) for _ in range(2))
    assert torch.equal(one.ids_BT, two.ids_BT) and one.looks == two.looks
    recipe = replace(Recipe(), tokens=192, phases=(Phase(2, 1e-3, 1e-3, 1.0, ((96, mix),)),))
    weights = []
    for _ in range(2):
        trained = new_model(tokenizer, recipe, seed=0)
        before = trained.model.embed_tokens.weight.detach().clone()
        practise(trained, tokenizer, recipe, 0, lambda step, loss, looks: None)
        weights.append(trained.model.embed_tokens.weight.detach())
        assert not torch.equal(before, weights[-1])
    assert torch.equal(*weights)
