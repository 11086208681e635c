"""``mix``: a weighted sum of other rewards and of their components, from plain configuration.

A component's key says where its value comes from::

    PRESET              the preset's total                            "binary"
    PRESET.COMPONENT    one entry of its ``components``               "graduated.atomic"
    module:function     a reward of the user's own                    "mypkg.rewards:politeness"

``total = sum over keys of weight * value``, rounded to a multiple of 2^-40. Weights may be
negative, and need not sum to 1. Values are neither clipped nor rescaled, so the total is the sum
that the configuration shows. A value that does not apply to a task (``graduated.answer`` where the
task asks for no answer) counts as 0 and is left out of the breakdown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orch_env.rewards.compose.external import ExternalReward
from orch_env.rewards.compose.user_function import is_function_path
from orch_env.rewards.credit.attribution import attribute_by_prefix, on_grid
from orch_env.rewards.presets.catalogue import PRESETS, build_preset
from orch_env.rewards.protocol import Reward
from orch_env.types import CallAccount, Episode, OrchError, RewardBreakdown, Task
from orch_env.types.text import did_you_mean

EXAMPLE: dict[str, Any] = {
    "name": "mix",
    "components": {"graduated.atomic": 0.5, "graduated.orchestration": 0.3, "binary": 0.2},
}
LARGEST_WEIGHT = 1e6
"""Of either sign. Far more than is of use, and far from where sums overflow."""


@dataclass(frozen=True, slots=True)
class Part:
    """One summand of a mix.

    Attributes:
        key: as the configuration writes it, and as the breakdown reports it.
        weight: of either sign.
        source: name of the reward that gives the value: a preset, or ``module:function``.
        component: entry of that reward's ``components``; ``None`` for its total.
        low: least value.
        high: greatest value; both are infinite where nothing is known.
    """

    key: str
    weight: float
    source: str
    component: str | None = None
    low: float = -math.inf
    high: float = math.inf

    def value_in(self, breakdown: RewardBreakdown) -> float | None:
        """The value, ``None`` where the component does not apply to the task."""
        if self.component is None:
            return breakdown.total
        return breakdown.components.get(self.component)


@dataclass(frozen=True, slots=True)
class MixReward:
    """A weighted sum; build it with ``make_reward({"name": "mix", "components": {...}})``.

    Its ``components`` are the raw values under their keys. Its call accounts are those of the
    first reward that has any, without credit: they explain, they do not add up to this total.

    Attributes:
        parts: the summands, in the order of the configuration, at least one.
        rewards: source name -> reward; each scores an episode once.
        attribute: split the total over the turns by scoring every prefix of the episode: T + 1
            scorings for T turns instead of one.
    """

    parts: tuple[Part, ...]
    rewards: Mapping[str, Reward]
    attribute: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> MixReward:
        """Read ``{"components": {key: weight}, "options": {source: {...}}, "attribute": bool}``.

        Raises:
            OrchError: an unknown key or option, a weight that is no number, a part that
                cannot be built.
        """
        components, given = options.get("components"), options.get("options", {})
        attribute = options.get("attribute", False)
        if not isinstance(components, Mapping) or not components:
            raise OrchError(f"a mix needs 'components', as in {EXAMPLE}; got {components!r}")
        if not isinstance(given, Mapping):
            raise OrchError(f"a mix's 'options' must be an object by reward name, got {given!r}")
        if not isinstance(attribute, bool):
            raise OrchError(f"a mix's 'attribute' must be true or false, got {attribute!r}")
        parts = tuple(_part(str(key), weight, given) for key, weight in components.items())
        sources = dict.fromkeys(part.source for part in parts)
        for name in given:
            if name not in sources:
                raise OrchError(
                    f"the mix has options for {name!r}, which is none of its rewards "
                    f"({', '.join(sources)})"
                )
        return cls(parts, {s: _build(s, given.get(s, {})) for s in sources}, attribute)

    @property
    def name(self) -> str:
        """Always ``mix``."""
        return "mix"

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest total, from the ranges of the components; infinite where unknown."""
        counted = [part for part in self.parts if part.weight]
        ends = [sorted((p.weight * p.low, p.weight * p.high)) for p in counted]
        return sum(low for low, _ in ends), sum(high for _, high in ends)

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode."""
        breakdown = self.score(task, episode)
        if self.attribute:
            return attribute_by_prefix(self.score, task, episode, breakdown)
        return breakdown

    def score(self, task: Task, episode: Episode) -> RewardBreakdown:
        """The score, not split over turns."""
        scored = {source: reward(task, episode) for source, reward in self.rewards.items()}
        values: dict[str, float] = {}
        terms: list[float] = []
        for part in self.parts:
            value = part.value_in(scored[part.source])
            if value is not None:
                values[part.key] = value
                terms.append(part.weight * value)
        return RewardBreakdown(on_grid(math.fsum(terms)), values, _accounts(list(scored.values())))


def _part(key: str, weight: Any, options: Mapping[str, Any]) -> Part:
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise OrchError(
            f"mix: the weight of {key!r} must be a number or a schedule "
            f"[[step, value], ...], got {weight!r}"
        )
    if not abs(weight) <= LARGEST_WEIGHT:
        raise OrchError(
            f"mix: the weight of {key!r} must lie within {LARGEST_WEIGHT:g}, got {weight!r}"
        )
    number = float(weight)
    if is_function_path(key):
        return Part(key, number, key)
    source, dot, component = key.partition(".")
    if source not in PRESETS:
        raise OrchError(
            f"mix: {key!r} names no reward{did_you_mean(source, PRESETS)}; a key is a preset "
            f"({', '.join(PRESETS)}), PRESET.COMPONENT or module:function"
        )
    preset = PRESETS[source]
    if not dot:
        low, high = preset.range if source not in options else (-math.inf, math.inf)
        return Part(key, number, source, None, low, high)
    known = {c.name: c for c in preset.components}
    if component not in known:
        raise OrchError(
            f"mix: reward {source!r} has no component {component!r}"
            f"{did_you_mean(component, known)}; it has {', '.join(known)}"
        )
    return Part(key, number, source, component, known[component].low, known[component].high)


def _build(source: str, options: Any) -> Reward:
    if not isinstance(options, Mapping):
        raise OrchError(f"mix: the options of {source!r} must be an object, got {options!r}")
    if is_function_path(source):
        return ExternalReward.load(source, options)
    return build_preset(source, options)


def _accounts(scored: Sequence[RewardBreakdown]) -> tuple[CallAccount, ...]:
    calls = next((breakdown.calls for breakdown in scored if breakdown.calls), ())
    return tuple(replace(account, credit=0.0) for account in calls)
