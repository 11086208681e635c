"""The dependencies of a gold call, and which of them a model call respects.

A *data edge* is an argument leaf that takes its value from an earlier output: it holds when the
model call carries gold's value there and had seen it. A *state edge* is a dependency that carries
no value: it holds when a successful call equal to the producer stands earlier (calls of one
message run in order).

The hard decision: whether a leaf carries gold's value is what the comparison of the arguments
says, so that an edge and an argument never disagree; and seeing the value in gold's spelling is as
good as seeing it in the model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orch_env.rewards.matching.arguments import EQUAL, Comparison
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.presets.graduated.visibility import Visibility
from orch_env.types import GoldCall
from orch_env.types.json import Json, JsonObject, resolve
from orch_env.values import values_equal


@dataclass(frozen=True, slots=True)
class GoldEdges:
    """The dependencies of one gold call.

    Attributes:
        data: pointer of each leaf that takes its value from an earlier output -> the value.
        state: numbers of gold calls that must have run before, without a value carried.
    """

    data: Mapping[str, Json]
    state: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.data) + len(self.state)


def edges_of(call: GoldCall) -> GoldEdges:
    """Read a gold call's dependencies out of its provenance and ``depends_on``."""
    carried = [pointer for pointer, ref in call.provenance.items() if ref.producers()]
    return GoldEdges(
        data={pointer: _value_at(call.arguments, pointer) for pointer in carried},
        state=call.state_dependencies(),
    )


def satisfied_edges(
    call: MadeCall,
    edges: GoldEdges,
    comparison: Comparison,
    keys: Sequence[str],
    ran: Mapping[str, int],
    visibility: Visibility,
) -> tuple[tuple[str, ...], float]:
    """Which dependencies of a gold call the model call breaks, and the share it respects.

    Args:
        call: the model call.
        edges: the dependencies of the gold call it is held against.
        comparison: of its arguments with that gold call's.
        keys: canonical identities of all gold calls, by number.
        ran: identity of each call that ran without an error -> position of the first such call.
        visibility: what the model had seen when.

    Returns:
        One sentence part per broken dependency, and the share of the others (1 without any).
    """
    count = len(edges)
    if not count:
        return (), 1.0
    broken: list[str] = []
    for pointer, value in edges.data.items():
        if not _carries(call, pointer, value, comparison):
            broken.append(f"{pointer} does not carry the value of the earlier output")
        elif not _seen(call, pointer, value, comparison, visibility):
            broken.append(f"{pointer} has a value that no earlier turn showed")
    for producer in edges.state:
        if ran.get(keys[producer], call.position) >= call.position:
            broken.append(f"gold call {producer} must have run before")
    return tuple(broken), 1.0 - len(broken) / count


_ABSENT = object()


def _carries(call: MadeCall, pointer: str, gold: Json, comparison: Comparison) -> bool:
    status = comparison.leaves.get(pointer)
    if status is not None:
        return status == EQUAL
    # Not a leaf of its own: an object or a list that was taken over as a whole.
    made = _value_at(call.arguments, pointer)
    return made is not _ABSENT and gold is not _ABSENT and values_equal(made, gold)


def _seen(
    call: MadeCall, pointer: str, gold: Json, comparison: Comparison, visibility: Visibility
) -> bool:
    if visibility.known_to(call, gold):
        return True
    made = comparison.made.get(pointer, _ABSENT)
    if made is _ABSENT:
        made = _value_at(call.arguments, pointer)
    if made.__class__ is gold.__class__ and made == gold:
        return False
    return made is not _ABSENT and visibility.known_to(call, made)


def _value_at(arguments: JsonObject, pointer: str) -> Json:
    try:
        return resolve(arguments, pointer)
    except (KeyError, ValueError):
        return _ABSENT
