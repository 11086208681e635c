"""How fast the environment is, on one core: steps a second, microseconds, memory, the cache's part.

`booking` and `harbour_replay` replay gold over recorded responses, with the default settings: a
first pass, which builds what is built lazily, then later passes. `booking_x10` does so for ten
times the tasks and says how much memory the passes add. `harbour_live` plays episodes of 200 turns
on the stateful server. `cache_get` looks up every recorded call, in turns with a bare SELECT by a
ready key on the same file, unpacking included. `calls_and_files` counts the distinct code objects
of `orch_env`, and their files, that one warm step runs. `step_message` compares a step given as an
OpenAI message with the same as text, where the environment takes messages.

Only `reset` and `step` are timed; actions are made before. Each section runs in a fresh process,
pinned to one core where the system can, with a collection of garbage before each pass. A figure is
the median over the passes, with the smallest and the largest; microseconds of a pass are themselves
the median over its calls.

    python -m benchmarks.env_speed --data ../shared/data
    python -m benchmarks.env_speed --only harbour_live cache_get
    python -m benchmarks.env_speed --small                   # a few bundled tasks, seconds

Booking tasks are imported from DATA/complexfuncbench; where that is missing, their sections are
left out. A small or partial run is written only where `--out` says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.env_speed_sections import MEASURES, Found, World
from benchmarks.report import machine, write_report
from orch_env import load_tasks, open_cache, save_tasks

RESULTS = Path("benchmarks/results/env_speed.json")
BOOKING = Path("complexfuncbench") / "ComplexFuncBench.public.jsonl.gz"
COPIES = 10
SMALL_TASKS = 8
HARBOUR = World("harbour", "harbour")


@dataclass(frozen=True)
class Row:
    """A section to be run: its name, what it measures, over which world, in how many passes."""

    name: str
    measure: str
    world: World
    passes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every section in a process of its own, print the table, and write the JSON."""
    given = _arguments(arguments)
    if given.measure is not None:
        _pin()
        found = MEASURES[given.measure](World(given.tasks, given.cache), given.passes)
        print(json.dumps(found))
        return
    report: dict[str, Any] = {"benchmark": "env_speed", "machine": machine()}
    about = report["machine"]
    changes = " with uncommitted changes" if about["uncommitted_changes"] else ""
    print(f"Python {about['python']}, {about['cpu']}, commit {about['commit']}{changes}")
    with tempfile.TemporaryDirectory() as name:
        rows, left_out = _prepare(Path(name), given)
        report["config"] = {
            "small": given.small,
            "core": _core(),
            "passes": {row.name: row.passes for row in rows},
        }
        sections = report["sections"] = {}
        print(f"{'section':<17}{'figure':<29}{'median':>12}{'min':>12}{'max':>12}")
        for row in rows:
            found = _in_a_fresh_process(row)
            if "left_out" in found:
                left_out[row.name] = found["left_out"]
                continue
            sections[row.name] = found
            _print(row.name, found)
    report["left_out"] = left_out
    for section, why in left_out.items():
        print(f"{section} is left out: {why}")
    out = given.out or (None if given.small or given.only else RESULTS)
    if out is not None:
        write_report(out, report)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=Path("../shared/data"), type=Path)
    parser.add_argument("--small", action="store_true", help="a few tasks of the bundled world")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help="run these sections alone")
    parser.add_argument("--out", type=Path, help=f"write JSON here (default: {RESULTS})")
    # How this program starts itself for one section.
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    for option, kind in (("--tasks", str), ("--cache", str), ("--passes", int)):
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    known = {row.name for row in rows_of(HARBOUR, HARBOUR, given.small)[0]}
    if unknown := sorted({*(given.only or ())} - known):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return given


def rows_of(booking: World | None, harbour: World, small: bool) -> tuple[list[Row], dict[str, str]]:
    """The sections to run; and those left out, with the reason."""
    over_harbour = [
        Row("harbour_live", "live", harbour, 2 if small else 5),
        Row("harbour_replay", "replay", harbour, 2 if small else 3),
        Row("calls_and_files", "calls_and_files", harbour, 1),
        Row("step_message", "step_message", harbour, 2 if small else 5),
    ]
    if small:
        more = [
            Row("harbour_x10", "tenfold", harbour, 2),
            Row("cache_get", "cache_get", harbour, 2),
        ]
    elif booking is not None:
        more = [
            Row("booking", "replay", booking, 5),
            Row("booking_x10", "tenfold", booking, 2),
            Row("cache_get", "cache_get", booking, 5),
        ]
    else:
        why = "ComplexFuncBench is not there; --data says where to look"
        return over_harbour, dict.fromkeys(("booking", "booking_x10", "cache_get"), why)
    return [*more, *over_harbour], {}


def _prepare(folder: Path, given: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """The sections that are asked for, their task files and caches written to ``folder``."""
    harbour, booking = HARBOUR, None
    if given.small:
        tasks = load_tasks("harbour")
        save_tasks(tasks[:: len(tasks) // SMALL_TASKS], folder / "harbour.jsonl")
        harbour = World(str(folder / "harbour.jsonl"), "harbour")
    elif (given.data / BOOKING).exists():
        booking = World(str(folder / "booking.jsonl"), str(folder / "booking.db"))
    rows, left_out = rows_of(booking, harbour, given.small)
    if given.only:
        rows = [row for row in rows if row.name in given.only]
        left_out = {name: why for name, why in left_out.items() if name in given.only}
    if booking is not None and any(row.world == booking for row in rows):
        _import_booking(given.data / BOOKING, booking)
    for at, row in enumerate(rows):
        if row.measure == "tenfold":
            path = str(folder / f"{row.name}.jsonl")
            _write_copies(row.world.tasks, path)
            rows[at] = replace(row, world=World(path, row.world.cache))
    return rows, left_out


def _import_booking(source: Path, world: World) -> None:
    # Imported here, so that the processes of the sections load no module that they do not need.
    from orch_env.importers import import_tasks, read_source

    with open_cache(world.cache, write=True) as cache:
        tasks = import_tasks(read_source(source), cache).tasks
    save_tasks(tasks, world.tasks)


def _write_copies(source: str, path: str) -> None:
    """Each task ten times under other ids; tools and pinned responses stay."""
    tasks = load_tasks(source)
    copies = (replace(task, id=f"{task.id}-copy-{n}") for n in range(COPIES) for task in tasks)
    save_tasks(copies, path)


def _in_a_fresh_process(row: Row) -> Found:
    """No section profits from what an earlier one has left in process-wide caches."""
    child = ["-m", "benchmarks.env_speed", "--measure", row.measure, "--passes", str(row.passes)]
    done = subprocess.run(
        [sys.executable, *child, "--tasks", row.world.tasks, "--cache", row.world.cache],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Found = json.loads(done.stdout)
    return found


def _core() -> int | None:
    """The core that sections are pinned to, where the system can pin."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


def _pin() -> None:
    core = _core()
    if core is not None:
        os.sched_setaffinity(0, {core})


def _print(section: str, found: Found) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in found["counts"].items())
    print(f"{section:<17}{counts}")
    for name, figure in found["figures"].items():
        spread = figure.values() if isinstance(figure, dict) else (figure,)
        numbers = "".join(f"{v:>12}" if isinstance(v, int) else f"{v:>12.2f}" for v in spread)
        print(f"{'':<17}{name:<29}{numbers}", flush=True)


if __name__ == "__main__":
    main()
