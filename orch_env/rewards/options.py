"""Numbers and weights as the configuration of a reward writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from orch_env.types import OrchError


def is_finite_number(value: Any) -> bool:
    """Whether a value is a number that a float holds; true and false are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def at_least_0(value: Any, what: str) -> float:
    """A value that must be a finite number of at least 0.

    Raises:
        OrchError: it is not; ``what`` is its name in the message.
    """
    if not is_finite_number(value) or value < 0:
        raise OrchError(f"{what} must be a finite number of at least 0, got {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True)
class PartWeights:
    """How much each part of a reward counts, at least 0: one field per part, its usual weight."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Read the option ``weights``; the usual weights where it is not set.

        Raises:
            OrchError: as :meth:`from_dict`.
        """
        data = options.get("weights")
        return cls() if data is None else cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read ``{part: weight}``; a part left out weighs 0.

        Raises:
            OrchError: not a mapping, an unknown part, or a weight that is no number >= 0.
        """
        usual = asdict(cls())
        if not isinstance(data, Mapping):
            raise OrchError(f"weights must be an object like {json.dumps(usual)}, got {data!r}")
        unknown = sorted(str(key) for key in set(data) - set(usual))
        if unknown:
            raise OrchError(f"unknown weight {unknown[0]!r}; weights look like {json.dumps(usual)}")
        return cls(**{p: at_least_0(data.get(p, 0.0), f"weight {p!r}") for p in usual})


@dataclass(frozen=True, slots=True)
class Weights(PartWeights):
    """How much the two halves of a call's score count.

    Attributes:
        atomic: weight of atomic validity (the call by itself).
        orchestration: weight of orchestration consistency (its place in the data flow).
    """

    atomic: float = 0.5
    orchestration: float = 0.5
