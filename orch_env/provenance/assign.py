"""Decides where the value of every gold argument leaf comes from.

Order of the questions, for one leaf: void -> ``constant``; an informative value that an earlier
call already used -> what it was there (a response cannot be the origin of what was sent before
it); standing in the query -> ``query``; a believable earlier output -> ``output``; comma-joined
pieces of these -> ``composite``; a default or a code -> ``constant``; else ``reasoned``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orch_env.provenance.evidence import (
    Evidence,
    Sighting,
    Slot,
    argument_leaves,
    gather,
    pieces_of,
)
from orch_env.provenance.information import (
    Key,
    bits,
    is_strong,
    is_temporal,
    is_trivial,
    is_void,
    key_of,
    plain,
    stands_in,
)
from orch_env.provenance.names import ParameterHints, agreement, general
from orch_env.provenance.trace import Trace
from orch_env.types import Provenance, ToolSpec, ValueRef
from orch_env.types.json import Json

_MEMORABLE_BITS = 12.0
"""A value at least this informative is the same thing wherever it is used again."""
_FEWEST_VALUES = 3
"""A link needs this many distinct values before it lends belief to an uninformative one."""
_LEAST_LIFT = 4.0
"""... and this many bits of surprise on average: 16 times as often as in other traces."""
_SOMETIMES, _USUALLY = 0.3, 0.6
"""Share of an argument's occurrences after the producer in which the link must hold."""

CONSTANT, QUERY, REASONED = (
    ValueRef(Provenance.CONSTANT),
    ValueRef(Provenance.QUERY),
    ValueRef(Provenance.REASONED),
)


def find_provenance(traces: Sequence[Trace]) -> list[list[dict[str, ValueRef]]]:
    """Find the source of every argument leaf of every call.

    Args:
        traces: all traces of an import together: the more there are, the better chance equalities
            are told from flows of data.

    Returns:
        For each trace, for each call in flattened order: argument pointer -> source. The value at
        an ``output`` source equals the argument (``values.py``), and its call belongs to an
        earlier step.
    """
    evidence = gather(traces)
    hints: dict[tuple[int, Slot], ParameterHints] = {}
    return [
        _Assignment(trace, evidence, evidence.sightings[number], hints).run()
        for number, trace in enumerate(traces)
    ]


@dataclass(slots=True)
class _Known:
    """The first use of a value as an argument."""

    step: int
    ref: ValueRef


class _Assignment:
    """The decisions for one trace."""

    def __init__(
        self,
        trace: Trace,
        evidence: Evidence,
        seen: Mapping[Key, list[Sighting]],
        hints: dict[tuple[int, Slot], ParameterHints],
    ) -> None:
        self._trace = trace
        self._evidence = evidence
        self._seen = seen
        self._hints_of = hints
        self._query = plain(trace.query)
        self._known: dict[Key, _Known] = {}

    def run(self) -> list[dict[str, ValueRef]]:
        """Decide call by call, in order."""
        out: list[dict[str, ValueRef]] = []
        for step, call in self._trace.numbered():
            refs = {
                pointer: self._source((call.name, general(pointer)), step, value)
                for pointer, value in argument_leaves(call.arguments)
            }
            for pointer, value in argument_leaves(call.arguments):
                self._known.setdefault(key_of(value), _Known(step, refs[pointer]))
            out.append(refs)
        return out

    def _source(self, slot: Slot, step: int, value: Json) -> ValueRef:
        if is_void(value):
            return CONSTANT
        hints = self._hints(slot)
        found = self._simple(slot, step, value, hints)
        if found is not None:
            return found
        composite = self._composite(slot, step, value, hints)
        if composite is not None:
            return composite
        if hints.is_default(value) or is_trivial(value, slot[1]):
            return CONSTANT
        return REASONED

    def _simple(self, slot: Slot, step: int, value: Json, hints: ParameterHints) -> ValueRef | None:
        """One source: query, output or an earlier use; ``None`` if none of them explains it."""
        known = self._known.get(key_of(value))
        if known is not None and known.step < step and bits(value) >= _MEMORABLE_BITS:
            return known.ref
        best = self._best_output(slot, step, value, hints)
        literal = stands_in(value, self._query)
        if literal and not (best is not None and self._documented(slot, best, hints)):
            return QUERY
        return None if best is None else ValueRef(Provenance.OUTPUT, best.call, best.path)

    def _best_output(
        self, slot: Slot, step: int, value: Json, hints: ParameterHints
    ) -> Sighting | None:
        """The most believable earlier output that holds the value, ``None`` if there is none."""
        known = self._known.get(key_of(value))
        usable = [
            s
            for s in self._seen.get(key_of(value), ())
            if s.step < step
            and (known is None or s.step < known.step or known.ref.kind is Provenance.OUTPUT)
            and self._believable(slot, s, value, hints)
        ]
        if not usable:
            return None
        return max(
            usable,
            key=lambda s: (
                s.tool in hints.tools,
                agreement(slot[1], s.path) + (_last(s.pattern) in hints.keys),
                self._evidence.link(slot, s).hits,
                -s.path.count("/"),
                -s.call,
            ),
        )

    def _believable(self, slot: Slot, s: Sighting, value: Json, hints: ParameterHints) -> bool:
        """Whether an equality is a flow of data rather than chance."""
        if self._documented(slot, s, hints):
            return True
        if hints.names_value(value):
            return False  # the schema says what to write there
        if is_strong(value):
            return True
        link = self._evidence.link(slot, s)
        if len(link.values) < _FEWEST_VALUES or link.lift < _LEAST_LIFT:
            return False
        named, ratio = agreement(slot[1], s.path), self._evidence.ratio(slot, s)
        if is_temporal(value):
            # Calendars hold every date near the wanted one: only the very same name speaks.
            return _last(slot[1]) == _last(s.pattern) and ratio >= _USUALLY
        if named >= 1 and bits(value) >= _MEMORABLE_BITS:
            return True
        return ratio >= (_SOMETIMES if named >= 2 else _USUALLY)

    def _documented(self, slot: Slot, s: Sighting, hints: ParameterHints) -> bool:
        """Whether the parameter's description points to this tool and this key."""
        return s.tool in hints.tools and (
            agreement(slot[1], s.path) >= 2 or _last(s.pattern) in hints.keys
        )

    def _composite(
        self, slot: Slot, step: int, value: Json, hints: ParameterHints
    ) -> ValueRef | None:
        pieces = pieces_of(value)
        if len(pieces) < 2:
            return None
        parts = [self._simple(slot, step, piece, hints) for piece in pieces]
        kinds = {part.kind for part in parts if part is not None}
        if None not in parts and kinds == {Provenance.QUERY}:
            return QUERY
        if None in parts or Provenance.OUTPUT not in kinds:
            return None
        if kinds - {Provenance.OUTPUT, Provenance.QUERY}:
            return None
        return ValueRef(Provenance.COMPOSITE, parts=tuple(p for p in parts if p is not None))

    def _hints(self, slot: Slot) -> ParameterHints:
        specs: Mapping[str, ToolSpec] = self._trace.specs
        at = id(specs.get(slot[0])), slot
        hints = self._hints_of.get(at)
        if hints is None:
            hints = self._hints_of[at] = ParameterHints(specs.get(slot[0]), slot[1], specs)
        return hints


def _last(pattern: str) -> str:
    named = [token for token in pattern.split("/") if token != "*"]
    return named[-1] if named else ""
