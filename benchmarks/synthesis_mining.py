"""How well mining finds where arguments come from, on recorded tasks that it has not seen.

The tasks are split in two, by template (no sequence of tools is in both parts) and by task. One
part is mined together with the cache, from which every row of a held-out task is removed first; a
training task that shares a row with a held-out one keeps its own copy of it (``--strict`` drops
such tasks too). The other part is asked about:

* A *leaf* is an argument leaf whose value is a string of at least 6 characters or a number of at
  least 5 significant digits, no date or time, and absent from the user's words. Its *label* is the
  set of all (tool, output path) of earlier steps that hold an equal value, without values that were
  sent as an argument at or before the producer's step (echoes).
* *Precision, value-blind*: for each leaf with a label, the best-ranked mined source among the tools
  called before is named without looking at the value; it is right if it is in the label.
* *Leaf recall*: share of the leaves with a label of which some mined source is in the label.
* *Kinds* are (argument, tool, output path), all paths of one tool that hold the same value being
  one kind. Precision: of the mined kinds with at least 3 chances among the held-out tasks, those
  seen there. Recall: of the kinds that at least 3 held-out tasks show and that had at least 3
  chances in training, those mined.

Beside it: planted paths. Each response gets counts, nights, scores, dates, a calendar, a number
that some argument has; and, harder, a copy of a later argument of its trace in a tenth of the
responses. No planted path may be mined.

    python -m benchmarks.synthesis_mining --tasks cfb.jsonl --cache cfb.db
    python -m benchmarks.synthesis_mining --tasks cfb.jsonl --cache cfb.db --seeds 3 --out x.json
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from orch_env import load_tasks, open_cache
from orch_env.provenance import Trace
from orch_env.provenance.evidence import argument_leaves, leaves_with_patterns
from orch_env.provenance.information import Key, folded, is_temporal, is_void, key_of, occurs_in
from orch_env.provenance.names import with_wildcards
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.mining import Link, Mined, Slot, mine
from orch_env.types.json import Json

Source = tuple[str, str]
FEWEST = 3
"""Tasks and chances that a kind needs to be counted."""
CHARACTERS, DIGITS = 6, 5


@dataclass(frozen=True)
class Leaf:
    """One argument leaf that the figures are taken over.

    Attributes:
        slot: tool and argument pattern.
        before: tools of earlier steps, in order.
        label: the sources that hold its value; empty where nothing does.
    """

    slot: Slot
    before: tuple[str, ...]
    label: frozenset[Source]


def leaves_of(trace: Trace) -> list[Leaf]:
    """The leaves of a trace that meet the filter."""
    numbered = trace.numbered()
    sent: dict[Key, int] = {}
    held: list[dict[Key, set[str]]] = []
    for step, call in numbered:
        for _, value in argument_leaves(call.arguments):
            sent.setdefault(key_of(value), step)
        places: dict[Key, set[str]] = defaultdict(set)
        for _, pattern, value in leaves_with_patterns(call.response):
            places[key_of(value)].add(pattern)
        held.append(places)
    found = []
    for step, call in numbered:
        for pointer, value in argument_leaves(call.arguments):
            if not is_counted(value) or occurs_in(value, folded(trace.said_before(step))):
                continue
            key = key_of(value)
            label = {
                (other.name, pattern)
                for (at, other), places in zip(numbered, held, strict=True)
                if at < step and sent[key] > at
                for pattern in places.get(key, ())
            }
            before = tuple(other.name for at, other in numbered if at < step)
            found.append(Leaf((call.name, with_wildcards(pointer)), before, frozenset(label)))
    return found


def is_counted(value: Json) -> bool:
    """Whether a value is long enough to be no chance, and neither date nor time."""
    if is_void(value) or is_temporal(value):
        return False
    if isinstance(value, str):
        return len(value) >= CHARACTERS
    return len(repr(abs(value)).replace(".", "").strip("0")) >= DIGITS


def ranked(links: Iterable[Link], leaf: Leaf) -> list[Link]:
    """The mined links of a leaf whose tool was called before, best first."""
    last = {tool: at for at, tool in enumerate(leaf.before)}
    usable = [x for x in links if x.from_tool in last]
    return sorted(usable, key=lambda x: (-trust(x), -last[x.from_tool], x.from_path))


def trust(link: Link) -> float:
    """How likely a link holds: its rate, drawn towards what its other evidence says."""
    prior = 0.7 if "description" in link.evidence else 0.5 if "cache" in link.evidence else 0.4
    chances = link.support / link.rate if link.support else 0.0
    return (link.support + 2 * prior) / (chances + 2)


def halves(corpus: Corpus, seed: int, by_template: bool) -> tuple[set[int], set[int]]:
    """Numbers of the traces to mine, and of those held out."""
    chance = random.Random(seed)
    if by_template:
        shapes = [tuple(call.name for _, call in trace.numbered()) for trace in corpus.traces]
        kinds = sorted(set(shapes))
        chance.shuffle(kinds)
        kept = set(kinds[: len(kinds) // 2])
        train = {index for index, shape in enumerate(shapes) if shape in kept}
    else:
        numbers = list(range(len(corpus.traces)))
        chance.shuffle(numbers)
        train = set(numbers[: len(numbers) // 2])
    return train, set(range(len(corpus.traces))) - train


def without(corpus: Corpus, train: set[int], held: Iterable[int], strict: bool) -> Corpus:
    """The corpus to mine: no row that only held-out tasks use, and no held-out trace."""
    rows = set(range(len(corpus.rows))) - {n for index in held for n in corpus.trace_rows[index]}
    if not strict:
        rows |= {number for index in train for number in corpus.trace_rows[index]}
    return corpus.only(rows, train)


def leaf_figures(mined: Mined, leaves: Sequence[Leaf]) -> dict[str, float]:
    """Value-blind precision and recall over leaves."""
    links = _by_slot(mined)
    labelled = predicted = right = explained = blind = 0
    for leaf in leaves:
        best = next(iter(ranked(links[leaf.slot], leaf)), None)
        blind += best is not None
        if not leaf.label:
            continue
        labelled += 1
        explained += any((x.from_tool, x.from_path) in leaf.label for x in links[leaf.slot])
        if best is not None:
            predicted += 1
            right += (best.from_tool, best.from_path) in leaf.label
    return {
        "leaves": labelled,
        "precision": right / max(predicted, 1),
        "recall": explained / max(labelled, 1),
        "precision_with_unlabelled": right / max(blind, 1),
    }


def kind_figures(
    mined: Mined, train: Sequence[Sequence[Leaf]], held: Sequence[Sequence[Leaf]]
) -> dict[str, float]:
    """Precision and recall over kinds that have enough chances."""
    chances, before = _chances(held), _chances(train)
    seen = {(leaf.slot, source) for leaves in held for leaf in leaves for source in leaf.label}
    tested = [
        (slot, (x.from_tool, x.from_path))
        for slot, links in _by_slot(mined).items()
        for x in links
        if chances[slot, x.from_tool] >= FEWEST
    ]
    found = {(s, (x.from_tool, x.from_path)) for s, xs in _by_slot(mined).items() for x in xs}
    kinds = [
        kind
        for kind, tasks in _kinds(held).items()
        if tasks >= FEWEST and before[kind[0], kind[1]] >= FEWEST
    ]
    hit = [k for k in kinds if any((k[0], (k[1], path)) in found for path in k[2])]
    return {
        "tested": len(tested),
        "precision": sum(at in seen for at in tested) / max(len(tested), 1),
        "kinds": len(kinds),
        "recall": len(hit) / max(len(kinds), 1),
    }


def _by_slot(mined: Mined) -> Mapping[Slot, list[Link]]:
    links: dict[Slot, list[Link]] = defaultdict(list)
    for link in mined.links:
        links[link.to_tool, link.to_path].append(link)
    return links


def _chances(tasks: Iterable[Sequence[Leaf]]) -> Counter[tuple[Slot, str]]:
    """(slot, tool) -> tasks in which the slot is set after a call of the tool."""
    return Counter(
        at for leaves in tasks for at in {(x.slot, tool) for x in leaves for tool in x.before}
    )


def _kinds(tasks: Sequence[Sequence[Leaf]]) -> Mapping[tuple[Slot, str, frozenset[str]], int]:
    """(slot, tool, alias paths) -> tasks that show it."""
    groups: dict[tuple[Slot, str], list[set[str]]] = defaultdict(list)
    shown: Counter[tuple[Slot, str, str]] = Counter()
    for leaves in tasks:
        here = set()
        for leaf in leaves:
            paths: dict[str, set[str]] = defaultdict(set)
            for tool, path in leaf.label:
                paths[tool].add(path)
            for tool, together in paths.items():
                here.update((leaf.slot, tool, path) for path in together)
                apart = [g for g in groups[leaf.slot, tool] if not g & together]
                joined = set().union(
                    together, *(g for g in groups[leaf.slot, tool] if g & together)
                )
                groups[leaf.slot, tool] = [*apart, joined]
        shown.update(here)
    return {
        (slot, tool, frozenset(group)): max(shown[slot, tool, path] for path in group)
        for (slot, tool), found in groups.items()
        for group in found
    }


class Planted(Corpus):
    """A corpus whose responses also hold values that equal arguments by accident.

    Args:
        corpus: the real one.
        seed: of every draw.
        copied: share of the responses that hold, at each of four paths, a later argument of their
            trace; the others hold an argument of some other call there.
    """

    def __init__(self, corpus: Corpus, seed: int, copied: float = 0.1) -> None:
        traces = tuple(zip(corpus.traces, corpus.trace_rows, strict=True))
        super().__init__(corpus.cache, corpus.rows, traces, corpus.errors)
        chance = random.Random(seed)
        sent = [v for row in corpus.rows for _, v in argument_leaves(row.arguments)]
        dates = sorted({v for v in sent if is_temporal(v)}) or ["2024-10-01"]
        numbers = sorted({v for v in sent if is_counted(v) and not isinstance(v, str)}) or [12345]
        texts = sorted({v for v in sent if is_counted(v) and isinstance(v, str)}) or ["harbour"]
        later: dict[int, list[Json]] = {}
        for rows in corpus.trace_rows:
            for at, row in enumerate(rows):
                after = [
                    value
                    for other in rows[at + 1 :]
                    for _, value in argument_leaves(corpus.rows[other].arguments)
                    if is_counted(value)
                ]
                if after:
                    later.setdefault(row, after)
        self._planted: list[dict[str, Json]] = []
        for row in corpus.rows:
            first = chance.randrange(len(dates))
            values = {
                "count": chance.randint(1, 5),
                "nights": chance.randint(1, 14),
                "score": chance.randint(70, 99) / 10,
                "date": chance.choice(dates),
                "calendar": [{"date": day} for day in (dates + dates)[first : first + 30]],
                "number": chance.choice(numbers),
                "text": chance.choice(texts),
            }
            for place, name in enumerate(("first", "second", "third", "fourth")):
                after = later.get(row.number, [])[place:] if chance.random() < copied else []
                values[f"{name}_copied"] = after[0] if after else chance.choice(numbers + texts)
            self._planted.append(values)

    def response(self, number: int) -> Json:
        """The recorded response and what was planted."""
        found = super().response(number)
        if isinstance(found, dict):
            return {**found, "planted": self._planted[number]}
        return {"": found, "planted": self._planted[number]}


def planted_links(corpus: Corpus, seeds: Iterable[int]) -> dict[str, Any]:
    """How many links mining takes from planted paths, with the traces and without."""
    bare = corpus.only(range(len(corpus.rows)), ())
    found: list[list[str]] = []
    for seed in seeds:
        for one in (corpus, bare) if corpus.traces else (bare,):
            links = mine(Planted(one, seed)).links
            found.append([str(x) for x in links if x.from_path.startswith("/planted")])
    return {"runs": len(found), "links": sum(map(len, found)), "found": list(chain(*found))}


def measure(corpus: Corpus, seeds: int, strict: bool) -> dict[str, Any]:
    """All figures: mean and worst over the seeds, by template and by task."""
    leaves = [leaves_of(trace) for trace in corpus.traces]
    report: dict[str, Any] = {}
    for name, by_template in (("by_template", True), ("by_task", False)):
        rows = []
        for seed in range(seeds):
            train, held = halves(corpus, seed, by_template)
            mined = mine(without(corpus, train, held, strict))
            asked = [leaves[index] for index in sorted(held)]
            kinds = kind_figures(mined, [leaves[index] for index in sorted(train)], asked)
            rows.append({"leaf": leaf_figures(mined, list(chain(*asked))), "kind": kinds})
        report[name] = {
            what: {key: spread([row[what][key] for row in rows]) for key in rows[0][what]}
            for what in ("leaf", "kind")
        }
    return report


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and worst."""
    return {"mean": round(statistics.mean(values), 4), "worst": round(min(values), 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, required=True, help="recorded tasks")
    parser.add_argument("--cache", type=Path, required=True, help="the cache of their responses")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plants", type=int, default=5, help="seeds of planted equalities")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/synthesis_mining.json")
    )
    given = parser.parse_args(arguments)
    with open_cache(given.cache) as cache:
        corpus = read_corpus(cache, load_tasks(given.tasks))
        began = time.process_time()
        mined = mine(corpus)
        seconds = time.process_time() - began
        report = {
            "machine": machine(),
            "rows": len(corpus.rows),
            "traces": len(corpus.traces),
            "mining_seconds": round(seconds, 2),
            "links": len(mined.links),
            "attachments": len(mined.attachments),
            "agreements": len(mined.agreements),
            "opaque": len(mined.opaque),
            "seeds": given.seeds,
            "strict": given.strict,
            **measure(corpus, given.seeds, given.strict),
            "planted": planted_links(corpus, range(given.plants)),
        }
    write_report(given.out, report)
    for split in ("by_template", "by_task"):
        for what, figures in report[split].items():
            shown = ", ".join(f"{k} {v['mean']} ({v['worst']})" for k, v in figures.items())
            print(f"{split} {what}: {shown}")
    print(f"planted: {report['planted']['links']} links in {report['planted']['runs']} runs")
    print(f"mined in {report['mining_seconds']} s of processor time; written to {given.out}")


if __name__ == "__main__":
    main()
