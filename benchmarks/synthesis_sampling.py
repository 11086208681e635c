"""How fast workflows are filled, and how rarely a valid filling comes about without counting.

*Rates*: templates of 5 calls, mined and grown, on the bundled `harbour` cache and on a recorded
one: time to prepare each, and templates of 8 and 11 calls (as it is, and with the collector told to
leave the corpus alone); fillings a second, by counting alone and as the sampler does it, which
lists the few fillings of a template where it rejects many; the same with the coherence of each
checked, and the same with the source of every argument.

*Efficiency*: a family of chains of 11 calls (mined, and grown with different tools), each cut after
2, 3, ... calls, so that a chain is extended call by call. For each length: the constrained sampler
beside independent values, independent rows, and forward with up to 50 restarts
(`synthesis_opponents`). Probabilities are exact; trials show that they are, where trials can. The
constrained sampler draws by counting alone.

*Uniformity*: draws from the chains that have few fillings, chi-square, and the distance of forward
from uniform on the same fillings.

    python -m benchmarks.synthesis_sampling --cache cfb.db --tasks cfb.jsonl
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import chisquare

from benchmarks.report import machine, write_report
from benchmarks.synthesis_opponents import Values, Ways, attempts
from orch_env import load_tasks, open_cache
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import mine
from orch_env.synthesis.sampling.draw import draw_of
from orch_env.synthesis.sampling.prepared import Prepared
from orch_env.synthesis.templates.from_traces import templates_of
from orch_env.synthesis.templates.growth import Growth
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Edge, Equality, Template
from orch_env.tasks.files import bundled

LENGTHS = range(2, 12)
RESTARTS = 50
_TEMPLATES, _TRIES = 60, 3_000
_DRAWS = 5_000
_TRIALS = {"values": 1_000, "rows": 1_000, "forward": 2_000}
_FEW_FILLINGS = range(20, 501)
_DRAWS_EACH = 60

Timed = Callable[[], Sequence[Any]]


def seconds_of(work: Timed) -> tuple[float, int]:
    """Processor seconds of some work, and how many things it gave."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, len(found)


@contextmanager
def frozen() -> Iterator[None]:
    """The collector does not look through what is there already."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def kinds(template: Template) -> frozenset[Any]:
    """The kinds of its edges."""
    return template.kinds


def grown(
    joining: Joining,
    calls: int,
    most: int,
    tries: int,
    different: Callable[[Template], frozenset[Any]] = kinds,
) -> list[Template]:
    """Up to ``most`` grown workflows that differ in this."""
    found: dict[frozenset[Any], Template] = {}
    for template, _ in Growth(joining).each(calls, Chance(f"grow/{calls}"), tries):
        found.setdefault(different(template), template)
        if len(found) == most:
            break
    return list(found.values())


def rates(joining: Joining) -> dict[str, Any]:
    """What templates of 5 calls cost."""
    index = joining.index
    mined = [m.template for m in templates_of(joining) if len(m.template.tools) == 5]
    templates = {t.id: t for t in mined + grown(joining, 5, _TEMPLATES, _TRIES)}
    usable = [t for t in templates.values() if next(Prepared(index, t).enumerate(), None)]
    longer = [t for calls in (8, 11) for t in grown(joining, calls, _TEMPLATES // 2, 1_000)]
    prepare = {"5": prepare_ms(index, usable), "8_and_11": prepare_ms(index, longer)}
    with frozen():
        undisturbed = {"5": prepare_ms(index, usable), "8_and_11": prepare_ms(index, longer)}
    by_counting, drawn, coherent, sourced = [], [], [], []
    for template in usable:

        def accept(rows: tuple[int, ...], template: Template = template) -> str | None:
            return next(iter(joining.incoherences(template, rows)), None)

        for prepared, speeds in (
            (by_counting_alone(index, template), by_counting),
            (Prepared(index, template), drawn),
        ):
            spent, count = seconds_of(lambda p=prepared: p.draws(_DRAWS, Chance(1)))
            speeds.append(count / spent)
        checked = Prepared(index, template, accept=accept)
        began = time.process_time()
        rows = checked.draws(_DRAWS // 10, Chance(2))
        if not rows:
            continue
        coherent.append(len(rows) / (time.process_time() - began))
        for filling in rows:
            draw_of(index, template, filling)
        sourced.append(len(rows) / (time.process_time() - began))
    return {
        "rows": len(index.corpus.rows),
        "templates": {"mined": len(mined), "all": len(templates), "fillable": len(usable)},
        "longer_templates": len(longer),
        "prepare_ms": prepare,
        "prepare_ms_collector_frozen": undisturbed,
        "traces_per_s_by_counting_alone": low_median_high(by_counting),
        "by_counting_alone_below_20000": sum(speed < 20_000 for speed in by_counting),
        "traces_per_s": low_median_high(drawn),
        "coherent_traces_per_s": low_median_high(coherent),
        "coherent_traces_with_sources_per_s": low_median_high(sourced),
    }


def prepare_ms(index: Index, templates: Sequence[Template]) -> dict[str, float]:
    """Milliseconds to prepare each."""
    return low_median_high(
        [1000 * seconds_of(lambda t=t: [Prepared(index, t)])[0] for t in templates]
    )


def by_counting_alone(index: Index, template: Template) -> Prepared:
    """Never lists fillings: it does not look for few of them where there are weights."""
    return Prepared(index, template, weights={0: 1})


def low_median_high(values: Sequence[float]) -> dict[str, float]:
    """Three figures of a list."""
    shown = {"lowest": min(values), "median": statistics.median(values), "highest": max(values)}
    return {name: float(f"{value:.4g}") for name, value in shown.items()}


def in_order(template: Template) -> Template:
    """The same workflow in an order in which each call reads an earlier one as often as it can."""
    nodes = set(range(len(template.tools)))
    parents = {n: {e.parent for e in template.edges if e.child == n} for n in nodes}
    only = {n: sum(parents[m] == {n} for m in nodes) for n in nodes}
    order: list[int] = []
    while len(order) < len(nodes):
        ready = [n for n in nodes.difference(order) if parents[n] <= set(order)]
        order.append(min(ready, key=lambda n: (not parents[n], -only[n], n)))
    place = {node: at for at, node in enumerate(order)}
    edges = [replace(e, parent=place[e.parent], child=place[e.child]) for e in template.edges]
    equal = [
        Equality(*sorted(((place[n], p), (place[m], q))))
        for (n, p), (m, q) in ((x.left, x.right) for x in template.equalities)
    ]
    return Template(
        tuple(template.tools[n] for n in order),
        tuple(sorted(edges, key=lambda e: (e.parent, e.child, e.pairs))),
        tuple(sorted(equal, key=lambda q: (q.left, q.right))),
    )


def cut(template: Template, calls: int) -> Template:
    """Its first calls, with what holds among them."""

    def inside(x: Edge | Equality) -> bool:
        return (x.child if isinstance(x, Edge) else x.right[0]) < calls

    return Template(
        template.tools[:calls],
        tuple(filter(inside, template.edges)),
        tuple(filter(inside, template.equalities)),
    )


def figures(index: Index, chain: int, template: Template, values: Values) -> dict[str, Any]:
    """One chain at one length."""
    prepared = by_counting_alone(index, template)
    seed = f"{chain}/{len(template.tools)}"
    spent, count = seconds_of(lambda: prepared.draws(_DRAWS // 5, Chance(f"{seed}/drawn")))
    ways = Ways(index, template, values)
    found: dict[str, Any] = {
        "chain": chain,
        "calls": len(template.tools),
        "edges": sum(len(e.pairs) for e in template.edges),
        "fillings": int(prepared.count),
        "hit": math.prod(values.hits[tool] for tool in template.tools),
        "constrained": {
            "accepted": prepared.accepted / max(prepared.attempts, 1),
            "valid_per_s": count / spent,
        },
    }
    for name, exact, one in (
        ("values", ways.exact_values(), ways.try_values),
        ("rows", ways.exact_rows(), ways.try_rows),
        ("forward", ways.exact_forward(), ways.try_forward),
    ):
        tries = _TRIALS[name]
        began = time.process_time()
        valid = attempts(one, Chance(f"{seed}/{name}"), tries)
        each = (time.process_time() - began) / tries
        found[name] = {
            "valid": exact,
            "tries": tries,
            "valid_in_tries": valid,
            "valid_per_s": exact / each,
        }
    found["forward"]["within_restarts"] = 1 - (1 - found["forward"]["valid"]) ** (RESTARTS + 1)
    if prepared.count <= _FEW_FILLINGS[-1]:
        fillings = list(prepared.enumerate())
        if len(fillings) in _FEW_FILLINGS:
            drawn = prepared.draws(_DRAWS_EACH * len(fillings), Chance(f"{seed}/even"))
            counts = dict.fromkeys(fillings, 0)
            for rows in drawn:
                counts[rows] += 1
            distance, most = ways.unevenness(fillings)
            found["uniform"] = {
                "fillings": len(fillings),
                "p": float(chisquare(list(counts.values())).pvalue),
                "forward_distance": distance,
                "forward_most_over_mean": most,
            }
    return found


def efficiency(joining: Joining, chains: int, tries: int) -> dict[str, Any]:
    """All chains at all lengths, and what is in the middle of each length."""
    longest = LENGTHS[-1]
    mined = [m.template for m in templates_of(joining) if len(m.template.tools) == longest]
    more = grown(joining, longest, chains, tries, lambda template: frozenset(template.tools))
    family = [in_order(template) for template in [*mined, *more][:chains]]
    values = Values(joining.index)
    with frozen():
        rows = [
            figures(joining.index, number, cut(chain, calls), values)
            for number, chain in enumerate(family)
            for calls in LENGTHS
        ]
    return {
        "chains": [list(chain.tools) for chain in family],
        "mined_chains": len(mined),
        "restarts": RESTARTS,
        "by_calls": [in_the_middle([r for r in rows if r["calls"] == n]) for n in LENGTHS],
        "trials": trials(rows),
        "uniformity": uniformity([row["uniform"] for row in rows if "uniform" in row]),
        "rows": rows,
    }


def in_the_middle(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the chains; for probabilities the quartiles, too."""
    middle: dict[str, Any] = {"calls": rows[0]["calls"], "chains": len(rows)}
    for name in ("edges", "fillings", "hit"):
        middle[name] = statistics.median(row[name] for row in rows)
    for way in ("constrained", "values", "rows", "forward"):
        middle[way] = {
            name: statistics.median(row[way][name] for row in rows)
            for name in ("valid", "valid_per_s", "accepted", "within_restarts")
            if name in rows[0][way]
        }
        if way != "constrained":
            middle[way]["quartiles"] = statistics.quantiles(
                (row[way]["valid"] for row in rows), n=4, method="inclusive"
            )[::2]
    return middle


def trials(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far trials are from what was computed, in standard deviations, where they can tell."""
    off = []
    for row in rows:
        for way, tries in _TRIALS.items():
            p = row[way]["valid"]
            if min(p, 1 - p) * tries >= 10:
                spread = math.sqrt(tries * p * (1 - p))
                off.append((row[way]["valid_in_tries"] - tries * p) / spread)
    return {
        "compared": len(off),
        "mean_square": statistics.fmean(z * z for z in off),
        "farthest": max(off, key=abs),
    }


def uniformity(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The chi-square tests of all chains with few fillings."""
    return {
        "templates": len(rows),
        "lowest_p": min(row["p"] for row in rows),
        "p_below_0.05": sum(row["p"] < 0.05 for row in rows),
        "forward_distance": low_median_high([row["forward_distance"] for row in rows]),
        "forward_most_over_mean": low_median_high([r["forward_most_over_mean"] for r in rows]),
    }


def draw_picture(found: Mapping[str, Any], path: Path) -> None:
    """Probability that an attempt is valid, and valid fillings a second, over calls."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = found["by_calls"]
    calls = [row["calls"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    ways = (
        ("forward", "forward, one chain", "#d98324"),
        ("rows", "independent calls", "#7a5195"),
        ("values", "independent values", "#9aa7b4"),
    )
    shares = [row["constrained"]["accepted"] for row in rows]
    left.plot(calls, shares, "o-", color="#1f6feb", label="constrained")
    speeds = [row["constrained"]["valid_per_s"] for row in rows]
    right.plot(calls, speeds, "o-", color="#1f6feb", label="constrained")
    for way, label, colour in ways:
        low, high = zip(*(row[way]["quartiles"] for row in rows), strict=True)
        left.plot(calls, [row[way]["valid"] for row in rows], "o-", color=colour, label=label)
        left.fill_between(calls, low, high, color=colour, alpha=0.15, linewidth=0)
        speeds = [row[way]["valid_per_s"] for row in rows]
        right.plot(calls, speeds, "o-", color=colour, label=label)
    left.set(title="share of attempts that are valid", yscale="log", xlabel="calls")
    right.set(title="valid workflows per second and core", yscale="log", xlabel="calls")
    for axes in (left, right):
        axes.set_xticks(calls)
        axes.grid(alpha=0.3)
    left.legend(loc="lower left")
    figure.savefig(path, dpi=120)


def joining_of(corpus: Corpus) -> Joining:
    """The rules over a corpus that is mined on the spot."""
    return Joining(Index(corpus, mine(corpus)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the report and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="a cache of real responses")
    parser.add_argument("--tasks", type=Path, required=True, help="the tasks recorded on it")
    parser.add_argument("--chains", type=int, default=20)
    parser.add_argument("--tries", type=int, default=8_000, help="to grow the chains")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/synthesis_sampling.json")
    )
    given = parser.parse_args(arguments)
    cache = bundled("harbour", "cache")
    if cache is None:
        raise SystemExit("the bundled cache is missing; install the package again")
    with open_cache(cache) as harbour, open_cache(given.cache) as recorded:
        real = joining_of(read_corpus(recorded, load_tasks(given.tasks)))
        report = {
            "machine": machine(),
            "harbour": rates(joining_of(read_corpus(harbour, load_tasks("harbour")))),
            "recorded": rates(real),
            "efficiency": efficiency(real, given.chains, given.tries),
        }
    write_report(given.out, report)
    draw_picture(report["efficiency"], given.out.with_suffix(".png"))
    for name in ("harbour", "recorded"):
        print(name, {k: v for k, v in report[name].items() if k != "rows"})
    for row in report["efficiency"]["by_calls"]:
        shown = {w: f"{row[w]['valid']:.1e}" for w in ("values", "rows", "forward")}
        restarted = f"{row['forward']['within_restarts']:.3f} within restarts"
        print(row["calls"], f"hit {row['hit']:.1e}", shown, restarted, row["constrained"])
    print({k: report["efficiency"][k] for k in ("trials", "uniformity")})


if __name__ == "__main__":
    main()
