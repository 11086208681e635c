"""What a model call is worth beside each gold call of its tool: ``s`` of every pair.

The two editions look at different things, so each has a class of its own; both keep what is known
of the whole episode, and score one pair at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from orch_env.rewards.matching.arguments import Comparison
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.options import Weights
from orch_env.rewards.presets.graduated.consequences import brought
from orch_env.rewards.presets.graduated.data_flow import Visibility, check_edges
from orch_env.rewards.presets.graduated.gold_calls import ComparedCall, GoldCalls, SecondEdition
from orch_env.types import Episode

NAME, TYPES, VALUES, SUCCESS = 0.1, 0.2, 0.5, 0.2
"""Parts of ``atomic``; they sum to 1."""


class Pair(NamedTuple):
    """One model call beside one gold call of its tool.

    Attributes:
        comparison: of their arguments.
        broken: dependencies of the gold call that the model call breaks, one phrase each; not
            looked at where they make no difference.
        atomic: 0..1, how right the call is by itself.
        orchestration: 0..1, how right its place in the data flow is.
        score: s, both by their weights.
        brings: second edition: whether the call, in other words than gold's, brought what later
            gold calls take from this one.
    """

    comparison: Comparison
    broken: tuple[str, ...]
    atomic: float
    orchestration: float
    score: float
    brings: bool = False


def pair_calls(
    gold: GoldCalls,
    episode: Episode,
    made: Sequence[MadeCall],
    compared: Sequence[ComparedCall | None],
    weights: Weights,
) -> list[dict[int, Pair]]:
    """For each model call, number of each gold call of its tool -> their pair.

    Args:
        gold: the task's gold calls.
        episode: the finished or running episode.
        made: its calls.
        compared: each call beside gold, same length; ``None`` for a malformed one.
        weights: of the two halves of a score.
    """
    pair: _Pairing
    if isinstance(gold, SecondEdition):
        pair = _Second(gold, episode, made, compared, weights)
    else:
        pair = _First(gold, episode, made, weights)
    return [
        {} if against is None else {number: pair(call, against, number) for number in against.gold}
        for call, against in zip(made, compared, strict=True)
    ]


class _Pairing(Protocol):
    def __call__(self, call: MadeCall, against: ComparedCall, number: int) -> Pair: ...


class _First:
    """``atomic = 0.1 + 0.2 T + 0.5 V + 0.2 ok``, ``orchestration = F V ok``."""

    def __init__(
        self, gold: GoldCalls, episode: Episode, made: Sequence[MadeCall], weights: Weights
    ) -> None:
        self._gold, self._weights = gold, weights
        self._visibility = Visibility(gold.query, episode)
        self._ran = _first_runs(made, gold.keys)

    def __call__(self, call: MadeCall, against: ComparedCall, number: int) -> Pair:
        comparison, ok = against.gold[number], call.ok
        broken, share = check_edges(
            call, self._gold.edges[number], comparison, self._ran, self._visibility
        )
        values = comparison.values
        atomic = NAME + TYPES * comparison.types + VALUES * values + SUCCESS * ok
        orchestration = share * values * ok
        score = self._weights.atomic * atomic + self._weights.orchestration * orchestration
        return Pair(comparison, broken, atomic, orchestration, score)


class _Second:
    """``atomic = 0.1 + (1 + K)/2 (0.2 T + 0.5 V + 0.2 ok)``, ``orchestration = F V K ok``.

    T, V and K are those of the arguments, or follow from what the call brought. That is looked up
    for all calls first, since the order of calls is judged by it.
    """

    def __init__(
        self,
        gold: SecondEdition,
        episode: Episode,
        made: Sequence[MadeCall],
        compared: Sequence[ComparedCall | None],
        weights: Weights,
    ) -> None:
        self._gold, self._weights = gold, weights
        self._heard = episode.followups_heard if gold.followups else ()
        self._ran = _first_runs(made, gold.keys)
        self._brought: dict[tuple[int, int], float] = {}
        results = [exchange.result for turn in episode.turns for exchange in turn.exchanges]
        for call, against, result in zip(made, compared, results, strict=True):
            if against is None or not call.ok or against.exact:
                continue
            for number, likeness in against.likeness.items():
                if not gold.reads[number]:
                    continue
                taken = gold.taken[number]
                sure = brought(taken, call.arguments, result) if taken else 0.0
                if sure:
                    self._brought[call.position, number] = sure
                if sure or (not taken and likeness.same_words):
                    self._ran[number] = min(self._ran.get(number, call.position), call.position)
        trusted = {position for position, _ in self._brought}
        self._visibility = Visibility(gold.query, episode, gold.followups, trusted)

    def __call__(self, call: MadeCall, against: ComparedCall, number: int) -> Pair:
        gold, comparison, ok = self._gold, against.gold[number], call.ok
        types, values, telling = comparison.types, comparison.values, 1.0
        sure = self._brought.get((call.position, number), 0.0)
        if values < 1.0:
            likeness = against.likeness[number]
            telling = likeness.telling
            if sure:
                types, values, telling = 1.0, sure + (1.0 - sure) * likeness.alike, 1.0
            elif ok and gold.reads[number] and not against.exact and not gold.taken[number]:
                values, telling = likeness.respelt, likeness.respelt_telling
        known = (1.0 + telling) / 2
        atomic = NAME + known * (TYPES * types + VALUES * values + SUCCESS * ok)
        broken: tuple[str, ...] = ()
        orchestration = values * telling * ok
        if orchestration:
            broken, share = check_edges(
                call,
                gold.edges[number],
                comparison,
                self._ran,
                self._visibility,
                self._heard,
            )
            orchestration *= share
        score = self._weights.atomic * atomic + self._weights.orchestration * orchestration
        return Pair(comparison, broken, atomic, orchestration, score, sure > 0.0)


def _first_runs(made: Sequence[MadeCall], keys: Sequence[str]) -> dict[int, int]:
    """Number of each gold call that was made and ran -> position of the first such call."""
    ran: dict[str, int] = {}
    for call in made:
        if call.key is not None and call.ok:
            ran.setdefault(call.key, call.position)
    return {number: ran[key] for number, key in enumerate(keys) if key in ran}
