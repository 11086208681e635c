"""Episodes scored per second, on one core: ``paper``, ``graduated``, and how the cost grows.

`paper` scores the given reference cases from their completion texts, nothing kept between cases.
`graduated` scores episodes of five calls in three ways: *indexed*, where each result was indexed
once before (groups of eight trajectories a task: gold and seven that differ from it); *new tasks*,
the same with everything else forgotten before each group; and *cold*, gold alone with everything
forgotten before each episode. Growth is the cost of one episode of n gold calls, all of one tool
(so that every call may stand for every gold call) with one wrong value each, or spread over five
tools; the task is forgotten before each episode, and the exponent is fitted over all n. `many` is
one episode of thousands of calls.

Process time stands beside wall time, since it says more on a busy machine.

    python -m benchmarks.reward_speed
    python -m benchmarks.reward_speed --out benchmarks/results/reward_speed.json
    python -m benchmarks.reward_speed --data /path/to/data

Without the data folder generated tasks take the place of the recorded ones; the report says which.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.report import machine, write_report
from orch_env import Episode, GoldCall, Task, ToolCall, Turn, make_reward, open_cache
from orch_env.rewards.presets.paper import PaperReward
from orch_env.rewards.presets.paper.completion import ReferenceCase
from orch_env.tasks.resolved import ResolvedTask
from orch_env.types import ErrorType, Provenance, ValueRef

CALLS, MEMBERS = 5, 8
"""Gold calls of a measured task, and trajectories of one group."""
SIZES = (5, 10, 20, 50)
"""Numbers of gold calls for the growth of the cost."""
MANY_CALLS, MANY_GOLD = 5_000, 10
BOOKING = Path("complexfuncbench") / "ComplexFuncBench.public.jsonl.gz"
CASES = Path("rewards") / "graduated_reference_cases.jsonl.gz"

Scored = tuple[Task, Episode]
GRADUATED = make_reward("graduated")


@dataclass(frozen=True)
class Measured:
    """How many episodes are scored a second: medians over the repeats, and the spread."""

    name: str
    episodes: int
    per_second: float
    lowest: float
    highest: float
    per_cpu_second: float


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = _arguments()
    cases, cases_from = _paper_cases(options.data)
    groups, groups_from = _groups(options.data)
    flat = [member for group in groups for member in group]
    rows = [
        _measure("paper", lambda: _paper(cases), len(cases), options.repeats),
        _measure("graduated, indexed", lambda: _score(flat), len(flat), options.repeats),
        _measure("graduated, new tasks", lambda: _new(groups), len(flat), options.repeats),
        _measure("graduated, cold", lambda: _cold(groups), len(groups), options.repeats),
    ]
    print(f"paper: {cases_from}; graduated: {groups_from}, {_describe(flat)}")
    for row in rows:
        print(
            f"{row.name:22s} {row.per_second:8.0f} episodes/s  ({row.lowest:.0f}-{row.highest:.0f})"
            f"  {row.per_cpu_second:8.0f} per CPU second",
            flush=True,
        )
    growth = {
        "one tool, a wrong value each": _growth(1, options.repeats),
        "five tools, gold": _growth(5, options.repeats),
    }
    for name, found in growth.items():
        costs = "  ".join(f"n={n}: {1e3 * found[str(n)]:.2f} ms" for n in SIZES)
        print(f"{name:30s} {costs}  exponent {found['exponent']:.2f}")
    many = _many(options.repeats)
    print(f"{MANY_CALLS} calls against {MANY_GOLD} gold calls: {many:.2f} CPU seconds")
    if options.out:
        report = {
            "benchmark": "reward_speed",
            "config": {
                k: str(v) if isinstance(v, Path) else v
                for k, v in vars(options).items()
                if k != "out"
            },
            "machine": machine(),
            "sources": {"paper": cases_from, "graduated": groups_from},
            "rows": [asdict(row) for row in rows],
            "cpu_seconds_by_gold_calls": growth,
            "cpu_seconds_of_many_calls": {"calls": MANY_CALLS, "gold": MANY_GOLD, "seconds": many},
        }
        write_report(options.out, report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=Path("../shared/data"), type=Path)
    parser.add_argument("--repeats", default=7, type=int)
    parser.add_argument("--out", type=Path, help="write JSON here")
    return parser.parse_args()


def _measure(name: str, work: Callable[[], None], episodes: int, repeats: int) -> Measured:
    """Run ``work`` once to warm up, then ``repeats`` times."""
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        started, spent = time.perf_counter(), time.process_time()
        work()
        wall.append(episodes / (time.perf_counter() - started))
        cpu.append(episodes / (time.process_time() - spent))
    return Measured(
        name, episodes, statistics.median(wall), min(wall), max(wall), statistics.median(cpu)
    )


def _paper(cases: Sequence[ReferenceCase]) -> None:
    for case in cases:
        reward = PaperReward() if case.weights is None else PaperReward(case.weights)
        reward.score_completion(case.task, case.completion)


def _score(members: Sequence[Scored]) -> None:
    for task, episode in members:
        GRADUATED(task, episode)


def _new(groups: Sequence[Sequence[Scored]]) -> None:
    """Each group on a task that was never scored before."""
    for group in groups:
        task = _prepared(group[0][0])
        _score([(task, episode) for _, episode in group])


def _cold(groups: Sequence[Sequence[Scored]]) -> None:
    """Gold of each group, task and results never seen before."""
    for (task, gold), *_ in groups:
        turns = tuple(Turn.of(t.action, t.calls, t.results, t.observation) for t in gold.turns)
        _score([(_prepared(task), replace(gold, turns=turns))])


def _prepared(task: Task) -> ResolvedTask:
    """The task as a backend hands it to a reward, nothing derived from it yet."""
    return ResolvedTask.of(task, ())


def _paper_cases(data: Path) -> tuple[list[ReferenceCase], str]:
    if (data / CASES).exists():
        with gzip.open(data / CASES, "rt") as lines:
            cases = [ReferenceCase.from_dict(json.loads(line)) for line in lines]
        return cases, f"the {len(cases)} given cases"
    cases = []
    for number in range(300):
        task, episode = _chain(4 + number % 3, 3)
        text = "".join(
            f"<tool_call>{json.dumps({'name': call.name, 'arguments': call.arguments})}</tool_call>"
            f"<tool_response>{result}</tool_response>"
            for turn in episode.turns
            for call, result in zip(turn.calls, turn.results, strict=True)
        )
        cases.append(ReferenceCase(str(number), task, text, None))
    return cases, f"{len(cases)} generated cases"


def _groups(data: Path) -> tuple[list[list[Scored]], str]:
    """One group a task: gold, then trajectories that differ from it."""
    if (data / BOOKING).exists():
        golds, source = _booking(data / BOOKING), "recorded Booking tasks"
    else:
        golds, source = [_chain(CALLS, 3) for _ in range(100)], "generated tasks"
    rng = random.Random(0)
    groups = [
        [(task, gold), *((task, _changed(gold, rng)) for _ in range(MEMBERS - 1))]
        for task, gold in ((_prepared(task), gold) for task, gold in golds)
    ]
    return groups, f"{len(groups)} {source} of {CALLS} calls in groups of {MEMBERS}"


def _booking(source: Path) -> list[Scored]:
    from orch_env.importers import import_tasks, read_source

    found: list[Scored] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_cache(Path(folder) / "cache.db", write=True) as cache,
    ):
        for task in import_tasks(read_source(source), cache).tasks:
            if len(task.gold_calls) != CALLS:
                continue
            turns = []
            for step in task.gold:
                texts = [cache.get(c.name, c.arguments, task=task.id) for c in step]
                results = tuple("" if text is None else text.text for text in texts)
                turns.append(
                    Turn.of("", tuple(ToolCall(c.name, c.arguments) for c in step), results)
                )
            turns.append(Turn.of("done"))
            found.append((task, Episode(task.id, turns=tuple(turns), final="done")))
    return found


def _changed(gold: Episode, rng: random.Random) -> Episode:
    """Gold with one to three faults, as a trajectory of a group that has learned something.

    A fault is a wrong value, a missing argument, a failed call, a repeat, or a call left out.
    """
    turns = [list(zip(turn.calls, turn.results, strict=True)) for turn in gold.turns]
    for _ in range(rng.randint(1, 3)):
        turn = rng.choice([t for t in turns if t] or [[(ToolCall("none"), "")]])
        at = rng.randrange(len(turn))
        call, result = turn[at]
        kind = rng.randrange(5)
        if kind == 0:
            del turn[at]
        elif kind == 1:
            turn.insert(at, turn[at])
        elif kind == 2:
            turn[at] = (replace(call, error=ErrorType.TOOL_ERROR), '{"error": "no"}')
        elif call.arguments:
            key = rng.choice(list(call.arguments))
            arguments = {k: v for k, v in call.arguments.items() if k != key}
            if kind == 3:
                arguments[key] = f"other {rng.randrange(10**6)}"
            turn[at] = (ToolCall(call.name, arguments), result)
    made = tuple(Turn.of("", tuple(c for c, _ in t), tuple(r for _, r in t)) for t in turns)
    return replace(gold, turns=made)


def _chain(calls: int, tools: int, *, wrong: bool = False) -> Scored:
    """``calls`` gold calls over ``tools`` tools, each taking an id from the one before it."""
    gold, turns = [], []
    for n in range(calls):
        arguments = {"city": f"city {n}", "guests": n % 4, "sort": "price", "date": "2024-10-14"}
        provenance = {}
        if n:
            arguments["from"] = f"id-{n - 1}"
            provenance["/from"] = ValueRef(Provenance.OUTPUT, call=n - 1, path="/id")
        name = f"tool_{n % tools}"
        depends = (n - 1,) if n else ()
        gold.append((GoldCall(name, arguments, depends_on=depends, provenance=provenance),))
        made = {**arguments, "sort": f"other {n}"} if wrong else arguments
        result = json.dumps(
            {"status": True, "id": f"id-{n}", "data": [{"name": f"hotel {n}"}] * 20}
        )
        turns.append(Turn.of("", (ToolCall(name, made),), (result,)))
    task = Task("generated", ({"role": "user", "content": "Plan a trip."},), (), tuple(gold))
    return task, Episode("generated", turns=(*turns, Turn.of("done")), final="done")


def _growth(tools: int, repeats: int) -> dict[str, float]:
    """CPU seconds of one episode by the number of its calls, and the fitted exponent."""
    seconds = {}
    for size in SIZES:
        scored = [_chain(size, tools, wrong=tools == 1)]
        times = max(3, 200 // size)

        def work(scored: list[Scored] = scored, times: int = times) -> None:
            for _ in range(times):
                _new([scored])

        seconds[size] = 1.0 / _measure(str(size), work, times, repeats).per_cpu_second
    xs, ys = [math.log(n) for n in SIZES], [math.log(seconds[n]) for n in SIZES]
    slope = statistics.linear_regression(xs, ys).slope
    return {**{str(n): s for n, s in seconds.items()}, "exponent": slope}


def _many(repeats: int) -> float:
    """CPU seconds of one episode of very many calls, all of one tool and no two alike."""
    task, _ = _chain(MANY_GOLD, 1)
    calls = [
        ToolCall("tool_0", {"city": f"city {n}", "from": f"id-{n % 12}"}) for n in range(MANY_CALLS)
    ]
    turns = tuple(
        Turn.of("", tuple(calls[at : at + 4]), ('{"id": "id-1"}',) * 4)
        for at in range(0, MANY_CALLS, 4)
    )
    scored = (task, Episode("generated", turns=turns))
    row = _measure("many", lambda: _new([[scored]]), 1, min(repeats, 3))
    return 1.0 / row.per_cpu_second


def _describe(members: Sequence[Scored]) -> str:
    texts = [r for _, episode in members for turn in episode.turns for r in turn.results]
    return f"{sum(map(len, texts)) / len(members):.0f} characters of results an episode"


if __name__ == "__main__":
    main()
