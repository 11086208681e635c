"""A task from a draw and its request."""

from __future__ import annotations

from collections.abc import Mapping

from orch_env.provenance import graph_size
from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import folded, is_void, occurs_in
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.sampling.draw import Draw, gold_of
from orch_env.synthesis.writing.plan import Plan, Written
from orch_env.types import Provenance, Task, ValueRef
from orch_env.types.json import JsonObject
from orch_env.values.canonical import normal


def optional_arguments(draw: Draw, corpus: Corpus) -> int:
    """How many arguments are sent that the schemas do not require."""
    count = 0
    for number in draw.rows:
        row = corpus.rows[number]
        required = corpus.tools[row.tool].parameters.get("required") or []
        count += sum(name not in required for name in row.arguments)
    return count


def distractors(
    draw: Draw, corpus: Corpus, domains: Mapping[str, str], count: int, seed: int
) -> list[str]:
    """Tools that the draw does not call: of its own domains first, then others."""
    used = set(draw.template.tools)
    near = {domains.get(tool, "") for tool in used}
    chance = Chance(seed)
    others = [tool for tool in corpus.tools if tool not in used]
    close = [tool for tool in others if domains.get(tool, "") in near]
    far = [tool for tool in others if tool not in close]
    return (chance.shuffled(close) + chance.shuffled(far))[:count]


def task_of(
    draw: Draw,
    plan: Plan,
    written: Written,
    corpus: Corpus,
    *,
    name: str,
    offered: list[str],
    metadata: JsonObject,
) -> Task:
    """The task: gold with the source of every argument, and its size measured from that gold.

    Args:
        draw: the trace.
        plan: its plan.
        written: its request.
        corpus: what it was drawn from.
        name: the task's id.
        offered: names of the tools that are offered.
        metadata: further entries.
    """
    texts = [written.text or "", *written.followups]
    independent: dict[tuple[int, str], ValueRef] = {}
    for node, number in enumerate(draw.rows):
        row = corpus.rows[number]
        turn = written.turn_of[node] if written.turn_of else 0
        said = folded("\n".join(texts[: turn + 1]))
        needed = corpus.stated(number)
        for pointer, value in argument_leaves(row.arguments):
            if pointer in draw.sources[node]:
                continue
            if occurs_in(value, said):
                kind = Provenance.QUERY
            elif is_void(value) or normal(pointer) not in needed:
                kind = Provenance.CONSTANT
            else:
                kind = Provenance.REASONED
            independent[node, pointer] = ValueRef(kind)
    gold, after = gold_of(draw, corpus, independent, written.turn_of)
    return Task(
        id=name,
        messages=({"role": "user", "content": texts[0]},),
        tools=tuple(offered),
        gold=gold,
        today=plan.today.isoformat() if plan.today is not None else None,
        followups=written.followups,
        after_followup=after,
        metadata={**metadata, **graph_size(gold)},
    )
