"""Rewards of the user's own: ``module:function``, a function (task, episode) -> number.

Whatever such a function raises, and any result that is no finite number, becomes an ``OrchError``
that names the function: a training run stops there instead of learning from a made-up 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orch_env.rewards.compose.user_function import load_function
from orch_env.rewards.credit.attribution import attribute_by_prefix
from orch_env.types import Episode, OrchError, RewardBreakdown, Task
from orch_env.types.text import shortened
from orch_env.types.user_code import defined_at, number_in, told

LARGEST = 1e12
"""Numbers beyond this, of either sign, are refused: sums of them could overflow."""


@dataclass(frozen=True, slots=True)
class ExternalReward:
    """A function of the user's as a reward.

    The function gets the task and the episode, and the options as keyword arguments. It returns
    a finite number, or a :class:`RewardBreakdown`. It should be pure: the same episode is
    scored at every step where rewards are dense, and again when it is stored and audited.

    Attributes:
        path: ``module:function``, which is also its name.
        function: the function itself.
        options: keyword arguments.
        attribute: split the total over the turns by scoring every prefix of the episode, see
            :func:`~orch_env.rewards.credit.attribution.attribute_by_prefix`.
    """

    path: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    attribute: bool = False

    @classmethod
    def load(
        cls, path: str, options: Mapping[str, Any] | None = None, *, attribute: bool = False
    ) -> ExternalReward:
        """Import the function.

        Args:
            path: ``module:function``; the module is looked for on Python's path.
            options: keyword arguments for every call.
            attribute: see the class.

        Raises:
            OrchError: the path is malformed, the module or the function is not there, the module
                fails on import, or the function does not take (task, episode, **options).
        """
        options = dict(options or {})
        function = load_function(path, options, takes=("task", "episode"))
        return cls(path, function, options, attribute)

    @property
    def name(self) -> str:
        """``module:function``."""
        return self.path

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score an episode.

        Raises:
            OrchError: the function raised, or returned no finite number.
        """
        breakdown = self.score(task, episode)
        if self.attribute and breakdown.turns is None:
            return attribute_by_prefix(self.score, task, episode, breakdown)
        return breakdown

    def score(self, task: Task, episode: Episode) -> RewardBreakdown:
        """The function's result, not split over turns unless it did that itself."""
        try:
            value = self.function(task, episode, **self.options)
        except (Exception, SystemExit) as problem:  # a user's function may fail in any way
            raise OrchError(
                f"reward {self.path!r} failed on an episode of task {task.id!r} "
                f"({told(problem)}); it must score whatever a model does"
            ) from problem
        if isinstance(value, RewardBreakdown):
            return self._checked(value, task, episode)
        return RewardBreakdown(self._number(value, "", task))

    def _checked(self, value: RewardBreakdown, task: Task, episode: Episode) -> RewardBreakdown:
        total = self._number(value.total, " as its total", task)
        parts = {
            str(key): self._number(part, f" as its component {key!r}", task)
            for key, part in value.components.items()
        }
        if value.turns is not None:
            shares = [self._number(share, " as a turn's share", task) for share in value.turns]
            shared = self._number(value.base, " as its base", task) + math.fsum(shares)
            if len(shares) != len(episode.turns) or not math.isclose(
                shared, total, rel_tol=1e-6, abs_tol=1e-6
            ):
                raise OrchError(
                    f"reward {self.path!r}, task {task.id!r}: base and {len(shares)} shares sum "
                    f"to {shared:g}; they must sum to the total {total:g}, one share for each of "
                    f"{len(episode.turns)} turns"
                )
        return RewardBreakdown(total, parts, value.calls, value.turns, value.base)

    def _number(self, value: Any, what: str, task: Task) -> float:
        number = number_in(value)
        if not abs(number) <= LARGEST:
            raise OrchError(
                f"reward {self.path!r} returned {shortened(repr(value), 80)}{what} for an episode "
                f"of task {task.id!r}; it must return a finite number (or a RewardBreakdown) "
                f"within {LARGEST:g}{defined_at(self.function)}"
            )
        return number
