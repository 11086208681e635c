"""Property 11: a guess never earns more than not guessing when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import assume
from hypothesis import strategies as st

from orch_env import Episode, ToolCall, make_reward
from orch_env.types.json import JsonObject
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import OTHER_TOOL, World, answered
from tests.orch_env.reward_worlds import abstentions, worlds
from tests.orch_env.test_reward_properties_dataflow import (
    consumers,
    draw_mess,
    first_and_rest,
    hidden_inputs,
)

GRADUATED = make_reward("graduated")
NEAR = (str.upper, str.title, lambda text: f" {text} ", lambda text: text.replace("o", "\u00f3"))


def total(world: World, turns: Sequence[Sequence[ToolCall]]) -> float:
    return paid(world, world.play(turns, world.gold_final()))


def paid(world: World, episode: Episode) -> float:
    return GRADUATED(world.task, episode).total


def required(world: World) -> list[int]:
    return [n for n, call in enumerate(world.task.gold_calls) if not call.optional]


def flat_gold(world: World) -> list[ToolCall]:
    return [ToolCall(call.name, call.arguments) for call in world.task.gold_calls]


def less(guessed: float, waited: float) -> bool:
    """Strictly less, where there was anything to lose."""
    return guessed < waited or guessed == waited == 0.0


def test_11_a_wrong_answer_earns_no_more_than_none(examples: int) -> None:
    def body(world: World, data: st.DataObject, guess: str) -> None:
        assume(world.task.answer is not None)
        turns = draw_mess(world, data) if world.task.gold_calls else []
        wrong, none = (paid(world, world.play(turns, final)) for final in (guess, None))
        assert wrong <= none

    guesses = st.sampled_from(["nonsense", "41", "yes", "Grand Palace", "", "no idea"])
    hold(examples, body, st.one_of(worlds(), worlds(), abstentions()), st.data(), guesses)


def test_11_a_second_wrong_guess_earns_less_than_one(examples: int) -> None:
    def body(world: World, data: st.DataObject, alone: bool) -> None:
        flat, number = flat_gold(world), data.draw(st.sampled_from(required(world)), "call")
        guesses = [
            replace(flat[number], arguments={**flat[number].arguments, "key": f"invented{i}"})
            for i in range(2)
        ]
        right = data.draw(st.booleans(), "the first guess is right")
        first = flat[number] if right else guesses[0]
        before, after = flat[:number], [[call] for call in flat[number + 1 :]]
        once = total(world, [*([c] for c in before), [first], *after])
        pair = [[first], [guesses[1]]] if alone and right else [[first, guesses[1]]]
        assert less(total(world, [*([c] for c in before), *pair, *after]), once)

    hold(examples, body, worlds(keyed=True, optional=False), st.data(), st.booleans())


def test_11_a_near_copy_earns_less_than_leaving_the_call_out(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        flat = flat_gold(world)
        pairs = [(a, b) for a in required(world) for b in required(world)
                 if a != b and flat[a].name == flat[b].name]  # fmt: skip
        assume(pairs)
        kept, left_out = data.draw(st.sampled_from(pairs), "kept, left out")
        turns = [[call] for n, call in enumerate(flat) if n != left_out]
        change = data.draw(st.sampled_from(NEAR), "copy")
        arguments: JsonObject = {**flat[kept].arguments, "key": change(flat[kept].arguments["key"])}
        if data.draw(st.booleans(), "an argument more"):
            arguments["unheard_of"] = None
        copied = [*turns, [ToolCall(flat[kept].name, arguments)]]
        assert less(total(world, copied), total(world, turns))

    hold(examples, body, worlds(min_calls=3, keyed=True), st.data())


def test_11_acting_before_the_user_agreed_earns_less_than_waiting(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        steps = len(world.task.gold)
        asks = data.draw(st.integers(0, steps - 1), "first step that waits")
        agreed = replace(
            world.task,
            followups=("Yes, please.",),
            after_followup=(0,) * asks + (1,) * (steps - asks),
        )
        waits = replace(world, task=agreed)
        turns = waits.gold_turns()
        said = data.draw(st.integers(asks + 1, steps), "said before step")
        assert total(waits, [*turns[:asks], [], *turns[asks:]]) == 1.0
        needed = [c for step in waits.task.gold[asks:said] for c in step if not c.optional]
        early = total(waits, [*turns[:said], [], *turns[said:]])
        assert early < 1.0 if needed else early <= 1.0

    hold(examples, body, worlds(), st.data())


def test_11_an_echoed_value_earns_less_than_the_bare_guess(examples: int) -> None:
    def body(world: World, data: st.DataObject, whole: bool) -> None:
        assume(consumers(world))
        number = data.draw(st.sampled_from(consumers(world)), "consumer")
        consumer, rest = first_and_rest(world, number)
        values = hidden_inputs(world, number)
        asked = {"about": values if whole else "tell me of " + " and ".join(map(str, values))}
        turns = [[ToolCall(OTHER_TOOL, asked)], [consumer], *rest]
        echoes = [json.dumps({"asked": asked, "seen": values}), *[None] * sum(map(len, turns[1:]))]
        echoed = answered(world.play(turns, world.gold_final()), echoes)
        assert less(paid(world, echoed), total(world, turns[1:]))

    hold(examples, body, worlds(min_calls=2), st.data(), st.booleans())


def test_11_every_foreign_record_costs_more(examples: int) -> None:
    def body(world: World, data: st.DataObject, records: int) -> None:
        assume(world.task.final_state is not None)
        kept = data.draw(st.integers(0, len(world.task.gold)), "turns")
        episode = world.play(world.gold_turns()[:kept], world.gold_final())
        totals = [
            paid(world, replace(episode, state={**episode.state, **_foreign(count)}))
            for count in range(records + 1)
        ]
        assert all(less(later, earlier) for earlier, later in pairwise(totals))

    hold(examples, body, worlds(), st.data(), st.integers(1, 6))


def _foreign(count: int) -> JsonObject:
    return {"side": {"log": {str(n): {"touched": True} for n in range(count)}}} if count else {}
