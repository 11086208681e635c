"""What a tool's schema says of a call: which values are valid, which names are known, what is told.

A valid call that nothing was recorded for is "not recorded", never "invalid".
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orch_env import make_reward
from orch_env.backends.arguments import ArgumentChecker
from orch_env.backends.local import LocalBackend
from orch_env.backends.replay import ReplayBackend
from orch_env.cache import open_cache
from orch_env.env import ToolOrchestrationEnv
from orch_env.importers import import_tasks, read_source
from orch_env.importers.schemas import tool_spec
from orch_env.importers.tool_files import read_tools
from orch_env.importers.validation import validate_tasks
from orch_env.rewards.presets.schema_check import schema_faults
from orch_env.servers import SERVERS
from orch_env.types import ErrorType, GoldCall, OrchError, Task, ToolSpec
from orch_env.values import canonical_text_by_schema
from orch_env.values.argument_names import ArgumentNames
from orch_env.values.patterns import compiled
from tests.orch_env import schema_fuzz

SAID = ({"role": "user", "content": "Find it."},)


def tool(place: Any, **more: Any) -> ToolSpec:
    properties = {"q": {"type": "string"}, "v": place}
    return ToolSpec("search", "", {"type": "object", "properties": properties, **more})


def told(spec: ToolSpec, **arguments: Any) -> str | None:
    """The message about these arguments, ``None`` if they are valid."""
    found = ArgumentChecker(spec).problem(arguments)
    if found is None:
        return None
    assert found.error is ErrorType.INVALID_ARGUMENTS
    message: str = json.loads(found.text)["error"]["message"]
    return message.removeprefix("search: ").partition(". Its arguments are")[0]


# -- one rule for what is the same value ---------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ({"type": "integer", "minimum": 10}, "5", "/v: 5 is less than the minimum of 10"),
        ({"type": "number", "exclusiveMaximum": 5}, "5", "5 is greater than or equal to the max"),
        ({"type": "integer", "multipleOf": 2}, "5", "/v: 5 is not a multiple of 2"),
        ({"type": "string", "minLength": 2}, 5, "/v: '5' is too short"),
        ({"type": "string", "maxLength": 2}, 555, "/v: '555' is too long"),
        ({"type": "string", "pattern": "^S-[0-9]{4}$"}, 3436, "/v: '3436' does not match '^S-"),
        ({"type": "array", "contains": {"type": "integer", "minimum": 5}}, ["3"], "['3'] does not"),
        ({"prefixItems": [{"type": "integer", "minimum": 4}]}, ["3"], "/v/0: 3 is less than"),
        ({"type": "string", "enum": ["1", "2"]}, 3, '/v must be one of ["1", "2"], got 3'),
        ({"minimum": 10}, 5, "/v: 5 is less than the minimum of 10"),
        ({"minimum": 10}, "5", "/v: 5 is less than the minimum of 10"),
        ({"minLength": 3}, "5", "/v: '5' is too short"),
        ({"pattern": "^[a-z]+$"}, 5, "/v: '5' does not match '^[a-z]+$'"),
        ({"type": ["integer", "string"], "minimum": 10}, "5", "/v: 5 is less than the minimum"),
        ({"type": "integer"}, "x", '/v must be integer, got "x"'),
        ({"type": "boolean"}, 1, "/v must be boolean, got 1"),
        ({"type": "string"}, True, "/v must be string, got true"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x", "'x' is not valid under any of"),
        ({"type": "array", "uniqueItems": True}, [1, "1"], "[1, '1'] has non-unique elements"),
    ],
)
def test_a_keyword_sees_the_value_as_the_schema_reads_it(
    place: Any, value: Any, message: str
) -> None:
    assert message in (told(tool(place), v=value) or "valid")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ({"type": "integer", "maximum": 10}, "5"),
        ({"type": "string", "pattern": "^[0-9]+$", "maxLength": 1}, 5),
        ({"type": "array", "contains": {"type": "integer", "minimum": 5}}, ["7"]),
        ({"type": "string", "enum": ["1", "2"]}, 1),
        ({"const": "1"}, 1),
        ({"const": 1}, "1"),
        ({"const": {"a": [1, "2"]}}, {"a": ["1", 2]}),
        ({"enum": ["Economy", "Business"]}, "economy"),
        ({"type": "string", "enum": ["Economy"], "pattern": "^E"}, "ECONOMY"),
        ({"type": "integer"}, "1780000000000000001"),
        *(({"type": "integer"}, text) for text in ("03", " 3 ", "3e0", "+3", "3.0")),
        ({"type": "boolean"}, "True"),
        ({"type": "string", "format": "date", "pattern": "^[0-9]{4}-"}, "13 Oct 2024"),
        ({"type": "string", "format": "date", "pattern": "^[0-9]{2}/"}, "2024-10-13"),
        ({"type": "string", "format": "date", "maxLength": 10}, "October 13, 2024"),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, 5),
        ({"oneOf": [{"const": 1}, {"const": "1"}]}, 1),
        ({"not": {"type": "integer"}}, "5"),
        ({"type": "string", "nullable": True}, None),
        ({"type": "string"}, 10**20),
        ({"type": "string", "minimum": 10}, "5"),
        ({"type": "string", "minimum": 10}, 5),
        ({"type": ["integer", "string"], "pattern": "^[a-z]"}, 5),
        ({"type": ["integer", "string"], "pattern": "^[a-z]"}, "5"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^[a-z]"}, 5),
    ],
)
def test_what_equals_a_valid_value_is_valid(place: Any, value: Any) -> None:
    assert told(tool(place), v=value) is None


VALUES: list[Any] = [
    *("3", 3, 3.0, "03", " 3 ", "3e0", 5, "5", "+5", 5.5, "5.5", 10**19, str(10**19), 10, "10"),
    *(True, "true", "True", None, "null", "A1", "Economy", "ECONOMY", "economy plus"),
    *("2024-10-13", "13 Oct 2024", "13/10/2024", "03/04/2024", "14:00", "2 PM", "S-1234"),
    *([1], ["1"], [3, 4], ["3", "4"], [1, "1"], [1, 1], [2, "b"], ["2", "b"], ["b", 2]),
    *({"a": 5}, {"a": "5"}, {"a": 1, "b": 2}, {"a": "1", "b": "2"}, {"a": [1, "2"]}, {"c": 1}),
]


def equally_valid(places: list[dict[str, Any]]) -> int:
    """Judge all values under each place; return how many groups of equal values there were."""
    groups = 0
    for place in places:
        spec = tool(place, **{"$defs": schema_fuzz.DEFINITIONS})
        checker = ArgumentChecker(spec)
        verdicts: dict[str, dict[str, bool]] = defaultdict(dict)
        for value in VALUES:
            text = canonical_text_by_schema({"v": value}, spec.parameters)
            verdicts[text][repr(value)] = checker.problem({"v": value}) is None
        for same in verdicts.values():
            assert len(set(same.values())) == 1, (place, same)
        groups += sum(len(same) > 1 for same in verdicts.values())
    return groups


def test_equal_values_are_equally_valid() -> None:
    tuples = {"prefixItems": [{"type": "integer"}], "uniqueItems": True}
    assert equally_valid([tuples, *schema_fuzz.FRAGMENTS[::3]]) > 150


@pytest.mark.long
def test_equal_values_are_equally_valid_under_every_keyword_and_pair() -> None:
    fragments = schema_fuzz.FRAGMENTS
    pairs = [{**one, **two} for one in fragments for two in fragments[::4] if "$id" not in one]
    assert equally_valid([*fragments, *pairs]) > 5_000


def test_what_the_standard_accepts_is_accepted() -> None:
    accepted = 0
    for place in schema_fuzz.FRAGMENTS:
        spec = tool(place, **{"$defs": schema_fuzz.DEFINITIONS})
        if "format" in place or not {"type", "enum", "const", "not", "required"} & place.keys():
            continue  # without a type it is open what a keyword on numbers says of a text
        checker, standard = ArgumentChecker(spec), Draft202012Validator(spec.parameters)
        for value in VALUES[::2]:
            if standard.is_valid({"v": value}):
                accepted += 1
                assert checker.problem({"v": value}) is None, (place, value)
    assert accepted > 80


def test_a_schema_that_only_describes_accepts_everything() -> None:
    for words in ({"description": "Free."}, {"default": 3}, {"title": "T", "examples": ["a"]}):
        for value in ("zz", 3, 5.5, True, None, [1], {"a": 1}):
            assert told(tool(words), v=value) is None


def test_whatever_a_validator_raises_is_an_answer() -> None:
    names = tool({"patternProperties": {"^a": {}}, "type": "object"})
    assert "cannot be checked against the schema (TypeError" in (
        told(names, v={"1": 2, 1: 2}) or ""
    )
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert told(tool({"type": "integer"}), v=deep) == "the arguments are nested too deeply"


# -- which names a schema knows ------------------------------------------------------------------

A_Q = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
ROOTS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"$ref": "#/$defs/A", "$defs": {"A": A_Q}}, ["q"], ["q"]),
    ({"$ref": "#a", "$defs": {"A": {**A_Q, "$anchor": "a"}}}, ["q"], ["q"]),
    ({"allOf": [A_Q, {"properties": {"r": {}}, "required": ["r"]}]}, ["q", "r"], ["q", "r"]),
    ({"anyOf": [A_Q, {"properties": {"r": {}}, "required": ["r"]}]}, ["q", "r"], []),
    ({"oneOf": [A_Q, {**A_Q, "properties": {"q": {}, "r": {}}}]}, ["q", "r"], ["q"]),
    ({**A_Q, "if": {}, "then": {"properties": {"r": {}}}}, ["q", "r"], ["q"]),
    ({**A_Q, "dependentSchemas": {"q": {"properties": {"r": {}}}}}, ["q", "r"], ["q"]),
    ({**A_Q, "not": {"properties": {"r": {}}, "required": ["r"]}}, ["q"], ["q"]),
    ({}, [], []),
]


@pytest.mark.parametrize(("root", "known", "required"), ROOTS)
def test_names_are_read_through_references_and_branches(
    root: dict[str, Any], known: list[str], required: list[str]
) -> None:
    names = ArgumentNames(root)
    assert (sorted(names.known), sorted(names.required)) == (known, required)
    spec = ToolSpec("search", "", root)
    for arguments in ({"q": "x"}, {"q": "x", "r": 1}, {"zz": 1}, {}):
        unknown = {name for name in arguments if name not in known}
        faults = schema_faults(root, arguments)
        assert set(faults.unknown) == unknown and set(faults.missing) == set(required) - set(
            arguments
        )
        found = ArgumentChecker(spec).problem(arguments)
        entries = json.loads(found.text)["error"]["details"].get("unknown", []) if found else []
        assert {entry["name"] for entry in entries} == unknown
        if found:
            assert f"Its arguments are: {', '.join(names.known) or 'none'}." in found.text


@pytest.mark.parametrize(
    ("more", "unknown"),
    [
        ({}, {"zz", "x-a"}),
        ({"additionalProperties": False}, {"zz", "x-a"}),
        ({"additionalProperties": {}}, set()),
        ({"additionalProperties": True}, set()),
        ({"additionalProperties": {"type": "string"}}, set()),
        ({"unevaluatedProperties": {}}, set()),
        ({"unevaluatedProperties": False}, {"zz", "x-a"}),
        ({"patternProperties": {r"^\p{Ll}-": {}}}, {"zz"}),
        ({"allOf": [{"additionalProperties": {}}]}, set()),
    ],
)
def test_other_names_are_allowed_in_so_many_words(more: dict[str, Any], unknown: set[str]) -> None:
    root = {**A_Q, **more}
    arguments = {"q": "b", "zz": "x", "x-a": "y"}
    assert set(schema_faults(root, arguments).unknown) == unknown
    found = ArgumentChecker(ToolSpec("search", "", root)).problem(arguments)
    entries = json.loads(found.text)["error"]["details"]["unknown"] if found else []
    assert {entry["name"] for entry in entries} == unknown
    assert found is None or list(json.loads(found.text)["error"]["details"]) == ["unknown"]


def test_a_name_that_one_closed_branch_does_not_list_is_told() -> None:
    closed = {"allOf": [A_Q, {"properties": {"r": {}}, "additionalProperties": False}]}
    assert told(ToolSpec("search", "", closed), q="b", r=1) == "unknown argument 'q'"
    nested = tool(
        {"properties": {"a": {}}, "patternProperties": {"^b": {}}, "additionalProperties": False}
    )
    assert told(nested, v={"a": 1, "b": 1, "c": 1}) == "unknown argument 'v/c'"


OPEN = {**A_Q, "additionalProperties": {}}


@pytest.mark.parametrize("root", [ROOTS[0][0], ROOTS[1][0], ROOTS[2][0], ROOTS[3][0], OPEN])
def test_gold_earns_full_parameters_whatever_form_the_schema_has(
    root: dict[str, Any], tmp_path: Path
) -> None:
    arguments: dict[str, Any] = dict.fromkeys(ArgumentNames(root).known, "x")
    if root is OPEN:
        arguments["other"] = "x"
    with open_cache(tmp_path / "c.db", write=True) as cache:
        cache.put_tool(ToolSpec("search", "", root))
        digest = cache.put("search", arguments, '{"id": 7}')
    task = Task("t", SAID, ("search",), ((GoldCall("search", arguments, response=digest),),))
    backend = ReplayBackend(open_cache(tmp_path / "c.db"))
    env = ToolOrchestrationEnv.from_backend([task], backend)
    env.reset(seed=0)
    env.step_message({"tool_calls": [{"function": {"name": "search", "arguments": arguments}}]})
    env.step("Done.")
    resolved = backend.resolve(task)
    assert make_reward("tier")(resolved, env.episode).components["parameters"] == 1.0
    assert make_reward("prove")(resolved, env.episode).components["val"] == 1.0


# -- a schema that cannot be used is refused when it is opened -----------------------------------

UNUSABLE: list[tuple[Any, dict[str, Any], str]] = [
    ({"$ref": "#/$defs/Nope"}, {}, r"refers to '#/\$defs/Nope' at /properties/v/\$ref, which it"),
    ({"$dynamicRef": "#nope"}, {}, r"'#nope' at /properties/v/\$dynamicRef, which it does not"),
    (
        {"$id": "https://x/y", "properties": {"a": {"$ref": "#/$defs/A"}}},
        {"$defs": {"A": {}}},
        r"at /properties/v/properties/a/\$ref, which it does not define",
    ),
    ({"$ref": "https://example.org/x"}, {}, "outside itself: put the definition into"),
    ({"$ref": "#/properties/v"}, {}, r"refers to itself at /properties/v/\$ref without an end"),
    ({"$ref": "#/$defs/A"}, {"$defs": {"A": {"anyOf": [{}, {"$ref": "#/$defs/A"}]}}}, "refers to"),
    ({"$ref": "#/required"}, {"required": ["q"]}, "no schema"),
    ({"$ref": "#/x/A"}, {"x": {"A": {"type": "dict"}}}, "no JSON Schema .*dict"),
    ({"$ref": "#/x/A"}, {"x": {"A": {"pattern": "("}}}, r"pattern '\(' at /properties/v/\$ref/pat"),
    ({"pattern": "("}, {}, "at /properties/v/pattern is no regular expression"),
    ({"patternProperties": {"[": {}}}, {}, r"'\[' at /properties/v/patternProperties/\[/?"),
    ({"pattern": r"\p{Script=Greek}"}, {}, "is not known here.*leave the pattern out"),
    ({"anyOf": [{"type": "str"}]}, {}, "/properties/v/anyOf/0.*write the type 'string' for 'str'"),
    ({"type": ["str", "null"]}, {}, r"at /properties/v/type.*write the type \['string', 'null'\]"),
    ({"additionalProperties": {"type": "dict"}}, {}, "write the type 'object' for 'dict'"),
    (
        {"items": [{"type": "string"}]},
        {},
        "write 'prefixItems' for the list 'items' at /properties/v",
    ),
    ({"minimum": 1, "exclusiveMinimum": True}, {}, "write 'exclusiveMinimum' as a number"),
    ({"type": "string", "required": True}, {}, "list required names in 'required' of the object"),
    ({"type": 5}, {}, "at /properties/v/type: 5 is not valid"),
    ({}, {"type": "array"}, "have the type 'array': a call's arguments are an object"),
    ({}, {"type": ["string", "null"]}, "have the type .*: a call's arguments are an object"),
    ({"x-orch-set": True}, {}, "'x-orch-set' at /properties/v must be the text that joins .* True"),
    ({"items": {"x-orch-set": ""}}, {}, "'x-orch-set' at /properties/v/items must be the text"),
]


@pytest.mark.parametrize(("place", "more", "message"), UNUSABLE)
def test_a_schema_that_could_fail_at_a_call_is_refused_before_any(
    place: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(OrchError, match=message) as refused:
        ArgumentChecker(tool(place, **more))
    assert str(refused.value).startswith("tool 'search': ") and "\n" not in str(refused.value)


def test_what_only_looks_like_a_keyword_is_no_reason_to_refuse() -> None:
    looks = {"pattern": "(", "$ref": "#/nope", "type": "dict"}
    for place in (
        {"default": looks, "examples": [looks], "const": looks},
        {"properties": {"pattern": {"type": "string"}, "$ref": {}, "x-orch-set": {}}},
        {"$ref": "#/$defs/Tree"},
        {"$ref": "#/x/Deep"},
        {"$id": "https://x/y", "$ref": "#/$defs/A", "$defs": {"A": {}}},
    ):
        tree = {"properties": {"inside": {"$ref": "#/$defs/Tree"}}}
        checker = ArgumentChecker(tool(place, **{"$defs": {"Tree": tree}, "x": {"Deep": {}}}))
        checker.problem({"v": {"inside": {"inside": 1}}})


def test_servers_refuse_a_task_s_own_tool_with_such_a_schema() -> None:
    own = ToolSpec("find_ship", "", {"properties": {"name": {"$ref": "#/nope"}}})
    with pytest.raises(OrchError, match="tool 'find_ship': its schema refers to '#/nope'"):
        LocalBackend().open(Task("t", SAID, (own,), servers=("harbour",)), seed=0)


# -- patterns of JavaScript ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        (r"^[\p{L}\p{N}_ .()-]+$", ["Zürich 9", "京都", "²"], ["a/b", "\u20dd"]),
        (r"^\p{Lu}\P{L}$", ["Ä1"], ["ä1", "ÄA"]),
        (r"^[^\p{Letter}\s]+$", ["12"], ["1a", "1 2"]),
        (r"^\p{gc=Nd}\d$", ["٣3"], ["3٣"]),
        (r"^\u{1F600}$", ["😀"], ["u"]),
        (r"^\ud83d\ude00\p{L}$", ["😀a"], ["a"]),
        (r"^(?<y>\d{4})-\k<y>$", ["2024-2024"], ["2024-2025"]),
        (r"^\cJ[^]$", ["\nx", "\n\n"], ["Jx"]),
        (r"^[\u{41}-\u{43}[]+$", ["AB["], ["D"]),
        (r"^\w+$", ["Zürich"], ["a b"]),  # Python reads it: as Python reads it
    ],
)
def test_patterns_of_javascript_mean_the_same(
    pattern: str, found: list[str], not_found: list[str]
) -> None:
    spec = tool({"type": "string", "pattern": pattern})
    assert all(told(spec, v=text) is None for text in found)
    assert all("does not match" in (told(spec, v=text) or "") for text in not_found)
    names = tool({"patternProperties": {pattern: {}}, "additionalProperties": False})
    assert all(told(names, v={text: 1}) is None for text in found)
    assert all("unknown argument" in (told(names, v={text: 1}) or "") for text in not_found)


@pytest.mark.parametrize("pattern", ["(", r"\p{Foo}", r"\u{110000}", "a{2,1}", "(?<1>a)", "\\"])
def test_what_is_no_pattern_says_why(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is no regular expression|not known here|no character"):
        compiled(pattern)


# -- words and forms of other dialects -----------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "standard"),
    [
        ({"anyOf": [{"type": "str"}, {}]}, {"anyOf": [{"type": "string"}, {}]}),
        ({"type": ["str", "None"]}, {"type": ["string", "null"]}),
        ({"type": ["int", "any"]}, {}),
        ({"additionalProperties": {"type": "dict"}}, {"additionalProperties": {"type": "object"}}),
        ({"items": {"type": "float"}}, {"items": {"type": "number"}}),
        ({"not": {"type": "bool"}}, {"not": {"type": "boolean"}}),
        ({"if": {"type": "int"}, "then": {"type": "any"}}, {"if": {"type": "integer"}, "then": {}}),
        (
            {"patternProperties": {"^a": {"type": "tuple"}}},
            {"patternProperties": {"^a": {"type": "array"}}},
        ),
        ({"$defs": {"A": {"type": "String"}}}, {"$defs": {"A": {"type": "string"}}}),
        (
            {"type": "tuple", "items": [{"type": "int"}]},
            {"type": "array", "prefixItems": [{"type": "integer"}]},
        ),
        ({"items": [{}], "additionalItems": False}, {"prefixItems": [{}], "items": False}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"maximum": 1, "exclusiveMaximum": False}, {"maximum": 1}),
        (
            {"properties": {"a": {"type": "int", "required": True}}},
            {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
        ),
        (
            {"dependencies": {"a": ["b"], "c": {"type": "dict"}}},
            {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": {"type": "object"}}},
        ),
        (
            {"type": "string", "nullable": True, "enum": ["a"]},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"nullable": True, "allOf": [{"type": "str"}]},
            {"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]},
        ),
        (
            {"definitions": {"A": {"id": "#a", "type": "int"}}, "$ref": "#a"},
            {"definitions": {"A": {"$anchor": "a", "type": "integer"}}, "$ref": "#a"},
        ),
        *(
            (said, said)
            for said in (
                {"id": "a field of its own", "type": "string"},
                {"default": {"type": "str"}, "enum": [{"type": "str"}]},
            )
        ),
    ],
)
def test_an_import_puts_other_dialects_into_the_standard(place: Any, standard: Any) -> None:
    read = tool_spec({"name": "search", "parameters": {"type": "dict", "properties": {"v": place}}})
    assert read.parameters == {"type": "object", "properties": {"v": standard}}
    ArgumentChecker(read)


def record(name: str, place: Any) -> str:
    call = {"name": "search", "arguments": {"q": "x"}}
    spec = {
        "name": "search",
        "parameters": {"type": "dict", "properties": {"q": {"type": "str"}, "v": place}},
    }
    turns = [
        {"role": "user", "content": "Find x."},
        {"role": "assistant", "function_call": [call]},
        {"role": "observation", "content": [{"id": 7}]},
    ]
    return json.dumps({"id": name, "conversations": turns, "functions": [spec]})


def test_an_import_refuses_the_record_whose_tool_would_fail_later(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    lines = [record("good", {"pattern": r"^\p{L}+$"}), record("bad", {"$ref": "#/$defs/Nope"})]
    source.write_text("\n".join(lines))
    with open_cache(tmp_path / "c.db", write=True) as cache:
        result = import_tasks(read_source(source), cache)
    assert [task.id for task in result.tasks] == ["good"]
    (refused,) = result.refused
    assert (
        refused.id == "bad"
        and "tool 'search': its schema refers to '#/$defs/Nope'" in refused.reason
    )
    (task,) = result.tasks
    backend = ReplayBackend(open_cache(tmp_path / "c.db"))
    assert validate_tasks([task], backend)["failures"] == []
    own = ToolSpec("search", "", {"properties": {"q": {"pattern": "("}}})
    bad = Task("own", SAID, (own,), task.gold)
    (failure,) = validate_tasks([bad], backend)["failures"]
    assert "at /properties/q/pattern is no regular expression" in failure["reason"]


def test_a_tools_file_names_the_entry_that_cannot_be_used(tmp_path: Path) -> None:
    tools = [{"name": "a"}, {"name": "b", "parameters": {"properties": {"x": {"pattern": "("}}}}]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    with pytest.raises(
        OrchError, match=r"entry 2: tool 'b': pattern '\(' at /properties/x/pattern"
    ):
        read_tools(tmp_path / "tools.json")


# -- nothing reaches step ------------------------------------------------------------------------


def test_a_server_s_bug_is_an_answer_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "tests.orch_env.test_servers_framework:Library"
    monkeypatch.setitem(SERVERS, "library", where)
    task = Task("t", SAID, servers=("library",))
    env = ToolOrchestrationEnv.from_backend([task], LocalBackend())
    env.reset(seed=0)
    before = env.episode.state
    call = {"name": "lend", "arguments": {"book": "B-1", "reader": "bug"}}
    with pytest.warns(UserWarning, match=r"lend of server 'library' failed at .*\.py:\d+ \(Zero"):
        env.step_message({"tool_calls": [{"function": call}]})
    (made,) = env.episode.turns[-1].calls
    assert made.error is ErrorType.TOOL_ERROR and env.episode.state == before
    assert "ZeroDivisionError" in env.episode.turns[-1].results[0]


def test_one_message_does_not_lose_the_step_of_a_batch() -> None:
    import gymnasium as gym

    envs = gym.make_vec(
        "orch_env/ToolOrchestration-v0",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"shared_memory": False},
        tasks="harbour",
    )
    try:
        envs.reset(seed=7)
        call = {"name": "ship_berth", "arguments": {"ship": 3436}}
        bad = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
        observations = envs.step((bad, "I do not know."))[0]
        assert "'3436' does not match '^S-[0-9]{4}$'" in observations[0]
    finally:
        envs.close()
