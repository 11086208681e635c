"""The shipped model and its tokenizer: lossless, standard, able to copy, ignorant of the tasks."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from orch_env import load_tasks, open_cache
from orch_env.formats.hermes import HermesFormat
from orch_env.types import OrchError, Task, ToolCall
from orch_train.chat.renderer import ChatRenderer
from orch_train.config.model_folder import BUNDLED_MODELS
from orch_train.models.files import load_tokenizer
from orch_train.models.load import load_model
from tools.tiny_model.build import (
    Recipe,
    build,
    copying_accuracy,
    main,
    new_model,
    tiny_tokenizer,
)
from tools.tiny_model.copying import IGNORED, Alphabet, batch, lookups, repetition
from tools.tiny_model.vocabulary import END, SPECIAL

TINY = BUNDLED_MODELS / "tiny"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("tiny")


@pytest.fixture(scope="module")
def chat(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    return ChatRenderer(tokenizer, HermesFormat())


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [str(tokenizer.decode([i])) for i in ids]


def test_the_shipped_tokenizer_is_the_one_the_script_builds(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    built = tiny_tokenizer()
    assert built.get_vocab() == tokenizer.get_vocab()
    assert built.chat_template == tokenizer.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, SPECIAL[0])


def test_any_text_survives(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    markup = st.lists(
        st.sampled_from(
            ["<tool_call>\n", '{"name": "', "find_ship", "<0x41>", "Ġ", "Ċ", "\r\n", "  ", "Kelora"]
        )
    ).map("".join)

    @settings(max_examples=300, deadline=None)
    @given(plain | markup)
    def survives(text: str) -> None:
        if not any(special in text for special in SPECIAL):
            assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text

    survives()


def test_a_call_is_a_handful_of_pieces(tokenizer: PreTrainedTokenizerBase) -> None:
    text = HermesFormat().render_calls([ToolCall("find_ship", {"name": "Kelora"})])
    assert encode(tokenizer, text) == [
        '<tool_call>\n{"name": "',
        "find_ship",
        '", "arguments": {"',
        'name": "',
        "Ke",
        "lo",
        "ra",
        '"}}\n</tool_call>',
    ]
    text = HermesFormat().render_calls([ToolCall("ship_berth", {"ship": "S-0417"})])
    assert encode(tokenizer, text)[3:-1] == ['ship": "S-', "04", "17"]


def test_names_and_ids_are_cut_alike_wherever_they_stand(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Else copying them would be another task in each place."""
    for task in load_tasks("harbour"):
        query = encode(tokenizer, task.query)
        for call in task.gold_calls:
            rendered = encode(tokenizer, HermesFormat().render_calls([call_of(call)]))
            for name, value in call.arguments.items():
                if name == "name":
                    pieces = [value[:2], value[2:4], value[4:]]
                    assert pieces in [query[i : i + 3] for i in range(len(query))]
                else:
                    pieces = [f'{name}": "{value[:2]}', value[2:4], value[4:]]
                assert pieces in [rendered[i : i + 3] for i in range(len(rendered))], value


def call_of(gold: object) -> ToolCall:
    return ToolCall(gold.name, gold.arguments)  # type: ignore[attr-defined]


def gold_trace(chat: ChatRenderer, task: Task) -> list[int]:
    with open_cache("harbour") as cache:
        specs = [cache.catalogue[name] for name in task.tool_names]
        ids = chat.start(task.messages, specs)
        for step in task.gold:
            ids += chat.encode_action(HermesFormat().render_calls([call_of(c) for c in step]))
            answers = [cache.get(c.name, c.arguments) for c in step]
            ids += chat.observe([{"role": "tool", "content": a.text} for a in answers if a])
    return ids + chat.encode_action("Done.")


def test_whole_episodes_are_short(chat: ChatRenderer) -> None:
    longest = {t.metadata["domain"]: t for t in load_tasks("harbour/heldout")}
    assert max(len(gold_trace(chat, task)) for task in longest.values()) <= 200


def test_the_template_renders_what_the_stream_holds(
    chat: ChatRenderer, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = next(t for t in load_tasks("harbour") if t.metadata["domain"] == "unloading")
    assert (chat.native_tool_role, chat.tools_in_system) == (True, False)
    assert chat.stop_token_ids == (tokenizer.eos_token_id,)
    messages: list[dict[str, object]] = list(task.messages)
    with open_cache("harbour") as cache:
        for step in task.gold:
            calls = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in step
            ]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            for call in step:
                answer = cache.get(call.name, call.arguments)
                assert answer is not None
                messages.append({"role": "tool", "content": answer.text})
        specs = [cache.catalogue[name].to_openai() for name in task.tool_names]
    messages.append({"role": "assistant", "content": "Done."})
    text = tokenizer.apply_chat_template(messages, tools=specs, tokenize=False)
    assert text == tokenizer.decode(gold_trace(chat, task)) + "\n"


def test_the_template_knows_a_system_message(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_checkpoint_is_small_and_standard() -> None:
    assert (TINY / "model.safetensors").stat().st_size < 4_000_000
    assert json.loads((TINY / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    model = load_model("tiny")
    assert isinstance(model, LlamaForCausalLM)
    assert 0.5e6 < sum(p.numel() for p in model.parameters()) < 2e6


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, alphabet: Alphabet, repeated: float) -> float:
    ids_BT, labels_BT = batch(alphabet, 24, 160, repeated, Random(99))
    return copying_accuracy(model(ids_BT).logits[:, :-1], labels_BT[:, 1:])


def test_the_shipped_model_can_copy(tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_model("tiny")
    assert isinstance(model, LlamaForCausalLM)
    alphabet = Alphabet(tokenizer)
    assert accuracy(model, alphabet, repeated=1.0) > 0.9
    assert accuracy(model, alphabet, repeated=0.0) > 0.8


def test_the_planted_circuit_copies_before_any_training() -> None:
    tokenizer = tiny_tokenizer()
    alphabet = Alphabet(tokenizer)
    planted = new_model(tokenizer, Recipe(), seed=3)
    assert accuracy(planted, alphabet, repeated=1.0) > 0.9
    planted.model.layers[0].self_attn.o_proj.weight.data.zero_()
    assert accuracy(planted, alphabet, repeated=1.0) < 0.1


@torch.no_grad()
def test_the_shipped_model_knows_no_task(chat: ChatRenderer) -> None:
    """Which tool to call is no better guessed than by chance."""
    model = load_model("tiny")
    tasks = load_tasks("harbour/heldout")[::12]
    guessed = 0.0
    with open_cache("harbour") as cache:
        specs = [cache.catalogue[name] for name in tasks[0].tool_names]
    for task in tasks:
        ids = gold_trace(chat, task)
        markup = len(chat.start(task.messages, specs))
        probabilities_V = model(torch.tensor([ids])).logits[0, markup].softmax(-1)
        guessed += float(probabilities_V[ids[markup + 1]])
    assert guessed / len(tasks) < 1 / 12


def test_only_copied_tokens_are_learned_and_each_can_be_copied(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    alphabet = Alphabet(tokenizer)
    for seed in range(50):
        for made in (repetition(alphabet, 60, Random(seed)), lookups(alphabet, Random(seed))):
            assert len(made.ids) == len(made.copied)
            assert any(made.copied)
            for place, (token, copied) in enumerate(zip(made.ids, made.copied, strict=True)):
                assert not copied or token in made.ids[:place]


def test_a_batch_marks_what_is_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    ids_BT, labels_BT = batch(Alphabet(tokenizer), 4, 80, 0.5, Random(0))
    learned_BT = labels_BT != IGNORED
    assert ids_BT.shape == labels_BT.shape == (4, 80)
    assert bool((ids_BT[learned_BT] == labels_BT[learned_BT]).all())


def test_the_same_seed_builds_the_same_bytes(tmp_path: Path) -> None:
    recipe = Recipe(steps=2, rows=2, length=60)
    for name in ("one", "two"):
        build(tmp_path / name, 5, recipe, lambda step, accuracy: None)
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert {"model.safetensors", "tokenizer.json", "README.md"} <= set(names)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OrchError, match="is no model folder"):
        main(["--out", str(tmp_path)], standalone_mode=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"
