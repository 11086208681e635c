"""What the task asked for beyond calls: the closing answer, and the state it left behind."""

from __future__ import annotations

import json
from dataclasses import dataclass

from orch_env.types import Episode, Task
from orch_env.types.json import Json
from orch_env.values import values_equal


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """How a closing answer is held against gold's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an episode achieved beyond its calls.

    Attributes:
        state: 1.0 if everything that gold changes has gold's value in the end, else 0.0; ``None``
            where the task gives no final state, gold changes nothing, or the tools hold no state.
        answer: 0..1, how right the closing answer is; ``None`` where the task gives none.
        collateral: something that gold leaves alone was changed.
    """

    state: float | None = None
    answer: float | None = None
    collateral: bool = False


def read_outcome(task: Task, episode: Episode, rule: AnswerRule) -> Outcome:
    """Compare an episode's state and answer with the task's."""
    answer = None if task.answer is None else float(answers_equal(task.answer, episode.final))
    if task.final_state is None or episode.state is None:
        return Outcome(None, answer)
    equal = values_equal(task.final_state, episode.state)
    return Outcome(float(equal) if task.final_state else None, answer, False)


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
