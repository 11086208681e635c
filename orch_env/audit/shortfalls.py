"""How an episode falls short of gold, found without any reward: the ground truth of an attack.

Only what is certainly wrong is counted. A value counts as visible if its text is *anywhere* in the
query or in an earlier result, so an edge that is broken here is broken under every other rule.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from orch_env.rewards.matching.calls import CallIdentities
from orch_env.rewards.outcome import AnswerRule, read_outcome
from orch_env.tasks.resolved import derived
from orch_env.types import Episode, GoldCall, Task
from orch_env.types.json import Json, find, leaves
from orch_env.values import canonical, stated, values_equal
from orch_env.values.canonical import normal


@dataclass(frozen=True, slots=True)
class Shortfalls:
    """How an episode falls short of gold; false if it does not.

    Attributes:
        missing: required gold calls that no call equals, one to one.
        extra: calls beyond those that equal a gold call, one to one.
        broken: required gold calls whose edges are broken, each counted by the share of its edges.
        answer: the task has an answer, and the closing message does not hold it.
    """

    missing: int
    extra: int
    broken: float
    answer: bool = False

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.broken or self.answer)


def find_shortfalls(task: Task, episode: Episode) -> Shortfalls:
    """Compare an episode with gold, call by call and edge by edge."""
    calls = task.gold_calls
    same = derived(task, CallIdentities)
    required = Counter(same.of(c.name, c.arguments) for c in calls if not c.optional)
    allowed = Counter(same.gold)
    made = Counter(same.of(c.name, c.arguments) for c in episode.calls)
    missing = sum((required - made).values())
    extra = sum((made - allowed).values())
    broken = sum(_broken_share(task, episode, n) for n, c in enumerate(calls) if not c.optional)
    given = read_outcome(task, episode, AnswerRule()).answer
    return Shortfalls(missing, extra, broken, answer=given is not None and given < 1.0)


def brings_the_same(gold: Episode, episode: Episode) -> bool:
    """Whether an episode has every result of gold's, the same state, and other calls than gold.

    Results are compared as texts, each with its tool, one to one; more results are no matter.
    """
    wanted, found = (
        Counter((e.call.name, e.result.text) for turn in one.turns for e in turn.exchanges)
        for one in (gold, episode)
    )
    asked, made = (
        [[(call.name, call.arguments) for call in turn.calls] for turn in one.turns]
        for one in (gold, episode)
    )
    return not wanted - found and gold.state == episode.state and asked != made


def _broken_share(task: Task, episode: Episode, number: int) -> float:
    """Share of a gold call's edges that the episode breaks.

    What must come after a follow-up has one edge more.
    """
    gold, followups = task.gold_calls[number], task.followups_before(number)
    rules = derived(task, CallIdentities).rules(gold.name)
    given = stated(gold.arguments, rules)
    data = [
        pointer
        for pointer, ref in gold.provenance.items()
        if ref.producers() and find(given, normal(pointer)) is not None
    ]
    state = gold.state_dependencies()
    edges = len(data) + len(state) + bool(followups)
    if not edges:
        return 0.0
    broken = sum(not _carried(task, episode, gold, pointer) for pointer in data)
    broken += sum(not _runs_after(task, episode, gold, task.gold_calls[n]) for n in state)
    broken += followups > 0 and not _made_after(task, episode, gold, followups)
    return broken / edges


def _made_after(task: Task, episode: Episode, gold: GoldCall, followups: int) -> bool:
    """Whether a call of gold's tool was made after so many follow-ups."""
    return any(
        heard >= followups and any(call.name == gold.name for call in turn.calls)
        for turn, heard in zip(episode.turns, episode.followups_heard, strict=True)
    )


def _carried(task: Task, episode: Episode, gold: GoldCall, pointer: str) -> bool:
    """Whether some call of gold's tool has gold's value at ``pointer`` and could have read it."""
    wanted = find(gold.arguments, pointer)
    rules = derived(task, CallIdentities).rules(gold.name)
    inside = rules.at(pointer) if rules is not None else None
    shown = [_shown(task.query)]
    for turn in episode.turns:
        for call in turn.calls:
            if call.name != gold.name:
                continue
            value = find(call.arguments, pointer)
            if values_equal(value, wanted, inside) and _is_shown(value, shown):
                return True
        shown += [
            _shown(exchange.result.text)
            for exchange in turn.exchanges
            if exchange.result.error is None or not exchange.result.error.echoes
        ]
    return False


def _runs_after(task: Task, episode: Episode, gold: GoldCall, producer: GoldCall) -> bool:
    """Whether ``gold`` was made after a successful call equal to ``producer``.

    Where no call equals ``gold``, any call of its tool is taken for it: wrong arguments are
    counted elsewhere.
    """
    same = derived(task, CallIdentities)
    wanted = same.of(gold.name, gold.arguments)
    before = same.of(producer.name, producer.arguments)
    keys = [same.of(call.name, call.arguments) for call in episode.calls]
    exact = wanted in keys
    ready = False
    for call, key in zip(episode.calls, keys, strict=True):
        if ready and (key == wanted if exact else call.name == gold.name):
            return True
        ready = ready or (call.ok and key == before)
    return False


def _is_shown(value: Json, shown: Sequence[str]) -> bool:
    """Whether each comma-joined piece of each leaf of ``value`` is in one of the texts."""
    pieces = [str(canonical(leaf)) for _, leaf in leaves(value)]
    pieces = [part.strip() for piece in pieces for part in piece.split(",")]
    return all(any(piece in text for text in shown) for piece in pieces)


@lru_cache(maxsize=512)
def _shown(text: str) -> str:
    """A text, and below it the values of its JSON without escapes and number spellings."""
    try:
        values = [str(canonical(leaf)) for _, leaf in leaves(json.loads(text))]
    except (ValueError, RecursionError):
        return text
    return "\n".join([text, *values])
