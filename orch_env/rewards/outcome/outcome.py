"""What the task asked for beyond calls: the closing answer, and the state it left behind."""

from __future__ import annotations

from dataclasses import dataclass

from orch_env.rewards.outcome.answers import AnswerRule
from orch_env.rewards.outcome.state_diff import COLLATERAL, StateChange, diff_states, records_of
from orch_env.types import Episode, Task


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an episode achieved beyond its calls.

    Attributes:
        state: 1.0 if everything that gold changes has gold's value in the end, else 0.0; ``None``
            where the task gives no final state, gold changes nothing (an unchanged state earns
            nothing), or the tools hold no state.
        answer: 0..1, how right the closing answer is; ``None`` where the task gives none.
        collateral: something that gold leaves alone was changed; also where gold changes nothing.
        changes: how the state differs from gold's; none where it does not, or is not known.
    """

    state: float | None = None
    answer: float | None = None
    collateral: bool = False
    changes: tuple[StateChange, ...] = ()


def read_outcome(task: Task, episode: Episode, rule: AnswerRule, *, infer: bool = False) -> Outcome:
    """Compare an episode's state and answer with the task's.

    ``task.metadata["created"]`` names the records of the final state whose ids the server made
    up; see :func:`~orch_env.rewards.outcome.state_diff.diff_states`.

    Raises:
        OrchError: the answer cannot be judged by the rule, see :meth:`AnswerRule.score`; never
            for what a model wrote.
    """
    answer = None if task.answer is None else rule.score(task, episode.final)
    if task.final_state is None or episode.state is None:
        return Outcome(None, answer)
    created = task.metadata.get("created")
    changes = diff_states(
        task.final_state, episode.state, created if isinstance(created, list | tuple) else ()
    )
    collateral = any(change.kind == COLLATERAL for change in changes)
    state = None
    if records_of(task.final_state):
        state = float(all(change.kind == COLLATERAL for change in changes))
    return Outcome(state, answer, collateral, changes)


def is_read(task: Task, name: str) -> bool:
    """Whether a call of a tool changes nothing, as far as the task says."""
    return not task.servers
