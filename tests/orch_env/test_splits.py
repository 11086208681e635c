"""Held-out tasks share no gold call with training tasks, whatever the links between tasks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.cli.main import main
from orch_env.tasks.files import load_tasks
from orch_env.tasks.selection import spread
from orch_env.tasks.splits import linked_groups, split_tasks
from orch_env.types import GoldCall, OrchError, Task
from orch_env.values import call_key


def _task(number: int, entities: list[int]) -> Task:
    calls = tuple(GoldCall("look_up", {"id": entity}) for entity in entities)
    return Task(f"t{number}", ({"role": "user", "content": "x"},), gold=(calls,))


def _keys(tasks: list[Task]) -> set[bytes]:
    return {call_key(c.name, c.arguments) for t in tasks for c in t.gold_calls}


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), min_size=2, max_size=40))
def test_no_gold_call_stands_on_both_sides(links: list[list[int]]) -> None:
    tasks = [_task(i, entities) for i, entities in enumerate(links)]
    try:
        train, held = split_tasks(tasks, heldout=0.3)
    except OrchError:
        return
    assert not _keys(train) & _keys(held)
    assert sorted(t.id for t in train + held) == sorted(t.id for t in tasks)
    assert len(held) <= 0.3 * len(tasks) + 0.5


def test_tasks_linked_through_a_third_stay_together() -> None:
    tasks = [_task(0, [1]), _task(1, [9]), _task(2, [1, 2]), _task(3, [2])]
    assert linked_groups(tasks) == [[0, 2, 3], [1]]


def test_a_seed_names_one_split_and_another_seed_another() -> None:
    tasks = [_task(i, [i]) for i in range(40)]
    once, again, other = (split_tasks(tasks, heldout=0.25, seed=s)[1] for s in (0, 0, 1))
    assert [t.id for t in once] == [t.id for t in again]
    assert len(once) == 10
    assert [t.id for t in once] != [t.id for t in other]


def test_one_single_group_is_refused_with_a_reason() -> None:
    with pytest.raises(OrchError, match="too closely linked"):
        split_tasks([_task(0, [1]), _task(1, [1, 2]), _task(2, [2])], heldout=0.3)


def test_the_command_marks_one_domain_and_keeps_file_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "permits.jsonl"
    arguments = ["tasks", "split", "harbour", "--domain", "permit", "--heldout", "0.25"]
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    marked = load_tasks(out)
    every = [task.id for task in load_tasks("harbour") if task.metadata["domain"] == "permit"]
    assert [task.id for task in marked] == every
    sides = [task.metadata["split"] for task in marked]
    assert (sides.count("train"), sides.count("heldout")) == (report["train"], report["heldout"])
    assert report["heldout"] > 0


def test_an_unknown_domain_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.jsonl"
    assert main(["tasks", "split", "harbour", "--domain", "taxi", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "'taxi'" in message
    assert not out.exists()


def test_some_tasks_are_spread_evenly_over_domains_in_file_order() -> None:
    tasks = load_tasks("harbour/heldout")
    chosen = spread(tasks, 16)
    assert Counter(task.metadata["domain"] for task in chosen) == dict.fromkeys(
        {task.metadata["domain"] for task in tasks}, 2
    )
    assert len({task.metadata["domain"] for task in spread(tasks, 5)}) == 5
    order = [task.id for task in tasks]
    assert [order.index(task.id) for task in chosen] == sorted(order.index(t.id) for t in chosen)


@given(
    st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=25),
    st.integers(1, 30),
    st.randoms(),
)
def test_the_same_tasks_are_chosen_however_the_file_is_sorted(
    domains: list[str | None], count: int, random: Random
) -> None:
    tasks = [
        SimpleNamespace(id=f"t{number}", metadata={"domain": name})
        for number, name in enumerate(domains)
    ]
    chosen = {task.id for task in spread(tasks, count)}
    assert len(chosen) == min(count, len(tasks))
    assert chosen >= {task.id for task in spread(tasks, count - 1)}
    taken = Counter(task.metadata["domain"] for task in tasks if task.id in chosen)
    left = {task.metadata["domain"] for task in tasks if task.id not in chosen}
    assert all(taken[name] >= max(taken.values()) - 1 for name in left)
    shuffled = random.sample(tasks, len(tasks))
    assert {task.id for task in spread(shuffled, count)} == chosen


def test_tasks_without_domains_or_texts_as_ids_are_spread_too() -> None:
    tasks = [SimpleNamespace(id=number) for number in range(9)]
    assert len(spread(tasks, 4)) == 4 and spread(tasks, None) == tuple(tasks)
