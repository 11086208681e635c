"""The black-box search: what its policies may know, what it finds, and how it is summed up."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from orch_env import Episode, OrchError, Task, ToolCall, ToolSpec, make_reward
from orch_env.audit.knowledge_free import Prompt
from orch_env.audit.scripts import MOST_CALLS, MOST_MESSAGES, Known, Mutations, Script
from orch_env.audit.search import (
    RULE,
    Found,
    Overpaid,
    Reader,
    SearchCell,
    SearchReport,
    search,
)
from orch_env.audit.shortfalls import Shortfalls
from orch_env.backends.local import LocalBackend
from orch_env.backends.open import make_backend
from orch_env.backends.protocol import ToolBackend
from orch_env.tasks.selection import load_split
from orch_env.types import RewardBreakdown
from orch_env.types.json import Json, leaves

EPISODES = 60


class Constant:
    """A reward that tells nothing, and keeps what it was shown.

    Attributes:
        episodes: what was played.
    """

    name = "constant"

    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        self.episodes.append(episode)
        return RewardBreakdown(0.25)

    def of(self, reader: Reader) -> list[Episode]:
        """The episodes of one class on the only task: gold, half, one class, the other."""
        assert len(self.episodes) == 2 + 2 * EPISODES
        first = 2 if reader is Reader.PROMPT else 2 + EPISODES
        return self.episodes[first : first + EPISODES]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """Held-out tasks of the bundled world with three required calls and a value to read."""
    long = [t for t in load_split("harbour/heldout") if len(t.gold_calls) == 3]
    return long[::20][:3]


@pytest.fixture(scope="module")
def backend(tasks: Sequence[Task]) -> Iterator[ToolBackend]:
    opened = make_backend("harbour/heldout", None, tasks)
    yield opened
    opened.close()


def texts(value: Json) -> list[str]:
    return [leaf for _, leaf in leaves(value) if isinstance(leaf, str) and leaf.strip()]


def written(episodes: Sequence[Episode]) -> set[str]:
    """Every text that was written into an argument or an answer."""
    said = {e.final for e in episodes if e.final}
    return said | {t for e in episodes for c in e.calls for t in texts(c.arguments)}


def test_a_policy_that_reads_no_results_never_writes_what_only_a_result_says(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    whole = backend.resolve(tasks[0])
    spy = Constant()
    search(tasks[:1], backend, {"constant": spy}, episodes=EPISODES)
    specs = [tool for tool in whole.tools if isinstance(tool, ToolSpec)]
    public = whole.query + json.dumps([spec.to_dict() for spec in specs])
    results = [x.result for e in spy.episodes for turn in e.turns for x in turn.exchanges]
    hidden = {t for r in results for t in texts(json.loads(r.text)) if t not in public}
    assert hidden
    assert not hidden & written(spy.of(Reader.PROMPT))
    assert hidden & written(spy.of(Reader.RESULTS))


def test_gold_reaches_a_search_only_through_the_reward(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    task = tasks[0]
    other = replace(task, gold=tuple(reversed(tasks[1].gold)), answer="42")
    played = []
    for one in (task, other):
        spy = Constant()
        search([one], backend, {"constant": spy}, episodes=EPISODES)
        played.append([episode.digest for episode in spy.episodes[2:]])
    assert played[0] == played[1]
    assert len(set(played[0])) > EPISODES


def test_a_seed_fixes_what_is_found(tasks: Sequence[Task], backend: ToolBackend) -> None:
    def found(seed: int) -> str:
        rewards = {"graduated": make_reward("graduated")}
        report = search(tasks[:2], backend, rewards, episodes=EPISODES, seed=seed)
        return json.dumps(report.to_dict()["best"])

    assert found(0) == found(0) != found(1)


def test_the_order_of_rewards_and_tasks_changes_nothing(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    rewards = {name: make_reward(name) for name in ("graduated", "tier")}
    one = search(tasks, backend, rewards, episodes=20)
    other = search(tasks[::-1], backend, dict(reversed(rewards.items())), episodes=20)
    for label in rewards:
        for reader in Reader:
            there = {f.task_id: f for f in other.best(label, reader)}
            assert {f.task_id: f for f in one.best(label, reader)} == there


def test_more_episodes_never_find_less(tasks: Sequence[Task], backend: ToolBackend) -> None:
    rewards = {"graduated": make_reward("graduated")}
    few, many = (search(tasks, backend, rewards, episodes=n) for n in (15, 120))
    totals = [[f.total for f in report.found] for report in (few, many)]
    assert all(less <= more for less, more in zip(*totals, strict=True))
    assert sum(totals[0]) < sum(totals[1])


def test_a_guessed_yes_that_binary_pays_in_full_is_found(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    """Every call was missing, and the bare word earned what gold earns."""
    asked = [replace(tasks[0], answer="yes")]
    rewards = {name: make_reward(name) for name in ("binary", "graduated")}
    report = search(asked, backend, rewards, episodes=20)
    assert not report.kept("binary")
    for found in report.best("binary", Reader.PROMPT):
        assert found.best is not None
        assert found.best.script == Script((), "yes")  # the shortest of those that are paid
        assert found.best.shortfalls.missing == 3 and not found.solved
    assert {b.rule for b in report.broken("binary")} == {RULE}
    assert report.kept("graduated")


def test_the_best_of_equals_has_the_fewest_calls(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    report = search(tasks[:1], backend, {"constant": Constant()}, episodes=20)
    assert [f.best.script.calls for f in report.found if f.best] == [0, 0]


def test_scripts_stay_within_an_episode(tasks: Sequence[Task], backend: ToolBackend) -> None:
    draw, prompt = random.Random(0), Prompt.of(backend.resolve(tasks[0]))
    mutations = Mutations(prompt, Known(prompt, draw), draw)
    script = mutations.first()[0]
    walked = [script := mutations.changed(script, script) for _ in range(3_000)]
    assert max(len(one.messages) for one in walked) == MOST_MESSAGES  # one is left for the answer
    assert max(one.calls for one in walked) == MOST_CALLS
    assert all(all(one.messages) for one in walked)


def test_odd_schemas_and_prompts_are_filled_all_the_same() -> None:
    parts: dict[str, Json] = {
        "anything": True,
        "nothing": {"type": []},
        "either": {"type": ["integer", "null"]},
        "unknown": {"type": "float", "enum": "no list"},
        "listed": {"enum": [{"deep": [1]}, None]},
        "places": {"type": "array", "items": {"type": "object", "properties": {"id": {}}}},
        "ref": {"$ref": "#/$defs/none"},
        "number": {"type": "number", "examples": [1e300, True]},
    }
    tools = (
        ToolSpec("odd", "", {"type": "object", "properties": parts, "required": list(parts)}),
        ToolSpec("bare", "", {}),
        ToolSpec("odder", "", {"properties": [], "required": "id"}),
    )
    for text in ("", "9" * 400, "From Ålesund to Bodø on December 9th, 2024, 1e999 \ud800?"):
        for offered in (tools, ()):
            draw, prompt = random.Random(0), Prompt(text, offered)
            known = Known(prompt, draw)
            for result in (
                "[1e999, 1e400, " + "9" * 400 + ", null]",
                "no JSON",
                '{"id": "\\ud800"}',
            ):
                known.note(result)
            mutations = Mutations(prompt, known, draw)
            for script in mutations.first():
                for _ in range(100):
                    script = mutations.changed(script, script)
            if offered:  # after three answers, every tool by its schema and then drawn
                assert set(mutations.first()[4].messages[0][0].arguments) == set(parts)


def test_names_dates_and_numbers_of_the_prompt_are_copied_as_they_stand() -> None:
    text = "Could I fly from Oslo to San Francisco on December 9th, 2024 with 2 bags of 7.5 kg?"
    known = Known(Prompt(text, ()), random.Random(0))
    assert known.names == ["Oslo", "San Francisco", "December"]
    assert {"Oslo", "San Francisco", "2024-12-09", "bags", ""} <= {
        known.text("arrival_date") for _ in range(500)
    }
    assert {2, 7.5, 0} <= {known.number("weight", "number") for _ in range(200)}
    assert all(isinstance(known.number("n", "integer"), int) for _ in range(200))
    known.note('{"hotel": {"dest_id": "H-77"}, "price": 120}')
    drawn = [known.text("destId") for _ in range(400)]
    assert drawn.count("H-77") > 150  # a value under the argument's own name is the likeliest


def test_no_search_finds_another_one(tasks: Sequence[Task], backend: ToolBackend) -> None:
    report = search(tasks, backend, {"graduated": make_reward("graduated")}, episodes=100)
    assert report.kept("graduated"), report.broken("graduated")
    assert all(found.gold == 1.0 > found.total > 0.0 for found in report.found)


def test_gold_itself_is_solved_and_not_overpaid(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    """Of three calls the first alone is left: a look-up by the name that the prompt says."""
    easy = [replace(tasks[0], gold=tasks[0].gold[:1])]
    report = search(easy, backend, {"graduated": make_reward("graduated")}, episodes=200)
    assert report.kept("graduated")
    for found in report.found:
        assert found.solved and found.best is not None
        assert 0.9 < found.total < found.gold == 1.0  # gold and a call too many


def test_a_search_plays_on_live_servers(tasks: Sequence[Task]) -> None:
    live = [replace(task, servers=("harbour",), seed=0) for task in tasks[:1]]
    backend = LocalBackend()
    report = search(live, backend, {"graduated": make_reward("graduated")}, episodes=EPISODES)
    backend.close()
    assert all(found.total > 0.0 for found in report.found)


def test_a_search_without_tasks_rewards_or_episodes_is_refused(
    tasks: Sequence[Task], backend: ToolBackend
) -> None:
    rewards = {"graduated": make_reward("graduated")}
    for arguments in (([], rewards, 1), (tasks, {}, 1), (tasks, rewards, 0)):
        chosen, given, episodes = arguments
        with pytest.raises(OrchError, match="at least one task, one reward and one episode"):
            search(chosen, backend, given, episodes=episodes)  # type: ignore[arg-type]


def test_cells_count_only_what_is_worse_than_gold() -> None:
    script = Script(((ToolCall("find", {"city": "Oslo"}),),), "yes")
    wrong = Shortfalls(missing=1, extra=0, broken=0.0)

    def found(task: str, total: float | None, half: float, *, solved: bool = False) -> Found:
        best = None if total is None else Overpaid(total, script, wrong)
        return Found(task, "r", Reader.PROMPT, 2.0, half, solved, best)

    all_found = (
        found("a", 0.7, 0.6),  # 0.35 of gold's 2.0 is not more than 0.35
        found("b", 0.8, 0.8),
        found("c", 2.0, 1.0, solved=True),
        found("d", 0.1, 1.0),
        found("e", None, 1.0, solved=True),
    )
    report = SearchReport(5, 10, 0, ("r",), all_found)
    assert report.cell("r", Reader.RESULTS) is None
    assert report.cell("r", Reader.PROMPT) == SearchCell(
        tasks=4,
        mean=pytest.approx(0.9),
        highest=2.0,
        above_bound=0.5,
        above_half=0.5,
        not_below_gold=0.25,
        solved=0.25,
        worst_task="c",
    )
    # A reward that pays nothing for gold does not overpay what else it pays nothing for.
    none = replace(all_found[0], gold=0.0, best=Overpaid(0.0, script, wrong))
    some = replace(none, best=Overpaid(0.1, script, wrong))
    assert (none.another_gold, some.another_gold) == (False, True)
    data = report.to_dict()
    assert data["rewards"]["r"]["breaches"] == {RULE: {"search_does_not_read_results": 1}}
    assert [best["task_id"] for best in data["best"]["does_not_read_results"]["r"]] == list("abcd")
    assert all_found[0].outline() == "find, 'yes'"
    assert all_found[0].to_dict()["script"] == {
        "messages": [[{"name": "find", "arguments": {"city": "Oslo"}}]],
        "answer": "yes",
    }
