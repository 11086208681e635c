"""Pins token in, token out: a stream that is only appended to is what the template renders."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.formats import get_format
from orch_env.types import OrchError, ToolSpec
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.chat.control_tokens import ControlTokens
from orch_train.chat.renderer import ChatRenderer, make_chat
from tests.orch_train.chat_templates import (
    CHATML,
    FORGETFUL,
    LLAMA,
    MISTRAL,
    QWEN,
    REASONING,
    THINKING,
    sentence_tokenizer_for,
    tokenizer_for,
)

HERMES = get_format("hermes")
TOOLS = [ToolSpec("find_item", "Finds an item."), ToolSpec("buy")]
KINDS = {"qwen": QWEN, "llama": LLAMA, "mistral": MISTRAL, "chatml": CHATML}

# Text as it may come, within one token's reach of the markup; templates trim at the ends, and
# white space at the start of an answer may merge with the header, so answers are stripped.
_TEXT = st.text(st.sampled_from('abc {}"\n\t<>|é漢😀_:,.'), max_size=30)
_ANSWER = _TEXT.map(str.strip)
_OBSERVATION = st.one_of(
    st.lists(_TEXT, min_size=1, max_size=3).map(
        lambda texts: [{"role": "tool", "content": t} for t in texts]
    ),
    _TEXT.map(lambda text: [{"role": "user", "content": text}]),
)


def renderer(template: str, **options: Any) -> ChatRenderer:
    return ChatRenderer(tokenizer_for(template), HERMES, **options)


def whole(template: str, messages: list[dict[str, Any]], tools: list[ToolSpec]) -> list[int]:
    """The template's own ids of a whole conversation, generation prompt included."""
    tokenizer = tokenizer_for(template)
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            message["tool_call_id"] = f"{number:09d}"
    ids = tokenizer.apply_chat_template(
        messages,
        tools=[t.to_openai() for t in tools] or None,
        add_generation_prompt=True,
        return_dict=False,
    )
    return list(ids)


@pytest.mark.parametrize("kind", ["qwen", "llama", "mistral"])
@settings(max_examples=60, deadline=None)
@given(
    question=_TEXT,
    turns=st.lists(st.tuples(_ANSWER, _OBSERVATION), max_size=4),
    with_tools=st.booleans(),
)
def test_the_stream_is_the_rendering_of_the_whole_conversation(
    kind: str, question: str, turns: list[Any], with_tools: bool
) -> None:
    template, tools = KINDS[kind], TOOLS if with_tools else []
    chat = renderer(template)
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    stream = chat.start(messages, tools)
    for answer, observation in turns:
        stream += chat.encode_action(answer) + chat.observe(observation)
        messages += [{"role": "assistant", "content": answer}, *observation]
    assert stream == whole(template, messages, tools)


@settings(max_examples=40, deadline=None)
@given(question=_TEXT, turns=st.lists(st.tuples(_ANSWER, _OBSERVATION), max_size=4))
def test_without_a_tool_role_results_are_one_user_message(question: str, turns: list[Any]) -> None:
    chat = renderer(CHATML)
    assert chat.tools_in_system and not chat.native_tool_role
    stream = chat.start([{"role": "user", "content": question}], TOOLS)
    expected = [
        {"role": "system", "content": HERMES.render_tools(TOOLS)},
        {"role": "user", "content": question},
    ]
    for answer, observation in turns:
        stream += chat.encode_action(answer) + chat.observe(observation)
        text = (
            HERMES.render_results([m["content"] for m in observation])
            if observation[0]["role"] == "tool"
            else observation[0]["content"]
        )
        expected += [{"role": "assistant", "content": answer}, {"role": "user", "content": text}]
    assert stream == whole(CHATML, expected, [])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=_ANSWER)
def test_decoding_an_encoded_action_gives_its_text(kind: str, text: str) -> None:
    chat = renderer(KINDS[kind])
    ids = chat.encode_action(text)
    assert ids[-1] == chat.stop_token_ids[0]
    assert chat.decode(ids) == text


@pytest.mark.parametrize("template", [MISTRAL, QWEN])
def test_tokenizers_that_treat_the_start_of_a_text_differently_are_served(template: str) -> None:
    tokenizer = sentence_tokenizer_for(template)
    special = tokenizer.eos_token
    assert tokenizer.encode("the tool")[0] != tokenizer.encode(f"{special}the tool")[1]
    chat = ChatRenderer(tokenizer, HERMES)
    stream = chat.start([{"role": "user", "content": "the item"}])
    stream += chat.encode_action("find item") + chat.observe([{"role": "tool", "content": "tool"}])
    expected = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "the item"},
            {"role": "assistant", "content": "find item"},
            {"role": "tool", "content": "tool", "tool_call_id": "0" * 9},
        ],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert stream == expected
    assert chat.decode(chat.encode_action("find item")) == "find item"


def test_sampled_ids_that_no_encoder_would_give_survive_in_the_text() -> None:
    chat, tokenizer = renderer(QWEN), tokenizer_for(QWEN)
    letters = [i for c in "assistant" for i in tokenizer.encode(c)]
    assert tokenizer.encode("assistant") != letters
    assert chat.decode([*letters, chat.stop_token_ids[0]]) == "assistant"


def test_special_tokens_inside_an_action_stay_in_its_text() -> None:
    chat = renderer(QWEN)
    text = '<tool_call>\n{"name": "buy", "arguments": {}}\n</tool_call>'
    ids = chat.encode_action(text)
    assert tokenizer_for(QWEN).convert_tokens_to_ids("<tool_call>") in ids
    assert chat.decode(ids) == text
    assert chat.decode(ids[:-1]) == text


def test_only_one_closing_stop_token_is_cut() -> None:
    chat = renderer(QWEN)
    stop = chat.stop_token_ids[0]
    assert chat.decode([*chat.encode_action("a"), stop]) == "a<|im_end|>"


def test_the_end_of_text_token_stops_a_message_too() -> None:
    tokenizer = tokenizer_for(QWEN)
    tokenizer_eos = tokenizer.eos_token
    try:
        tokenizer.eos_token = "<|endoftext|>"
        chat = ChatRenderer(tokenizer, HERMES)
    finally:
        tokenizer.eos_token = tokenizer_eos
    ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert chat.stop_token_ids == tuple(ids)


def test_boundary_tokens_between_message_and_next_header_belong_to_the_observation() -> None:
    chat, tokenizer = renderer(QWEN), tokenizer_for(QWEN)
    text = tokenizer.decode(chat.observe([{"role": "tool", "content": "found"}]))
    assert text == (
        "\n<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_tool_prompt_joins_an_existing_system_message() -> None:
    chat, tokenizer = renderer(CHATML), tokenizer_for(CHATML)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    text = tokenizer.decode(chat.start(messages, TOOLS))
    assert text.startswith(
        f"<|im_start|>system\nBe brief.\n\n{HERMES.render_tools(TOOLS)}<|im_end|>"
    )
    assert text.count("<|im_start|>system") == 1


def test_tools_can_be_put_into_the_system_message_by_hand() -> None:
    chat = renderer(QWEN, system_tools="always")
    text = tokenizer_for(QWEN).decode(chat.start([{"role": "user", "content": "hi"}], TOOLS))
    assert HERMES.render_tools(TOOLS) in text
    assert '{"type": "function"' not in text.replace(HERMES.render_tools(TOOLS), "")


def test_a_template_without_system_role_gets_the_tools_in_the_first_user_message() -> None:
    chat = renderer(MISTRAL, system_tools="always")
    text = tokenizer_for(MISTRAL).decode(chat.start([{"role": "user", "content": "hi"}], TOOLS))
    assert text == f"<s>[INST]{HERMES.render_tools(TOOLS)}\n\nhi[/INST]"


def test_tools_may_be_given_in_either_json_form() -> None:
    chat, messages = renderer(QWEN), [{"role": "user", "content": "hi"}]
    expected = chat.start(messages, TOOLS)
    assert chat.start(messages, [t.to_dict() for t in TOOLS]) == expected
    assert chat.start(messages, [t.to_openai() for t in TOOLS]) == expected


@pytest.mark.parametrize("template", [QWEN, CHATML], ids=["in the template", "in the system text"])
def test_tools_are_guarded_once_and_offered_with_the_same_text_again(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded: list[str] = []
    guard = ControlTokens.guard

    def count(self: ControlTokens, text: str) -> str:
        guarded.append(text)
        return guard(self, text)

    monkeypatch.setattr(ControlTokens, "guard", count)
    messages = [{"role": "user", "content": "hi"}]
    tool = ToolSpec("buy", "Buys <|im_end|>.").to_openai()
    chat = renderer(template)
    first = chat.start(messages, [tool])
    assert "Buys <|im_end|>." in guarded
    guarded.clear()
    assert chat.start(messages, [ToolSpec("buy", "Buys <|im_end|>.").to_openai()]) == first
    assert guarded and not any("buy" in text.lower() for text in guarded)  # the message alone
    assert first == renderer(template).start(messages, [tool])
    tool["function"]["description"] = "Sells."  # what is kept goes by content, not by identity
    assert chat.start(messages, [tool]) == renderer(template).start(messages, [tool]) != first


def test_lone_surrogates_do_not_break_the_encoding() -> None:
    chat, tokenizer = renderer(QWEN), tokenizer_for(QWEN)
    assert "\ufffd" in tokenizer.decode(chat.observe([{"role": "tool", "content": "a\ud800b"}]))


def test_template_variables_reach_the_template() -> None:
    template = "{{- greeting }}" + CHATML
    tokenizer = tokenizer_for(CHATML)
    try:
        tokenizer.chat_template = template
        chat = ChatRenderer(tokenizer, HERMES, template_kwargs={"greeting": "Hello"})
        assert tokenizer.decode(chat.start([{"role": "user", "content": "x"}])).startswith("Hello")
    finally:
        tokenizer.chat_template = CHATML


@pytest.mark.parametrize("before", ["'<|im_start|>system\n'", "'\n' + (tool | tojson)"])
@pytest.mark.parametrize("system_tools", ["auto", "never"])
def test_a_variable_that_nobody_set_is_told_and_not_taken_for_an_unknown_role(
    before: str, system_tools: Any
) -> None:
    tokenizer = copy.deepcopy(tokenizer_for(QWEN))
    assert before in QWEN
    tokenizer.chat_template = QWEN.replace(before, f"{before} + today")
    with pytest.raises(
        OrchError, match=r"'today' is undefined; set it in rollouts\.chat_template_"
    ):
        ChatRenderer(tokenizer, HERMES, system_tools=system_tools)
    given = {"today": "1 June"}
    chat = ChatRenderer(tokenizer, HERMES, system_tools=system_tools, template_kwargs=given)
    assert not chat.tools_in_system


def test_a_variable_that_the_template_never_reads_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    renderer(QWEN, template_kwargs={"enable_thinkin": False, "tool": 1}).warn_of_unread_kwargs()
    assert [r.getMessage().partition("never reads ")[2] for r in caplog.records] == [
        "'enable_thinkin'"
    ]


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["without tools", "with tools"])
def test_named_templates_are_read_as_the_official_rendering_reads_them(
    tools: list[ToolSpec],
) -> None:
    tokenizer = tokenizer_for(QWEN)
    try:
        tokenizer.chat_template = {"default": CHATML, "tool_use": QWEN}
        chat = ChatRenderer(tokenizer, HERMES)
        assert chat.native_tool_role and not chat.tools_in_system
        messages: list[dict[str, Any]] = [{"role": "user", "content": "where?"}]
        stream = chat.start(messages, tools)
        observation = [{"role": "tool" if tools else "user", "content": "found"}] * 2
        for answer in ("find it", "again"):
            stream += chat.encode_action(answer) + chat.observe(observation, tools)
            messages += [{"role": "assistant", "content": answer}, *map(dict, observation)]
        assert stream == whole(QWEN, messages, tools)
    finally:
        tokenizer.chat_template = QWEN


def test_templates_that_close_messages_otherwise_without_tools_are_refused_there() -> None:
    tokenizer = tokenizer_for(QWEN)
    try:
        other = CHATML.replace("<|im_end|>", "<tool_call>")
        tokenizer.chat_template = {"default": other, "tool_use": QWEN}
        chat = ChatRenderer(tokenizer, HERMES)
        chat.start([{"role": "user", "content": "x"}], TOOLS)
        with pytest.raises(OrchError, match=r"'<\|im_end\|>' where there are tools.*'<tool_call>'"):
            chat.start([{"role": "user", "content": "x"}])
    finally:
        tokenizer.chat_template = QWEN


def test_tools_that_move_behind_the_user_are_refused_with_what_to_do() -> None:
    last = "(messages | selectattr('role', 'equalto', 'user') | list | last)"
    moving = MISTRAL.replace("tools and loop.first", f"tools and m == {last}")
    tokenizer = tokenizer_for(MISTRAL)
    try:
        tokenizer.chat_template = moving
        further = [{"role": "user", "content": "and now?"}]
        with pytest.raises(OrchError, match=r"user speaks again it turns .*system_tools to always"):
            ChatRenderer(tokenizer, HERMES).observe(further, TOOLS)
        assert ChatRenderer(tokenizer, HERMES).observe(further)
        assert ChatRenderer(tokenizer, HERMES, system_tools="always").observe(further, TOOLS)
    finally:
        tokenizer.chat_template = MISTRAL


def test_answers_that_change_once_the_user_speaks_again_are_refused_there() -> None:
    tokenizer = tokenizer_for(QWEN)
    forgetful = QWEN.replace(
        "m.role + '\n' + m.content",
        "m.role + '\n' + ('gone' if m.role == 'assistant' and (messages | length) > 4"
        " and not tools else m.content)",
    )
    try:
        tokenizer.chat_template = forgetful
        further = [{"role": "user", "content": "and now?"}]
        with pytest.raises(OrchError, match=r"user speaks again it .*gone"):
            ChatRenderer(tokenizer, HERMES).observe(further)
        assert ChatRenderer(tokenizer, HERMES).observe(further, TOOLS)
    finally:
        tokenizer.chat_template = QWEN


def test_the_configuration_says_how_the_template_is_used(toy_model: Path) -> None:
    config = (
        GRPOConfig()
        .model(str(toy_model))
        .rollouts(chat_template_kwargs={"greeting": "Hello"}, system_tools="always")
    )
    chat = make_chat(config.settings)
    assert chat.tools_in_system
    assert chat._probe._variables == {"greeting": "Hello"}


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "tokenize"])
def test_a_variable_that_is_ours_is_refused(name: str) -> None:
    with pytest.raises(OrchError, match=f"chat_template_kwargs: '{name}' is set by the renderer"):
        GRPOConfig().rollouts(chat_template_kwargs={name: True}).validate()
    with pytest.raises(OrchError, match="is no name that a template can read"):
        GRPOConfig().rollouts(chat_template_kwargs={"enable-thinking": False}).validate()


def test_a_generation_prompt_that_opens_the_reasoning_is_served() -> None:
    chat, tokenizer = renderer(REASONING), tokenizer_for(REASONING)
    text = tokenizer.decode(chat.observe([{"role": "tool", "content": "found"}]))
    assert text.endswith("<|im_start|>assistant\n<think>\n")


def test_reasoning_stays_in_the_stream_even_where_the_template_would_drop_it() -> None:
    chat, tokenizer = renderer(THINKING), tokenizer_for(THINKING)
    answer = "<think>\nhm\n</think>\n\nfind it"
    observation = [{"role": "tool", "content": "found"}]
    messages = [{"role": "user", "content": "where?"}]
    stream = chat.start(messages)
    for _ in range(2):
        stream += chat.encode_action(answer) + chat.observe(observation)
        messages += [{"role": "assistant", "content": answer}, *observation]
    assert stream == whole(THINKING, messages, [])
    followup = [{"role": "user", "content": "and now?"}]
    stream += chat.encode_action(answer) + chat.observe(followup)
    messages += [{"role": "assistant", "content": answer}, *followup]
    assert str(tokenizer.decode(stream)).count("hm") == 3
    assert "hm" not in str(tokenizer.decode(whole(THINKING, messages, [])))


def test_a_template_that_rewrites_answers_is_refused_by_name_and_difference() -> None:
    with pytest.raises(OrchError, match=r"chat template of .*not prefix-preserving.*gone"):
        renderer(FORGETFUL)


def test_a_template_that_changes_the_prompt_later_is_refused() -> None:
    tokenizer = tokenizer_for(CHATML)
    try:
        tokenizer.chat_template = "{{- messages | length }}" + CHATML
        with pytest.raises(OrchError, match=r"not prefix-preserving.*turns '2.*into '"):
            ChatRenderer(tokenizer, HERMES)
    finally:
        tokenizer.chat_template = CHATML


def test_a_message_must_be_closed_by_a_special_token() -> None:
    tokenizer = tokenizer_for(CHATML)
    try:
        tokenizer.chat_template = CHATML.replace("m.content + '<|im_end|>", "m.content + '|")
        with pytest.raises(OrchError, match="closed by a special token"):
            ChatRenderer(tokenizer, HERMES)
    finally:
        tokenizer.chat_template = CHATML


def test_a_tokenizer_without_template_is_refused() -> None:
    tokenizer = tokenizer_for(CHATML)
    try:
        tokenizer.chat_template = None
        with pytest.raises(OrchError, match="has none"):
            ChatRenderer(tokenizer, HERMES)
    finally:
        tokenizer.chat_template = CHATML


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "x"}]])
def test_observations_hold_tool_and_user_messages_only(messages: list[dict[str, str]]) -> None:
    with pytest.raises(OrchError):
        renderer(QWEN).observe(messages)
