"""The equality of values from the schema to the reward: what a model may write for gold's call.

Everything is played through an environment on a recorded cache, as a user would.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env import ToolOrchestrationEnv, make_reward
from orch_env.cache import open_cache
from orch_env.importers.complexfuncbench import with_sets
from orch_env.provenance import Trace, TraceCall, find_provenance
from orch_env.rewards.presets.schema_check import schema_faults
from orch_env.tasks.files import load_tasks, save_tasks
from orch_env.types import ErrorType, GoldCall, Provenance, Task, ToolCall, ToolSpec
from tests.orch_env.reward_world import make_world, output_of

TEXT, SET = {"type": "string"}, {"type": "string", "x-orch-set": ","}
LIMIT = {"type": "integer", "default": 10}


class Recording:
    """One task with one recorded gold call of a tool `search`, in files."""

    def __init__(
        self, folder: Path, properties: dict[str, Any], gold: dict[str, Any], more: Any = None
    ) -> None:
        self.tasks, self.cache = str(folder / "t.jsonl"), str(folder / "c.db")
        parameters = {"type": "object", "properties": properties, "required": ["q"]} | (more or {})
        with open_cache(self.cache, write=True) as cache:
            cache.put_tool(ToolSpec("search", "Search.", parameters))
            digest = cache.put("search", gold, '{"data": [{"id": 7}]}')
            call = GoldCall("search", gold, response=digest)
            task = Task("t1", ({"role": "user", "content": "find it"},), ("search",), ((call,),))
            cache.pin(task)
        save_tasks([task], self.tasks)

    def play(self, arguments: dict[str, Any], reward: str = "graduated") -> tuple[float, bool]:
        """Total and success of making one call, then answering."""
        env = ToolOrchestrationEnv(self.tasks, self.cache, reward=reward)
        env.reset(seed=0)
        call = json.dumps({"name": "search", "arguments": arguments})
        env.step(f"<tool_call>\n{call}\n</tool_call>")
        info = env.step("done")[-1]
        env.close()
        return info["reward"]["total"], info["success"]


EQUAL: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"limit": LIMIT}, {"q": "x"}, {"q": "x", "limit": 10}),
    ({"limit": LIMIT}, {"q": "x", "limit": 10}, {"q": "x"}),
    ({"limit": LIMIT}, {"q": "x", "limit": 10}, {"q": "x", "limit": "10"}),
    ({"limit": {"type": ["integer", "null"]}}, {"q": "x"}, {"q": "x", "limit": None}),
    ({"limit": {"type": ["integer", "null"], "default": 5}}, {"q": "x", "limit": None}, {"q": "x"}),
    (
        {"at": {"properties": {"km": LIMIT}}},
        {"q": "x", "at": {"a": 1}},
        {"q": "x", "at": {"a": 1, "km": 10}},
    ),
    ({"ids": SET}, {"q": "x", "ids": "a,b"}, {"q": "x", "ids": "b, a"}),
    ({}, {"q": "Z\u00fcrich"}, {"q": "Zu\u0308rich"}),
    ({"Z\u00fc": TEXT}, {"q": "x", "Z\u00fc": "1"}, {"q": "x", "Zu\u0308": "1"}),
    ({"v": {"type": "number"}}, {"q": "x", "v": 1.1}, {"q": "x", "v": "1.10"}),
]
UNEQUAL: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"at": TEXT}, {"q": "x", "at": "48,2"}, {"q": "x", "at": "2,48"}),
    ({"at": {}}, {"q": "x", "at": "48,2"}, {"q": "x", "at": "2,48"}),
    ({"route": TEXT}, {"q": "x", "route": "OSL,LHR"}, {"q": "x", "route": "LHR,OSL"}),
    ({"route": TEXT}, {"q": "x", "route": "a,b,c"}, {"q": "x", "route": "c,b,a"}),
    ({"v": TEXT}, {"q": "x", "v": "1.10"}, {"q": "x", "v": "1.1"}),
    ({"ids": SET}, {"q": "x", "ids": "a,b"}, {"q": "x", "ids": "a,b,b"}),
    ({"limit": LIMIT}, {"q": "x"}, {"q": "x", "limit": 11}),
    ({"limit": LIMIT}, {"q": "x", "limit": 11}, {"q": "x"}),
    ({"limit": {"type": "integer"}}, {"q": "x"}, {"q": "x", "limit": None}),
    ({}, {"q": "Zurich"}, {"q": "Zu\u0308rich"}),
]


@pytest.mark.parametrize(("properties", "gold", "made"), EQUAL)
def test_what_is_equal_is_found_and_paid_like_gold(
    tmp_path: Path, properties: dict[str, Any], gold: dict[str, Any], made: dict[str, Any]
) -> None:
    recording = Recording(tmp_path, {"q": TEXT, **properties}, gold)
    for reward in ("graduated", "binary"):
        assert recording.play(gold, reward) == recording.play(made, reward) == (1.0, True)


@pytest.mark.parametrize(("properties", "gold", "made"), UNEQUAL)
def test_what_is_not_equal_is_not_paid_like_gold(
    tmp_path: Path, properties: dict[str, Any], gold: dict[str, Any], made: dict[str, Any]
) -> None:
    recording = Recording(tmp_path, {"q": TEXT, **properties}, gold)
    for reward in ("graduated", "binary"):
        total, success = recording.play(made, reward)
        assert total < 1.0 and not success


@pytest.mark.parametrize("reward", ["prove", "paper"])
def test_published_rewards_know_no_defaults(tmp_path: Path, reward: str) -> None:
    recording = Recording(tmp_path, {"q": TEXT, "limit": LIMIT}, {"q": "x", "limit": 10})
    assert (
        recording.play({"q": "x"}, reward)[0] < recording.play({"q": "x", "limit": 10}, reward)[0]
    )


def test_the_model_is_not_told_of_sets_and_the_file_keeps_the_word(tmp_path: Path) -> None:
    properties = {
        "q": TEXT,
        "x-orch-set": SET,
        "at": {"properties": {"ids": SET}, "anyOf": [SET], "default": {"x-orch-set": ","}},
        "more": {"type": "array", "items": {"$ref": "#/properties/at/anyOf/0"}},
    }
    recording = Recording(tmp_path, properties, {"q": "x"})
    env = ToolOrchestrationEnv(recording.tasks, recording.cache)
    (tool,) = env.reset(seed=0)[1]["tools"]
    shown = tool["function"]["parameters"]["properties"]
    assert shown == {
        "q": TEXT,
        "x-orch-set": TEXT,  # the name of an argument
        "at": {"properties": {"ids": TEXT}, "anyOf": [TEXT], "default": {"x-orch-set": ","}},
        "more": {"type": "array", "items": {"$ref": "#/properties/at/anyOf/0"}},
    }
    spec = open_cache(recording.cache).catalogue["search"]
    assert spec.parameters["properties"] == properties
    assert ToolSpec.from_dict(spec.to_dict()) == spec
    (task,) = load_tasks(recording.tasks)
    save_tasks([task.with_tools((spec,))], recording.tasks)
    assert load_tasks(recording.tasks)[0].tools == (spec,)


def test_complexfuncbench_filters_and_ages_are_sets_and_places_are_not() -> None:
    properties = dict.fromkeys(("categories_filter", "children_age", "query"), TEXT)
    made = with_sets(ToolSpec("t", "", {"type": "object", "properties": properties}))
    assert made.parameters["properties"] == {
        "categories_filter": SET,
        "children_age": SET,
        "query": TEXT,
    }


def test_an_argument_that_says_no_more_than_its_absence_comes_from_nowhere() -> None:
    properties = {"id": TEXT, "rank": {"type": "integer", "default": 987654321}}
    specs = {"use": ToolSpec("use", "", {"type": "object", "properties": properties})}
    first = TraceCall("get", {}, {"id": "K-123456789", "rank": 987654321})
    second = TraceCall("use", {"id": "K-123456789", "rank": 987654321}, {})
    (trace,) = find_provenance([Trace("", ((first,), (second,)), specs)])
    assert trace[1]["/id"].kind is Provenance.OUTPUT
    assert trace[1]["/rank"].kind is Provenance.CONSTANT
    (plain,) = find_provenance([Trace("", ((first,), (second,)), {})])
    assert plain[1]["/rank"].kind is Provenance.OUTPUT


def test_a_value_that_may_be_left_out_carries_no_data() -> None:
    properties = {"id": TEXT, "rank": {"type": "integer", "default": 987654321}, "o": {}}
    use = ToolSpec("use", "", {"type": "object", "properties": properties})
    gold = GoldCall(
        "use",
        {"id": "K-1", "rank": 987654321, "o": {"Zu\u0308": [5, 6]}},
        depends_on=(0,),
        provenance={p: output_of(0, p) for p in ("/id", "/rank", "/o")},
    )
    shown = '{"id": "K-1", "rank": 987654321, "o": {"Z\u00fc": [5, 6]}}'
    world = make_world([[GoldCall("get", {})], [gold]], [shown, "{}"])
    world = replace(world, task=world.task.with_tools((ToolSpec("get"), use)))
    reward = make_reward("graduated")

    def total(*turns: dict[str, Any]) -> float:
        calls = [[ToolCall("use", made)] for made in turns]
        return reward(world.task, world.play([[ToolCall("get", {})], *calls])).total

    assert total({"id": "K-1", "o": {"Z\u00fc": [5, 6]}}) == 1.0
    assert total({"id": "K-1", "o": {"Zu\u0308": ["5", 6.0]}, "rank": 987654321}) == 1.0
    assert total({"id": "K-1", "o": {"Z\u00fc": [6, 5]}}) < 1.0
    assert total({"id": "K-1", "o": {"Z\u00fc": [5, 6, 7]}}) < 1.0
    assert total({"id": "K-1", "o": {"Z\u00fc": [5, 6]}, "rank": 1}) < 1.0
    blind = [[ToolCall("use", {"id": "K-1", "o": {"Z\u00fc": [5, 6]}})], [ToolCall("get", {})]]
    assert reward(world.task, world.play(blind)).total == 0.75  # nothing was carried


NUMBER, NFD = {"type": "integer"}, "gru\u0308n"
PLACES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"patternProperties": {"^n": NUMBER}}, {"n1": 3}, {"n1": "03"}),
    ({"patternProperties": {"^i": SET}}, {"ids": "a,b"}, {"ids": "b,a"}),
    ({"unevaluatedProperties": NUMBER}, {"n1": 3}, {"n1": "03"}),
    ({"$dynamicRef": "#m", "$defs": {"m": {"$dynamicAnchor": "m"}}}, {}, {"limit": 10}),
    ({"if": {"required": ["q"]}, "then": {"properties": {"ids": SET}}},
     {"ids": "a,b"}, {"ids": "b,a"}),
    ({"if": {"required": ["z"]}, "else": {"properties": {"n": LIMIT}}}, {}, {"n": 10}),
    ({"dependentSchemas": {"q": {"properties": {"n": LIMIT}}}}, {}, {"n": "10"}),
    ({"dependencies": {"q": {"properties": {"n": LIMIT}}}}, {"n": 10}, {}),
    ({"properties": {"day": {"prefixItems": [{"format": "date"}]}}},
     {"day": ["2024-10-13"]}, {"day": ["13 Oct 2024"]}),
    ({"properties": {"n": {"prefixItems": [TEXT], "unevaluatedItems": NUMBER}}},
     {"n": ["a", 3]}, {"n": ["a", "03"]}),
    ({"properties": {"n": {"enum": [10**18 + 1, 10**18 + 2]}}},
     {"n": 10**18 + 1}, {"n": str(10**18 + 1)}),
    ({"properties": {NFD: {**TEXT, "default": "a"}}}, {}, {"gr\u00fcn": "a"}),
]  # fmt: skip
PLACES[3][0]["$defs"]["m"]["properties"] = {"q": TEXT, "limit": LIMIT}


@pytest.mark.parametrize(("schema", "gold", "made"), PLACES)
def test_every_place_of_a_schema_that_validation_knows_says_what_is_equal(
    tmp_path: Path, schema: dict[str, Any], gold: dict[str, Any], made: dict[str, Any]
) -> None:
    recording = Recording(tmp_path, {}, {"q": "x", **gold}, schema)
    assert recording.play({"q": "x", **made}) == (1.0, True)


@pytest.mark.parametrize(
    ("schema", "gold", "made"),
    [
        # The call lacks what its other argument demands, so the default does not stand for it.
        ({"dependentSchemas": {"q": {"required": ["n"]}}}, {"n": 10}, {}),
        ({"dependencies": {"q": ["n"]}}, {"n": 10}, {}),
        # At its position stands a text, whatever the items after it are.
        ({"properties": {"v": {"prefixItems": [TEXT], "items": NUMBER}}},
         {"v": ["3"]}, {"v": ["03"]}),
        ({"properties": {"q": TEXT}, "unevaluatedProperties": NUMBER}, {"q": "3"}, {"q": "03"}),
        ({"properties": {"v": True}, "unevaluatedProperties": NUMBER}, {"v": "3"}, {"v": "03"}),
        ({"if": {"properties": {"v": {"const": "A"}}}}, {"v": "A"}, {"v": "a"}),
        ({"properties": {"v": {"enum": [3, "1.10"]}}}, {"v": "1.10"}, {"v": "1.1"}),
    ],
)  # fmt: skip
def test_no_place_of_a_schema_says_more_than_it_should(
    tmp_path: Path, schema: dict[str, Any], gold: dict[str, Any], made: dict[str, Any]
) -> None:
    schema = {**schema, "properties": {"q": TEXT, "n": LIMIT, **schema.get("properties", {})}}
    recording = Recording(tmp_path, {}, {"q": "x", **gold}, schema)
    assert not recording.play({"q": "x", **made})[1]


@pytest.mark.parametrize("listed", [NFD, "gr\u00fcn"])
@pytest.mark.parametrize("written", [NFD, "gr\u00fcn"])
def test_a_name_in_another_normal_form_is_known(tmp_path: Path, listed: str, written: str) -> None:
    inside = {"properties": {listed: TEXT}, "required": [listed], "additionalProperties": False}
    schema = {**inside, "properties": {listed: TEXT, "at": {"type": "array", "items": inside}}}
    recording = Recording(tmp_path, {}, {listed: "a"}, schema)
    env = ToolOrchestrationEnv(recording.tasks, recording.cache, reward="prove")
    env.reset(seed=0)
    call = {"name": "search", "arguments": {written: "b", "at": [{written: "c"}]}}
    env.step(f"<tool_call>\n{json.dumps(call)}\n</tool_call>")
    (made,) = env.episode.calls
    assert made.error is ErrorType.NOT_RECORDED
    (spec,) = env.backend.resolve(env.task).tools
    assert not schema_faults(spec.parameters, made.arguments).parameters
    assert schema_faults(spec.parameters, {written: 5}).mistyped == (written,)


def test_a_reference_by_a_dynamic_anchor_says_what_is_required() -> None:
    anchored = {"$dynamicAnchor": "m", "properties": {"q": TEXT}, "required": ["q"]}
    assert schema_faults({"$dynamicRef": "#m", "$defs": {"m": anchored}}, {}).missing == ("q",)
