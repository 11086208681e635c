"""Whether a call brought what gold needs, however it was spelt.

A look-up for ``"oslo"`` that returns what the one for ``"Oslo"`` returns did what was asked. What
shows it is the *result*: it holds every value that later gold calls take from the gold call's. This
is asked only of calls that change nothing. A value that the call itself sent shows nothing, but it
does not speak against a result that has every value in its place: "Oslo city" finds a "city".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from orch_env.rewards.matching.text_index import TextIndex, sent
from orch_env.rewards.presets.graduated.data_flow import GoldEdges
from orch_env.types import Provenance, ToolResult, ValueRef
from orch_env.types.json import Json, JsonObject, find, parse_json
from orch_env.values import values_equal

IN_PLACE = 0.8
"""What a call is worth at least if its result shows the values where gold's result has them. With
the usual weights it then loses at most 0.15 of what gold's call earns."""
ELSEWHERE = 0.6
"""The same where the values stand in other places: a call that lists everything shows them too."""


class Taken(NamedTuple):
    """A value that a later gold call takes from a gold call's result.

    Attributes:
        value: the value, a scalar.
        path: JSON Pointer into the parsed result, ``None`` where it is not known.
    """

    value: Json
    path: str | None


def taken_values(edges: Sequence[GoldEdges]) -> tuple[tuple[Taken, ...], ...]:
    """For each gold call, by number, the values that later ones take from its result.

    Args:
        edges: the dependencies of each gold call.
    """
    found: list[dict[Taken, None]] = [{} for _ in edges]
    for its in edges:
        for pointer, value in its.data.items():
            if pointer in its.echoed:
                continue
            for producer, taken in _sources(its.sources[pointer], value):
                found[producer][taken] = None
    return tuple(map(tuple, found))


def _sources(ref: ValueRef, value: Json) -> Iterator[tuple[int, Taken]]:
    if isinstance(value, dict | list):
        return
    if ref.kind is Provenance.COMPOSITE:
        pieces = [p.strip() for p in value.split(",")] if isinstance(value, str) else []
        if len(pieces) == len(ref.parts):
            for part, piece in zip(ref.parts, pieces, strict=True):
                yield from _sources(part, piece)
    elif ref.call is not None:
        yield ref.call, Taken(value, ref.path)


def brought(taken: Sequence[Taken], arguments: JsonObject, result: ToolResult) -> float:
    """How surely a call that ran brought these values: ``IN_PLACE``, ``ELSEWHERE``, or 0.

    Args:
        taken: at least one value.
        arguments: of the model call.
        result: what it returned.
    """
    parsed = result.derived(_parsed)
    index = result.derived(TextIndex)
    found, known = IN_PLACE, 0
    for value, path in taken:
        if sent(arguments, value):
            known += 1
        if not _stands_at(parsed, path, value):
            if not index.shows(value):
                return 0.0
            found = ELSEWHERE
    return found if not known or (found == IN_PLACE and known < len(taken)) else 0.0


def _stands_at(parsed: Json, path: str | None, value: Json) -> bool:
    if path is None:
        return False
    there = find(parsed, path, [])
    if there.__class__ is value.__class__ and there == value:
        return True
    return not isinstance(there, dict | list) and values_equal(there, value)


def _parsed(text: str) -> Json:
    return parse_json(text, text)
