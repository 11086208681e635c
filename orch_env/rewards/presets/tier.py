"""``tier``: schema, execution and answer, without a gold trajectory (arXiv 2605.16790).

The parts of the total, which lies in 0..1::

    format      0.1  the episode calls, and every call could be read; else the total is 0
    names       0.1  iff every name is a candidate tool's
    parameters  0.1  less a quarter of it per missing required or unknown parameter, at least 0
    types       0.1  less a quarter of it per value of a wrong JSON type, at least 0
    execution   0.1  iff every call ran without an error
    answer      0.5  how right the closing answer is

Mismatches are counted over all calls. A call of an unknown tool costs the names part (and, having
failed, execution), but no parameters, which have no schema. A task without a gold answer drops that
part, and the others are scaled up so that the maximum is 1 again.

An episode *without calls* has no valid format and earns 0. Otherwise every part but the answer
would be paid in full for doing nothing: half of the total, and all of it where the task has no
answer. The published code requires a tool-call block too (it accepts an explicitly empty one, which
earns that half; the chat formats here have no such block). Only where a task offers no tool at all,
an answer in words is the valid format.

It can be gamed, as published: whether the calls serve the task does not matter. Without a gold
answer one harmless call that runs earns 1.0, and a wrong answer after it still 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orch_env.rewards.credit.attribution import attributed, on_grid
from orch_env.rewards.credit.explanation import sentence
from orch_env.rewards.matching.arguments import MISSING, TYPE, UNKNOWN
from orch_env.rewards.matching.calls import MadeCall, made_calls
from orch_env.rewards.options import PartWeights
from orch_env.rewards.outcome import read_outcome
from orch_env.rewards.outcome.answers import AnswerRule, Match
from orch_env.rewards.presets.schema_check import CallFaults, Candidates
from orch_env.rewards.protocol import Component
from orch_env.types import CallAccount, Episode, OrchError, RewardBreakdown, Task
from orch_env.types.json import escape

STEP = 0.25
"""Share of the parameters (or types) part that one mismatch costs."""

_SOURCE = "arXiv 2605.16790"
COMPONENTS = (
    Component("format", "[there are calls and every one was read]; 0: total 0", _SOURCE),
    Component("names", "[every name is a candidate tool's]", _SOURCE),
    Component("parameters", "max(0, 1 - 0.25 missing or unknown parameters)", _SOURCE),
    Component("types", "max(0, 1 - 0.25 values of a wrong JSON type)", _SOURCE),
    Component("execution", "[every call ran without an error]", _SOURCE),
    Component("answer", "closing answer equal to gold's; only with gold's", _SOURCE),
)


@dataclass(frozen=True, slots=True)
class TierWeights(PartWeights):
    """The weight of each part, at least 0; only their proportions matter.

    Raises:
        OrchError: nothing is left to pay on a task without an answer.
    """

    format: float = 0.1
    names: float = 0.1
    parameters: float = 0.1
    types: float = 0.1
    execution: float = 0.1
    answer: float = 0.5

    def __post_init__(self) -> None:
        if not any(value for part, value in asdict(self).items() if part != "answer"):
            raise OrchError(
                "tier needs a weight above 0 beside 'answer': tasks without a gold answer drop it"
            )


@dataclass(frozen=True, slots=True)
class TierReward:
    """The TIER reward.

    Its ``components`` are the parts before weighting; ``answer`` only where the task has one.

    Attributes:
        weights: of the parts; those that count are scaled to sum to 1.
        answers: how a closing answer is compared with gold's; as published, by value.
    """

    weights: TierWeights = field(default_factory=TierWeights)
    answers: AnswerRule = field(default_factory=lambda: AnswerRule(Match.VALUES))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> TierReward:
        """Build it from ``weights`` and ``answer``, which may be left out.

        Raises:
            OrchError: a bad value.
        """
        return cls(
            weights=TierWeights.from_options(options),
            answers=AnswerRule.from_dict(options.get("answer", "values")),
        )

    @property
    def name(self) -> str:
        """The preset's name."""
        return "tier"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode; the total lies in 0..1.

        A part's share is split evenly over the calls, and what is lost of it is taken from the
        calls at fault, in proportion to their faults; the answer's share belongs to the last turn.
        """
        candidates, made = Candidates(task), made_calls(episode)
        faults = [candidates.faults(call) for call in made]
        outcome = read_outcome(task, episode, self.answers)
        weights = asdict(self.weights)
        if outcome.answer is None:
            del weights["answer"]
        scale = sum(weights.values())
        parts = dict.fromkeys(weights, 0.0)
        lost = _lost(made, faults)
        silent = not made and bool(task.tools or episode.final is None)
        parts["format"] = 0.0 if silent or any(lost["format"]) else 1.0
        credits = [0.0] * len(made)
        for part, by_call in lost.items():
            if part == "format" or parts["format"]:
                parts[part] = 0.0 if silent else max(0.0, 1.0 - sum(by_call))
                for position, credit in enumerate(_split(parts[part], by_call)):
                    credits[position] += weights[part] / scale * credit
        if parts["format"] and outcome.answer is not None:
            parts["answer"] = outcome.answer
        total = sum(weights[part] * value for part, value in parts.items()) / scale
        accounts = [_account(call, fault) for call, fault in zip(made, faults, strict=True)]
        return attributed(on_grid(total), parts, accounts, credits, turns=len(episode.turns))


def _lost(made: Sequence[MadeCall], faults: Sequence[CallFaults]) -> dict[str, list[float]]:
    """For each part that calls decide, the share of it that each call costs."""
    return {
        "format": [float(fault.unreadable) for fault in faults],
        "names": [float(fault.unknown_name) for fault in faults],
        "parameters": [STEP * fault.parameters for fault in faults],
        "types": [STEP * fault.types for fault in faults],
        "execution": [float(not call.ok) for call in made],
    }


def _split(value: float, lost: Sequence[float]) -> list[float]:
    """Split a part's value over the calls: an even share each, less what its faults cost."""
    blame = sum(lost)
    return [1.0 / len(lost) - ((1.0 - value) * own / blame if blame else 0.0) for own in lost]


def _account(call: MadeCall, faults: CallFaults) -> CallAccount:
    faulty = str(faults) or call.failure
    levels = (faults.named, not faults.parameters, not faults.types, call.ok)
    return CallAccount(
        turn=call.turn,
        index=call.index,
        atomic=0.0 if faults.unreadable else sum(levels) / len(levels),
        arguments={
            f"/{escape(name)}": status
            for names, status in (
                (faults.mistyped, TYPE),
                (faults.missing, MISSING),
                (faults.unknown, UNKNOWN),
            )
            for name in names
        },
        why=sentence([str(faults), call.failure] if faulty else ["valid, and it ran"]),
    )
