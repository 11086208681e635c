"""The catalogue of rewards: each preset by name, with its options, its range and its parts.

A preset is built from plain data (option names and values), so that an environment's keyword
arguments stay serialisable. Its parts are described where they are computed, in ``COMPONENTS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orch_env.rewards.options import Weights, at_least_0
from orch_env.rewards.outcome.answers import AnswerRule, Match
from orch_env.rewards.presets import binary, graduated, paper, prove, tier
from orch_env.rewards.presets.binary import BinaryReward
from orch_env.rewards.presets.graduated import GraduatedReward
from orch_env.rewards.presets.paper import PaperReward
from orch_env.rewards.presets.prove import ProveReward, ProveWeights
from orch_env.rewards.presets.tier import TierReward, TierWeights
from orch_env.rewards.protocol import Component, Reward
from orch_env.types import OrchError
from orch_env.types.text import did_you_mean


@dataclass(frozen=True, slots=True)
class Option:
    """Something that can be set about a reward.

    Attributes:
        default: its value where nothing is set, as plain data.
        about: what it does, one line.
    """

    default: Any
    about: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A named reward.

    Attributes:
        build: makes it from options whose names are known; it checks their values.
        summary: what it pays for, one line.
        source: paper, or ``"ours"``.
        equation: the total from the components, one line of plain text.
        range: least and greatest total with the default options; infinite where there is none.
        components: its parts, as its breakdowns report them.
        options: what can be set, by name.
        symbols: what the letters in the equations stand for, one line of plain text.
    """

    build: Callable[[Mapping[str, Any]], Reward]
    summary: str
    source: str
    equation: str
    range: tuple[float, float]
    components: tuple[Component, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    symbols: str = ""


def build_preset(name: str, options: Mapping[str, Any]) -> Reward:
    """Build a preset.

    Args:
        name: a key of `PRESETS`.
        options: plain data by option name; numbers where a schedule could stand.

    Raises:
        OrchError: an unknown option (the nearest one is named), or a bad value.
    """
    preset = PRESETS[name]
    check_options(name, options, preset.options)
    return preset.build(options)


def check_options(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the options that a reward does not have.

    Raises:
        OrchError: there is one; the nearest that exists is named.
    """
    names = list(known)
    for option in given:
        if option not in names:
            raise OrchError(
                f"reward {name!r} has no option {option!r}{did_you_mean(str(option), names)}; "
                f"it takes {', '.join(names) or 'none'}"
            )


def _graduated(options: Mapping[str, Any]) -> Reward:
    return GraduatedReward(
        weights=Weights.from_options(options),
        answer=at_least_0(options.get("answer_weight", 1.0), "option 'answer_weight'"),
        state=at_least_0(options.get("state_weight", 1.0), "option 'state_weight'"),
        answers=AnswerRule.from_dict(options.get("answer", "auto")),
        edition=options.get("edition", 2),
    )


def _paper(options: Mapping[str, Any]) -> Reward:
    return PaperReward(weights=Weights.from_options(options))


def _binary(options: Mapping[str, Any]) -> Reward:
    return BinaryReward(answers=AnswerRule.from_dict(options.get("answer", "auto")))


ANSWER = f"how the closing answer is held against gold's: {', '.join(Match)}"

PRESETS: dict[str, Preset] = {
    "graduated": Preset(
        _graduated,
        summary="partial credit per call and for the data flow; gold is the unique maximum",
        source="ours",
        equation="max(0, S (1 - cost)), S = (w_a atomic + w_o orchestration) with state and answer "
        "averaged in where the task gives them; without gold calls 0.5^N",
        range=(0.0, 1.0),
        components=graduated.COMPONENTS,
        symbols="T, V: share of the argument leaves of both calls with compatible type, with equal "
        "value; K: the same of gold's leaves that no constant, default or other gold call gives "
        "away; F: share of gold's edges satisfied; ok: the call ran; n: required gold calls, N: "
        "calls made; a look-up that brings what gold's calls take has T = K = 1, V at least 0.6",
        options={
            "weights": Option(asdict(Weights()), "of the two halves of a call; sum at most 1"),
            "answer_weight": Option(1.0, "of the closing answer beside one gold call"),
            "state_weight": Option(1.0, "of the final state beside one gold call"),
            "answer": Option("auto", ANSWER),
            "edition": Option(2, "of the formula; 1 is the one before, to the last bit"),
        },
    ),
    "paper": Preset(
        _paper,
        summary="the published graduated reward, its defects included; to compare with",
        source="arXiv 2603.24709",
        equation="w_a R_atomic_validity + w_o R_outcome_orchestration",
        range=(0.0, 1.0),
        components=paper.COMPONENTS,
        symbols="AST: name + structure + values of a call against the first gold step of its name; "
        "semantic: its response is no error",
        options={"weights": Option(asdict(Weights()), "of the two parts")},
    ),
    "prove": Preset(
        ProveReward.from_options,
        summary="validity of calls, coverage of gold in order, and a penalty beyond a call budget",
        source="arXiv 2606.03892",
        equation="0.5 val + 0.5 cov + 0.15 eff + 0.2 name + 0.1 arg",
        range=(-math.inf, 1.3),
        components=prove.COMPONENTS,
        symbols="N: calls made; n: gold calls; G, E: required gold calls and their edges; m, mu: "
        "whether and where a gold call is matched; B: budget of calls",
        options={
            "weights": Option(asdict(ProveWeights()), "of the five terms"),
            "alpha": Option(0.5, "slope of the penalty beyond the budget"),
            "beta": Option(0.5, "extra calls granted per gold call"),
        },
    ),
    "tier": Preset(
        TierReward.from_options,
        summary="schema, execution and answer; needs no gold trajectory",
        source="arXiv 2605.16790",
        equation="0.1 (format + names + parameters + types + execution) + 0.5 answer, scaled to 1 "
        "without the answer where the task has none; 0 if format is 0",
        range=(0.0, 1.0),
        components=tier.COMPONENTS,
        options={
            "weights": Option(asdict(TierWeights()), "of the parts; proportions only"),
            "answer": Option("values", ANSWER),
        },
    ),
    "binary": Preset(
        _binary,
        summary="1 if everything the task asks was done, else 0",
        source="the baseline of the papers",
        equation="[state and answer right where given, else every required gold call made]",
        range=(0.0, 1.0),
        components=binary.COMPONENTS,
        options={"answer": Option("auto", ANSWER)},
    ),
}
