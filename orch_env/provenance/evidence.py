"""Which output path feeds which argument: support over all traces of an import.

The hard decision is the control for chance. That "adults = 2" equals some count in an earlier
response says nothing; what counts is how much more often an argument equals the output of *its
own* trace than the same output path of *other* traces. A link's lift is that surprise in bits.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orch_env.provenance.information import Key, bits, is_void, key_of, plain, stands_in
from orch_env.provenance.names import general
from orch_env.provenance.trace import Trace
from orch_env.types.json import Json, escape, leaves


@dataclass(frozen=True, slots=True)
class Sighting:
    """A place in an earlier output that holds a value."""

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
    """All sightings and links of an import; see :func:`gather`."""

    sightings: list[dict[Key, list[Sighting]]]
    links: dict[tuple[Slot, str, str], Link]
    chances: Counter[tuple[Slot, str]]

    def link(self, slot: Slot, sighting: Sighting) -> Link:
        """The link that a sighting would use."""
        return self.links.get((slot, sighting.tool, sighting.pattern)) or Link()

    def ratio(self, slot: Slot, sighting: Sighting) -> float:
        """Hits per occurrence of the argument after a call of the producer."""
        chances = self.chances[slot, sighting.tool]
        return self.link(slot, sighting).hits / chances if chances else 0.0


def argument_leaves(arguments: Json) -> Iterator[tuple[str, Json]]:
    """Leaves of an arguments object; ``{}`` itself has none."""
    if arguments:
        yield from leaves(arguments)


def pieces_of(value: Json) -> list[str]:
    """The pieces of a comma-joined text, ``[]`` for anything else."""
    if not isinstance(value, str) or "," not in value:
        return []
    pieces = [piece.strip() for piece in value.split(",")]
    return pieces if all(pieces) else []


def gather(traces: Sequence[Trace]) -> Evidence:
    """Index the outputs of all traces by the values that arguments take, then count links."""
    wanted: set[Key] = set()
    for trace in traces:
        for _, call in trace.numbered():
            for _, value in argument_leaves(call.arguments):
                if not is_void(value):
                    wanted.add(key_of(value))
                    wanted.update(key_of(piece) for piece in pieces_of(value))
    frequency: Counter[tuple[str, str, Key]] = Counter()
    responses: Counter[str] = Counter()
    sightings = [_sightings(trace, wanted, frequency, responses) for trace in traces]
    evidence = Evidence(sightings, defaultdict(Link), Counter())
    for trace, seen in zip(traces, sightings, strict=True):
        _count_links(trace, seen, evidence, frequency, responses)
    return evidence


def _sightings(
    trace: Trace,
    wanted: set[Key],
    frequency: Counter[tuple[str, str, Key]],
    responses: Counter[str],
) -> dict[Key, list[Sighting]]:
    found: dict[Key, list[Sighting]] = defaultdict(list)
    for number, (step, call) in enumerate(trace.numbered()):
        responses[call.name] += 1
        met: set[tuple[str, Key]] = set()
        for path, pattern, value in _walk(call.response):
            key = key_of(value)
            if key in wanted and (pattern, key) not in met:
                met.add((pattern, key))
                frequency[call.name, pattern, key] += 1
                found[key].append(Sighting(number, step, call.name, path, pattern))
    return found


def _walk(value: Json) -> Iterator[tuple[str, str, Json]]:
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
    seen: dict[Key, list[Sighting]],
    evidence: Evidence,
    frequency: Counter[tuple[str, str, Key]],
    responses: Counter[str],
) -> None:
    """Add one trace's fresh equalities: values neither in the query nor in an earlier argument."""
    query = plain(trace.query)
    numbered = trace.numbered()
    known: dict[Key, int] = {}
    for step, call in numbered:
        earlier = {other.name for at, other in numbered if at < step}
        for pointer, value in argument_leaves(call.arguments):
            key = key_of(value)
            fresh = key not in known or known[key] == step
            known.setdefault(key, step)
            if is_void(value) or not fresh or stands_in(value, query):
                continue
            slot = call.name, general(pointer)
            evidence.chances.update((slot, tool) for tool in earlier)
            patterns = {(s.tool, s.pattern) for s in seen.get(key, ()) if s.step < step}
            for tool, pattern in patterns:
                link = evidence.links[slot, tool, pattern]
                link.hits += 1
                link.values.add(key)
                link.surprise += _surprise(
                    frequency[tool, pattern, key] - 1, responses[tool] - 1, bits(value)
                )


def _surprise(others: int, total: int, information: float) -> float:
    """Bits of surprise to see a value at a path that ``others`` of ``total`` responses hold it at.

    Few other responses bound what can be learnt from them; a value's own information takes over.
    """
    bound = math.log2(total + 2)
    observed = -math.log2((others + 0.5) / (total + 1))
    return max(observed, information) if others == 0 and information > bound else observed
