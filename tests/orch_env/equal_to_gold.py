"""Says by itself whether an episode is what the reward must call equal to gold.

The reward works with shares and an assignment; this looks for a perfect pairing outright, over all
ways to pair equal calls, with a reading of its own of what a result shows. It serves generated
worlds only, in which every value that flows is a word or number of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence

from orch_env.types import Episode, ToolCall, ValueRef
from orch_env.types.json import Json, resolve
from tests.orch_env.reward_world import World


def equals_gold(world: World, episode: Episode) -> bool:
    """Whether the episode does what gold does, up to what is as good.

    All required calls and none but gold's, each once, all successful; every value that comes from
    an earlier output seen before it is used; everything that must have happened before, before;
    gold's answer and gold's final state.
    """
    made = [(turn, call) for turn, t in enumerate(episode.turns) for call in t.calls]
    if any(call.error is not None for _, call in made):
        return False
    task = world.task
    if task.answer is not None and episode.final != world.gold_final():
        return False
    if task.final_state is not None and episode.state != task.final_state:
        return False
    return any(
        all(_in_place(world, episode, made, pairing, at) for at in range(len(made)))
        for pairing in _pairings(world, [call for _, call in made])
    )


def broken_share(world: World, episode: Episode) -> float:
    """How many required gold calls an order breaks, each by the share of its edges that it breaks.

    For episodes that make gold's calls, each once. With equal gold calls it is the smallest share
    over the ways to pair them.
    """
    made = [(turn, call) for turn, t in enumerate(episode.turns) for call in t.calls]
    return min(
        sum(
            _broken(world, episode, made, pairing, at)
            for at in range(len(made))
            if not world.task.gold_calls[pairing[at]].optional
        )
        for pairing in _pairings(world, [call for _, call in made])
    )


def _broken(
    world: World,
    episode: Episode,
    made: Sequence[tuple[int, ToolCall]],
    pairing: dict[int, int],
    at: int,
) -> float:
    gold = world.task.gold_calls[pairing[at]]
    state = gold.state_dependencies()
    sources = [(p, ref) for p, ref in gold.provenance.items() if ref.producers()]
    broken = sum(not _ran_before(world, made, at, producer) for producer in state)
    for pointer, ref in sources:
        pieces = _pieces(resolve(gold.arguments, pointer), ref)
        broken += not all(_seen(world, episode, made[at][0], piece) for piece in pieces)
    return broken / (len(state) + len(sources)) if state or sources else 0.0


def _pairings(world: World, made: Sequence[ToolCall]) -> Iterator[dict[int, int]]:
    """Every way to give each made call an equal gold call of its own: position -> number."""
    gold = world.task.gold_calls
    options = [[n for n, other in enumerate(gold) if world.same(call, other)] for call in made]
    required = {n for n, call in enumerate(gold) if not call.optional}
    for numbers in itertools.product(*options):
        if len(set(numbers)) == len(numbers) and required <= set(numbers):
            yield dict(enumerate(numbers))


def _in_place(
    world: World,
    episode: Episode,
    made: Sequence[tuple[int, ToolCall]],
    pairing: dict[int, int],
    at: int,
) -> bool:
    gold = world.task.gold_calls[pairing[at]]
    if not all(_ran_before(world, made, at, n) for n in gold.state_dependencies()):
        return False
    return all(
        _seen(world, episode, made[at][0], piece)
        for pointer, ref in gold.provenance.items()
        for piece in _pieces(resolve(gold.arguments, pointer), ref)
    )


def _ran_before(world: World, made: Sequence[tuple[int, ToolCall]], at: int, producer: int) -> bool:
    """Whether a call equal to a gold call ran before; of equal gold calls any one will do."""
    gold = world.task.gold_calls[producer]
    return any(call.error is None and world.same(call, gold) for _, call in made[:at])


def _pieces(value: Json, ref: ValueRef) -> list[Json]:
    if not ref.producers():
        return []
    return value.split(",") if ref.parts else [value]


def _seen(world: World, episode: Episode, turn: int, value: Json) -> bool:
    """Whether the query or the result of an earlier turn shows a value."""
    texts = [world.task.query]
    for earlier in episode.turns[:turn]:
        texts += [
            result
            for call, result in zip(earlier.calls, earlier.results, strict=True)
            if call.error is None
        ]
    return any(str(value) in _words(text) for text in texts)


def _words(text: str) -> set[str]:
    with contextlib.suppress(ValueError):  # not JSON: its words as they stand
        text = " ".join(_scalars(json.loads(text)))
    return set(re.split(r"[\s,]+", text))


def _scalars(value: Json) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _scalars(item)
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(item)
    else:
        yield str(value)
