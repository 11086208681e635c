"""How fast the stateful servers are: worlds, sessions, calls, and whole episodes.

`first_session` makes the world of a seed, `session` opens one more on a world that is there. A
call's figure is the median over all tools of all servers, each with the valid calls of its natural
chains. `session_over_bare` compares a call of a READ tool with the bare method and `json.dumps` in
the same run: what checks, clock and rollback cost. `episodes` plays gold of three calls with the
`graduated` reward through the environment, in two processes at once, a first pass not counted.

    python -m benchmarks.servers                 # a minute; writes results/servers.json
    python -m benchmarks.servers --small         # seconds, printed only

Times of sessions and calls are those of the thread, so that a busy machine slows them little.
Episodes are counted by the wall clock, and by the processes' own time beside it. Figures are
medians with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.env_speed_episodes import (
    Script,
    Spread,
    gold_scripts,
    median_us,
    spread,
    succeeded,
)
from benchmarks.report import machine, write_report
from orch_env import Task, ToolOrchestrationEnv, load_tasks, save_tasks
from orch_env.servers import Access, ServerSession, open_session, server_names, server_type
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from tools.server_tasks.build import Choice, task_of
from tools.server_tasks.chains import fitting, run_chain, templates_of

RESULTS = Path("benchmarks/results/servers.json")
PROCESSES = 2
CALLS = 3
"""Gold calls of an episode."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each server and the episodes, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [name for name in server_names() if name != "harbour"]  # its tasks are built elsewhere
    parser.add_argument("--servers", nargs="+", default=known, choices=known)
    parser.add_argument("--small", action="store_true", help="few repetitions, seconds")
    parser.add_argument("--out", type=Path, help=f"write JSON here (default: {RESULTS})")
    given = parser.parse_args(arguments)
    repeats, seeds, passes = (5, 3, 1) if given.small else (300, 25, 10)
    report: dict[str, Any] = {"benchmark": "servers", "machine": machine()}
    report["config"] = {"repeats": repeats, "seeds": seeds, "passes": passes, "calls": CALLS}
    sections = report["sections"] = {name: measure(name, repeats, seeds) for name in given.servers}
    by_tool = [us for found in sections.values() for us in found["tools"].values()]
    report["call_us"] = spread(by_tool)
    report["episodes"] = episodes(given.servers, seeds, passes)
    _print(report)
    out = given.out or (None if given.small else RESULTS)
    if out is not None:
        write_report(out, report)


def measure(name: str, repeats: int, seeds: int) -> dict[str, Any]:
    """The figures of one server."""
    fresh = [10_000 + seed for seed in range(seeds)]
    first = [_ns(lambda seed=seed: open_session(name, seed)) for seed in fresh]
    later = [_ns(lambda: open_session(name, fresh[-1])) for _ in range(repeats * 5)]
    tools, ratios = _calls(name, repeats)
    return {
        "tools": tools,
        "first_session_ms": spread(ns / 1e6 for ns in first),
        "session_us": spread(ns / 1e3 for ns in later),
        "call_us": spread(tools.values()),
        "session_over_bare": spread(ratios),
    }


def _ns(do: Callable[[], object]) -> int:
    """Nanoseconds of this thread that something takes."""
    gc.collect(0)
    started = time.thread_time_ns()
    do()
    return time.thread_time_ns() - started


def _calls(name: str, repeats: int) -> tuple[dict[str, float], list[float]]:
    """Median microseconds of each tool, over its valid calls; and READ calls over bare methods."""
    found: dict[str, list[float]] = {tool: [] for tool in server_type(name).tools}
    ratios = []
    for maker in templates_of(name).chains.values():
        fits = fitting(maker, name, 0)
        if fits is None:
            continue  # another chain has the tool
        made, session = fits
        for gold in (call for step in run_chain(made, session.fork()).gold for call in step):
            state = session.snapshot()
            times = []
            for _ in range(repeats):
                session.restore(state)
                times.append(_ns(lambda: session.call(gold.name, gold.arguments)))  # noqa: B023
            found[gold.name].append(median_us(times))
            if session.tools[gold.name].access is Access.READ:
                bare = [_ns(lambda: _bare(session, gold.name, gold.arguments)) for _ in times]  # noqa: B023
                ratios.append(statistics.median(times) / statistics.median(bare))
    return {tool: statistics.median(times) for tool, times in found.items() if times}, ratios


def _bare(session: ServerSession, tool: str, arguments: JsonObject) -> str:
    """What a READ call costs at least."""
    return json.dumps(getattr(session.server, tool)(**arguments))


def tasks_of(servers: Sequence[str], seeds: int) -> Iterator[Task]:
    """Tasks of three gold calls, with the final state that gold leaves."""
    for name in servers:
        for chain, maker in templates_of(name).chains.items():
            for seed in range(seeds):
                with suppress(OrchError):  # no draw fits this world
                    task = task_of(name, maker, Choice(), f"{name}-{chain}-{seed}", seed)
                    if len(task.gold_calls) == CALLS:
                        yield task


def episodes(servers: Sequence[str], seeds: int, passes: int) -> dict[str, Any]:
    """Episodes a second of two processes that play at once."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tasks.jsonl")
        tasks = list(tasks_of(servers, min(seeds, 5)))
        save_tasks(tasks, path)
        barrier, results = context.Barrier(PROCESSES), context.Queue()
        players = [
            context.Process(target=_play, args=(path, passes, barrier, results))
            for _ in range(PROCESSES)
        ]
        for player in players:
            player.start()
        found = [results.get(timeout=600) for _ in players]
        for player in players:
            player.join()
    played = len(tasks) * passes
    return {
        "processes": PROCESSES,
        "tasks": len(tasks),
        "per_s": PROCESSES * played / max(wall for wall, _ in found),
        "per_s_of_own_time": sum(played / own for _, own in found),
    }


def _play(path: str, passes: int, barrier: Any, results: Any) -> None:
    """One process: the seconds that its passes took, by the wall clock and of its own."""
    env = ToolOrchestrationEnv(path, reward="graduated")
    scripts = gold_scripts(load_tasks(path))
    _pass(env, scripts)
    gc.collect()
    barrier.wait()
    wall, own = time.perf_counter(), time.process_time()
    for _ in range(passes):
        _pass(env, scripts)
    results.put((time.perf_counter() - wall, time.process_time() - own))
    env.close()


def _pass(env: ToolOrchestrationEnv, scripts: Sequence[Script]) -> None:
    """Play each episode once."""
    for script in scripts:
        env.reset(seed=0, options={"task_id": script.task_id})
        for action in script.actions:
            result = env.step(action)
        if not succeeded(result):
            raise SystemExit(f"task {script.task_id!r} fails: {result[4]}")


def _print(report: dict[str, Any]) -> None:
    print(f"{'section':<12}{'figure':<22}{'median':>10}{'min':>10}{'max':>10}")
    for name, found in report["sections"].items():
        print(f"{name:<12}{len(found['tools'])} tools")
        for figure, one in found.items():
            if figure != "tools":
                _row(figure, one)
    print("all")
    _row("call_us", report["call_us"])
    made = report["episodes"]
    print(
        f"{made['tasks']} tasks in {made['processes']} processes: {made['per_s']:.0f} episodes/s, "
        f"{made['per_s_of_own_time']:.0f} of their own time"
    )


def _row(figure: str, one: Spread) -> None:
    numbers = "".join(f"{one[part]:>10.2f}" for part in ("median", "min", "max"))
    print(f"{'':<12}{figure:<22}{numbers}")


if __name__ == "__main__":
    main()
