"""Property 10: an honest alternative that brings the same consequences loses little.

It spells what the user said in another way, and its results are gold's. What later calls take from
a result shows that it did what was asked, so the calls that are varied are those that others take
from.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import assume
from hypothesis import strategies as st

from orch_env import GoldCall, Provenance, ToolCall, make_reward
from orch_env.types.json import JsonObject
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import OTHER_TOOL, World, answered
from tests.orch_env.reward_worlds import worlds
from tests.orch_env.test_reward_properties_exploits import honest_half
from tests.orch_env.test_reward_properties_fair import draw_order

GRADUATED = make_reward("graduated")
GRAIN = 2.0**-40
MOST_LOST = 0.15

Vary = Callable[[GoldCall], JsonObject]


def _key(changed: Callable[[str], str]) -> Vary:
    return lambda call: {**call.arguments, "key": changed(call.arguments["key"])}


def _without_constants(call: GoldCall) -> JsonObject:
    """Leaves out what neither the user nor a result said."""
    told = {pointer.split("/")[1] for pointer, ref in call.provenance.items() if _is_told(ref.kind)}
    return {name: value for name, value in call.arguments.items() if name in told}


def _is_told(kind: Provenance) -> bool:
    return kind is not Provenance.CONSTANT


def _other_date(call: GoldCall) -> JsonObject:
    dates = {"2024-10-13": "13 October 2024", "10:00": "10 am"}
    note = call.arguments.get("note")
    return {**call.arguments, "note": dates.get(note, note)} if note else dict(call.arguments)


SPELLINGS: dict[str, Vary] = {
    "case": _key(str.upper),
    "blanks": _key(lambda text: f"  {text} "),
    "accents": _key(lambda text: text.replace("o", "\u00f3")),
    "an added word": _key(lambda text: f"{text} centre"),
    "another format of a date": _other_date,
    "constants left out": _without_constants,
}


def taken_from(world: World) -> set[int]:
    """Required gold calls that others take a value from."""
    calls = world.task.gold_calls
    sources = {n for call in calls for ref in call.provenance.values() for n in ref.producers()}
    return {n for n in sources if not calls[n].optional}


def play_varied(world: World, order: list[int], varied: dict[int, list[Vary]], look: bool) -> float:
    """The total of gold's calls, one a message, some of them varied, each with gold's result."""
    turns: list[list[ToolCall]] = []
    results: list[str | None] = []
    if look:
        turns.append([ToolCall(OTHER_TOOL, {"for": "today"})])
        results.append('{"sun": true}')
    for number in order:
        call = world.task.gold_calls[number]
        for vary in varied.get(number, []):
            call = GoldCall(call.name, vary(call), provenance=call.provenance)
        turns.append([ToolCall(call.name, call.arguments)])
        results.append(world.results[number])
    episode = answered(world.play(turns, world.gold_final()), results)
    return GRADUATED(world.task, episode).total


def half_of(world: World) -> float:
    return GRADUATED(world.task, world.play(honest_half(world), "I have done half of it.")).total


def honest_worlds() -> st.SearchStrategy[World]:
    return worlds(min_calls=2, goals=False, keyed=True)


def test_10_one_honest_variation_loses_at_most_015_and_beats_half(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(taken_from(world) and sum(not c.optional for c in world.task.gold_calls) > 1)
        kind = data.draw(st.sampled_from([*SPELLINGS, "order", "look-up"]), "variation")
        order = list(range(len(world.task.gold_calls)))
        if kind == "order":
            order = draw_order(world, data)
        vary = [SPELLINGS[kind]] if kind in SPELLINGS else []
        earned = play_varied(
            world, order, dict.fromkeys(taken_from(world), vary), kind == "look-up"
        )
        assert earned >= 1.0 - MOST_LOST - GRAIN, kind
        assert earned > half_of(world), kind
        if kind == "order":
            assert earned == 1.0

    hold(examples, body, honest_worlds(), st.data())


def test_10_several_honest_variations_beat_half(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(taken_from(world) and sum(not c.optional for c in world.task.gold_calls) > 1)
        some = st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=1, max_size=3, unique=True)
        varied = {
            number: [SPELLINGS[kind] for kind in data.draw(some, "variations")]
            for number in sorted(taken_from(world))
        }
        look = data.draw(st.booleans(), "a look-up")
        earned = play_varied(world, draw_order(world, data), varied, look)
        assert earned >= (1.0 - MOST_LOST) * 0.98 - GRAIN
        assert earned > half_of(world)

    hold(examples, body, honest_worlds(), st.data())


def test_10_gold_s_words_are_paid_more_than_half_where_nothing_is_taken(examples: int) -> None:
    same = [SPELLINGS[kind] for kind in ("case", "blanks", "accents")]

    def body(world: World, data: st.DataObject) -> None:
        required = [n for n, call in enumerate(world.task.gold_calls) if not call.optional]
        assume(len(required) > 1)
        varied = {n: [data.draw(st.sampled_from(same))] for n in required}
        order = list(range(len(world.task.gold_calls)))
        assert play_varied(world, order, varied, False) > half_of(world)

    hold(examples, body, honest_worlds(), st.data())


def test_10_a_wrong_value_of_the_same_shape_is_paid_less(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(taken_from(world))
        number = data.draw(st.sampled_from(sorted(taken_from(world))), "call")
        order = list(range(len(world.task.gold_calls)))
        wrong = play_varied(world, order, {number: [_key(lambda _: "banana")]}, False)
        for kind in ("case", "blanks", "accents", "an added word"):
            assert play_varied(world, order, {number: [SPELLINGS[kind]]}, False) > wrong

    hold(examples, body, honest_worlds(), st.data())
