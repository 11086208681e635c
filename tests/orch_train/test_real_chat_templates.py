"""Chat templates as model families ship them: what was rendered turn by turn is the official text.

The templates are third-party data and stay outside the project; the tokenizer is one of bytes with
the special tokens that a template writes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from orch_env.formats import get_format
from orch_env.types import OrchError, ToolCall, ToolSpec
from orch_env.types.text import readable_json
from orch_train.chat.renderer import ChatRenderer
from orch_train.chat.taught_format import choose_format, taught_format

pytestmark = pytest.mark.shared_data

HERMES = get_format("hermes")
TOOLS = [
    ToolSpec(
        "find_item", "Finds an item.", {"type": "object", "properties": {"q": {"type": "string"}}}
    )
]
NATIVE = ("lfm2", "llama3_1", "llama3_2", "qwen2_5", "qwen3", "qwen3_instruct_2507")
THINKING = ("qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8")
FOLDED = ("cohere2", "gemma3", "llama3", "phi3", "phi3_5")
REFUSED = {
    "deepseek_r1_distill": "not prefix-preserving",
    "deepseekv3": "not prefix-preserving",
    "glm4moe": "must be closed by a special token",
    "gptoss": "rewrites the assistant message",
}
STOCK = ToolSpec(
    "find_item",
    "Finds an item.",
    {
        "type": "object",
        "properties": {
            "q": {"type": "string"},
            "n": {"type": "integer"},
            "o": {"type": "object"},
            "b": {"type": "boolean"},
            "u": {"type": ["string", "null"]},
        },
    },
)
CALLS = [
    ToolCall("find_item", {"q": "5 \u00e9 <b>", "n": 5, "o": {"a": [1, None, "x"]}}),
    ToolCall("find_item", {"q": "two"}),
]
TAUGHT = {
    "cohere2": None,
    "deepseek_r1_distill": "deepseek",
    "deepseekv3": "deepseek",
    "gemma3": None,
    "glm4moe": "glm",
    "gptoss": "harmony",
    "lfm2": "pythonic",
    "llama3": None,
    "llama3_1": "llama3",
    "llama3_2": "llama3",
    "phi3": None,
    "phi3_5": None,
    "qwen2_5": "hermes",
    "qwen3": "hermes",
    "qwen3_5_nothink": "qwen3_coder",
    "qwen3_5_think": "qwen3_coder",
    "qwen3_6": "qwen3_coder",
    "qwen3_8": "qwen3_coder",
    "qwen3_instruct_2507": "hermes",
}
"""The call format that each template teaches."""
_FAMILIES = ("deepseek", "glm", "harmony", "qwen3_coder")
FORMATS = {name: str(taught) for name, taught in TAUGHT.items() if taught in _FAMILIES}
_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\uff5c[^<>]{1,40}\uff5c>|<(?:start|end)_of_turn>|</?think>|</?tool_\w+>"
)


def tokenizer_of(template: str) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    found = sorted(set(_SPECIAL.findall(template)))
    markup = [t for t in found if "think" in t or "tool_" in t]
    special = [t for t in found if t not in markup]
    backend.add_special_tokens([AddedToken(t, special=True) for t in ["<bos>", "<pad>", *special]])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in markup])
    closing = [t for t in special if re.search("end|eot|return", t, re.IGNORECASE)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        pad_token="<pad>",
        eos_token=closing[0] if closing else "<pad>",
    )
    tokenizer.chat_template = template
    return tokenizer


def template_of(shared_data: Path, name: str) -> str:
    file = shared_data / "chat_templates" / f"{name}.jinja"
    if not file.is_file():
        pytest.skip(f"{file} is not at hand")
    return file.read_text(encoding="utf-8")


def conversation(
    chat: ChatRenderer, tools: list[ToolSpec], answers: list[str]
) -> tuple[list[int], list[dict[str, Any]]]:
    """The stream of a conversation, and the messages that the official rendering takes."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Where is it?"}]
    stream = chat.start(messages, tools)
    for answer in answers:
        results: list[dict[str, Any]] = [
            {"role": "tool", "name": "find_item", "content": text} for text in ("one", "two")
        ]
        observation = results if tools else [{"role": "user", "content": "more"}]
        stream += chat.encode_action(answer) + chat.observe(observation, tools)
        if tools and chat.native_tool_role:
            observation = [{**m, "tool_call_id": f"{n:09d}"} for n, m in enumerate(results)]
        elif tools:
            observation = [{"role": "user", "content": HERMES.render_results(["one", "two"])}]
        messages += [{"role": "assistant", "content": answer}, *observation]
    if tools and chat.tools_in_system:
        messages.insert(0, {"role": "system", "content": HERMES.render_tools(tools)})
    return stream, messages


def official(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, Any]], tools: list[ToolSpec]
) -> list[int]:
    offered = [tool.to_openai() for tool in tools] or None
    ids = tokenizer.apply_chat_template(
        messages, tools=offered, add_generation_prompt=True, return_dict=False
    )
    return list(ids)


@pytest.mark.parametrize("name", [*NATIVE, *FOLDED])
@pytest.mark.parametrize("tools", [[], TOOLS], ids=["without tools", "with tools"])
def test_a_whole_conversation_is_the_official_rendering(
    shared_data: Path, name: str, tools: list[ToolSpec]
) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, name))
    chat = ChatRenderer(tokenizer, HERMES)
    assert chat.native_tool_role is (name in NATIVE)
    assert chat.tools_in_system is (name in FOLDED)
    stream, messages = conversation(chat, tools, ["I look.", "Again."])
    assert stream == official(tokenizer, messages, [] if chat.tools_in_system else tools)


@pytest.mark.parametrize("name", THINKING)
def test_a_thinking_model_is_rendered_officially_as_long_as_no_user_speaks_again(
    shared_data: Path, name: str
) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, name))
    chat = ChatRenderer(tokenizer, HERMES)
    opened = tokenizer.decode(chat.start([{"role": "user", "content": "x"}])).endswith("<think>\n")
    answer = "hm\n</think>\n\nI look." if opened else "I look."
    stream, messages = conversation(chat, TOOLS, [answer, answer])
    for message in messages:
        if message["role"] == "assistant" and opened:
            message |= {"content": "I look.", "reasoning_content": "hm"}
    assert stream == official(tokenizer, messages, TOOLS)


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_trained_with_is_refused(shared_data: Path, name: str) -> None:
    with pytest.raises(OrchError, match=REFUSED[name]):
        ChatRenderer(tokenizer_of(template_of(shared_data, name)), HERMES)


def test_qwen3_is_served_without_thinking(shared_data: Path) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, "qwen3"))
    chat = ChatRenderer(tokenizer, HERMES, template_kwargs={"enable_thinking": False})
    opening = tokenizer.decode(chat.start([{"role": "user", "content": "x"}], TOOLS))
    further = tokenizer.decode(chat.observe([{"role": "tool", "content": "one"}], TOOLS))
    assert opening.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert further.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert chat.keeps_empty_thoughts  # the official rendering has none before earlier answers
    for name in ("qwen3", "qwen3_5_nothink"):
        other = ChatRenderer(tokenizer_of(template_of(shared_data, name)), HERMES)
        assert not other.keeps_empty_thoughts


def test_every_template_that_is_at_hand_is_tried(shared_data: Path) -> None:
    folder = shared_data / "chat_templates"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not at hand")
    found = {file.stem for file in folder.glob("*.jinja")}
    assert found <= {*NATIVE, *FOLDED, *THINKING, *REFUSED}
    assert found == TAUGHT.keys()


def with_calls(name: str, calls: list[ToolCall]) -> dict[str, Any]:
    """An assistant's message with calls, as the template takes it."""
    deepseek = FORMATS[name] == "deepseek"
    made = [
        {"name": c.name, "arguments": readable_json(c.arguments) if deepseek else c.arguments}
        for c in calls
    ]
    content = {} if name == "gptoss" else {"content": None if deepseek else ""}
    items = [{"id": "a", "type": "function", "function": one} for one in made]
    return {"role": "assistant", **content, "tool_calls": items}


@pytest.mark.parametrize("name", FORMATS)
def test_calls_and_results_are_what_the_familys_template_writes(
    shared_data: Path, name: str
) -> None:
    tokenizer, form = tokenizer_of(template_of(shared_data, name)), get_format(FORMATS[name])
    calls = [CALLS[0]] if name == "gptoss" else CALLS  # its template writes one call a message
    results = ["one", '{"two": 2}'][: len(calls)]
    told = [{"role": "tool", "name": "find_item", "content": text} for text in results]
    question = {"role": "user", "content": "Where is it?"}

    def text_of(*messages: dict[str, Any]) -> str:
        offered = [STOCK.to_openai()]
        text = tokenizer.apply_chat_template([question, *messages], tools=offered, tokenize=False)
        return str(text)

    said = text_of(with_calls(name, calls)).removeprefix(text_of())
    assert form.render_calls(calls, [STOCK]) in said
    assert form.parse(said, [STOCK]).calls == tuple(calls)
    observed = text_of(with_calls(name, calls), *told).removeprefix(text_of() + said)
    written = form.render_results(results, ["find_item"] * len(calls))
    # R1's template puts newlines between the results, V3's does not.
    assert written in (observed.replace("\n<", "<") if name == "deepseek_r1_distill" else observed)


@pytest.mark.parametrize("name", THINKING)
def test_words_of_python_in_a_history_are_read_as_json(shared_data: Path, name: str) -> None:
    """The template of Qwen3.5 writes ``True`` and ``None``, those of 3.6 and 3.8 JSON."""
    tokenizer = tokenizer_of(template_of(shared_data, name))
    call = ToolCall("find_item", {"b": True, "u": None, "n": 5})
    messages = [{"role": "user", "content": "x"}, with_calls(name, [call])]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert ("True" in text) is name.startswith("qwen3_5")
    assert get_format("qwen3_coder").parse(str(text), [STOCK]).calls == (call,)


@pytest.mark.parametrize("name", THINKING)
def test_sampled_calls_are_the_official_tokens(shared_data: Path, name: str) -> None:
    tokenizer, form = tokenizer_of(template_of(shared_data, name)), get_format("qwen3_coder")
    chat = ChatRenderer(tokenizer, form)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Where is it?"}]
    stream = chat.start(messages, [STOCK])
    opened = tokenizer.decode(stream).endswith("<think>\n")
    for _ in range(2):
        answer = ("hm\n</think>\n\n" if opened else "") + form.render_calls(CALLS, [STOCK])
        assert form.parse(answer, [STOCK]).calls == tuple(CALLS)
        told = [{"role": "tool", "name": "find_item", "content": text} for text in ("one", "two")]
        stream += chat.encode_action(answer) + chat.observe(told, [STOCK])
        thought = {"reasoning_content": "hm"} if opened else {}
        messages += [with_calls(name, CALLS) | thought, *told]
    assert stream == official(tokenizer, messages, [STOCK])


@pytest.mark.parametrize("name", TAUGHT)
def test_auto_chooses_what_the_template_teaches(shared_data: Path, name: str) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, name))
    assert taught_format(tokenizer) == TAUGHT[name]
    if TAUGHT[name] is None:
        with pytest.raises(OrchError, match="teaches no calls that any format reads; name a"):
            choose_format("auto", tokenizer)
        assert choose_format(None, tokenizer) == choose_format("hermes", tokenizer) == "hermes"
    else:
        assert choose_format("auto", tokenizer) == choose_format(None, tokenizer) == TAUGHT[name]


@pytest.mark.parametrize("name", [name for name, taught in TAUGHT.items() if taught])
def test_a_format_that_the_template_does_not_teach_is_refused_unless_asked_for_twice(
    shared_data: Path, name: str
) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, name))
    other = "hermes" if TAUGHT[name] != "hermes" else "mistral"
    for system_tools in ("auto", "never"):
        with pytest.raises(OrchError, match=rf"teaches {TAUGHT[name]}.*set call_format to auto"):
            choose_format(other, tokenizer, system_tools=system_tools)  # type: ignore[arg-type]
    assert choose_format(other, tokenizer, system_tools="always") == other


@pytest.mark.parametrize("name", ["llama3_1", "llama3_2", "qwen2_5", "qwen3_instruct_2507"])
def test_a_call_of_the_format_is_the_templates_own_token_for_token(
    shared_data: Path, name: str
) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, name))
    style = get_format(choose_format("auto", tokenizer))
    call = ToolCall("find_item", {"q": 'a "b" \u00e9\n', "n": 1.5, "deep": [{"x": None}, True]})
    stream, messages = conversation(
        ChatRenderer(tokenizer, style), TOOLS, [style.render_calls([call])]
    )
    function = {"name": call.name, "arguments": call.arguments}
    messages[1] = {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
    assert stream == official(tokenizer, messages, TOOLS)


def test_a_result_in_pythonic_markup_is_what_the_template_of_lfm2_writes(shared_data: Path) -> None:
    tokenizer = tokenizer_of(template_of(shared_data, "lfm2"))
    results = get_format("pythonic").render_results(["two\nlines"])
    written = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}, {"role": "tool", "content": "two\nlines"}],
        tokenize=False,
    )
    assert f"<|im_start|>tool\n{results}<|im_end|>" in written
