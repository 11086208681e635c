"""What traces show: how often an argument equals what an earlier call's response holds.

An output is no source of a value that the trace had sent before it, and a value that stands in the
user's words is no evidence of a flow of data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from orch_env.provenance.evidence import surprise
from orch_env.provenance.information import Key, bits, folded, occurs_in
from orch_env.synthesis.mining.mined import Slot
from orch_env.synthesis.mining.observed import (
    MEMORABLE_BITS,
    Observed,
    Place,
    Sent,
    Source,
)


@dataclass(frozen=True, slots=True)
class Use:
    """One argument leaf of a call in a trace.

    Attributes:
        call: the call's number in the trace.
        leaf: the leaf.
        said: whether the user's words hold the value.
        found: earlier call -> where its response holds the value, as far as that call did not
            come after the value was sent.
        parts: the same for each piece of a comma-joined text.
    """

    call: int
    leaf: Sent
    said: bool
    found: dict[int, tuple[Place, ...]]
    parts: tuple[dict[int, tuple[Place, ...]], ...] = ()


@dataclass(slots=True)
class Tally:
    """Evidence for one link.

    Attributes:
        traces: traces in which the argument equals the output.
        strong: of those, the traces in which the value is a memorable one.
        values: distinct values.
        hits: hits.
        joined: hits of comma-joined texts, all of whose pieces one source holds.
        joined_in: traces with such a hit.
        surprise: summed bits of surprise of the hits.
    """

    traces: set[int] = field(default_factory=set)
    strong: set[int] = field(default_factory=set)
    values: set[Key] = field(default_factory=set)
    hits: int = 0
    joined: int = 0
    joined_in: set[int] = field(default_factory=set)
    surprise: float = 0.0


@dataclass(slots=True)
class Followed:
    """What all traces say together.

    Attributes:
        uses: for each trace, the argument leaves that can be links.
        tools: for each trace, the tool of each call.
        links: (slot, source) -> evidence.
        chances: (slot, tool) -> traces in which the slot was set, not from the user's words, after
            a call of the tool.
        said: slot -> uses in which the user's words hold the value.
        total: slot -> uses.
    """

    uses: list[list[Use]] = field(default_factory=list)
    tools: list[list[str]] = field(default_factory=list)
    links: dict[tuple[Slot, Source], Tally] = field(default_factory=lambda: defaultdict(Tally))
    chances: Counter[tuple[Slot, str]] = field(default_factory=Counter)
    said: Counter[Slot] = field(default_factory=Counter)
    total: Counter[Slot] = field(default_factory=Counter)


def follow(observed: Observed) -> Followed:
    """Count the evidence of all traces of the corpus."""
    followed = Followed()
    for index in range(len(observed.corpus.traces)):
        uses = list(uses_of(observed, index))
        rows = observed.corpus.trace_rows[index]
        followed.tools.append([observed.corpus.rows[row].tool for row in rows])
        followed.uses.append(uses)
        _count(observed, index, uses, followed)
    return followed


def uses_of(observed: Observed, index: int) -> Iterator[Use]:
    """The argument leaves of a trace that can be links, in order."""
    trace, rows = observed.corpus.traces[index], observed.corpus.trace_rows[index]
    steps = [step for step, _ in trace.numbered()]
    words = [folded(trace.said_before(step)) for step in range(len(trace.steps))]
    first: dict[Key, int] = {}
    for step, row in zip(steps, rows, strict=True):
        for leaf in observed.sent[row]:
            first.setdefault(leaf.key, step)

    def found(key: Key, before: int) -> dict[int, tuple[Place, ...]]:
        return {
            call: places
            for call, row in enumerate(rows)
            if steps[call] < before
            and first.get(key, before) > steps[call]
            and (places := observed.held[row].get(key))
        }

    for call, row in enumerate(rows):
        step = steps[call]
        for leaf in observed.sent[row]:
            parts = tuple(found(piece, step) for piece in leaf.pieces)
            said = occurs_in(leaf.value, words[step])
            yield Use(call, leaf, said, found(leaf.key, step), parts)


def _count(observed: Observed, index: int, uses: list[Use], followed: Followed) -> None:
    trace, rows = observed.corpus.traces[index], observed.corpus.trace_rows[index]
    steps = [step for step, _ in trace.numbered()]
    tools = followed.tools[index]
    chances: set[tuple[Slot, str]] = set()
    hits: dict[tuple[Slot, Source], bool] = {}
    for use in uses:
        slot = use.leaf.slot
        followed.total[slot] += 1
        followed.said[slot] += use.said
        if use.said:
            continue
        earlier = {tools[call] for call in range(len(rows)) if steps[call] < steps[use.call]}
        chances.update((slot, tool) for tool in earlier)
        strong = bits(use.leaf.value) >= MEMORABLE_BITS
        for source in _sources(tools, use.found):
            tally = followed.links[slot, source]
            tally.hits += 1
            tally.values.add(use.leaf.key)
            tally.surprise += _surprise(observed, source, use.leaf)
            hits[slot, source] = hits.get((slot, source), False) or strong
        for source in _joined(tools, use):
            tally = followed.links[slot, source]
            tally.joined += 1
            tally.joined_in.add(index)
            tally.hits += 1
            tally.values.update(use.leaf.pieces)
            hits[slot, source] = True
    followed.chances.update(chances)
    for at, strong in hits.items():
        followed.links[at].traces.add(index)
        if strong:
            followed.links[at].strong.add(index)


def _sources(tools: list[str], found: dict[int, tuple[Place, ...]]) -> set[Source]:
    """The sources of some places."""
    return {(tools[call], place.pattern) for call, places in found.items() for place in places}


def _joined(tools: list[str], use: Use) -> set[Source]:
    """Sources that hold every piece of a comma-joined text."""
    if len(use.parts) < 2:
        return set()
    return set.intersection(*(_sources(tools, part) for part in use.parts))


def _surprise(observed: Observed, source: Source, leaf: Sent) -> float:
    others = len(observed.holders[source][leaf.key]) - 1
    return surprise(max(others, 0), max(observed.rows_with[source] - 1, 0), bits(leaf.value))
