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
        collateral: number of records that gold leaves alone and the episode changed; also where
            gold changes nothing.
        changes: how the state differs from gold's; none where it does not, or is not known.
    """

    state: float | None = None
    answer: float | None = None
    collateral: int = 0
    changes: tuple[StateChange, ...] = ()


def read_outcome(task: Task, episode: Episode, rule: AnswerRule, *, infer: bool = False) -> Outcome:
    """Compare an episode's state and answer with the task's.

    ``task.metadata["created"]`` names the records of the final state whose ids the server made
    up; see :func:`~orch_env.rewards.outcome.state_diff.diff_states`.

    Args:
        task: the task.
        episode: a finished or running episode of it.
        rule: how the answer is compared.
        infer: take it that gold changes nothing where the task gives no final state and all tools
            that gold uses only read.

    Raises:
        OrchError: the answer cannot be judged by the rule, see :meth:`AnswerRule.score`; never
            for what a model wrote.
    """
    answer = None if task.answer is None else rule.score(task, episode.final)
    wanted = task.final_state
    if wanted is None and infer and task.servers:
        wanted = {} if all(is_read(task, call.name) for call in task.gold_calls) else None
    if wanted is None or episode.state is None:
        return Outcome(None, answer)
    created = task.metadata.get("created")
    changes = diff_states(
        wanted, episode.state, created if isinstance(created, list | tuple) else ()
    )
    collateral = sum(change.kind == COLLATERAL for change in changes)
    state = None
    if records_of(wanted):
        state = float(collateral == len(changes))
    return Outcome(state, answer, collateral, changes)


def is_read(task: Task, name: str) -> bool:
    """Whether a call is known to change nothing: it is recorded, or its tool only reads."""
    if not task.servers:
        return True
    spec = task.tool_spec(name)
    return spec is not None and spec.read_only is True
