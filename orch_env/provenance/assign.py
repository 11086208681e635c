"""Decides where the value of every gold argument leaf comes from.

The first of these rules that fits a leaf decides:

1. the value is void, or its argument is as good as left out: ``constant``;
2. it is informative and an earlier call used it: the source that it had there, because a response
   cannot be the origin of what was sent before it;
3. it occurs in what the user had said by then: ``query``;
4. an earlier output holds it and the equality is no chance: ``output``;
5. it is a comma-joined text whose pieces have such sources: ``composite``;
6. it is a default or a code: ``constant``;
7. otherwise: ``reasoned``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orch_env.provenance.evidence import (
    Evidence,
    Occurrence,
    Slot,
    argument_leaves,
    gather_evidence,
    pieces_of,
)
from orch_env.provenance.information import (
    Key,
    bits,
    folded,
    is_distinctive,
    is_temporal,
    is_trivial,
    is_void,
    key_of,
    occurs_in,
)
from orch_env.provenance.names import ParameterHints, name_match, with_wildcards
from orch_env.provenance.trace import Trace
from orch_env.types import Provenance, ToolSpec, ValueRef
from orch_env.types.json import Json
from orch_env.values import stated
from orch_env.values.canonical import normal

_MEMORABLE_BITS = 12.0
"""A value at least this informative means the same wherever it is used again."""
_FEWEST_VALUES = 3
"""A link needs this many distinct values before an uninformative value is believed to use it."""
_LEAST_LIFT = 4.0
"""... and this many bits of surprise on average: 16 times as often as in other traces."""
_SOMETIMES, _USUALLY = 0.3, 0.6
"""Share of an argument's uses after a call of the producer in which the link must hold."""

CONSTANT, QUERY, REASONED = (
    ValueRef(Provenance.CONSTANT),
    ValueRef(Provenance.QUERY),
    ValueRef(Provenance.REASONED),
)


def find_provenance(traces: Sequence[Trace]) -> list[list[dict[str, ValueRef]]]:
    """Find the source of every argument leaf of every call.

    Args:
        traces: all traces of an import together; more traces separate flows of data better from
            values that are equal by chance.

    Returns:
        For each trace, for each call in flattened order: argument pointer -> source. The value at
        an ``output`` source equals the argument (:func:`~orch_env.values.values_equal`), and its
        call belongs to an earlier step.
    """
    evidence = gather_evidence(traces)
    hints: dict[tuple[int, Slot], ParameterHints] = {}
    return [
        _Assignment(trace, evidence, evidence.occurrences[number], hints).run()
        for number, trace in enumerate(traces)
    ]


@dataclass(slots=True)
class _FirstUse:
    """The first use of a value as an argument."""

    step: int
    ref: ValueRef


class _Assignment:
    """The decisions for one trace."""

    def __init__(
        self,
        trace: Trace,
        evidence: Evidence,
        seen: Mapping[Key, list[Occurrence]],
        hints: dict[tuple[int, Slot], ParameterHints],
    ) -> None:
        self._trace = trace
        self._evidence = evidence
        self._seen = seen
        self._hints_of = hints
        self._said = [folded(trace.said_before(step)) for step in range(len(trace.steps))]
        self._first_uses: dict[Key, _FirstUse] = {}

    def run(self) -> list[dict[str, ValueRef]]:
        """Find the sources of each call's arguments, call by call."""
        out: list[dict[str, ValueRef]] = []
        for step, call in self._trace.numbered():
            spec = self._trace.specs.get(call.name)
            given = stated(call.arguments, spec.parameters if spec is not None else None)
            needed = {pointer for pointer, _ in argument_leaves(given)}
            refs = {
                pointer: self._source((call.name, with_wildcards(pointer)), step, value)
                if normal(pointer) in needed
                else CONSTANT
                for pointer, value in argument_leaves(call.arguments)
            }
            for pointer, value in argument_leaves(call.arguments):
                self._first_uses.setdefault(key_of(value), _FirstUse(step, refs[pointer]))
            out.append(refs)
        return out

    def _source(self, slot: Slot, step: int, value: Json) -> ValueRef:
        if is_void(value):
            return CONSTANT
        hints = self._hints(slot)
        found = self._single_source(slot, step, value, hints)
        if found is not None:
            return found
        composite = self._composite(slot, step, value, hints)
        if composite is not None:
            return composite
        if hints.is_default(value) or is_trivial(value, slot[1]):
            return CONSTANT
        return REASONED

    def _single_source(
        self, slot: Slot, step: int, value: Json, hints: ParameterHints
    ) -> ValueRef | None:
        """The source if it is an earlier use, the query or one output, else ``None``."""
        earlier = self._first_uses.get(key_of(value))
        if earlier is not None and earlier.step < step and bits(value) >= _MEMORABLE_BITS:
            return earlier.ref
        best = self._best_output(slot, step, value, hints)
        literal = occurs_in(value, self._said[step])
        if literal and not (best is not None and self._documented(slot, best, hints)):
            return QUERY
        return None if best is None else ValueRef(Provenance.OUTPUT, best.call, best.path)

    def _best_output(
        self, slot: Slot, step: int, value: Json, hints: ParameterHints
    ) -> Occurrence | None:
        """The most believable earlier output that holds the value, ``None`` if there is none."""
        first = self._first_uses.get(key_of(value))
        usable = [
            s
            for s in self._seen.get(key_of(value), ())
            if s.step < step
            and (first is None or s.step < first.step or first.ref.kind is Provenance.OUTPUT)
            and self._believable(slot, s, value, hints)
        ]
        if not usable:
            return None
        return max(
            usable,
            key=lambda s: (
                s.tool in hints.tools,
                name_match(slot[1], s.path) + (_last(s.pattern) in hints.keys),
                self._evidence.link(slot, s).hits,
                -s.path.count("/"),
                -s.call,
            ),
        )

    def _believable(self, slot: Slot, s: Occurrence, value: Json, hints: ParameterHints) -> bool:
        """Whether an equality is a flow of data rather than chance."""
        if self._documented(slot, s, hints):
            return True
        if hints.names_value(value):
            return False  # the schema says what to write there
        if is_distinctive(value):
            return True
        link = self._evidence.link(slot, s)
        if len(link.values) < _FEWEST_VALUES or link.lift < _LEAST_LIFT:
            return False
        named, ratio = name_match(slot[1], s.path), self._evidence.ratio(slot, s)
        if is_temporal(value):
            # Calendars hold every date near the wanted one: only the same name is evidence.
            return _last(slot[1]) == _last(s.pattern) and ratio >= _USUALLY
        if named >= 1 and bits(value) >= _MEMORABLE_BITS:
            return True
        return ratio >= (_SOMETIMES if named >= 2 else _USUALLY)

    def _documented(self, slot: Slot, s: Occurrence, hints: ParameterHints) -> bool:
        """Whether the parameter's description names this tool and this key."""
        return s.tool in hints.tools and (
            name_match(slot[1], s.path) >= 2 or _last(s.pattern) in hints.keys
        )

    def _composite(
        self, slot: Slot, step: int, value: Json, hints: ParameterHints
    ) -> ValueRef | None:
        pieces = pieces_of(value)
        if len(pieces) < 2:
            return None
        parts = [self._single_source(slot, step, piece, hints) for piece in pieces]
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
