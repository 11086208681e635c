"""Weights that change with the training step, and rewards that have such weights.

A weight may be written as RLlib writes a schedule: ``[[step, value], [step, value], ...]``,
linear between the points and constant before the first and after the last.

Schedules are resolved in the reward's *configuration*, before it is built. No reward knows of
steps: one with schedules is built again from plain numbers when the step changes. The configuration
is checked at every point of every schedule when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.rewards.compose.user_function import is_function_path
from orch_env.rewards.options import is_finite_number
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, RewardBreakdown, Task

_EXAMPLE = "[[0, 1.0], [100, 0.5]]"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A value by training step: piecewise linear, constant outside.

    Attributes:
        points: ``(step, value)`` pairs, at least one, steps strictly increasing from 0 or later.

    Example:
        >>> Schedule.from_value([[0, 1.0], [100, 0.5]]).at(50)
        0.75
    """

    points: tuple[tuple[int, float], ...]

    @classmethod
    def from_value(cls, value: Any, where: str = "weight") -> Schedule:
        """Read a number (the same at every step) or ``[[step, value], ...]``.

        Args:
            value: what a configuration holds.
            where: what to call it in an error.

        Raises:
            OrchError: it is neither, a number is not finite, or the steps do not increase.
        """
        if is_finite_number(value):
            return cls(((0, float(value)),))
        if not isinstance(value, list | tuple) or not value:
            raise OrchError(
                f"{where} must be a finite number or a schedule like {_EXAMPLE}, got {value!r}"
            )
        points: list[tuple[int, float]] = []
        for point in value:
            if not isinstance(point, list | tuple) or len(point) != 2:
                raise OrchError(f"{where}: a schedule looks like {_EXAMPLE}, got {value!r}")
            step, number = point
            if isinstance(step, bool) or not isinstance(step, int) or step < 0:
                raise OrchError(f"{where}: a step must be an integer of at least 0, got {step!r}")
            if points and step <= points[-1][0]:
                raise OrchError(f"{where}: steps must increase, got {step} after {points[-1][0]}")
            if not is_finite_number(number):
                raise OrchError(f"{where}: a value must be a finite number, got {number!r}")
            points.append((step, float(number)))
        return cls(tuple(points))

    def at(self, step: int) -> float:
        """The value at a training step, from 0."""
        before, value = self.points[0]
        if step <= before:
            return value
        for after, reached in self.points[1:]:
            if step < after:
                return value + (reached - value) * (step - before) / (after - before)
            before, value = after, reached
        return value


class ScheduledReward:
    """A reward whose weights follow the training step.

    It scores with the weights of one step, that which it was made for; :meth:`at_step` gives the
    reward of another one.

    Args:
        spec: the reward's configuration, schedules included.
        build: makes a reward from a configuration of plain numbers.
        step: training step whose weights count, from 0.

    Raises:
        OrchError: the configuration is wrong at some step.
    """

    def __init__(
        self, spec: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Reward], step: int = 0
    ) -> None:
        # What a reward asks of its weights (a sign, a sum) holds between two points if it holds
        # at both, since weights are linear there.
        for point in breakpoints(spec):
            build(spec_at(spec, point))
        self._spec, self._build = spec, build
        self._step = check_step(step)
        self._reward = build(spec_at(spec, step))

    @property
    def name(self) -> str:
        """The name of the reward whose weights these are."""
        return self._reward.name

    @property
    def step(self) -> int:
        """The training step whose weights count."""
        return self._step

    def at_step(self, step: int) -> Reward:
        """The same reward with the weights of a training step; it follows no schedule itself.

        Raises:
            OrchError: the step is no integer of at least 0.
        """
        if check_step(step) == self._step:
            return self._reward
        return self._build(spec_at(self._spec, step))

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score with the weights of :attr:`step`."""
        return self._reward(task, episode)


def check_step(step: Any) -> int:
    """The training step, if it is one.

    Raises:
        OrchError: it is no integer of at least 0.
    """
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise OrchError(f"a training step must be an integer of at least 0, got {step!r}")
    return step


def spec_at(spec: Mapping[str, Any], step: int) -> dict[str, Any]:
    """A reward's configuration with every schedule replaced by its value at a step.

    A schedule may replace a part of ``weights``, an option that ends in ``_weight``, a weight
    among a mix's ``components``, and the same inside a mix's ``options``. Options of a function of
    the user's (``module:function``) stay as they are.

    Raises:
        OrchError: something that looks like a schedule is none.
    """
    resolved: dict[str, Any] = dict(spec)
    for path, schedule in _schedules(spec):
        inner = resolved
        for key in path[:-1]:
            inner[key] = dict(inner[key])
            inner = inner[key]
        inner[path[-1]] = schedule.at(step)
    return resolved


def breakpoints(spec: Mapping[str, Any]) -> tuple[int, ...]:
    """The steps at which some schedule of a configuration bends; empty if it holds none.

    Raises:
        OrchError: something that looks like a schedule is none.
    """
    steps = {step for _, schedule in _schedules(spec) for step, _ in schedule.points}
    return tuple(sorted(steps))


def scheduled_weights(spec: object, step: int) -> dict[str, float]:
    """The weights that follow a schedule, by their dotted place, at a training step.

    Args:
        spec: a reward's configuration; anything else has no schedules.
        step: training step, from 0.
    """
    if not isinstance(spec, Mapping):
        return {}
    return {".".join(path): schedule.at(step) for path, schedule in _schedules(spec)}


def _schedules(
    spec: Mapping[str, Any], inside: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Schedule]]:
    """Every schedule of a configuration with the path to it."""
    if is_function_path(inside[-1] if inside else spec.get("name")):
        return
    for key, value in spec.items():
        path = (*inside, str(key))
        if key in ("weights", "components") and isinstance(value, Mapping):
            for part, weight in value.items():
                if isinstance(weight, list | tuple):
                    where = f"{'.'.join(path)}.{part}"
                    yield (*path, str(part)), Schedule.from_value(weight, where)
        elif str(key).endswith("_weight") and isinstance(value, list | tuple):
            yield path, Schedule.from_value(value, ".".join(path))
        elif key == "options" and not inside and isinstance(value, Mapping):
            for part, options in value.items():
                if isinstance(options, Mapping):
                    yield from _schedules(options, (*path, str(part)))
