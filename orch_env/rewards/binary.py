"""``binary``: 1 if everything the task asks was done, else 0. The baseline of the papers.

The hard decision: where the task gives a final state or an answer, they alone decide; otherwise
every required gold call must have been made with equal arguments and have run, each by a model
call of its own. Extra calls, order and data flow do not matter, except that a task without gold
calls asks for none to be made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from orch_env.rewards.made_calls import MadeCall, call_identity, made_calls
from orch_env.rewards.outcome import AnswerRule, read_outcome
from orch_env.rewards.protocol import Component
from orch_env.types import CallAccount, Episode, RewardBreakdown, Task

COMPONENTS = (
    Component("matched", 0.0, 1.0, "share of required gold calls made exactly, one to one"),
    Component("state", 0.0, 1.0, "final state equal to gold's; only where gold changes state"),
    Component("answer", 0.0, 1.0, "closing answer equal to gold's; only where gold has one"),
)


@dataclass(frozen=True, slots=True)
class BinaryReward:
    """Success or not.

    Attributes:
        answers: how a closing answer is held against gold's.
    """

    answers: AnswerRule = field(default_factory=AnswerRule)

    @property
    def name(self) -> str:
        """The preset's name."""
        return "binary"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode; the total is 0.0 or 1.0."""
        made = made_calls(episode)
        taken = _exact_matches(task, made)
        required = [i for i, call in enumerate(task.gold_calls) if not call.optional]
        matched = sum(number in taken.values() for number in required)
        parts = {"matched": matched / len(required) if required else 1.0}
        calls_done = matched == len(required) and (bool(task.gold_calls) or not made)
        outcome = read_outcome(task, episode, self.answers)
        done: list[bool] = []
        for name, part in (("state", outcome.state), ("answer", outcome.answer)):
            if part is not None:
                parts[name] = part
                done.append(part == 1.0)
        if not done:
            done.append(calls_done)
        return RewardBreakdown(float(all(done)), parts, _accounts(made, taken))


def _exact_matches(task: Task, made: Sequence[MadeCall]) -> dict[int, int]:
    """Position of a model call that ran -> number of the gold call it equals, one to one."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for number, call in enumerate(task.gold_calls):
        waiting[call_identity(call.name, call.arguments)].append(number)
    for numbers in waiting.values():
        # Required gold calls take the first model calls.
        numbers.sort(key=lambda n: (task.gold_calls[n].optional, n))
    taken: dict[int, int] = {}
    for made_call in made:
        if made_call.ok and made_call.key is not None and waiting.get(made_call.key):
            taken[made_call.position] = waiting[made_call.key].pop(0)
    return taken


def _accounts(made: Sequence[MadeCall], taken: dict[int, int]) -> tuple[CallAccount, ...]:
    accounts: list[CallAccount] = []
    for call in made:
        number = taken.get(call.position)
        if number is not None:
            why = f"Equals gold call {number}."
        elif call.error is not None:
            why = f"It failed ({call.error.value})."
        else:
            why = "Equals no gold call that is still open."
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
