"""How fast executable traces are drawn, and how seldom other ways of drawing give one.

    python -m benchmarks.synthesis_sampling --cache booking.db --traces booking.jsonl

Opponents of exact sampling, on one family of chains that grow call by call from 2 to 11:

* independent values: each call takes the set of arguments of a recorded call, and each argument a
  value as often as it was recorded for that argument; then the chain is executed;
* independent rows: each call is a whole recorded call of its tool;
* forward with restarts: each call is drawn among those that the outputs so far can feed; a dead end
  restarts the chain, up to 50 times (the way of arXiv 2603.24709's release).

Acceptance of the first two is far too small for trials. It is computed exactly: the sum over all
valid fillings of the product of the calls' probabilities, by the counting that sampling rests on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from orch_env import load_tasks, open_cache
from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import key_of
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import mine
from orch_env.synthesis.sampling.prepared import Prepared
from orch_env.synthesis.templates.growth import Growth
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Template

RESTARTS = 50
LONGEST = 11


def templates_of_size(growth: Growth, calls: int, count: int, seed: int) -> list[Template]:
    """Different templates of one size, as they grow."""
    chance, found = Chance(f"{seed}/{calls}"), dict[str, Template]()
    for template, _ in growth.each(calls, chance, 60 * count * calls**2):
        found.setdefault(template.id, template)
        if len(found) == count:
            break
    return list(found.values())


def rates(index: Index, growth: Growth, count: int, draws: int) -> dict[str, Any]:
    """Traces a second and preparation time by number of calls."""
    report = {}
    for calls in (2, 3, 5, 8, LONGEST):
        speed, first, again = [], [], []
        for template in templates_of_size(growth, calls, count, 0):
            began = time.thread_time()
            Prepared(index, template)
            first.append(1000 * (time.thread_time() - began))
            began = time.thread_time()
            prepared = Prepared(index, template)
            again.append(1000 * (time.thread_time() - began))
            chance = Chance(1)
            began = time.thread_time()
            for _ in range(draws):
                prepared.draw(chance)
            speed.append(prepared.accepted / (time.thread_time() - began))
        report[str(calls)] = {
            "templates": len(speed),
            "traces_per_s": spread(speed),
            "preparation_ms_first": spread(first),
            "preparation_ms": spread(again),
        }
    return report


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


def prefix(template: Template, calls: int) -> Template:
    """The first calls of a template; calls read earlier calls only, so it is one itself."""
    return Template(
        template.tools[:calls],
        tuple(e for e in template.edges if e.child < calls),
        tuple(q for q in template.equalities if q.right[0] < calls),
    )


def probability_by_values(corpus: Corpus) -> dict[int, float]:
    """The chance that independent values give exactly a row's call."""
    shapes: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    values: dict[tuple[str, str], Counter[Any]] = defaultdict(Counter)
    sent: dict[int, dict[str, Any]] = {}
    first: dict[bytes, int] = {}
    for row in corpus.rows:
        first.setdefault(row.key, row.number)
        sent[row.number] = {p: key_of(v) for p, v in argument_leaves(row.arguments)}
        shapes[row.tool][tuple(sorted(sent[row.number]))] += 1
        for pointer, key in sent[row.number].items():
            values[row.tool, pointer][key] += 1
    answers = Counter(row.key for row in corpus.rows)
    chances = {}
    for row in corpus.rows:
        shape = shapes[row.tool]
        chance = shape[tuple(sorted(sent[row.number]))] / shape.total()
        for pointer, key in sent[row.number].items():
            seen = values[row.tool, pointer]
            chance *= seen[key] / seen.total()
        chances[row.number] = chance / answers[row.key]  # variants of a call share its chance
    return chances


def ordered_count(prepared: Prepared, template: Template, weights: Mapping[int, float]) -> float:
    """The sum over fillings, interchangeable calls in every order."""
    from math import factorial

    from orch_env.synthesis.sampling.prepared import twins_of

    weighted = Prepared(prepared.index, template, weights=weights).count
    for group in twins_of(template):
        weighted *= factorial(len(group))
    return float(weighted)


def forward(index: Index, template: Template, seconds: float, seed: int) -> dict[str, float]:
    """Forward sampling with restarts: accepted chains by attempt, and a second."""
    chance = Chance(seed)
    corpus = index.corpus
    attempts = accepted = 0
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        for _ in range(RESTARTS):
            attempts += 1
            if _forward_once(index, corpus, template, chance):
                accepted += 1
                break
    spent = time.thread_time() - began
    return {"acceptance": accepted / attempts, "valid_per_s": accepted / spent}


def _forward_once(index: Index, corpus: Corpus, template: Template, chance: Chance) -> bool:
    rows: list[int] = []
    for node, tool in enumerate(template.tools):
        edges = [e for e in template.edges if e.child == node]
        if not edges:
            rows.append(chance.pick(corpus.rows_of[tool]))
        else:
            relations = [
                (e, index.relation(template.tools[e.parent], tool, e.pairs, e.composite))
                for e in edges
            ]
            edge, relation = relations[0]
            children = relation.children.get(rows[edge.parent], ())
            if not children:
                return False
            row = chance.pick(children)
            for other, related in relations[1:]:
                if rows[other.parent] not in related.parents.get(row, ()):
                    return False
            rows.append(row)
        for q in template.equalities:
            if q.right[0] == node:
                left, right = rows[q.left[0]], rows[node]
                if index.sent[left].get(q.left[1]) != index.sent[right].get(q.right[1]):
                    return False
    return len({index.call_of[row] for row in rows}) == len(rows)


def family(index: Index, growth: Growth, chains: int, seconds: float) -> list[dict[str, Any]]:
    """Chains extended call by call, medians over the family."""
    whole = templates_of_size(growth, LONGEST, chains, 1)
    by_values = probability_by_values(index.corpus)
    by_rows = {row: 1 / len(rows) for rows in index.corpus.rows_of.values() for row in rows}
    table = []
    for calls in range(2, LONGEST + 1):
        rows: dict[str, list[float]] = defaultdict(list)
        for number, template in enumerate(whole):
            part = prefix(template, calls)
            prepared = Prepared(index, part)
            chance = Chance(number)
            began = time.thread_time()
            for _ in range(2000):
                prepared.draw(chance)
            spent = time.thread_time() - began
            rows["edges"].append(sum(len(e.pairs) for e in part.edges))
            rows["fillings"].append(float(prepared.count))
            rows["exact_traces_per_s"].append(prepared.accepted / spent)
            rows["exact_distinct_share"].append(prepared.accepted / max(1, prepared.attempts))
            rows["independent_values"].append(ordered_count(prepared, part, by_values))
            rows["independent_rows"].append(ordered_count(prepared, part, by_rows))
            found = forward(index, part, seconds, number)
            rows["forward_acceptance"].append(found["acceptance"])
            rows["forward_valid_per_s"].append(found["valid_per_s"])
        table.append(
            {"calls": calls, "chains": len(whole)}
            | {name: statistics.median(values) for name, values in rows.items()}
            | {"forward_never": sum(a == 0 for a in rows["forward_acceptance"])}
        )
    return table


def draw(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The acceptance of each way against the number of calls."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.2))
    calls = [row["calls"] for row in table]
    axis.semilogy(calls, [1.0] * len(calls), "o-", label="exact sampling (no dead end)")
    for name, label in (
        ("forward_acceptance", "forward with restarts, measured"),
        ("independent_rows", "independent rows, computed"),
        ("independent_values", "independent values, computed"),
    ):
        shown = [(row["calls"], row[name]) for row in table if row[name] > 0]
        axis.semilogy(*zip(*shown, strict=True), "o-", label=label)
    axis.set_xlabel("calls in the chain")
    axis.set_ylabel("share of attempts that execute (median)")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--traces", type=Path, help="recorded tasks on that cache")
    parser.add_argument("--templates", type=int, default=20, help="templates of each size")
    parser.add_argument("--chains", type=int, default=15, help="chains of the family")
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=0.5, help="of forward sampling, a chain")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/synthesis_sampling.json")
    )
    given = parser.parse_args(arguments)
    corpus = read_corpus(open_cache(given.cache), load_tasks(given.traces) if given.traces else [])
    mined = mine(corpus)
    index = Index(corpus, mined)
    growth = Growth(Joining(index))
    report = {
        "machine": machine(),
        "rows": len(corpus.rows),
        "rates": rates(index, growth, given.templates, given.draws),
        "family": family(index, growth, given.chains, given.seconds),
    }
    write_report(given.out, report)
    draw(report["family"], given.out.with_suffix(".png"))
    for calls, row in report["rates"].items():
        print(
            f"{calls} calls: {row['traces_per_s']['median']:,.0f} traces/s, prepared in "
            f"{row['preparation_ms']['median']} ms (at most {row['preparation_ms_first']['most']})"
        )
    print("calls edges values rows forward(never) exact/s distinct")
    for row in report["family"]:
        print(
            f"{row['calls']:5} {row['edges']:5.0f} {row['independent_values']:.1e} "
            f"{row['independent_rows']:.1e} {row['forward_acceptance']:.4f}"
            f"({row['forward_never']}/{row['chains']}) {row['exact_traces_per_s']:8,.0f} "
            f"{row['exact_distinct_share']:.2f}"
        )


if __name__ == "__main__":
    main()
