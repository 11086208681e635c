"""What both editions of `graduated` pay for honest variations of gold, and for wrong values.

Gold is played once per task. Then its calls are spelt otherwise: the first that can be, every
(a call whose result gold uses later), and every call. The results stay gold's, as if the
server understood. The wrong values stand at the same places and have the same shape; they come with
gold's results, with empty results, and with an error. Booking tasks are read where they lie
(`--data`, or ORCH_SHARED_DATA).

    python -m benchmarks.reward_variations
    python -m benchmarks.reward_variations --sets harbour harbour_live
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from benchmarks.reward_exploits import SETS, Loaded
from orch_env.audit.attack import roll_out
from orch_env.audit.from_gold import gold, honest_half
from orch_env.backends.local import LocalBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.rewards import make_reward
from orch_env.tasks.selection import load_split
from orch_env.types import (
    Episode,
    ErrorType,
    Exchange,
    GoldCall,
    Provenance,
    Task,
    ToolResult,
    Turn,
)
from orch_env.types.json import Json, JsonObject, escape

RESULTS = Path("benchmarks/results")
EDITIONS = {e: make_reward({"name": "graduated", "edition": e}) for e in (1, 2)}
EMPTY = ToolResult('{"data": []}')
FAILED = ToolResult('{"error": "not found"}', ErrorType.TOOL_ERROR)
_ISO = re.compile(r"\d{4}-\d\d-\d\d")
_MONTHS = "January February March April May June July August September October November December"
_ACCENTS = str.maketrans("aeiouAEIOU", "áéíóúÁÉÍÓÚ")
_OTHER = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "kbqdimghofxlnpurctsyezwjavKBQDIMGHOFXLNPURCTSYEZWJAV1357924680",
)


@dataclass(frozen=True)
class Played:
    """One task with its gold episode, and what half of gold earns by each edition."""

    task: Task
    episode: Episode
    half: Mapping[int, float]

    @property
    def exchanges(self) -> list[Exchange]:
        return [exchange for turn in self.episode.turns for exchange in turn.exchanges]


@dataclass
class Row:
    """Totals by edition of one kind of episode, and the share of the calls that were varied."""

    totals: dict[int, list[float]] = field(default_factory=lambda: {e: [] for e in EDITIONS})
    below: dict[int, int] = field(default_factory=lambda: dict.fromkeys(EDITIONS, 0))
    shares: list[float] = field(default_factory=list)

    def add(self, played: Played, totals: Mapping[int, float], share: float) -> None:
        for edition, total in totals.items():
            self.totals[edition].append(total)
            self.below[edition] += total < played.half[edition] - 1e-9
        self.shares.append(share)

    def to_dict(self) -> JsonObject:
        return {
            "episodes": len(self.totals[1]),
            **{
                f"edition_{e}": {
                    "mean": statistics.fmean(t),
                    "min": min(t),
                    "below_half": self.below[e] / len(t),
                }
                for e, t in self.totals.items()
            },
        }


# How a leaf may be spelt otherwise: the leaf -> its other spelling, or None where there is none.


def _case(value: Json, call: GoldCall, at: str) -> Json:
    return value.swapcase() if _is_text(value, call, at) else None


def _word(value: Json, call: GoldCall, at: str) -> Json:
    return f"{value} city" if _is_name(value, call, at) else None


def _blanks(value: Json, call: GoldCall, at: str) -> Json:
    return f" {value.replace(' ', '  ')} " if _is_text(value, call, at) else None


def _accents(value: Json, call: GoldCall, at: str) -> Json:
    return value.translate(_ACCENTS) if _is_name(value, call, at) else None


def _date(value: Json, call: GoldCall, at: str) -> Json:
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return None
    day = date.fromisoformat(value)
    return f"{day.day} {_MONTHS.split()[day.month - 1]} {day.year}"


def _slashes(value: Json, call: GoldCall, at: str) -> Json:
    return value.replace("-", "/") if isinstance(value, str) and _ISO.fullmatch(value) else None


def _is_text(value: Json, call: GoldCall, at: str) -> bool:
    """Whether the model wrote it by itself, in letters."""
    ref = call.provenance.get(at)
    copied = ref is not None and ref.producers()
    return (
        isinstance(value, str)
        and not copied
        and any(c.isalpha() for c in value)
        and not any(c.isdigit() for c in value)
    )


def _is_name(value: Json, call: GoldCall, at: str) -> bool:
    """Whether it is a name that the user said, and no word of the interface (`BEST`)."""
    if not _is_text(value, call, at):
        return False
    return any(c.isupper() for c in value) and any(c.islower() for c in value)


def wrong(value: Json) -> Json:
    """Another value of the same shape."""
    if isinstance(value, str):
        if _ISO.fullmatch(value):
            return (date.fromisoformat(value) + timedelta(days=3)).isoformat()
        return value.translate(_OTHER)
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else value


Spelling = Callable[[Json, GoldCall, str], Json]
SPELLINGS: dict[str, Spelling] = {
    "another case": _case,
    "a word more": _word,
    "blanks": _blanks,
    "accents": _accents,
    "date in words": _date,
    "date with slashes": _slashes,
}


def respelt(
    value: Json, spell: Spelling, call: GoldCall, *, other: bool, at: str = ""
) -> tuple[Json, int]:
    """A copy in which each leaf that has another spelling has it, and how many leaves those are.

    Args:
        value: arguments, or a part of them.
        spell: the spelling.
        call: the gold call.
        other: put a wrong value there instead.
        at: pointer of ``value``.
    """
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        made = [respelt(v, spell, call, other=other, at=f"{at}/{escape(str(k))}") for k, v in items]
        parts = [part for part, _ in made]
        count = sum(n for _, n in made)
        if isinstance(value, list):
            return parts, count
        return dict(zip(value, parts, strict=True)), count
    spelt = spell(value, call, at)
    if spelt is None or spelt == value:
        return value, 0
    return (wrong(value) if other else spelt), 1


def scopes(task: Task, varied: Sequence[int]) -> dict[str, Sequence[int]]:
    """Which of the gold calls that can be varied are varied together."""
    used = {
        n for call in task.gold_calls for ref in call.provenance.values() for n in ref.producers()
    }
    looks = [number for number in varied if number in used]
    return {"one call": varied[:1], "every look-up": looks, "every call": varied}


def with_calls(played: Played, changed: Mapping[int, JsonObject], result: Any = None) -> Episode:
    """The gold episode with other arguments, and another result if one is given."""
    turns: list[Turn] = []
    number = 0
    for turn in played.episode.turns:
        made = []
        for exchange in turn.exchanges:
            if number in changed:
                call = replace(exchange.call, arguments=changed[number])
                exchange = Exchange.of(call, exchange.result if result is None else result)
            made.append(exchange)
            number += 1
        turns.append(replace(turn, exchanges=tuple(made)))
    return replace(played.episode, turns=tuple(turns))


def reordered(played: Played) -> Episode | None:
    """The same calls one per message, the last possible first; None if that is gold's order."""
    calls = played.task.gold_calls
    left, order = list(range(len(calls))), []
    while left:
        free = [n for n in left if not set(calls[n].depends_on) & set(left)]
        order.append(free[-1])
        left.remove(free[-1])
    if order == sorted(order):
        return None
    exchanges = played.exchanges
    messages = [Turn("", (exchanges[n],)) for n in order]
    closing_ = [turn for turn in played.episode.turns if not turn.exchanges]
    return replace(played.episode, turns=(*messages, *closing_))


def with_extra(played: Played, name: str, arguments: JsonObject) -> Episode:
    """The gold episode after one more call that finds nothing."""
    call = replace(played.exchanges[0].call, name=name, arguments=arguments)
    first = Turn("", (Exchange.of(call, EMPTY),))
    return replace(played.episode, turns=(first, *played.episode.turns))


def without_constants(call: GoldCall, task: Task, other: bool) -> tuple[JsonObject, int]:
    """The arguments without optional constants, or with wrong ones; how many those are."""
    spec = task.tool_spec(call.name)
    needed = (spec.parameters or {}).get("required", ()) if spec else call.arguments
    found = [
        key
        for key in call.arguments
        if (ref := call.provenance.get(f"/{escape(key)}")) is not None
        and ref.kind is Provenance.CONSTANT
        and key not in needed
    ]
    made = {}
    for key, value in call.arguments.items():
        if key not in found:
            made[key] = value
        elif other:
            made[key] = wrong(value)
    return made, len(found)


Change = Callable[[GoldCall, Task, bool], tuple[JsonObject, int]]


def measure(set_: Sequence[Played]) -> dict[str, dict[str, Row]]:
    """Variation -> kind of episode (``honest: <scope>``, ``wrong, <result>``) -> its totals."""
    table: dict[str, dict[str, Row]] = {}
    changes: dict[str, Change] = {name: _respelling(spell) for name, spell in SPELLINGS.items()}
    changes["optional constants left out"] = without_constants
    for played in set_:
        task = played.task
        scored: dict[str, dict[int, float]] = {}

        def add(
            variation: str,
            kind: str,
            episode: Episode,
            varied: int = 0,
            played: Played = played,
            scored: dict[str, dict[int, float]] = scored,
        ) -> None:
            # The same wrong values stand for several spellings: each episode is scored once.
            key = repr([(e.call, e.result.error) for t in episode.turns for e in t.exchanges])
            key += kind.split(":")[0]
            if key not in scored:
                scored[key] = {e: r(played.task, episode).total for e, r in EDITIONS.items()}
            row = table.setdefault(variation, {}).setdefault(kind, Row())
            row.add(played, scored[key], varied / len(played.task.gold_calls))

        add("gold", "honest: every call", played.episode)
        for name, change in changes.items():
            honest = [change(call, task, False) for call in task.gold_calls]
            varied = [number for number, (_, count) in enumerate(honest) if count]
            for scope, numbers in scopes(task, varied).items():
                if not numbers:
                    continue
                count = len(numbers)
                right = with_calls(played, {n: honest[n][0] for n in numbers})
                add(name, f"honest: {scope}", right, count)
                false = {n: change(task.gold_calls[n], task, True)[0] for n in numbers}
                for kind, result in (("gold's", None), ("empty", EMPTY), ("error", FAILED)):
                    other = with_calls(played, false, result)
                    add(name, f"wrong, {kind}: {scope}", other, count)
        swapped = reordered(played)
        if swapped is not None:
            add("order of independent calls", "honest: every call", swapped)
        used = {call.name for call in task.gold_calls}
        spare = [name for name in task.tool_names if name not in used]
        if spare:
            extra = with_extra(played, spare[0], {})
            add("an extra look-up, another tool", "honest: one call", extra)
        call = task.gold_calls[0]
        made, count = respelt(call.arguments, _case, call, other=True)
        if count:
            extra = with_extra(played, call.name, made)
            add("an extra look-up, another value", "honest: one call", extra)
    return table


def _respelling(spell: Spelling) -> Change:
    return lambda call, task, other: respelt(call.arguments, spell, call, other=other)


def play_set(tasks: Sequence[Task], backend: Any) -> list[Played]:
    """Play gold and its half on each task."""
    calls = max(len(task.gold_calls) for task in tasks)
    limits = Limits(max_turns=2 * calls + 4, max_calls_per_turn=max(32, calls), max_errors=None)
    played = []
    env = ToolOrchestrationEnv.from_backend(tasks, backend, limits=limits)
    with closing(env):
        for task in tasks:
            whole = backend.resolve(task)
            half = roll_out(env, task, honest_half(whole))
            earned = {e: reward(whole, half).total for e, reward in EDITIONS.items()}
            played.append(Played(whole, roll_out(env, task, gold(whole)), earned))
    return played


def harbour_live(data: Path, folder: Path) -> Loaded:
    """The bundled world's held-out tasks on its server."""
    tasks = [replace(t, servers=("harbour",), seed=0) for t in load_split("harbour/heldout")]
    return tasks, LocalBackend()


def main() -> int:
    """Measure every data set, print, write."""
    options = _arguments()
    reports: dict[str, JsonObject] = {}
    loaders = _loaders()
    with tempfile.TemporaryDirectory() as folder:
        for chosen in options.sets:
            title, load = loaders[chosen]
            tasks, backend = load(options.data, Path(folder))
            started = time.perf_counter()
            set_ = play_set(tasks, backend)
            table = measure(set_)
            seconds = time.perf_counter() - started
            backend.close()
            halves = [(p.half[1], p.half[2]) for p in set_]
            half = {f"edition_{e}": statistics.fmean(p.half[e] for p in set_) for e in EDITIONS}
            half["largest_difference"] = max(abs(one - two) for one, two in halves)
            variations = {
                name: {kind: row.to_dict() for kind, row in rows.items()}
                for name, rows in table.items()
            }
            report = {"title": title, "seconds": seconds, "half": half, "variations": variations}
            report["summary"] = {
                name: {**_summary(rows), **_gap(rows)} for name, rows in table.items()
            }
            _print(title, report, len(set_))
            reports[chosen] = report
    write_report(
        options.out, {"benchmark": "reward_variations", "machine": machine(), "sets": reports}
    )
    print(f"wrote {options.out}")
    return 0


def _summary(rows: Mapping[str, Row]) -> JsonObject:
    """All scopes together: ``honest``, and each kind of wrong value."""
    whole: dict[str, Row] = {}
    for kind, row in rows.items():
        into = whole.setdefault(kind.split(":")[0], Row())
        for edition in EDITIONS:
            into.totals[edition] += row.totals[edition]
            into.below[edition] += row.below[edition]
    return {kind: row.to_dict() for kind, row in whole.items()}


def _gap(rows: Mapping[str, Row]) -> JsonObject:
    """By how much an honest episode is above its twin with wrong values and gold's results.

    As it is, and for one varied call in units of a gold call.
    """
    pairs = [
        (row, rows[f"wrong, gold's{kind.removeprefix('honest')}"])
        for kind, row in rows.items()
        if f"wrong, gold's{kind.removeprefix('honest')}" in rows
    ]
    if not pairs:
        return {}
    gaps = {}
    for e in EDITIONS:
        found = [
            (one - two, (one - two) / share)
            for row, false in pairs
            for one, two, share in zip(row.totals[e], false.totals[e], row.shares, strict=True)
        ]
        whole, per_call = zip(*found, strict=True)
        gaps[f"edition_{e}"] = {
            "mean": statistics.fmean(whole),
            "per_varied_call": statistics.fmean(per_call),
        }
    return {"gap": gaps}


def _print(title: str, report: JsonObject, tasks: int) -> None:
    half = report["half"]
    print(f"{title}: {tasks} tasks, {report['seconds']:.0f} s")
    print(
        f"  half: edition 1 {half['edition_1']:.4f}, edition 2 {half['edition_2']:.4f}, "
        f"largest difference {half['largest_difference']:.4f}"
    )
    print(f"  {'mean min *below half':<46}{'edition 1':>22}{'edition 2':>22}")
    for name, kinds in report["summary"].items():
        for kind, cell in kinds.items():
            if kind == "gap":
                shown = [f"{c['mean']:.3f} {c['per_varied_call']:.3f}" for c in cell.values()]
                print(f"  {name + ', gap; per varied call':<46}" + _right(shown))
                continue
            shown = [
                f"{c['mean']:.3f} {c['min']:.3f} *{c['below_half']:.1%}"
                for c in (cell["edition_1"], cell["edition_2"])
            ]
            label = f"{name}, {kind} ({cell['episodes']})"
            print(f"  {label:<46}" + _right(shown))


def _right(shown: Sequence[str]) -> str:
    return "".join(f"{text:>22}" for text in shown)


def _loaders() -> dict[str, tuple[str, Callable[[Path, Path], Loaded]]]:
    return {
        "booking": SETS["booking"],
        "harbour": SETS["harbour"],
        "harbour_live": ("harbour, held-out tasks, on its server", harbour_live),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("ORCH_SHARED_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data))
    parser.add_argument("--sets", nargs="+", choices=list(_loaders()), default=list(_loaders()))
    parser.add_argument("--out", type=Path, default=RESULTS / "reward_variations.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
