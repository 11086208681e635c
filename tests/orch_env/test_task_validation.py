"""What `orch tasks validate` refuses: goals of a wrong form, optional calls that something needs.

Tasks here run on a cache of a few recordings, or on the live harbour where state is changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.local import LocalBackend
from orch_env.backends.replay import ReplayBackend
from orch_env.cache import open_cache
from orch_env.importers.validation import validate_tasks
from orch_env.types import ErrorType, GoldCall, Provenance, Task, ToolCall, ToolSpec, ValueRef
from tests.orch_env.reward_world import output_of

ANY = {"type": "object", "additionalProperties": True}
TOOLS = tuple(ToolSpec(name, "", ANY) for name in ("find", "list", "book"))


def cached(tmp_path: Path, answers: Sequence[tuple[str, dict[str, Any], Any]]) -> ReplayBackend:
    path = tmp_path / "cache.db"
    with open_cache(path, write=True) as cache:
        for tool, arguments, result in answers:
            cache.put(tool, arguments, json.dumps(result))
    return ReplayBackend(open_cache(path))


def task_of(gold: Sequence[Sequence[GoldCall]], query: str = "Oslo", **fields: Any) -> Task:
    message = {"role": "user", "content": query}
    return Task("t", (message,), TOOLS, tuple(map(tuple, gold)), **fields)


FIND = GoldCall("find", {"city": "Oslo"}, optional=True)
LIST = GoldCall("list", {"near": "Oslo"})
BOOK = GoldCall("book", {"hotel": "h77"}, depends_on=(0,), provenance={"/hotel": output_of(0)})
ANSWERS = [
    ("find", {"city": "Oslo"}, {"id": "h77"}),
    ("list", {"near": "Oslo"}, {"hotels": ["h12"]}),
    ("list", {"near": "Bergen"}, {"hotels": ["h12", "h77"]}),
    ("book", {"hotel": "h77"}, {"ok": True}),
    ("book", {"hotels": "h12,h77"}, {"ok": True}),
]


def reasons(backend: Any, *tasks: Task) -> list[str]:
    return [failure["reason"] for failure in validate_tasks(tasks, backend)["failures"]]


# -- optional calls --------------------------------------------------------------------------


def test_an_optional_call_whose_value_stands_nowhere_else_is_refused(tmp_path: Path) -> None:
    (reason,) = reasons(cached(tmp_path, ANSWERS), task_of([[FIND], [LIST], [BOOK]]))
    assert reason == (
        "gold call 0 is optional, but call 2 (book) takes /hotel from it, which stands nowhere else"
    )


@pytest.mark.parametrize(
    ("gold", "query"),
    [
        ([[FIND], [BOOK]], "Book h77 in Oslo"),  # told by the user
        ([[FIND, replace(LIST, arguments={"near": "Bergen"})], [BOOK]], "Oslo"),  # shown elsewhere
        ([[FIND], [LIST]], "Oslo"),  # nobody takes it
    ],
)
def test_an_optional_call_whose_value_stands_elsewhere_is_valid(
    tmp_path: Path, gold: list[list[GoldCall]], query: str
) -> None:
    assert reasons(cached(tmp_path, ANSWERS), task_of(gold, query)) == []


def test_a_result_that_comes_too_late_or_is_optional_itself_is_no_elsewhere(tmp_path: Path) -> None:
    backend = cached(tmp_path, ANSWERS)
    bergen = replace(LIST, arguments={"near": "Bergen"})
    late = task_of([[FIND], [BOOK, bergen]])
    both = task_of([[FIND, replace(bergen, optional=True)], [BOOK]])
    for reason in reasons(backend, late, both):
        assert "which stands nowhere else" in reason
    assert len(reasons(backend, late, both)) == 2


def test_one_piece_of_a_composite_value_is_enough_to_be_needed(tmp_path: Path) -> None:
    pieces = (output_of(1, "/hotels/0"), output_of(0))
    pair = GoldCall(
        "book",
        {"hotels": "h12,h77"},
        depends_on=(0, 1),
        provenance={"/hotels": ValueRef(Provenance.COMPOSITE, parts=pieces)},
    )
    backend = cached(tmp_path, ANSWERS)
    (reason,) = reasons(backend, task_of([[FIND, LIST], [pair]]))
    assert "gold call 0 is optional, but call 2 (book) takes /hotels from it" in reason
    assert reasons(backend, task_of([[FIND, LIST], [pair]], "h77 and another one")) == []


def test_an_optional_call_whose_state_is_needed_is_refused(tmp_path: Path) -> None:
    after = GoldCall("list", {"near": "Oslo"}, depends_on=(0,))
    (reason,) = reasons(cached(tmp_path, ANSWERS), task_of([[FIND], [after]]))
    assert reason == "gold call 0 is optional, but call 1 (list) needs the state that it makes"


def test_an_optional_call_that_makes_a_part_of_the_final_state_is_refused() -> None:
    world = renewals(2)
    assert reasons(LocalBackend(), world) == []
    spare = tuple((replace(call, optional=True),) for (call,) in world.gold[1:])
    (reason,) = reasons(LocalBackend(), replace(world, gold=(world.gold[0], *spare)))
    assert reason.startswith(
        "gold without its optional calls (1), replayed: gold does not leave the 'final_state'"
    )


# -- follow-ups ------------------------------------------------------------------------------

TOLD = ValueRef(Provenance.QUERY)


@pytest.mark.parametrize(
    ("hotels", "source"),
    [
        ("h77", TOLD),
        ("h12,h77", TOLD),
        ("h12,h77", ValueRef(Provenance.COMPOSITE, parts=(output_of(0, "/hotels/0"), TOLD))),
    ],
)
def test_a_value_that_the_user_says_later_is_taken_only_after_that(
    tmp_path: Path, hotels: str, source: ValueRef
) -> None:
    book = GoldCall("book", {"hotels": hotels}, (), (0,), {"/hotels": source})
    backend = cached(tmp_path, [*ANSWERS, ("book", {"hotels": "h77"}, {"ok": True})])
    list_it = replace(LIST, provenance={"/near": TOLD})
    talk = task_of([[list_it], [book]], "h12 or so, in Oslo", followups=("Yes.", "h77, please."))
    too_early = replace(talk, after_followup=(0, 1))
    assert reasons(backend, talk, too_early) == [
        "gold call 1 (book), argument /hotels: the user says 'h77' in follow-up 2, but the step "
        f"waits for {count} follow-ups; its entry in 'after_followup' must be at least 2"
        for count in (0, 1)
    ]
    assert reasons(backend, replace(talk, after_followup=(0, 2))) == []
    in_capitals = ({"role": "user", "content": "H12 or H77, in Oslo"},)
    if source is TOLD:  # a dependency asks for the value as it is written
        assert reasons(backend, replace(talk, messages=in_capitals)) == []
    shown = replace(LIST, arguments={"near": "Bergen"})  # its result shows h77 as well
    assert reasons(backend, replace(talk, gold=((list_it, shown), (book,)))) == []


def test_an_optional_call_is_needed_until_the_user_says_its_value(tmp_path: Path) -> None:
    backend = cached(tmp_path, ANSWERS)
    talk = task_of([[FIND], [LIST], [BOOK]], followups=("Book h77.",))
    (reason,) = reasons(backend, talk)
    assert "call 2 (book) takes /hotel from it, which stands nowhere else" in reason
    assert reasons(backend, replace(talk, after_followup=(0, 0, 1))) == []


# -- goals -----------------------------------------------------------------------------------


def renewals(count: int) -> Task:
    """Renew the first permits of the harbour, with the final state that this leaves."""
    task = Task(
        "renew", ({"role": "user", "content": ""},), ("renew_permit",), servers=("harbour",), seed=0
    )
    session = LocalBackend().open(task, seed=0)
    permits = (f"L-{n:04d}" for n in range(10_000))
    found: list[str] = []
    while len(found) < count:
        permit = next(permits)
        if session.answer([ToolCall("renew_permit", {"permit": permit})])[0].error is None:
            found.append(permit)
    calls = [
        GoldCall("renew_permit", {"permit": p}, provenance={"/permit": ValueRef(Provenance.QUERY)})
        for p in found
    ]
    return replace(
        task,
        messages=({"role": "user", "content": f"Renew {' and '.join(found)}."},),
        gold=tuple((call,) for call in calls),
        final_state=session.final_state(),
    )


def test_a_final_state_that_gold_leaves_is_valid_and_any_other_is_refused() -> None:
    task = renewals(1)
    assert reasons(LocalBackend(), task) == []
    ((server, tables),) = task.final_state.items()
    ((table, records),) = tables.items()
    ((name, record),) = records.items()
    other = {server: {table: {name: {**record, "until": 1999}}}}
    gone = {server: {table: {name: None}}}
    more = {server: {table: {**records, "L-none": record}}}
    nothing: dict[str, Any] = {}
    for state, told in (
        (other, f"wrong /{server}/{table}/{name}/until: gold has 1999"),
        (gone, f"wrong /{server}/{table}/{name}"),
        (more, f"missing /{server}/{table}/L-none"),
        (nothing, f"collateral /{server}/{table}/{name}"),
    ):
        (reason,) = reasons(LocalBackend(), replace(task, final_state=state))
        assert "does not leave the 'final_state' of the task" in reason and told in reason


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ([], "must be {server: {table: {id: record or null}}}, got []"),
        ("done", "must be {server: {table: {id: record or null}}}, got 'done'"),
        ({"harbour": None}, "at /harbour stands None"),
        ({"harbour": {"permits": ["L-1"]}}, "at /harbour/permits stands ['L-1']"),
        ({"harbour": {"permits": {"L-1": 3}}}, "at /harbour/permits/L-1 stands 3"),
        ({"harbour": {"permits": {"L-1": {"fee": math.nan}}}}, "a number that JSON does not have"),
        ({"airport": {}}, "changes 'airport', which is none of the task's servers (harbour)"),
    ],
)
def test_a_final_state_of_another_form_is_refused(state: Any, told: str) -> None:
    (reason,) = reasons(LocalBackend(), replace(renewals(1), final_state=state))
    assert told in reason


def test_a_final_state_of_tools_that_hold_none_is_refused(tmp_path: Path) -> None:
    task = task_of([[LIST]], final_state={"desk": {}})
    (reason,) = reasons(cached(tmp_path, ANSWERS), task)
    assert "the task names no 'servers' that hold state" in reason


@pytest.mark.parametrize("created", ["/harbour/permits/L-1", [3], ["/harbour/permits/none"]])
def test_created_records_must_be_records_of_the_final_state(created: Any) -> None:
    (reason,) = reasons(LocalBackend(), renewals(1).with_metadata(created=created))
    assert "metadata 'created'" in reason


@pytest.mark.parametrize("answer", [42, 2.5, "Grand Hotel", True, ["a", "b"], {"price": 3}, 0])
def test_an_answer_that_a_text_can_give_is_valid(tmp_path: Path, answer: Any) -> None:
    assert reasons(cached(tmp_path, ANSWERS), task_of([[LIST]], answer=answer)) == []


@pytest.mark.parametrize(
    ("answer", "match", "told"),
    [
        ("", None, "'answer' is empty ('')"),
        ("  ", None, "'answer' is empty"),
        ([], None, "'answer' is empty ([])"),
        (math.nan, None, "a number that JSON does not have"),
        ({"price": [math.inf]}, None, "a number that JSON does not have, at /price/0"),
        ("a hotel", "numeric", "is no number, which the rule 'numeric' needs"),
        ("a hotel", "nearly", "there is no rule 'nearly'"),
        ("a hotel", {"match": "judge", "judge": "os:system"}, "names a judge"),
    ],
)
def test_an_answer_that_nothing_can_be_compared_with_is_refused(
    tmp_path: Path, answer: Any, match: Any, told: str
) -> None:
    task = task_of([[LIST]], answer=answer)
    if match is not None:
        task = task.with_metadata(answer_match=match)
    (reason,) = reasons(cached(tmp_path, ANSWERS), task)
    assert told in reason


def test_one_bad_task_does_not_hide_the_others(tmp_path: Path) -> None:
    good, bad = task_of([[LIST]]), replace(task_of([[LIST]], answer=""), id="bad")
    result = validate_tasks([bad, good], cached(tmp_path, ANSWERS))
    assert (result["tasks"], result["ok"]) == (2, 1)
    assert [failure["id"] for failure in result["failures"]] == ["bad"]


# -- what a cut would hide -------------------------------------------------------------------


def hidden(backend: Any, task: Task, limit: int) -> list[tuple[int, str]]:
    result = validate_tasks([task], backend, max_observation_chars=limit)
    assert result["failures"] == []
    return [(entry["call"], entry["pointer"]) for entry in result["hidden"]]


def test_a_cut_hides_what_stands_behind_it_unless_it_is_told_elsewhere(tmp_path: Path) -> None:
    far = {"filler": "x" * 300, "id": "h77"}
    backend = cached(tmp_path, [("find", {"city": "Oslo"}, far), ANSWERS[3]])
    find = replace(FIND, optional=False)
    assert hidden(backend, task_of([[find], [BOOK]]), 200) == [(1, "/hotel")]
    assert hidden(backend, task_of([[find], [BOOK]]), 400) == []
    assert hidden(backend, task_of([[find], [BOOK]], "Take h77"), 200) == []


def test_the_numbers_of_the_cut_s_marker_are_nobody_s_values(tmp_path: Path) -> None:
    # 400 letters: {"f": "xx...", "id": 428}; the marker says how many of how many are missing.
    text = {"f": "x" * 400, "id": 0}
    length = len(json.dumps({**text, "id": 100}))
    text["id"] = length
    backend = cached(
        tmp_path, [("find", {"city": "Oslo"}, text), ("book", {"hotel": length}, {"ok": True})]
    )
    book = replace(BOOK, arguments={"hotel": length})
    task = task_of([[replace(FIND, optional=False)], [book]])
    assert len(json.dumps(text)) == length
    assert hidden(backend, task, 200) == [(1, "/hotel")]


def test_a_value_that_is_escaped_in_the_shown_part_is_not_hidden(tmp_path: Path) -> None:
    name = 'The "Grand" Hôtel\nOslo'
    result = {"id": name, "filler": "x" * 400}
    path = tmp_path / "cache.db"
    with open_cache(path, write=True) as cache:
        cache.put("find", {"city": "Oslo"}, json.dumps(result, ensure_ascii=False))
        cache.put("book", {"hotel": name}, "{}")
    backend = ReplayBackend(open_cache(path))
    book = replace(BOOK, arguments={"hotel": name})
    assert hidden(backend, task_of([[replace(FIND, optional=False)], [book]]), 200) == []


def test_the_harbour_refuses_what_it_refused_before() -> None:
    # A gold call that the live server answers with an error is still the first reason.
    task = renewals(1)
    twice = replace(task, gold=(*task.gold, *task.gold))
    (reason,) = reasons(LocalBackend(), twice)
    assert "gold call 1 (renew_permit) is answered by an error" in reason
    assert ErrorType.TOOL_ERROR.value in reason


def test_a_query_in_parts_is_read_as_its_text() -> None:
    parts = [{"type": "text", "text": "Book a room"}, {"type": "text", "text": " in Oslo."}]
    messages = ({"role": "user", "content": parts}, {"role": "user", "content": "For two."})
    assert Task("t", messages, followups=("Thanks.",)).query == (
        "Book a room in Oslo.\nFor two.\nThanks."
    )
