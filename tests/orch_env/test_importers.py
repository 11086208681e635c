"""Importers: every response kept, every task checked, nothing in a file that could run."""

from __future__ import annotations

import gzip
import itertools
import json
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.replay import ReplayBackend
from orch_env.cache import open_cache
from orch_env.importers import ImportResult, detect, import_tasks, read_source, read_tools, store
from orch_env.importers.complexfuncbench import stated_today
from orch_env.importers.schemas import tool_name, tool_spec
from orch_env.importers.validation import validate_tasks
from orch_env.tasks.files import load_tasks, read_lines, save_tasks
from orch_env.types import OrchError, Task, ToolSpec
from orch_env.types.json import resolve
from orch_env.values import values_equal
from tests.orch_env.importer_samples import PLACE, conversation, lines, reference_task


def import_text(
    folder: Path, text: str, tools: tuple[ToolSpec, ...] = ()
) -> tuple[ImportResult, Path]:
    source, db = folder / "source.jsonl", folder / "cache.db"
    source.write_text(text, encoding="utf-8")
    with open_cache(db, write=True) as cache:
        result = import_tasks(read_source(source), cache, tools)
    return result, db


def test_a_conversation_becomes_a_task_with_pinned_responses(tmp_path: Path) -> None:
    result, db = import_text(tmp_path, lines(conversation(closing="It is fine.")))
    (task,) = result.tasks
    assert task.today == "2024-10-13"
    assert task.tools == ("Find_Place", "Get_Reviews_Tips")
    assert [[c.name for c in step] for step in task.gold] == [
        ["Find_Place"],
        ["Get_Reviews_Tips", "Get_Reviews_Tips"],
    ]
    reviews = task.gold_calls[1]
    assert reviews.provenance["/place_id"].to_dict() == {
        "kind": "output",
        "call": 0,
        "path": "/data/0/id",
    }
    assert reviews.depends_on == (0,)
    assert task.answer is None and task.metadata["closing_answer"] == "It is fine."
    wanted = {"domain": "Trips", "calls": 3, "depth": 2, "width": 2, "edges": 2}
    assert wanted.items() <= task.metadata.items()
    cache = open_cache(db)
    found = cache.get("Get_Reviews(Tips)", reviews.arguments, task=task)
    assert found is not None and found.text == '{"data": ["schön", 1.0]}'
    assert found.digest == reviews.response


def test_a_step_recorded_after_a_later_user_message_waits_for_it(tmp_path: Path) -> None:
    talk, thanks = conversation("Talk-0", guests=230), conversation("Thanks-0", guests=230)
    said = [{"role": "assistant", "content": "Done."}, {"role": "user", "content": "230 guests."}]
    talk["conversations"][3:3] = said
    thanks["conversations"] += said
    result, db = import_text(tmp_path, lines(talk, thanks))
    timed, untimed = result.tasks
    assert timed.followups == untimed.followups == ("230 guests.",)
    assert timed.after_followup == (0, 1) and timed.opening_query.endswith("please.")
    assert untimed.after_followup == () and "after_followup" not in untimed.to_dict()
    # What was said after a call is not where its value comes from.
    sources = [str(t.gold_calls[1].provenance["/guests"].kind) for t in result.tasks]
    assert sources == ["query", "reasoned"]
    assert validate_tasks(result.tasks, ReplayBackend(open_cache(db)))["failures"] == []


def test_tools_are_normalised_and_keep_their_original_name_as_an_alias(tmp_path: Path) -> None:
    _, db = import_text(tmp_path, lines(conversation()))
    spec = open_cache(db).catalogue["Get_Reviews_Tips"]
    assert spec.aliases == ("Get_Reviews(Tips)",)
    place = open_cache(db).catalogue["Find_Place"]
    assert place.parameters["type"] == "object"
    assert place.parameters["properties"]["query"]["type"] == "string"
    assert tool_name("Get_Hotel_Reviews(Tips)") == "Get_Hotel_Reviews_Tips"
    sort = "Get_Hotel_Reviews(Tips)_Sort_Option"
    assert tool_name(sort) == "Get_Hotel_Reviews_Tips__Sort_Option"


def test_the_same_call_with_two_responses_pins_each_task_to_its_own(tmp_path: Path) -> None:
    first, second = conversation("Trips-0"), conversation("Trips-1", place=55512345)
    result, db = import_text(tmp_path, lines(first, second))
    assert (result.responses, result.variants) == (6, 1)
    cache = open_cache(db)
    for task, place in zip(result.tasks, (81927364, 55512345), strict=True):
        for wanted in (task, task.id):
            found = cache.get("Find_Place", {"query": "Zürich"}, task=wanted)
            assert found is not None
            assert json.loads(found.text)["data"][0]["id"] == place


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda r: r["conversations"][2]["content"].append({}), "2 responses to 1 calls"),
        (lambda r: r["conversations"].pop(2), "must alternate"),
        (lambda r: r["conversations"].pop(), "last calls have no observation"),
        (lambda r: r.update(functions=[]), "non-empty list of tools"),
        (lambda r: r["conversations"].pop(0), "no user message"),
        (lambda r: r["functions"][0]["parameters"].update(type="blob"), "unknown type 'blob'"),
        (lambda r: r["conversations"][1]["function_call"][0].pop("name"), "needs a name"),
        (lambda r: r["conversations"][4].update(content=[{"error": "x"}, {}]), "is an error"),
        (lambda r: r.update(conversations=r["conversations"][:1]), "holds no call"),
    ],
)
def test_a_broken_task_is_refused_with_its_reason_and_the_rest_goes_on(
    tmp_path: Path, break_it: Any, reason: str
) -> None:
    bad = json.loads(json.dumps(conversation("Trips-7")))
    break_it(bad)
    result, _ = import_text(tmp_path, lines(bad, conversation("Trips-8")) + "not json\n")
    assert [task.id for task in result.tasks] == ["Trips-8"]
    reasons = {refusal.id: refusal.reason for refusal in result.refused}
    assert reason in reasons["Trips-7"]
    assert "line 3" in reasons and len(reasons) == 2


CALL = {"id": "a", "function": {"name": "Find_Place", "arguments": '{"query": "Zürich"}'}}


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [CALL]},
        {"content": [{"type": "tool_use", "name": "Find_Place", "input": {"query": "Zürich"}}]},
        {"function_call": [{"name": "Find_Place", "args": {"query": "Zürich"}}]},
        {"function_call": {"name": "Find_Place", "arguments": '{"query": "Zürich"}'}},
    ],
)
def test_calls_in_another_form_are_read(tmp_path: Path, message: dict[str, Any]) -> None:
    record = conversation()
    record["conversations"][1] = {"role": "assistant", "content": "", **message}
    result, _ = import_text(tmp_path, lines(record))
    names = [call.name for call in result.tasks[0].gold_calls]
    assert names == ["Find_Place", "Get_Reviews_Tips", "Get_Reviews_Tips"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversations": 1, "toolCalls": [CALL], "content": "x"}, "carries calls as 'toolCalls'"),
        ({"id": ["a"]}, "'id' must be a text or a whole number"),
        ({"id": True}, "'id' must be a text or a whole number"),
        ({"functions": [PLACE, {**PLACE, "description": "other"}]}, "two tools 'Find_Place'"),
        ({"functions": [PLACE, {**PLACE, "name": "Find.Place"}]}, "two tools 'Find_Place'"),
        (
            {"functions": [{"name": "Find_Place", "args_schema": {"type": "object"}}]},
            "'args_schema'",
        ),
        ({"functions": [{"name": "Find_Place", "parameters": "x"}]}, "must be an object"),
    ],
)
def test_what_would_be_lost_is_refused_with_its_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    record = conversation()
    if change.pop("conversations", None):
        record["conversations"][1] = {"role": "assistant", **change}
    else:
        record.update(change)
    result, _ = import_text(tmp_path, lines(record, conversation("good")))
    assert [task.id for task in result.tasks] == ["good"]
    (refused,) = result.refused
    assert reason in refused.reason


def test_a_tool_in_mcp_s_form_keeps_its_arguments(tmp_path: Path) -> None:
    record = conversation()
    record["functions"] = [
        {"inputSchema": tool["parameters"], "name": tool["name"], "description": "d"}
        for tool in record["functions"]
    ]
    _, db = import_text(tmp_path, lines(record))
    assert open_cache(db).catalogue["Find_Place"].parameters["required"] == ["query"]


def test_functions_that_would_be_stored_as_one_are_refused(tmp_path: Path) -> None:
    entry = [{"arguments": {}, "response": 1}]
    (tmp_path / "c.json").write_text(json.dumps({"a b": entry, "a.b": entry}))
    with pytest.raises(OrchError, match=r"'a b' and 'a\.b' would both be stored as 'a_b'"):
        read_source(tmp_path / "c.json")


def test_reference_tasks_that_would_share_an_id_are_refused(tmp_path: Path) -> None:
    tasks = [reference_task(name, "Oslo", 7, {"data": []}) for name in ("w.0", "w", "w")]
    found = read_source(write_pickle(tmp_path / "t.pkl", tasks))
    assert [trace.id for trace in found.traces] == ["w.0", "w.1"]
    assert [(r.id, r.reason) for r in found.refused] == [("w.0", "the id was used before")]


@pytest.mark.parametrize("candidates", [[{"name": "Find_Place"}], "Find_Place", [None]])
def test_candidate_tools_that_are_no_names_are_refused(tmp_path: Path, candidates: Any) -> None:
    task = reference_task("w", "Oslo", 7, {"data": []})
    task["steps"][0]["candidate_tools"] = candidates
    found = read_source(write_pickle(tmp_path / "t.pkl", [task]))
    assert found.traces == [] and "'candidate_tools'" in found.refused[0].reason


def test_keys_of_a_pickle_that_are_one_as_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match="two keys of an object are the same as text"):
        read_source(write_pickle(tmp_path / "t.pkl", [{1: "a", "1": "b"}]))


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    result, _ = import_text(tmp_path, lines(conversation(), conversation()))
    assert len(result.tasks) == 1 and "used before" in result.refused[0].reason


def test_a_task_with_another_schema_of_a_tool_carries_the_whole_spec(tmp_path: Path) -> None:
    other = json.loads(json.dumps(conversation("Trips-1")))
    other["functions"][0]["description"] = "Another description."
    result, db = import_text(tmp_path, lines(conversation(), other))
    assert result.tasks[0].tools[0] == "Find_Place"
    override = result.tasks[1].tools[0]
    assert isinstance(override, ToolSpec) and override.description == "Another description."
    assert open_cache(db).catalogue["Find_Place"].description == "Find a place."


def test_gzip_is_read_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "source.jsonl"
    path.write_bytes(gzip.compress(lines(conversation()).encode()))
    assert len(read_source(path).traces) == 1


@pytest.mark.parametrize(
    ("said", "today"),
    [
        ("Today is October 13th, 2024. I want", "2024-10-13"),
        ("Hello, today's date is Nov 2nd 2024!", "2024-11-02"),
        ("Today is Monday, December 1, 2025", "2025-12-01"),
        ("today is 2024-02-29", "2024-02-29"),
        ("Today is February 31st, 2024", None),
        ("On October 13th, 2024 I travel", None),
        ("Today is SEPT 5th, 2024", "2024-09-05"),
        ("Today is Mai 5th, 2024", None),
        ("Today is the May 0th, 2024", None),
        ("Today is 2024-13-01", None),
    ],
)
def test_the_stated_date_is_read(said: str, today: str | None) -> None:
    assert stated_today(said) == today


def test_month_names_are_english_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    import _strptime

    german = _strptime.LocaleTime()
    german.a_month = [word.replace("oct", "okt") for word in german.a_month]
    monkeypatch.setattr(_strptime, "LocaleTime", lambda: german)
    monkeypatch.setattr(_strptime, "_TimeRE_cache", _strptime.TimeRE(german))
    monkeypatch.setattr(_strptime, "_regex_cache", {})
    with pytest.raises(ValueError, match="does not match"):
        datetime.strptime("Oct 13 2024", "%b %d %Y")
    assert stated_today("Today is October 13th, 2024.") == "2024-10-13"


def test_a_reference_cache_keeps_all_variants_in_order(tmp_path: Path) -> None:
    path, db = tmp_path / "responses.json", tmp_path / "cache.db"
    entries = [{"arguments": {"q": 1}, "response": r} for r in ({"a": 1}, "plain", {"a": 2})]
    path.write_text(json.dumps({"Find(It)": entries}))
    with open_cache(db, write=True) as cache:
        store(read_source(path), cache)
    cache = open_cache(db)
    texts = [found.text for found in cache.variants("Find_It", {"q": "1"})]
    assert texts == ['{"a": 1}', "plain", '{"a": 2}']
    assert cache.catalogue["Find_It"].parameters["properties"] == {"q": {"type": "integer"}}


def test_several_sources_go_into_one_cache_and_once_more_changes_nothing(tmp_path: Path) -> None:
    result, db = import_text(tmp_path, lines(conversation()))
    path = tmp_path / "more.json"
    entry = {"arguments": {"query": "Zürich"}, "response": {"data": "later"}}
    path.write_text(json.dumps({"Find_Place": [entry]}))
    digests = []
    for _ in range(2):
        with open_cache(db, write=True) as cache:
            store(read_source(path), cache)
        digests.append(open_cache(db).stats()["digest"])
    assert digests[0] == digests[1]
    cache = open_cache(db)
    assert len(cache.variants("Find_Place", {"query": "Zürich"})) == 2
    found = cache.get("Find_Place", {"query": "Zürich"}, task=result.tasks[0])
    assert found is not None and "81927364" in found.text


def write_pickle(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


def test_reference_tasks_become_tasks(tmp_path: Path) -> None:
    records = [
        reference_task("workflow_0", "Oslo", 4711471, {"data": ["a"]}),
        reference_task("workflow_0", "Rome", 4711472, {"data": ["b"]}),
    ]
    source = write_pickle(tmp_path / "tasks.pkl", records)
    with open_cache(tmp_path / "c.db", write=True) as cache:
        result = import_tasks(read_source(source), cache)
    assert [task.id for task in result.tasks] == ["workflow_0.0", "workflow_0.1"]
    task = result.tasks[0]
    assert task.gold_calls[1].depends_on == (0,)
    assert task.tools == ("Find_Place", "Get_Reviews_Tips")
    assert result.unknown_tools == {"Other_Tool"}


def test_a_response_that_was_not_kept_comes_from_the_cache_or_the_task_is_refused(
    tmp_path: Path,
) -> None:
    source = write_pickle(tmp_path / "t.pkl", [reference_task("w-1", "Oslo", 4711471, "")])
    with open_cache(tmp_path / "c.db", write=True) as cache:
        result = import_tasks(read_source(source), cache)
        assert result.tasks == []
        assert "Get_Reviews_Tips was not recorded" in result.refused[0].reason
        cache.put("Get_Reviews_Tips", {"place_id": 4711471}, '{"data": 1}')
        result = import_tasks(read_source(source), cache)
    assert result.tasks[0].gold_calls[1].response is None and result.unpinned == 1


class Exploit:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("value", ["call", "class", {1, 2}, b"bytes", 1j])
def test_a_pickle_of_anything_but_plain_values_is_refused_and_runs_nothing(
    tmp_path: Path, value: Any
) -> None:
    target = tmp_path / "touched"
    payload = {"call": Exploit(target), "class": Path}.get(value, value) if (
        isinstance(value, str)
    ) else value  # fmt: skip
    source = write_pickle(tmp_path / "bad.pkl", [payload])
    with pytest.raises(OrchError, match=r"asks for|no JSON value"):
        read_source(source, "reference-pkl")
    assert not target.exists()


def test_a_damaged_pickle_is_one_clear_line(tmp_path: Path) -> None:
    source = write_pickle(tmp_path / "t.pkl", [reference_task("w", "Oslo", 1, {})])
    source.write_bytes(source.read_bytes()[:100])
    with pytest.raises(OrchError, match="no readable pickle"):
        read_source(source)


def test_formats_are_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_text(lines(conversation()), encoding="utf-8")
    assert detect(path) == "complexfuncbench"
    path.write_text(json.dumps({"f": [{"arguments": {}, "response": 1}]}, indent=2))
    assert detect(path) == "reference-cache"
    write_pickle(path, [])
    assert detect(path) == "reference-pkl"
    for other in ("", "id,query\n1,x\n", "[1, 2]"):
        path.write_text(other)
        with pytest.raises(OrchError, match=r"no known format|is empty"):
            detect(path)


@pytest.mark.parametrize("layout", ["lines", "list", "map"])
def test_tool_files_are_read_in_their_dialects(tmp_path: Path, layout: str) -> None:
    body = {
        "description": "d",
        "parameters": {
            "type": "dict",
            "properties": {
                "legs": {"type": "tuple", "items": {"type": "dict", "properties": {}}},
                "price": {"type": "float"},
                "free": {"type": "any"},
            },
        },
    }
    tools = [{"name": "a", **body}, {"name": "b", **body}]
    text = {
        "lines": "\n".join(map(json.dumps, tools)),
        "list": json.dumps(tools, indent=1),
        "map": json.dumps({"a": body, "b": body}),
    }[layout]
    (tmp_path / "tools.json").write_text(text)
    specs = read_tools(tmp_path / "tools.json")
    assert [spec.name for spec in specs] == ["a", "b"]
    properties = specs[1].parameters["properties"]
    assert properties["legs"] == {"type": "array", "items": {"type": "object", "properties": {}}}
    assert properties["price"] == {"type": "number"} and properties["free"] == {}


WRAPS = ["tools/list", "an answer of JSON-RPC", "answers by line", "a list", "lines"]


@pytest.mark.parametrize("wrap", [*WRAPS, "Gemini", "Gemini's tools", "Bedrock"])
def test_the_tools_of_services_are_read(tmp_path: Path, wrap: str) -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    tools = [{"name": "a", "inputSchema": schema}, {"name": "b", "inputSchema": schema}]
    text = {
        "tools/list": json.dumps({"tools": tools, "nextCursor": None}, indent=1),
        "an answer of JSON-RPC": json.dumps(
            {"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}
        ),
        "answers by line": lines(*({"result": {"tools": [tool]}} for tool in tools)),
        "a list": json.dumps(tools),
        "lines": lines(*tools),
        "Gemini": json.dumps({"function_declarations": tools}),
        "Gemini's tools": json.dumps(
            [{"functionDeclarations": [{"name": n, "parametersJsonSchema": schema}]} for n in "ab"]
        ),
        "Bedrock": json.dumps({"toolConfig": {"tools": [{"toolSpec": tool} for tool in tools]}}),
    }[wrap]
    (tmp_path / "tools.json").write_text(text)
    specs = read_tools(tmp_path / "tools.json")
    assert [(s.name, s.parameters) for s in specs] == [("a", schema), ("b", schema)]


def test_a_tools_file_keeps_what_mcp_says_of_changes(tmp_path: Path) -> None:
    hints: tuple[bool | None, ...] = (True, False, None)
    tools = [
        {"name": f"odd ({n})", "inputSchema": {}, "annotations": {"readOnlyHint": hint}}
        for n, hint in enumerate(hints)
    ]
    (tmp_path / "tools.json").write_text(json.dumps({"tools": tools}))
    assert tuple(spec.read_only for spec in read_tools(tmp_path / "tools.json")) == hints


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ('{"result": {"description": "d"}}', "result", []),
        ('{"toolSpec": {"name": "a", "inputSchema": {"json": {}}}}', "a", []),
        (
            '{"name": "a", "parameters": {"properties": {"type": {"type": "number"}}}}',
            "a",
            ["type"],
        ),
        ('{"name": "a", "parameters": {"type": "object", "x-a": {"type": "b"}}}', "a", []),
        ('{"name": "a", "parameters": {"additionalProperties": {"type": "number"}}}', "a", []),
    ],
)
def test_a_tools_file_of_one_tool_is_read(
    tmp_path: Path, text: str, name: str, arguments: list[str]
) -> None:
    (tmp_path / "tools.json").write_text(text)
    (spec,) = read_tools(tmp_path / "tools.json")
    assert (spec.name, list(spec.parameters["properties"])) == (name, arguments)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[{"name": "a"}, {"name": "a", "description": "other"}]', "entry 2: there is a tool 'a'"),
        ('[{"name": "a b"}, {"name": "a.b"}]', "entry 2: there is a tool 'a_b'"),
        ('{"a": "text"}', "entry 1: a tool must be a JSON object"),
        ('{"mcpServers": {"x": {"command": "npx"}}}', "'mcpServers' is no tool"),
        ('{"name": "a", "parameters": {"q": {"type": "string"}}}', "but the properties of one"),
        ('{"type": "namespace", "name": "n", "tools": [{"name": "a"}]}', "type 'namespace'"),
        ('{"tools": []}', "holds no tools"),
        ('{"tools": "abc"}', "entry 1: a tool must be a JSON object"),
        ("3", "entry 1: a tool must be a JSON object"),
        ("", "is not JSON"),
        ('{"name": "a"}\n{"name": ', "line 2: not JSON"),
        ('[\n{"name": "a",}]', "is not JSON"),
    ],
)
def test_a_tools_file_that_cannot_be_read_whole_says_where(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "tools.json").write_text(text)
    with pytest.raises(OrchError, match=why):
        read_tools(tmp_path / "tools.json")


def test_a_tool_without_a_name_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text('[{"name": "a"}, {"description": "b"}]')
    with pytest.raises(OrchError, match="entry 2: a tool needs a non-empty string 'name'"):
        read_tools(tmp_path / "tools.json")
    assert tool_spec({"type": "function", "function": {"name": "x"}}).name == "x"


# -- the real files --------------------------------------------------------------------------


@pytest.mark.shared_data
def test_every_recorded_response_of_the_benchmark_is_there_byte_for_byte(
    booking_import: tuple[ImportResult, Path], shared_data: Path, tmp_path: Path
) -> None:
    result, db = booking_import
    assert len(result.tasks) == 533 and result.refused == []
    tasks = {task.id: task for task in result.tasks}
    cache = open_cache(db)
    source = shared_data / "complexfuncbench" / "ComplexFuncBench.public.jsonl.gz"
    checked = 0
    for line in read_lines(source):
        if not line:
            continue
        record = json.loads(line)
        talk = record["conversations"]
        for message, answer in itertools.pairwise(talk):
            calls = message.get("function_call", ())
            for made, response in zip(calls, answer["content"] if calls else (), strict=True):
                text = json.dumps(response, ensure_ascii=False)
                for task in (tasks[record["id"]], record["id"]):
                    found = cache.get(made["name"], made["arguments"], task=task)
                    assert found is not None
                    # A task that made one call twice with two answers pins both, in order.
                    variants = cache.variants(made["name"], made["arguments"])
                    assert found.text == text or text in {v.text for v in variants}
                checked += 1
    assert checked == 2736
    save_tasks(result.tasks, tmp_path / "t.jsonl")
    assert load_tasks(tmp_path / "t.jsonl") == result.tasks


def outputs_of(task: Task, cache: Any) -> list[Any]:
    found = [cache.get_variant(cache.key(c.name, c.arguments), bytes.fromhex(c.response or ""))
             for c in task.gold_calls]  # fmt: skip
    return [json.loads(response.text) for response in found]


@pytest.mark.shared_data
def test_every_output_source_of_the_benchmark_leads_to_the_argument_s_value(
    booking_import: tuple[ImportResult, Path],
) -> None:
    result, db = booking_import
    cache, edges = open_cache(db), 0
    for task in result.tasks:
        outputs = outputs_of(task, cache)
        steps = [number for number, step in enumerate(task.gold) for _ in step]
        for number, made in enumerate(task.gold_calls):
            for pointer, ref in made.provenance.items():
                if ref.call is None or ref.path is None:
                    continue
                assert steps[ref.call] < steps[number]
                value = resolve(made.arguments, pointer)
                assert values_equal(resolve(outputs[ref.call], ref.path), value)
                edges += 1
    counts = result.summary()["provenance"]
    assert edges == counts["output"]
    assert 0.44 < counts["output"] / sum(counts.values()) < 0.54  # 0.49 on the 1,000 tasks


@pytest.mark.shared_data
def test_the_reference_s_evaluation_file_replays_from_its_cache(
    shared_data: Path, tmp_path: Path
) -> None:
    booking = shared_data / "booking"
    tools = read_tools(booking / "booking_api.json")
    assert len(tools) == 40
    with open_cache(tmp_path / "c.db", write=True) as cache:
        store(read_source(booking / "booking_api_cache.public.json.gz"), cache, tools)
        assert cache.stats()["responses"] == 2462
        result = import_tasks(read_source(booking / "eval_100.pkl"), cache, tools)
    assert len(result.tasks) == 100 and result.refused == []
    assert all(isinstance(tool, str) for task in result.tasks for tool in task.tools)
    assert 0 < result.unpinned < 465
