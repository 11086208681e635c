"""The rewards by name, and how a configuration becomes one.

The hard decision: a reward is built from plain data (a name, or a name with options), so that an
environment's keyword arguments stay serialisable.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.rewards.binary import BinaryReward
from orch_env.rewards.graduated import GraduatedReward
from orch_env.rewards.paper import PaperReward
from orch_env.rewards.protocol import Reward
from orch_env.rewards.prove import ProveReward
from orch_env.rewards.tier import TierReward
from orch_env.rewards.weights import Weights
from orch_env.types import OrchError


@dataclass(frozen=True, slots=True)
class Preset:
    """A named reward.

    Attributes:
        build: makes it from checked options.
        options: the option names it takes.
    """

    build: Callable[[Mapping[str, Any]], Reward]
    options: tuple[str, ...] = ()


def _graduated(options: Mapping[str, Any]) -> Reward:
    weights = options.get("weights")
    return GraduatedReward(
        weights=Weights() if weights is None else Weights.from_dict(weights, at_most_one=True),
        answer=_share(options, "answer_weight"),
        state=_share(options, "state_weight"),
    )


def _paper(options: Mapping[str, Any]) -> Reward:
    weights = options.get("weights")
    return PaperReward(weights=Weights() if weights is None else Weights.from_dict(weights))


def _binary(options: Mapping[str, Any]) -> Reward:
    return BinaryReward()


PRESETS: dict[str, Preset] = {
    "graduated": Preset(_graduated, ("weights", "answer_weight", "state_weight")),
    "paper": Preset(_paper, ("weights",)),
    "prove": Preset(ProveReward.from_options, ("weights", "alpha", "beta")),
    "tier": Preset(TierReward.from_options, ("weights",)),
    "binary": Preset(_binary),
}


def make_reward(spec: str | Mapping[str, Any]) -> Reward:
    """Build a reward.

    Args:
        spec: a preset's name, or ``{"name": ..., option: value}``, such as
            ``{"name": "graduated", "weights": {"atomic": 0.3, "orchestration": 0.7}}``.

    Raises:
        OrchError: an unknown name or option (the nearest one is named), or a bad value.

    Example:
        >>> make_reward("graduated").name
        'graduated'
    """
    if isinstance(spec, str):
        name, options = spec, {}
    elif isinstance(spec, Mapping) and isinstance(spec.get("name"), str):
        name = spec["name"]
        options = {str(key): value for key, value in spec.items() if key != "name"}
    else:
        raise OrchError(
            f"a reward is a name or an object with a 'name', got {spec!r}; "
            f"the names are {', '.join(PRESETS)}"
        )
    if name not in PRESETS:
        raise OrchError(
            f"there is no reward {name!r}{_nearest(name, PRESETS)}; "
            f"the names are {', '.join(PRESETS)}"
        )
    preset = PRESETS[name]
    for option in options:
        if option not in preset.options:
            raise OrchError(
                f"reward {name!r} has no option {option!r}{_nearest(option, preset.options)}; "
                f"it takes {', '.join(preset.options) or 'none'}"
            )
    return preset.build(options)


def _nearest(word: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _share(options: Mapping[str, Any], name: str) -> float:
    value = options.get(name, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise OrchError(f"option {name!r} must be a number of at least 0, got {value!r}")
    return float(value)
