"""Learning-rate schedules: a factor for each optimizer step, from its number alone.

The hard decision: a schedule holds no state, so a run that resumes needs nothing but its number
of updates to go on where it was.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from orch_env.types import OrchError

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "linear", "cosine")


def lr_factor(schedule: Schedule, update: int, warmup: int, total: int | None) -> float:
    """What the learning rate is multiplied by, in [0, 1].

    Linear from 1/warmup to 1 over the warm-up; then 1, or from 1 down to 0 at ``total``, along a
    line or along half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without
    restarts).

    Args:
        schedule: what follows the warm-up.
        update: number of the optimizer step, from 0.
        warmup: optimizer steps of the warm-up.
        total: optimizer steps of the run; not read by ``constant``.
    """
    if update < warmup:
        return (update + 1) / warmup
    if schedule == "constant":
        return 1.0
    end = total or 0
    left = max(end - update, 0) / (end - warmup)
    return left if schedule == "linear" else (1.0 - math.cos(math.pi * left)) / 2


def check_schedule(schedule: str, warmup: int, total: int | None) -> None:
    """Refuse what cannot be followed.

    Raises:
        OrchError: an unknown schedule, a negative warm-up, or one that leaves no room to fall.
    """
    if schedule not in SCHEDULES:
        raise OrchError(f"lr_schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if warmup < 0:
        raise OrchError(f"warmup_updates must be at least 0, got {warmup}")
    if schedule != "constant" and (total or 0) <= warmup:
        raise OrchError(f"lr_schedule {schedule!r} needs total_updates above warmup_updates")
