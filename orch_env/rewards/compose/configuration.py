"""How a configuration becomes a reward: a name, or a name with options.

A configuration is plain data and nothing else: it survives YAML, JSON and ``EnvSpec.to_json``
unchanged, and equal configurations score alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orch_env.rewards.compose.external import ExternalReward
from orch_env.rewards.compose.mix import MixReward
from orch_env.rewards.compose.schedule import ScheduledReward, breakpoints
from orch_env.rewards.compose.user_function import is_function_path
from orch_env.rewards.presets.catalogue import PRESETS, build_preset, check_options
from orch_env.rewards.protocol import Reward
from orch_env.types import OrchError
from orch_env.types.text import did_you_mean


def make_reward(spec: str | Mapping[str, Any], *, step: int = 0) -> Reward:
    """Build a reward.

    Args:
        spec: one of

            - a preset's name, or ``{"name": ..., option: value}``, such as
              ``{"name": "graduated", "weights": {"atomic": 0.3, "orchestration": 0.7}}``;
            - ``{"name": "mix", "components": {key: weight}, "options": {...}}``, see
              :mod:`orch_env.rewards.compose.mix`;
            - ``"module:function"``, or ``{"name": "module:function", option: value}``: a
              function (task, episode, **options) of the user's, see
              :mod:`orch_env.rewards.compose.external`.

            A weight may be a schedule ``[[step, value], ...]``, see
            :mod:`orch_env.rewards.compose.schedule`. The last two take ``"attribute": true``.
        step: training step whose weights count, from 0. A reward with schedules is a
            :class:`~orch_env.rewards.compose.schedule.ScheduledReward`, whose ``at_step`` gives
            another step's.

    Raises:
        OrchError: an unknown name or option (the nearest one is named), a bad value, or a
            function that cannot be imported.

    Examples:
        >>> make_reward("graduated").name
        'graduated'
        >>> make_reward({"name": "mix", "components": {"graduated": 0.8, "binary": 0.2}}).name
        'mix'
    """
    if isinstance(spec, str):
        return _build({"name": spec})
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise OrchError(
            f"a reward is a name or an object with a 'name', got {spec!r}; the names are {_NAMES}"
        )
    given = {str(key): value for key, value in spec.items()}
    if breakpoints(given):
        return ScheduledReward(given, _build, step)
    return _build(given)


def verdict_spec(spec: object) -> dict[str, Any]:
    """The configuration of the ``binary`` reward that says whether a task was done.

    A right answer is the same for reward and verdict: the verdict takes the option ``answer`` of
    a preset; in a mix, that of the first preset which has it set, ``binary`` first.

    Args:
        spec: a reward's configuration; anything else leaves the verdict as it is.
    """
    verdict: dict[str, Any] = {"name": "binary"}
    if not isinstance(spec, Mapping):
        return verdict
    given = spec.get("options") if spec.get("name") == "mix" else {str(spec.get("name")): spec}
    if isinstance(given, Mapping):
        for name in ("binary", *given):
            options = given.get(name)
            if name in PRESETS and isinstance(options, Mapping) and "answer" in options:
                return {**verdict, "answer": options["answer"]}
    return verdict


_NAMES = f"{', '.join(PRESETS)}, mix, or module:function for one of your own"


def _build(spec: Mapping[str, Any]) -> Reward:
    """A reward from a configuration without schedules."""
    name = spec["name"]
    options = {key: value for key, value in spec.items() if key != "name"}
    if is_function_path(name):
        attribute = options.pop("attribute", False)
        if not isinstance(attribute, bool):
            raise OrchError(f"reward {name!r}: 'attribute' must be true or false")
        return ExternalReward.load(name, options, attribute=attribute)
    if name == "mix":
        check_options(name, options, ("components", "options", "attribute"))
        return MixReward.from_options(options)
    if name not in PRESETS:
        hint = did_you_mean(name, [*PRESETS, "mix"])
        raise OrchError(f"there is no reward {name!r}{hint}; the names are {_NAMES}")
    return build_preset(name, options)
