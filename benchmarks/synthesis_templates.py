"""What templates are worth: those of recorded traces, new ones, and whether draws make sense.

* *Beyond their own traces*: share of the templates of recorded traces that have a filling whose
  calls are not those of a trace with this template. Beside it: the share with such a filling that
  is also coherent. Recorded tasks often have parts that no output joins; those never are.
* *Novel*: distinct sets of edge kinds (parent's tool, pairs of argument and output path, child's
  tool) of grown templates that no recorded trace has, with at least two coherent fillings and at
  most three calls of one tool. ``by_arguments`` counts without the output path, so that the same
  value read at another place of a response is nothing new; ``by_tools`` counts pairs of tools only.
* *Coherence* by number of calls, mean over grown templates of the share of uniform draws with
  different calls. ``free`` has no constraints, ``agree`` beside it is the share in which arguments
  that must agree do; ``equal`` has the template's equalities as factors; ``kept`` are draws that
  the coherence filter let pass. All of ``kept`` is read again from the finished gold calls, by
  rules that are written here and not in the package: ``violations`` are what that finds. So that
  this says something, ``free`` draws are read both ways, too: what the filter would refuse, and
  what the second reading finds (which does not look for two calls about the same thing).

    python -m benchmarks.synthesis_templates --tasks cfb.jsonl --cache booking.db
    python -m benchmarks.synthesis_templates --tasks cfb.jsonl --cache booking.db --rounds 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from orch_env import load_tasks, open_cache
from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import Key, is_distinctive, is_temporal, key_of
from orch_env.provenance.names import with_wildcards
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import Mined, mine
from orch_env.synthesis.sampling.draw import draw_of, gold_of
from orch_env.synthesis.sampling.prepared import ENUMERATED, Prepared
from orch_env.synthesis.templates.from_traces import MinedTemplate, templates_of
from orch_env.synthesis.templates.growth import Growth
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Template
from orch_env.types import GoldCall

CALLS = range(2, 12)
DRAWS = 60
"""Draws of one template for a share; all of its fillings where it has fewer."""
TEMPLATES = 40
"""Templates of one number of calls that the shares are taken over."""

TESTED = 3
"""Templates with the same set of edge kinds that are tried for two coherent fillings."""

Rows = tuple[int, ...]
Kinds = frozenset[tuple[Any, ...]]


def beyond(joining: Joining, mined: MinedTemplate, coherent: bool) -> bool:
    """Whether a template has a filling with other calls than those of its traces."""
    index = joining.index

    def calls(rows: Rows) -> Rows:
        return tuple(sorted(index.call_of[row] for row in rows))

    own = {calls(index.corpus.trace_rows[number]) for number in mined.traces}
    template = mined.template
    prepared = Prepared(index, template, accept=reason_of(joining, template) if coherent else None)
    if prepared.count <= ENUMERATED:
        return any(calls(rows) not in own for rows in prepared.enumerate())
    wanted = len(own) + 20
    return any(calls(r) not in own for r in prepared.draws(wanted, Chance(0), replacement=False))


def reason_of(joining: Joining, template: Template) -> Any:
    """The filter that refuses incoherent fillings of a template."""

    def accept(rows: Rows) -> str | None:
        wrong = joining.incoherences(template, rows)
        return wrong[0] if wrong else None

    return accept


def of_traces(joining: Joining) -> tuple[list[MinedTemplate], dict[str, Any]]:
    """The templates of the traces, and the figures about them."""
    why: Counter[str] = Counter()
    found = templates_of(joining, why)
    other = [beyond(joining, one, coherent=False) for one in found]
    sensible = [beyond(joining, one, coherent=True) for one in found]
    whole = [
        not joining.incoherences(m.template, joining.index.corpus.trace_rows[n])
        for m in found
        for n in m.traces[:1]
    ]
    return found, {
        "traces": len(joining.index.corpus.traces),
        "read": sum(len(one.traces) for one in found),
        "not_read": dict(why),
        "templates": len(found),
        "beyond_own_trace": sum(other),
        "share": round(sum(other) / len(found), 4),
        "beyond_own_trace_coherent": sum(sensible),
        "own_trace_coherent": sum(whole),
    }


@dataclass
class Grown:
    """Grown templates of one number of calls."""

    calls: int
    templates: dict[str, Template] = field(default_factory=dict)
    novel: set[Kinds] = field(default_factory=set)


def by_arguments(kinds: Kinds) -> Kinds:
    """Kinds of edges without the output paths."""
    return frozenset((a, b, tuple(pointer for pointer, _ in pairs)) for a, b, pairs in kinds)


def by_tools(kinds: Kinds) -> Kinds:
    """Kinds of edges by tools alone."""
    return frozenset((a, b) for a, b, _ in kinds)


def grow(joining: Joining, rounds: int, tries: int, traced: set[Kinds]) -> list[Grown]:
    """What rounds of growth give, each with so many tries for each size."""
    sizes = {calls: Grown(calls) for calls in CALLS}
    tested: Counter[Kinds] = Counter()
    novel: set[Kinds] = set()
    ends = CALLS[0], CALLS[-1]
    growth = Growth(joining)
    found = (growth.sizes(ends, Chance(number), tries) for number in range(rounds))
    for template, _ in chain.from_iterable(found):
        grown = sizes[len(template.tools)]
        if template.id in grown.templates:
            continue
        grown.templates[template.id] = template
        kinds = template.kinds
        if kinds in traced or kinds in novel or tested[kinds] == TESTED:
            continue
        tested[kinds] += 1
        prepared = Prepared(joining.index, template, accept=reason_of(joining, template))
        if len(prepared.draws(2, Chance(0), replacement=False)) == 2:
            novel.add(kinds)
            grown.novel.add(kinds)
    return list(sizes.values())


def novelty(found: Sequence[MinedTemplate], grown: Sequence[Grown]) -> dict[str, Any]:
    """How much of what was grown no trace has."""
    report: dict[str, Any] = {}
    novel = set().union(*(g.novel for g in grown))
    traced = {one.template.kinds for one in found}
    report["distinct_sets_of_edge_kinds"] = len(novel)
    for name, coarse in (("by_arguments", by_arguments), ("by_tools", by_tools)):
        report[name] = len({coarse(k) for k in novel} - {coarse(k) for k in traced})
    report["by_calls"] = {
        str(g.calls): {"templates": len(g.templates), "novel": len(g.novel)} for g in grown
    }
    most = max(max(Counter(t.tools).values()) for g in grown for t in g.templates.values())
    report["most_calls_of_one_tool"] = most
    return report


def coherence(joining: Joining, grown: Grown) -> dict[str, Any]:
    """The shares of coherent draws of templates of one size."""
    ids = sorted(grown.templates)
    chosen = Chance(grown.calls).draw(ids, min(TEMPLATES, len(ids)))
    index = joining.index
    shares: dict[str, list[float]] = defaultdict(list)
    refused: Counter[str] = Counter()
    reread: Counter[str] = Counter()
    violations: Counter[str] = Counter()
    kept = 0
    for template in (grown.templates[i] for i in chosen):
        free = Template(template.tools, template.edges)
        for name, drawn in (("free", free), ("equal", template)):
            rows = Prepared(index, drawn).draws(DRAWS, Chance(1), replacement=False)
            wrong = [joining.incoherences(template, r) for r in rows]
            if rows:
                shares[name].append(sum(not w for w in wrong) / len(rows))
                agreeing = sum("disagreement" not in w for w in wrong)
                shares[f"{name}_agree"].append(agreeing / len(rows))
            if drawn is free:
                refused.update(w for words in wrong for w in words)
                reread.update(w for r in rows for w in senseless(index, drawn, r))
        prepared = Prepared(index, template, accept=reason_of(joining, template))
        for filling in prepared.draws(DRAWS, Chance(2), replacement=False):
            kept += 1
            violations.update(senseless(index, template, filling))
    return {
        "templates": len(chosen),
        **{name: round(statistics.mean(values), 4) for name, values in sorted(shares.items())},
        "free_refused": dict(sorted(refused.items())),
        "free_read_again": dict(sorted(reread.items())),
        "kept": kept,
        "violations": dict(violations),
    }


def senseless(index: Index, template: Template, rows: Rows) -> set[str]:
    """What is wrong with finished gold calls, read from their arguments and provenance alone."""
    steps, _ = gold_of(draw_of(index, template, rows), index.corpus, {})
    gold, mined = [call for step in steps for call in step], index.mined
    found = set()
    values = [{p: key_of(v) for p, v in argument_leaves(c.arguments)} for c in gold]
    if len({(c.name, str(sorted(v.items()))) for c, v in zip(gold, values, strict=True)}) < len(
        gold
    ):
        found.add("repeated_call")
    if any(not _agree(gold, values, mined, a, b) for a, b in combinations(range(len(gold)), 2)):
        found.add("disagreement")
    reached = {0}
    for _ in gold:
        for child, call in enumerate(gold):
            for parent in call.depends_on:
                if not _is_tied(gold, values, mined, parent, child):
                    found.add("weak_link")
                elif reached & {parent, child}:
                    reached |= {parent, child}
    if len(reached) < len(gold):
        found.add("weak_link")
    for child, call in enumerate(gold):
        for parent in call.depends_on:
            earlier, later = _first_date(values[parent]), _first_date(values[child])
            if earlier and later and later < earlier:
                found.add("time")
    used = {parent for call in gold for parent in call.depends_on}
    if any(not call.depends_on and at not in used for at, call in enumerate(gold)):
        found.add("unused_lookup")
    return found


def _agree(
    gold: Sequence[GoldCall], values: Sequence[Mapping[str, Key]], mined: Mined, a: int, b: int
) -> bool:
    """Whether two calls that belong together have the arguments equal that must be."""
    one, other = set(gold[a].depends_on), set(gold[b].depends_on)
    if a not in other and not one & other:
        return True
    for agreement in mined.agreements:
        for (tool, path), (beside, at) in (
            (agreement.left, agreement.right),
            (agreement.right, agreement.left),
        ):
            if (tool, beside) != (gold[a].name, gold[b].name):
                continue
            if path in gold[a].provenance or at in gold[b].provenance:
                continue
            if values[a].get(path) != values[b].get(at):
                return False
    return True


def _is_tied(
    gold: Sequence[GoldCall],
    values: Sequence[Mapping[str, Key]],
    mined: Mined,
    parent: int,
    child: int,
) -> bool:
    """Whether a call reads a strong link's value of another, or both name the same by an id."""
    strong = {(x.from_tool, x.from_path, x.to_tool, x.to_path) for x in mined.links if x.strong}
    one, other = gold[parent].name, gold[child].name
    for pointer, ref in gold[child].provenance.items():
        for part in (ref, *ref.parts):
            if part.call == parent and part.path is not None:
                link = (one, with_wildcards(part.path), other, with_wildcards(pointer))
                if link in strong:
                    return True
    ids = [
        {
            key
            for pointer, key in values[n].items()
            if (name, with_wildcards(pointer)) in mined.opaque
        }
        for n, name in ((parent, one), (child, other))
    ]
    return any(is_distinctive(key[1]) for key in ids[0] & ids[1])


def _first_date(values: Mapping[str, Key]) -> str | None:
    texts = [str(key[1]) for key in values.values()]
    return min((t[:10] for t in texts if is_temporal(t) and t[4:5] == "-"), default=None)


def milliseconds_of_ids(templates: Sequence[Template]) -> dict[str, float]:
    """Time to compute a template's id: median and most."""
    spent = []
    for template in templates:
        began = time.perf_counter()
        _ = template.id
        spent.append(1000 * (time.perf_counter() - began))
    return {"median": round(statistics.median(spent), 3), "most": round(max(spent), 3)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, required=True, help="recorded tasks")
    parser.add_argument("--cache", type=Path, required=True, help="the cache of their responses")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of growth")
    parser.add_argument("--tries", type=int, default=1000, help="tries of a round for each size")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/synthesis_templates.json")
    )
    given = parser.parse_args(arguments)
    with open_cache(given.cache) as cache:
        corpus = read_corpus(cache, load_tasks(given.tasks))
        joining = Joining(Index(corpus, mine(corpus)))
        found, traces = of_traces(joining)
        print(f"traces: {traces}", flush=True)
        traced = {one.template.kinds for one in found}
        began = time.process_time()
        grown = grow(joining, given.rounds, given.tries, traced)
        seconds = round(time.process_time() - began, 1)
        novel = {"seconds": seconds, **novelty(found, grown)}
        print(f"novel: {novel}", flush=True)
        shares = {str(g.calls): coherence(joining, g) for g in grown if g.templates}
    for calls, figures in shares.items():
        print(f"{calls} calls: {figures}")
    longest = [t for g in grown if g.calls == CALLS[-1] for t in g.templates.values()]
    report = {
        "machine": machine(),
        "rows": len(corpus.rows),
        "traces": traces,
        "novel": {"rounds": given.rounds, "tries_for_each_size": given.tries, **novel},
        "coherence": shares,
        "id_milliseconds_of_longest": milliseconds_of_ids(longest) if longest else None,
    }
    write_report(given.out, report)
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
