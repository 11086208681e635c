"""The dependencies of a gold call, and which of them a model call respects.

A *data edge* is an argument leaf that takes its value from an earlier output: it holds when the
model call carries gold's value there and had seen it. A *state edge* is a dependency that carries
no value: it holds when a successful call equal to the producer stands earlier (calls of one
message run in order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.rewards.made_calls import MadeCall
from orch_env.rewards.visibility import Visibility
from orch_env.types import GoldCall
from orch_env.types.json import Json, JsonObject, resolve
from orch_env.values import values_equal


@dataclass(frozen=True, slots=True)
class GoldEdges:
    """The dependencies of one gold call.

    Attributes:
        data: pointers of the leaves that take their value from an earlier output.
        state: numbers of gold calls that must have run before, without a value carried.
    """

    data: tuple[str, ...]
    state: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.data) + len(self.state)


def edges_of(call: GoldCall) -> GoldEdges:
    """Read a gold call's dependencies out of its provenance and ``depends_on``."""
    return GoldEdges(
        data=tuple(pointer for pointer, ref in call.provenance.items() if ref.producers()),
        state=call.state_dependencies(),
    )


def satisfied_edges(
    call: MadeCall,
    gold: GoldCall,
    edges: GoldEdges,
    keys: Sequence[str],
    made: Sequence[MadeCall],
    visibility: Visibility,
) -> tuple[tuple[str, ...], float]:
    """Which dependencies of ``gold`` the model call breaks, and the share it respects.

    Args:
        call: the model call.
        gold: the gold call it is held against.
        edges: that gold call's dependencies.
        keys: canonical identities of all gold calls, by number.
        made: all model calls in order.
        visibility: what the model had seen when.

    Returns:
        One sentence part per broken dependency, and the share of the others (1 without any).
    """
    if not len(edges):
        return (), 1.0
    broken: list[str] = []
    for pointer in edges.data:
        value = _value_at(call.arguments, pointer)
        if value is _ABSENT or not values_equal(value, _value_at(gold.arguments, pointer)):
            broken.append(f"{pointer} does not carry the value of the earlier output")
        elif not visibility.known_to(call, value):
            broken.append(f"{pointer} has a value that no earlier turn showed")
    for producer in edges.state:
        if not any(m.ok and m.key == keys[producer] for m in made[: call.position]):
            broken.append(f"gold call {producer} must have run before")
    return tuple(broken), 1.0 - len(broken) / len(edges)


_ABSENT = object()


def _value_at(arguments: JsonObject, pointer: str) -> Json:
    try:
        return resolve(arguments, pointer)
    except (KeyError, ValueError):
        return _ABSENT
