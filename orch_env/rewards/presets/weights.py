"""The weights of a reward's parts, read and checked once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError


@dataclass(frozen=True, slots=True)
class Weights:
    """How much the two halves of a call's score count; both are at least 0.

    Attributes:
        atomic: weight of atomic validity (the call by itself).
        orchestration: weight of orchestration consistency (its place in the data flow).
    """

    atomic: float = 0.5
    orchestration: float = 0.5

    @classmethod
    def from_dict(cls, data: Any, *, at_most_one: bool = False) -> Weights:
        """Read ``{"atomic": 0.5, "orchestration": 0.5}``; a part left out weighs 0.

        Args:
            data: the mapping.
            at_most_one: refuse weights whose sum is above 1 (rewards with the range 0..1).

        Raises:
            OrchError: not a mapping, an unknown part, or a weight that is no number >= 0.
        """
        weights = cls(**read_weights(data, {"atomic": 0.5, "orchestration": 0.5}))
        if at_most_one and weights.atomic + weights.orchestration > 1 + 1e-9:
            raise OrchError(
                f"weights sum to {weights.atomic + weights.orchestration:g}; "
                "this reward lies in 0..1, so they may sum to at most 1"
            )
        return weights


def read_weights(data: Any, defaults: Mapping[str, float]) -> dict[str, float]:
    """Read the weights of a reward's parts; a part left out weighs 0.

    Args:
        data: a mapping from part to weight.
        defaults: every part with its usual weight, shown as the example in errors.

    Raises:
        OrchError: not a mapping, an unknown part, or a weight that is no number >= 0.
    """
    if not isinstance(data, Mapping):
        raise OrchError(
            f"weights must be an object like {json.dumps(dict(defaults))}, got {data!r}"
        )
    unknown = sorted(str(key) for key in set(data) - set(defaults))
    if unknown:
        raise OrchError(
            f"unknown weight {unknown[0]!r}; weights look like {json.dumps(dict(defaults))}"
        )
    return {part: _weight(part, data.get(part, 0.0)) for part in defaults}


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OrchError(f"weight {name!r} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise OrchError(f"weight {name!r} must be finite and at least 0, got {value!r}")
    return float(value)
