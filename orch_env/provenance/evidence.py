"""Which output path feeds which argument: evidence from all traces of an import.

That "adults = 2" equals some count in an earlier response says nothing. What counts is how much
more often an argument equals the output of *its own* trace than the same output path of *other*
traces. A link's lift is that surprise in bits.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orch_env.provenance.information import Key, bits, folded, is_void, key_of, occurs_in
from orch_env.provenance.names import with_wildcards
from orch_env.provenance.trace import Trace
from orch_env.types.json import Json, escape, leaves


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A place in an output that holds a value."""

    call: int
    step: int
    tool: str
    path: str
    pattern: str


@dataclass(slots=True)
class Link:
    """Evidence that an output path of a tool feeds an argument."""

    hits: int = 0
    surprise: float = 0.0
    values: set[Key] = field(default_factory=set)

    @property
    def lift(self) -> float:
        """Mean surprise of a hit, in bits."""
        return self.surprise / self.hits if self.hits else 0.0


Slot = tuple[str, str]
"""(tool, argument pointer with ``*`` for list indices)."""


@dataclass(slots=True)
class Evidence:
    """What all traces of an import say; see :func:`gather_evidence`.

    Attributes:
        occurrences: for each trace, value -> where its outputs hold it.
        links: (argument, tool, output pattern) -> the evidence that the one feeds the other.
        uses: (argument, tool) -> how often the argument was set after a call of the tool.
    """

    occurrences: list[dict[Key, list[Occurrence]]]
    links: dict[tuple[Slot, str, str], Link]
    uses: Counter[tuple[Slot, str]]

    def link(self, slot: Slot, occurrence: Occurrence) -> Link:
        """The link from an occurrence to an argument."""
        return self.links.get((slot, occurrence.tool, occurrence.pattern)) or Link()

    def ratio(self, slot: Slot, occurrence: Occurrence) -> float:
        """Hits per use of the argument after a call of the producer."""
        uses = self.uses[slot, occurrence.tool]
        return self.link(slot, occurrence).hits / uses if uses else 0.0


def argument_leaves(arguments: Json) -> Iterator[tuple[str, Json]]:
    """Leaves of an arguments object; ``{}`` has none."""
    if arguments:
        yield from leaves(arguments)


def pieces_of(value: Json) -> list[str]:
    """The pieces of a comma-joined text, ``[]`` for anything else."""
    if not isinstance(value, str) or "," not in value:
        return []
    pieces = [piece.strip() for piece in value.split(",")]
    return pieces if all(pieces) else []


def gather_evidence(traces: Sequence[Trace]) -> Evidence:
    """Index the outputs of all traces by the values of arguments, then count links."""
    wanted: set[Key] = set()
    for trace in traces:
        for _, call in trace.numbered():
            for _, value in argument_leaves(call.arguments):
                if not is_void(value):
                    wanted.add(key_of(value))
                    wanted.update(key_of(piece) for piece in pieces_of(value))
    frequency: Counter[tuple[str, str, Key]] = Counter()
    responses: Counter[str] = Counter()
    occurrences = [_occurrences(trace, wanted, frequency, responses) for trace in traces]
    evidence = Evidence(occurrences, defaultdict(Link), Counter())
    for trace, seen in zip(traces, occurrences, strict=True):
        _count_links(trace, seen, evidence, frequency, responses)
    return evidence


def _occurrences(
    trace: Trace,
    wanted: set[Key],
    frequency: Counter[tuple[str, str, Key]],
    responses: Counter[str],
) -> dict[Key, list[Occurrence]]:
    found: dict[Key, list[Occurrence]] = defaultdict(list)
    for number, (step, call) in enumerate(trace.numbered()):
        responses[call.name] += 1
        met: set[tuple[str, Key]] = set()
        for path, pattern, value in leaves_with_patterns(call.response):
            key = key_of(value)
            if key in wanted and (pattern, key) not in met:
                met.add((pattern, key))
                frequency[call.name, pattern, key] += 1
                found[key].append(Occurrence(number, step, call.name, path, pattern))
    return found


def leaves_with_patterns(value: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield ``(pointer, pattern, scalar)`` for every leaf that can carry a value, in order."""
    stack: list[tuple[str, str, Json]] = [("", "", value)]
    while stack:
        at, pattern, node = stack.pop()
        if isinstance(node, dict):
            for name in reversed(list(node)):
                token = escape(str(name))
                shown = "*" if token.isdigit() else token  # ids as keys are one pattern
                stack.append((f"{at}/{token}", f"{pattern}/{shown}", node[name]))
        elif isinstance(node, list):
            below = f"{pattern}/*"
            stack.extend((f"{at}/{i}", below, node[i]) for i in reversed(range(len(node))))
        elif not is_void(node):
            yield at, pattern, node


def _count_links(
    trace: Trace,
    seen: dict[Key, list[Occurrence]],
    evidence: Evidence,
    frequency: Counter[tuple[str, str, Key]],
    responses: Counter[str],
) -> None:
    """Count one trace's equalities, without values of the query and of earlier arguments."""
    said = [folded(trace.said_before(step)) for step in range(len(trace.steps))]
    numbered = trace.numbered()
    known: dict[Key, int] = {}
    for step, call in numbered:
        earlier = {other.name for at, other in numbered if at < step}
        for pointer, value in argument_leaves(call.arguments):
            key = key_of(value)
            fresh = key not in known or known[key] == step
            known.setdefault(key, step)
            if is_void(value) or not fresh or occurs_in(value, said[step]):
                continue
            slot = call.name, with_wildcards(pointer)
            evidence.uses.update((slot, tool) for tool in earlier)
            patterns = {(s.tool, s.pattern) for s in seen.get(key, ()) if s.step < step}
            for tool, pattern in patterns:
                link = evidence.links[slot, tool, pattern]
                link.hits += 1
                link.values.add(key)
                link.surprise += surprise(
                    frequency[tool, pattern, key] - 1, responses[tool] - 1, bits(value)
                )


def surprise(others: int, total: int, information: float) -> float:
    """Bits of surprise to see a value at a path that ``others`` of ``total`` responses hold there.

    A few other responses say little; then the value's own information decides.
    """
    bound = math.log2(total + 2)
    observed = -math.log2((others + 0.5) / (total + 1))
    return max(observed, information) if others == 0 and information > bound else observed
