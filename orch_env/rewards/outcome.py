"""What the task asked for beyond calls: the closing answer, and the state it left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from orch_env.types import Episode, Task
from orch_env.types.json import Json
from orch_env.values import values_equal


@dataclass(frozen=True, slots=True)
class StateOutcome:
    """What reading the servers' state at the end of an episode said.

    Attributes:
        equal: the state is gold's.
        collateral: something outside of what gold touches was changed.
    """

    equal: bool
    collateral: bool = False


StateReader: TypeAlias = Callable[[Task, Episode], StateOutcome | None]
"""Reads the final state of an episode; ``None`` where it cannot (a replayed cache has none).

The seam for stateful servers: a reward that is given no reader leaves the state term out.
"""


def answers_equal(gold: Json, final: str | None) -> bool:
    """Whether the closing answer is gold's, by ``values.py``.

    The answer counts as text and as the JSON value that it spells, so ``42``, ``"42"`` and
    ``42.0`` all answer a gold of 42.
    """
    if final is None:
        return False
    text = final.strip()
    if values_equal(gold, text):
        return True
    try:
        return values_equal(gold, json.loads(text))
    except (ValueError, RecursionError):
        return False
