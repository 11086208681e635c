"""What is wrong with an episode, found without any reward: the ground truth of an attack.

The hard decision: a wrong is counted only where it is certain. A value counts as visible if its
text stands *anywhere* in the query or in an earlier result, so that an edge called broken here is
broken under any sensible reading, and a reward that pays for it cannot plead a matter of taste.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from orch_env.types import Episode, ErrorType, GoldCall, Task, ToolCall
from orch_env.types.json import Json, leaves, resolve
from orch_env.values import call_key, canonical, values_equal

_ECHOES = frozenset(ErrorType) - {ErrorType.TOOL_ERROR, ErrorType.NOT_FOUND}
"""Errors of the environment itself: they repeat what the model wrote and so show nothing."""


@dataclass(frozen=True, slots=True)
class Wrongs:
    """How an episode falls short of gold.

    Attributes:
        missing: required gold calls that no call equals, one to one.
        extra: calls beyond those that equal a gold call, one to one.
        broken: required gold calls whose edges are broken, each counted by the share of its edges.
    """

    missing: int
    extra: int
    broken: float

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.broken)


def wrongs_of(task: Task, episode: Episode) -> Wrongs:
    """Hold an episode against gold, call by call and edge by edge."""
    calls = task.gold_calls
    required = Counter(call_key(c.name, c.arguments) for c in calls if not c.optional)
    allowed = Counter(call_key(c.name, c.arguments) for c in calls)
    made = Counter(_key(call) for call in episode.calls)
    missing = sum((required - made).values())
    extra = sum((made - allowed).values())
    broken = sum(_broken_share(task, episode, call) for call in calls if not call.optional)
    return Wrongs(missing, extra, broken)


def _key(call: ToolCall) -> bytes:
    """Identity of a call; one that cannot be hashed (nested too deeply) equals no gold call."""
    try:
        return call_key(call.name, call.arguments)
    except (RecursionError, ValueError, OverflowError):
        return b""


def _broken_share(task: Task, episode: Episode, gold: GoldCall) -> float:
    data = [pointer for pointer, ref in gold.provenance.items() if ref.producers()]
    state = gold.state_dependencies()
    if not data and not state:
        return 0.0
    broken = sum(not _carried(task, episode, gold, pointer) for pointer in data)
    broken += sum(not _runs_after(episode, gold, task.gold_calls[number]) for number in state)
    return broken / (len(data) + len(state))


def _carried(task: Task, episode: Episode, gold: GoldCall, pointer: str) -> bool:
    """Whether some call of gold's tool has gold's value there and could have read it."""
    wanted = _at(gold.arguments, pointer)
    shown = [_shown(task.query)]
    for turn in episode.turns:
        for call in turn.calls:
            if call.name != gold.name:
                continue
            value = _at(call.arguments, pointer)
            if values_equal(value, wanted) and _stands_in(value, shown):
                return True
        shown += [
            _shown(exchange.result.text)
            for exchange in turn.exchanges
            if exchange.result.error not in _ECHOES
        ]
    return False


def _runs_after(episode: Episode, gold: GoldCall, producer: GoldCall) -> bool:
    """Whether ``gold`` stands after a successful call equal to ``producer``.

    A call of its tool stands for ``gold`` where none is equal to it: its arguments are another
    wrong.
    """
    wanted = call_key(gold.name, gold.arguments)
    before = call_key(producer.name, producer.arguments)
    keys = [_key(call) for call in episode.calls]
    exact = wanted in keys
    ready = False
    for call, key in zip(episode.calls, keys, strict=True):
        if ready and (key == wanted if exact else call.name == gold.name):
            return True
        ready = ready or (call.ok and key == before)
    return False


def _at(arguments: Json, pointer: str) -> Json:
    try:
        return resolve(arguments, pointer)
    except KeyError:
        return None


def _stands_in(value: Json, shown: Sequence[str]) -> bool:
    pieces = [str(canonical(leaf)) for _, leaf in leaves(value)]
    pieces = [part.strip() for piece in pieces for part in piece.split(",")]
    return all(any(piece in text for text in shown) for piece in pieces)


@lru_cache(maxsize=512)
def _shown(text: str) -> str:
    """A text with the values of its JSON beside it, escapes and number spellings undone."""
    try:
        values = [str(canonical(leaf)) for _, leaf in leaves(json.loads(text))]
    except (ValueError, RecursionError):
        return text
    return "\n".join([text, *values])
