"""The formats of Qwen3-Coder, GLM, DeepSeek and gpt-oss: what they read, refuse and write."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import OrchError, Task, ToolOrchestrationEnv
from orch_env.backends.open import make_backend
from orch_env.backends.replay import ReplayBackend
from orch_env.episodes import StoredEpisode
from orch_env.formats import get_format
from orch_env.formats.calls import MAX_CALLS
from orch_env.formats.typed_text import Arguments
from orch_env.replay.play import play
from orch_env.replay.policies import GoldPolicy
from orch_env.replay.verify import Verifier
from orch_env.types import ErrorType, ToolCall, ToolSpec
from tests.orch_env.property_tiers import hold

NAMES = ("deepseek", "glm", "harmony", "qwen3_coder")
TAGGED = ("glm", "qwen3_coder")
MARKUP = {
    "deepseek": [
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "function<｜tool▁sep｜>get\n```json\n",
        "<｜tool▁sep｜>",
        "\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ],
    "glm": ["<tool_call>get\n", "<arg_key>s</arg_key>", "<arg_value>", "</arg_value>", "<arg_key>"],
    "harmony": [
        " to=functions.get",
        "<|start|>assistant",
        "<|channel|>commentary",
        "<|channel|>analysis",
        " <|constrain|>json",
        "<|message|>",
        "<|call|>",
        "<|end|>",
    ],
    "qwen3_coder": ["<function=get>", "<parameter=s>\n", "\n</parameter>", "</function>", "<func"],
}
SHARED = ["<tool_call>", "</tool_call>", "<think>", "</think>", '{"s": "5"}', "{", '"', "5", "\n"]
CALL = ToolCall("get", {"s": "5", "n": 5})
GET = ToolSpec(
    "get",
    "Gets it.",
    {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "n": {"type": "integer"},
            "u": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "b": {"enum": [True, False, "auto"]},
        },
    },
)

texts = st.lists(
    st.sampled_from(["5", "null", "True", '"5"', '"', "[1,]", "\n", " ", "é", "<", "<｜", "{}"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    max_size=3,
).map("".join)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
words = st.text("abcxyz_.-09", min_size=1, max_size=8)
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


@st.composite
def a_call_and_its_tool(draw: st.DrawFn) -> tuple[ToolCall, ToolSpec]:
    """A call whose arguments are of a type that their schemas allow, or have no schema."""
    arguments = draw(st.dictionaries(words, values, max_size=4))
    properties: dict[str, Any] = {}
    for key, value in arguments.items():
        own = "null" if value is None else _TYPES.get(type(value), "object")
        others = draw(st.lists(st.sampled_from(["string", "null", "integer", "boolean"])))
        schemas = [{"type": own}, {"type": [own, *others]}, {"anyOf": [{"type": own}]}, {}, None]
        if (schema := draw(st.sampled_from(schemas))) is not None:
            properties[key] = schema
    name = draw(words)
    return ToolCall(name, arguments), ToolSpec(name, "", {"properties": properties})


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(a_call_and_its_tool(), min_size=1, max_size=3, unique_by=lambda p: p[0].name))
@settings(max_examples=40, deadline=None)
def test_parsing_undoes_rendering(name: str, made: list[tuple[ToolCall, ToolSpec]]) -> None:
    form, calls, tools = get_format(name), [call for call, _ in made], [tool for _, tool in made]
    text = form.render_calls(calls, tools)
    text.encode()
    parsed = form.parse("<think>hm</think>Yes.\n" + text if name != "harmony" else text, tools)
    assert (parsed.problems, parsed.content) == ({}, "" if name == "harmony" else "Yes.")
    written, due = (json.dumps([c.to_dict() for c in some]) for some in (parsed.calls, calls))
    assert written == due


@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_holds_the_markup_reads_the_same_or_is_refused(name: str) -> None:
    form = get_format(name)
    for piece in [*MARKUP[name], *SHARED]:
        for call in (
            ToolCall("get", {"s": f"a{piece}b"}),
            ToolCall(f"a{piece}", {}),
            ToolCall("get", {f"k{piece}": 1}),
        ):
            try:
                text = form.render_calls([call], [GET])
            except OrchError as refused:
                assert "cannot write" in str(refused)
                continue
            assert form.parse(text, [GET]).calls == (call,)
    if name not in TAGGED:  # in JSON every text can be written
        assert form.render_calls([ToolCall("get", {"s": "".join(MARKUP[name])})])


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(80, id="few"),
        pytest.param(20_000, id="many", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_any_text_is_read_without_an_error(name: str, examples: int) -> None:
    form = get_format(name)

    def read(text: str) -> None:
        parsed = form.parse(text, [GET])
        wrong = [n for n, c in enumerate(parsed.calls) if c.error is ErrorType.MALFORMED_CALL]
        assert wrong == list(parsed.problems) and len(parsed.calls) <= MAX_CALLS + 1
        assert all(0 < len(why) < 300 for why in parsed.problems.values())
        if form.is_plain(text):
            assert (parsed.content, parsed.calls) == (text.strip(), ())

    pieces = st.sampled_from([*MARKUP[name], *SHARED]) | st.text(st.characters(), max_size=5)
    hold(examples, read, st.lists(pieces, max_size=14).map("".join))


def qwen(arguments: str, name: str = "get") -> str:
    return f"<tool_call>\n<function={name}>\n{arguments}</function>\n</tool_call>"


def glm(arguments: str, name: str = "get") -> str:
    return f"<tool_call>{name}\n{arguments}</tool_call>"


Q_S, Q_N = "<parameter=s>\n5\n</parameter>\n", "<parameter=n>\n5\n</parameter>\n"
G_S = "<arg_key>s</arg_key>\n<arg_value>5</arg_value>\n"
G_N = "<arg_key>n</arg_key>\n<arg_value>5</arg_value>\n"
D_CALL, D_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
ARGUMENTS = '{"s": "5", "n": 5}'
D_WHOLE = f"{D_CALL}function<｜tool▁sep｜>get\n```json\n{ARGUMENTS}\n```{D_END}"
H_TO, H_PLAN = "<|channel|>commentary to=functions.get", "<|channel|>analysis<|message|>"
H_WHOLE = f" to=functions.get<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen3_coder", qwen(Q_S + Q_N)),
        ("qwen3_coder", qwen(Q_S + Q_N).removeprefix("<tool_call>\n")),
        ("qwen3_coder", qwen(Q_S + Q_N).removesuffix("</function>\n</tool_call>")),
        ("qwen3_coder", qwen(Q_S + Q_N).replace("</function>", "")),
        ("qwen3_coder", qwen(Q_S + Q_N) + "</tool_call>"),
        ("qwen3_coder", qwen("<parameter=s>5</parameter><parameter=n>5</parameter>")),
        ("qwen3_coder", qwen(Q_N.replace("5", "7") + Q_S + Q_N)),
        ("qwen3_coder", f"<think>{qwen(Q_N)}</think>\n\n{qwen(Q_S + Q_N)}"),
        ("qwen3_coder", f"I plan {qwen(Q_N)}</think>\n\n{qwen(Q_S + Q_N)}"),
        ("glm", glm(G_S + G_N)),
        ("glm", glm(G_S + G_N).replace("\n", "")),
        ("glm", glm(G_S + G_N).removesuffix("</tool_call>")),
        ("glm", glm(G_S + G_N) + "</tool_call>"),
        ("glm", glm(G_N.replace("5", "7") + G_S + G_N)),
        ("glm", f"<think>{glm(G_N)}</think>{glm(G_S + G_N)}"),
        ("deepseek", f"<｜tool▁calls▁begin｜>{D_WHOLE}<｜tool▁calls▁end｜>"),
        ("deepseek", D_WHOLE),
        ("deepseek", D_WHOLE.removesuffix(D_END)),
        ("deepseek", D_WHOLE.replace("```json\n", "").replace("\n```", "")),
        ("deepseek", D_WHOLE.replace("}", ",}")),
        ("deepseek", f"{D_CALL}get<｜tool▁sep｜>{ARGUMENTS}{D_END}"),
        ("deepseek", f"{D_CALL}get<｜tool▁sep｜>{json.dumps(ARGUMENTS)}{D_END}"),
        ("deepseek", f"a {D_WHOLE}</think>{D_WHOLE}"),
        ("harmony", H_WHOLE),
        ("harmony", H_WHOLE.removesuffix("<|call|>")),
        ("harmony", f"{H_TO} <|constrain|>json<|message|>{ARGUMENTS}"),
        ("harmony", f"{H_TO}<|message|>{ARGUMENTS}<|call|>"),
        ("harmony", f"<|channel|>analysis to=functions.get code<|message|>{ARGUMENTS}<|call|>"),
        ("harmony", f"{H_PLAN}to=functions.no{{}}<|end|><|start|>assistant{H_WHOLE}"),
        ("harmony", f" to=functions.get<|message|>```json\n{ARGUMENTS}\n```<|call|>"),
    ],
)  # fmt: skip
def test_what_has_one_reading_is_read(name: str, text: str) -> None:
    parsed = get_format(name).parse(text, [GET])
    assert (parsed.calls, parsed.content) == ((CALL,), "")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("qwen3_coder", '<tool_call>\n{"name": "get"}\n</tool_call>', "begin with <function=NAME>"),
        ("qwen3_coder", "<tool_call></tool_call>", "begin with <function=NAME>"),
        ("qwen3_coder", "<function=get", "begin with <function=NAME>"),
        ("qwen3_coder", qwen("<parameter=s>\n5\n"), "'s' is not closed"),
        ("qwen3_coder", qwen("<parameter=s>\n5\n" + Q_N), "'s' is not closed"),
        ("qwen3_coder", qwen("<parameter=s>a</parameter>b</parameter>"), "'b</parameter>"),
        ("qwen3_coder", qwen("<parameter=>5</parameter>"), "'<parameter=>5"),
        ("qwen3_coder", qwen("s=5"), "'s=5"),
        ("qwen3_coder", "a </tool_call>", "a </tool_call> stands without a call"),
        ("qwen3_coder", "s=5 </function>", "a </function> stands without a call"),
        ("glm", '<tool_call>{"name": "get"}</tool_call>', "begin with the tool's name"),
        ("glm", "<tool_call>\n</tool_call>", "begin with the tool's name"),
        ("glm", glm("<arg_key>s</arg_key>"), "'<arg_key>s"),
        ("glm", glm("<arg_key>s</arg_key><arg_value>5"), "'s' is not closed"),
        ("glm", glm("<arg_key>s</arg_key><arg_value><arg_value>5</arg_value>"), "not closed"),
        ("glm", glm("s: 5"), "'s: 5"),
        ("deepseek", f"{D_CALL}get{D_END}", "no <｜tool▁sep｜>"),
        ("deepseek", f"{D_CALL}<｜tool▁sep｜>{{}}{D_END}", '"name" must be'),
        ("deepseek", f"{D_CALL}get<｜tool▁sep｜>{{s: 5}}{D_END}", "not valid JSON"),
        ("deepseek", f"{D_CALL}get<｜tool▁sep｜>[5]{D_END}", "must be a JSON object"),
        ("deepseek", f"{D_CALL}get<｜tool▁sep｜>{D_END}", "nothing between"),
        ("deepseek", f"a {D_END}", "without a <｜tool▁call▁begin｜>"),
        ("deepseek", "<｜tool▁calls▁begin｜>", "without a <｜tool▁call▁begin｜>"),
        ("harmony", H_WHOLE.replace('"5"', "NaN"), "NaN"),
        ("harmony", H_WHOLE.replace(ARGUMENTS, "[1]"), "must be a JSON object"),
        ("harmony", H_WHOLE.replace("get", ""), '"name" must be'),
        ("harmony", "<|channel|>commentary to=functions.get<|call|>", "no <|message|>"),
        ("harmony", "<|start|>assistant to=functions.get<|call|>", "no <|message|>"),
        ("harmony", "Yes.<|call|>", "without a recipient"),
    ],
)  # fmt: skip
def test_anything_else_is_one_malformed_call_that_says_why(name: str, text: str, why: str) -> None:
    parsed = get_format(name).parse(text, [GET])
    assert [c.error for c in parsed.calls] == [ErrorType.MALFORMED_CALL]
    assert why in parsed.problems[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_call_takes_no_other_with_it(name: str) -> None:
    whole = get_format(name).render_calls([CALL], [GET])
    broken = {
        "qwen3_coder": qwen("<parameter=s>5"),
        "glm": glm("<arg_key>s</arg_key><arg_value>5"),
        "deepseek": f"{D_CALL}get<｜tool▁sep｜>{{{D_END}",
        "harmony": " to=functions.get<|message|>{<|call|>",
    }[name]
    again = "<|start|>assistant" if name == "harmony" else ""
    parsed = get_format(name).parse(whole + again + broken + again + whole, [GET])
    assert [c.error for c in parsed.calls] == [None, ErrorType.MALFORMED_CALL, None]
    assert parsed.calls[0] == parsed.calls[2] == CALL and parsed.calls[1].name == "get"


def test_only_the_final_and_the_commentary_channel_are_content() -> None:
    text = (
        "<|channel|>analysis<|message|>I plan.<|end|><|start|>assistant<|channel|>commentary"
        "<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>It is 5.<|return|>"
    )
    parsed = get_format("harmony").parse(text)
    assert (parsed.calls, parsed.content) == ((), "I look.\nIt is 5.")


def test_a_recipient_outside_the_functions_is_a_call_of_its_whole_name() -> None:
    (call,) = get_format("harmony").parse("<|channel|>analysis to=browser.find<|message|>{}").calls
    assert call == ToolCall("browser.find", {})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("s", "5", "5"),
        ("s", "null", "null"),
        ("s", '"5"', '"5"'),
        ("n", "5", 5),
        ("n", " 5 ", 5),
        ("n", "5.5", 5.5),
        ("n", '"5"', "5"),
        ("n", "five", "five"),
        ("u", "5", "5"),
        ("u", "null", None),
        ("u", "None", None),
        ("u", '"null"', "null"),
        ("u", '"a"', '"a"'),
        ("b", "true", True),
        ("b", "True", True),
        ("b", "auto", "auto"),
        ("b", "5", "5"),
        ("unknown", "5", 5),
        ("unknown", '"5"', "5"),
        ("unknown", "five", "five"),
        ("unknown", "[1, {},]", [1, {}]),
        ("unknown", "NaN", "NaN"),
        ("unknown", "[" * 80 + "]" * 80, "[" * 80 + "]" * 80),
    ],
)
def test_a_text_means_what_its_schema_allows(key: str, text: str, value: Any) -> None:
    found = Arguments("get", [GET]).read(key, text)
    assert (type(found), found) == (type(value), value)


def test_types_are_found_behind_references_names_and_further_properties() -> None:
    spec = ToolSpec(
        "get",
        "",
        {
            "$defs": {"Id": {"type": "string"}},
            "properties": {"id": {"$ref": "#/$defs/Id"}, "odd": {"type": [["x"], 3]}},
            "additionalProperties": {"type": "string"},
        },
        aliases=("fetch",),
    )
    for name in ("get", "fetch"):
        assert Arguments(name, [spec]).read("id", "5") == "5"
        assert Arguments(name, [spec]).read("other", "5") == "5"
        assert Arguments(name, [spec]).read("odd", "5") == 5
    assert Arguments("other", [spec]).read("id", "5") == 5


@pytest.mark.parametrize("name", TAGGED)
def test_a_number_where_only_text_is_allowed_cannot_be_written(name: str) -> None:
    with pytest.raises(OrchError, match="cannot write the argument 's' of 'get'"):
        get_format(name).render_calls([ToolCall("get", {"s": 5})], [GET])


@pytest.mark.parametrize("name", NAMES)
def test_a_message_holds_256_calls(name: str) -> None:
    form = get_format(name)
    one = form.render_calls([CALL], [GET])
    again = "<|start|>assistant" if name == "harmony" else ""
    parsed = form.parse(again.join([one] * 300), [GET])
    assert len(parsed.calls) == MAX_CALLS + 1
    assert parsed.problems == {MAX_CALLS: "one message may hold at most 256 calls"}


FLOODS = {
    "qwen3_coder": [
        "<function=",
        "<tool_call>",
        "<function=get>",
        f"<function=get>{Q_N}",
        "<tool_call>" + " " * 50,
        "</think><function=get><parameter=a>",
    ],
    "glm": ["<tool_call>", "<tool_call>get", glm(G_N), "<tool_call>get<arg_key>", "</tool_call>"],
    "deepseek": [D_CALL, D_CALL + "get", D_CALL + "<｜tool▁sep｜>", D_WHOLE, "<｜tool▁sep｜>"],
    "harmony": [
        "<|start|>",
        "<|channel|>",
        " to=",
        "<|start|>assistant to=functions.get<|channel|>",
        "<|channel|>to=a <|constrain|>",
        "<|channel|>final<|message|>a",
    ],
}
ONCE = {
    "qwen3_coder": ["<function=get>{}", "<function=get><parameter=u>{}", "<tool_call>{}"],
    "glm": ["<tool_call>get{}", "<tool_call>get<arg_key>u</arg_key><arg_value>{}"],
    "deepseek": [
        D_CALL + "get<｜tool▁sep｜>{}",
        D_CALL + "function<｜tool▁sep｜>{}",
        D_CALL + "{}",
    ],
    "harmony": ["{}<|channel|>", "<|channel|>{}<|message|>", " to=a<|message|>{}"],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_long_text_is_read_in_linear_time(name: str) -> None:
    """Quadratic time would take minutes for one of these."""
    form, size = get_format(name), 200_000
    started = time.process_time()
    for flood in FLOODS[name]:
        form.parse(flood * (size // len(flood)), [GET])
        form.parse("<think>" + flood * (size // len(flood)) + "</think>" * 10_000, [GET])
    for once in ONCE[name]:
        for filling in (" ", "[", '"', "<parameter=a>", "<arg_key>a</arg_key>", Q_N, G_N, '\\"'):
            form.parse(once.replace("{}", filling * (size // len(filling))), [GET])
    assert time.process_time() - started < 20


def verifier_of(env: ToolOrchestrationEnv) -> Verifier:
    backend = make_backend("harbour", None, env.tasks)
    assert isinstance(backend, ReplayBackend)
    return Verifier(backend, backend.cache)


@pytest.mark.parametrize("name", NAMES)
def test_gold_is_paid_in_full_and_happens_again_in_every_format(name: str) -> None:
    env = ToolOrchestrationEnv("harbour", call_format=name)
    verifier = verifier_of(env)
    for task in env.tasks[:2]:
        info = play(env, GoldPolicy(get_format(name)), task)
        assert info["reward"]["total"] == 1.0 and info["success"]
        foreign = get_format("hermes").parse(env.episode.turns[0].action)
        assert not any(call.ok for call in foreign.calls)
        stored = StoredEpisode(env.episode, task, env.settings)
        assert verifier.check(stored) is None
        assert verifier.check(StoredEpisode(env.episode, None, env.settings)) is None


def test_the_published_reward_pays_the_same_in_every_format() -> None:
    paid = {}
    for name in ("hermes", *NAMES):
        env = ToolOrchestrationEnv("harbour", call_format=name, reward="paper")
        task = next(task for task in env.tasks if len(task.gold) > 1)
        half = Task.from_dict(task.to_dict() | {"gold": [task.to_dict()["gold"][0]]})
        for played in (task, half):
            info = play(env, GoldPolicy(get_format(name)), played)
            paid.setdefault(played is task, set()).add(info["reward"]["total"])
    (whole,), (part,) = paid[True], paid[False]
    assert whole > part > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_message_with_native_calls_is_the_same_episode_as_its_text(name: str) -> None:
    env = ToolOrchestrationEnv("harbour", call_format=name, max_errors=None)
    tool = env.reset(seed=1, options={"task_index": 0})[1]["tools"][0]["function"]["name"]
    messages = [
        [{"name": tool, "arguments": {"name": "Kelora"}}],
        [{"name": tool, "arguments": {"name": 5}}, {"name": "no_such", "arguments": "{}"}],
        [{"name": tool, "arguments": "{"}],
        [{"arguments": {}}],
        [{"name": tool, "arguments": {"name": "".join(MARKUP[name])}}],
    ]
    for calls in messages:
        env.step_message({"content": "I look.", "tool_calls": [{"function": c} for c in calls]})
    episode, actions = env.episode, [turn.action for turn in env.episode.turns]
    env.reset(seed=1, options={"task_index": 0})
    for action, turn in zip(actions, episode.turns, strict=True):
        if action.startswith("{"):  # this format cannot write it
            env.step_message(json.loads(action))
        else:
            env.step(action)
        assert env.episode.turns[-1] == turn
    assert not actions[0].startswith("{")
    stored = StoredEpisode(episode, env.task, env.settings)
    assert verifier_of(env).check(stored) is None


def test_the_error_for_an_unreadable_call_shows_how_this_format_writes_one() -> None:
    for name, text in {"glm": "<tool_call></tool_call>", "harmony": " to=a<|message|>{"}.items():
        env = ToolOrchestrationEnv("harbour", call_format=name)
        env.reset(seed=1)
        env.step(text)
        error = json.loads(env.episode.turns[0].results[0])["error"]
        assert error["details"]["expected"] == get_format(name).call_form
