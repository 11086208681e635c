"""``binary``: 1 if everything the task asks was done, else 0. The baseline of the papers.

What decides:

- the final state, where gold changes one and the tools hold state: everything that gold changes
  has gold's value, and nothing else was changed. Where gold changes nothing, no state is asked for,
  but nothing may be changed;
- the closing answer, where the task gives one;
- the calls, where neither does, or where a final state is asked for that the tools do not hold:
  every required gold call was made with equal arguments and ran, each by a model call of its own.

Extra calls, order and data flow do not matter, except that a task without gold calls asks for none
to be made. A collateral change fails the task even though extra calls do not: a call too many is
clumsy, but a cancelled booking of another customer is a wrong result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from orch_env.rewards.credit.attribution import attributed
from orch_env.rewards.credit.explanation import sentence
from orch_env.rewards.matching.calls import CallIdentities, MadeCall, made_calls
from orch_env.rewards.outcome import AnswerRule, Outcome, read_outcome
from orch_env.rewards.outcome.state_diff import records_of
from orch_env.rewards.protocol import Component
from orch_env.tasks.resolved import derived
from orch_env.types import CallAccount, Episode, RewardBreakdown, Task

COMPONENTS = (
    Component("matched", "share of required gold calls made exactly, one to one"),
    Component(
        "state",
        "everything that gold changes has gold's value in the end; only where gold changes state",
    ),
    Component(
        "collateral",
        "something that gold leaves alone was changed; only where the task gives a final state",
    ),
    Component("answer", "closing answer equal to gold's; only where gold has one"),
)


@dataclass(frozen=True, slots=True)
class BinaryReward:
    """Success or not.

    Attributes:
        answers: how a closing answer is compared with gold's.
    """

    answers: AnswerRule = field(default_factory=AnswerRule)

    @property
    def name(self) -> str:
        """The preset's name."""
        return "binary"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode; the total is 0.0 or 1.0.

        Attribution: a total of 1 is split equally over what decided. The answer's share belongs to
        the last turn, that of calls or state equally to the calls that equal required gold calls
        (to the last turn where there is none). Where doing nothing earns 1, calls that spoil it
        share the loss.
        """
        found = self._look(task, episode)
        outcome, required = found.outcome, found.required
        matched = [position for position, number in found.taken.items() if number in required]
        parts = {"matched": len(matched) / len(required) if required else 1.0}
        parts.update(_outcome_parts(task, episode, outcome))
        idle = not required and outcome.answer is None and outcome.state is None
        total = float(all(found.done) and not outcome.collateral)
        answered = 1.0 / len(found.done) if outcome.answer is not None else 0.0
        return attributed(
            total,
            parts,
            _accounts(found.made, found.taken),
            _credits(total - idle, answered, matched, len(found.made)),
            turns=len(episode.turns),
            base=float(idle),
        )

    def succeeds(self, task: Task, episode: Episode) -> bool:
        """Whether everything was done: the total, without attribution."""
        found = self._look(task, episode)
        return all(found.done) and not found.outcome.collateral

    def _look(self, task: Task, episode: Episode) -> _Findings:
        identities = derived(task, CallIdentities)
        made = made_calls(episode, identities.of_calls(episode))
        taken = _exact_matches(task, identities.gold, made)
        required = {i for i, call in enumerate(task.gold_calls) if not call.optional}
        outcome = read_outcome(task, episode, self.answers)
        done = [] if outcome.answer is None else [outcome.answer == 1.0]
        if outcome.state is not None:
            done.append(outcome.state == 1.0)
        elif _calls_decide(task, episode):
            asked_for = bool(task.gold_calls) or not made
            done.append(required.issubset(taken.values()) and asked_for)
        return _Findings(made, taken, required, outcome, done)


class _Findings(NamedTuple):
    """What decides about one episode.

    Attributes:
        made: its calls.
        taken: position of a call that ran -> number of the gold call it equals, one to one.
        required: numbers of the gold calls that are not optional.
        outcome: final state and answer.
        done: whether each thing that decides was done.
    """

    made: Sequence[MadeCall]
    taken: Mapping[int, int]
    required: AbstractSet[int]
    outcome: Outcome
    done: Sequence[bool]


def _calls_decide(task: Task, episode: Episode) -> bool:
    """Whether calls decide: nothing else is asked for, or a state that the tools do not hold."""
    unseen = episode.state is None and bool(records_of(task.final_state))
    return task.answer is None or unseen


def _outcome_parts(task: Task, episode: Episode, outcome: Outcome) -> Mapping[str, float]:
    parts: dict[str, float] = {}
    if outcome.state is not None:
        parts["state"] = outcome.state
    if task.final_state is not None and episode.state is not None:
        parts["collateral"] = float(outcome.collateral > 0)
    if outcome.answer is not None:
        parts["answer"] = outcome.answer
    return parts


def _credits(due: float, answered: float, matched: Sequence[int], calls: int) -> list[float]:
    """What each call adds to the total; the rest of it is the last turn's.

    Args:
        due: the total less what doing nothing earns: 1, 0 or -1.
        answered: share of a total of 1 that is the answer's.
        matched: positions of the calls that equal required gold calls.
        calls: number of calls.
    """
    credits = [0.0] * calls
    if due > 0:
        for position in matched:
            credits[position] = (due - answered) / len(matched)
    elif due < 0:
        credits = [due / calls] * calls if calls else []
    return credits


def _exact_matches(task: Task, gold: Sequence[str], made: Sequence[MadeCall]) -> dict[int, int]:
    """Position of a model call that ran -> number of the gold call it equals, one to one."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for number, key in enumerate(gold):
        waiting[key].append(number)
    calls = task.gold_calls
    for numbers in waiting.values():
        # Required gold calls take the first model calls.
        numbers.sort(key=lambda n: (calls[n].optional, n))
    taken: dict[int, int] = {}
    for made_call in made:
        if made_call.ok and made_call.key is not None and waiting.get(made_call.key):
            taken[made_call.position] = waiting[made_call.key].pop(0)
    return taken


def _accounts(made: Sequence[MadeCall], taken: Mapping[int, int]) -> tuple[CallAccount, ...]:
    accounts: list[CallAccount] = []
    for call in made:
        number = taken.get(call.position)
        if number is not None:
            why = f"Equals gold call {number}."
        else:
            why = sentence([call.failure or "equals no gold call that is still open"])
        accounts.append(
            CallAccount(
                turn=call.turn,
                index=call.index,
                gold=number,
                atomic=float(number is not None),
                orchestration=float(number is not None),
                why=why,
            )
        )
    return tuple(accounts)
