"""``paper``: the published graduated reward, reproduced exactly (arXiv 2603.24709).

``total = w_atomic * R_atomic + w_orchestration * R_orchestration``. It is here to compare with,
its known defects included: arguments do not matter for orchestration, one call may satisfy several
steps, and a call is compared with the *first* step of its name. Use ``graduated`` to train.

It is computed from the completion text, as published: an episode is written out as text first, and
the environment's own reading of the calls is not used.

Attribution: each call has its part of the mean over calls, and each step's share of the
orchestration belongs to the call that satisfies it. So a call that the task does not need still
earns what its form is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from orch_env.rewards.credit.attribution import attributed
from orch_env.rewards.options import Weights
from orch_env.rewards.presets.paper.bfcl_check import accepts
from orch_env.rewards.presets.paper.completion import TextCall, read_completion, turn_texts
from orch_env.rewards.protocol import Component
from orch_env.types import CallAccount, Episode, GoldCall, RewardBreakdown, Task
from orch_env.types.json import Json, JsonObject, parse_json

NAME, STRUCTURE, VALUES = 0.33, 0.33, 0.34

_SOURCE = "arXiv 2603.24709"
COMPONENTS = (
    Component("R_atomic_validity", "mean over calls of (AST + semantic) / 2", _SOURCE),
    Component("R_atomic_validity_ast", "mean of name + structure + values", _SOURCE),
    Component("R_atomic_validity_semantic", "mean of [response without error]", _SOURCE),
    Component("R_atomic_validity_rate", "share with AST >= 1 and semantic 1", _SOURCE),
    Component("R_atomic_validity_name", "mean of 0.33 [name is a gold step's]", _SOURCE, high=NAME),
    Component(
        "R_atomic_validity_structure",
        "mean of 0.33 (shared keys / gold keys) (keys of compatible type / shared keys)",
        _SOURCE,
        high=STRUCTURE,
    ),
    Component(
        "R_atomic_validity_values", "mean of 0.34 [BFCL's AST check passes]", _SOURCE, high=VALUES
    ),
    Component("tool_executable_rate", "share with a gold tool and a response", _SOURCE),
    Component("tool_calling_success_rate", "share of those whose response is no error", _SOURCE),
    Component("R_outcome_orchestration", "share of gold steps matched by name, in order", _SOURCE),
    Component("R_outcome_state", "always 0, as published", _SOURCE, high=0.0),
)


@dataclass(frozen=True, slots=True)
class CallScore:
    """What one model call earned; all zero for a tool that no step uses."""

    step: int | None = None
    name: float = 0.0
    structure: float = 0.0
    values: float = 0.0
    semantic: float = 0.0
    executable: bool = False
    succeeded: bool = False

    @property
    def ast(self) -> float:
        """Name, structure and values together, 0..1."""
        return self.name + self.structure + self.values

    @property
    def atomic(self) -> float:
        """``(AST + semantic) / 2``."""
        return (self.ast + self.semantic) / 2


@dataclass(frozen=True, slots=True)
class PaperReward:
    """The published reward; the total lies in 0..w_atomic + w_orchestration."""

    weights: Weights = field(default_factory=Weights)

    @property
    def name(self) -> str:
        """The preset's name."""
        return "paper"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score an episode by the completion text that it amounts to."""
        texts = turn_texts(episode)
        starts = list(accumulate((len(text) + 1 for text in texts[:-1]), initial=0))
        return self._score(task, read_completion("\n".join(texts), starts), len(texts))

    def score_completion(self, task: Task, completion: str) -> RewardBreakdown:
        """Score a completion text, as one turn; ``components`` has the published scalar names."""
        return self._score(task, read_completion(completion), 1)

    def _score(self, task: Task, calls: Sequence[TextCall], turns: int) -> RewardBreakdown:
        gold = task.gold_calls
        scores = _scores(gold, calls)
        matched = matched_steps(task, [call.name for call in calls])
        components = _atomic_components(scores if self.weights.atomic else [])
        found = sum(position is not None for position in matched)
        orchestration = found / len(matched) if matched else 0.0
        components["R_outcome_orchestration"] = (
            orchestration if calls and self.weights.orchestration else 0.0
        )
        components["R_outcome_state"] = 0.0
        total = (
            self.weights.atomic * components["R_atomic_validity"]
            + self.weights.orchestration * components["R_outcome_orchestration"]
        )
        satisfied = Counter(position for position in matched if position is not None)
        credits = [
            self.weights.atomic * score.atomic / len(calls)
            + self.weights.orchestration * satisfied[position] / len(gold or (None,))
            for position, score in enumerate(scores)
        ]
        accounts = _accounts(calls, scores, satisfied)
        return attributed(total, components, accounts, credits, turns=turns)


def matched_steps(task: Task, names: Sequence[str]) -> list[int | None]:
    """For each gold step, the position of the model call that satisfies it.

    That is the first call of the same name after the positions of all steps it depends on;
    ``None`` where there is none, or where such a step has none itself.
    """
    places: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        places.setdefault(name, []).append(position)
    matched: list[int | None] = []
    for gold in task.gold_calls:
        after = -1
        possible = places.get(gold.name, [])
        for step in gold.depends_on:
            producer = matched[step]
            if producer is None:
                possible = []
            elif producer > after:
                after = producer
        matched.append(next((p for p in possible if p > after), None))
    return matched


def _scores(gold: Sequence[GoldCall], calls: Sequence[TextCall]) -> list[CallScore]:
    first: dict[str, int] = {}
    for number, step in enumerate(gold):
        first.setdefault(step.name, number)
    return [
        _score(call, first[call.name], gold[first[call.name]]) if call.name in first else _NOTHING
        for call in calls
    ]


def _score(call: TextCall, number: int, gold: GoldCall) -> CallScore:
    # A response that is no JSON counts as a text, and so as a good response.
    body = None if call.response is None else parse_json(call.response, call.response)
    exists = body is not None
    no_error = not isinstance(body, dict) or not ("error" in body or body.get("status") is False)
    return CallScore(
        step=number,
        name=NAME,
        structure=_structure(call.arguments, gold.arguments),
        values=VALUES if accepts(call.arguments, gold.arguments) else 0.0,
        semantic=float(exists and no_error and body != {}),
        executable=exists,
        succeeded=exists and no_error,
    )


_NOTHING = CallScore()


def _structure(made: JsonObject, gold: JsonObject) -> float:
    if not gold:
        return 0.0 if made else STRUCTURE
    shared = [name for name in gold if name in made]
    if not shared:
        return 0.0
    compatible = sum(_compatible(made[name], gold[name]) for name in shared)
    return STRUCTURE * (len(shared) / len(gold)) * (compatible / len(shared))


def _compatible(made: Json, gold: Json) -> bool:
    return type(made) is type(gold) or {type(made), type(gold)} == {int, float}


def _atomic_components(scores: Sequence[CallScore]) -> dict[str, float]:
    """Means over all model calls; all zero without calls."""
    rows = {
        "R_atomic_validity": [s.atomic for s in scores],
        "R_atomic_validity_ast": [s.ast for s in scores],
        "R_atomic_validity_semantic": [s.semantic for s in scores],
        "R_atomic_validity_rate": [float(s.ast >= 1.0 and s.semantic == 1.0) for s in scores],
        "R_atomic_validity_name": [s.name for s in scores],
        "R_atomic_validity_structure": [s.structure for s in scores],
        "R_atomic_validity_values": [s.values for s in scores],
        "tool_executable_rate": [float(s.executable) for s in scores],
        "tool_calling_success_rate": [float(s.succeeded) for s in scores],
    }
    return {name: sum(row) / len(row) if row else 0.0 for name, row in rows.items()}


def _accounts(
    calls: Sequence[TextCall], scores: Sequence[CallScore], satisfied: Counter[int]
) -> tuple[CallAccount, ...]:
    accounts: list[CallAccount] = []
    for position, (call, score) in enumerate(zip(calls, scores, strict=True)):
        if score.step is None:
            why = f"No gold step uses {call.name or 'a call without a name'}."
        else:
            why = (
                f"Held against gold call {score.step}, the first of its name: AST {score.ast:.2f}, "
                f"semantic {score.semantic:.0f}; satisfies {satisfied[position]} gold steps."
            )
        accounts.append(
            CallAccount(
                turn=call.turn,
                index=call.index,
                gold=score.step,
                atomic=score.atomic,
                orchestration=float(satisfied[position] > 0),
                why=why,
            )
        )
    return tuple(accounts)
