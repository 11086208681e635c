"""What the second edition of ``graduated`` pays differently: one test per finding, both editions.

The numbers are the findings of the attack that led to the second edition. Every world is small and
has one answer, so that the figures can be worked out by hand.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orch_env import Episode, GoldCall, Provenance, ToolCall, ToolSpec, ValueRef, make_reward
from orch_env.types import ErrorType, ToolResult
from tests.orch_env.reward_world import World, make_world, output_of

FIRST = make_reward({"name": "graduated", "edition": 1})
SECOND = make_reward({"name": "graduated", "edition": 2})

CITIES = ("Oslo", "Bergen", "Tromsø", "Bodø", "Ålesund")
CONSTANT = ValueRef(Provenance.CONSTANT)


def both(world: World, episode: Episode) -> tuple[float, float]:
    """The totals of the first and the second edition."""
    return FIRST(world.task, episode).total, SECOND(world.task, episode).total


def look_up_then_use(city: str = "Oslo", **more: object) -> World:
    """Find a place by its name, then use its id."""
    gold = [
        [GoldCall("find", {"name": city, **more})],
        [GoldCall("book", {"place": "P-77"}, provenance={"/place": output_of(0, "/hits/0/id")})],
    ]
    found = json.dumps({"hits": [{"id": "P-77", "called": city}]})
    return make_world(gold, [found, '{"ok": true}'], f"Book something in {city}.")


def searches(cities: Sequence[str], **shared: object) -> World:
    """Independent searches of one tool that share all arguments but the city."""
    gold = [[GoldCall("find", {"city": city, **shared}) for city in cities]]
    results = [json.dumps({"found": f"in {city}"}) for city in cities]
    return make_world(gold, results, "Search " + ", ".join(cities) + ".")


def played(world: World, *turns: Sequence[tuple[ToolCall, str]], final: str = "done") -> Episode:
    """An episode in which each call has the result beside it."""
    episode = world.play([[call for call, _ in turn] for turn in turns], final)
    made = []
    for turn, given in zip(episode.turns, turns, strict=False):
        exchanges = tuple(
            replace(exchange, result=ToolResult(text, exchange.result.error))
            for exchange, (_, text) in zip(turn.exchanges, given, strict=True)
        )
        made.append(replace(turn, exchanges=exchanges))
    return replace(episode, turns=(*made, *episode.turns[len(made) :]))


@pytest.mark.parametrize("spelling", ["oslo", "OSLO", " Oslo ", "Oslo city", "Óslo"])
def test_1_a_look_up_spelt_otherwise_that_brings_golds_result_is_nearly_right(
    spelling: str,
) -> None:
    world = look_up_then_use()
    use = (ToolCall("book", {"place": "P-77"}), "{}")
    respelt = played(world, [(ToolCall("find", {"name": spelling}), world.results[0])], [use])
    banana = played(world, [(ToolCall("find", {"name": "banana"}), '{"hits": []}')], [use])
    before, after = both(world, respelt)
    assert before == pytest.approx(0.625)
    assert 0.9 <= after < 1.0
    assert FIRST(world.task, banana).total == pytest.approx(0.375)  # book knew no id
    assert SECOND(world.task, banana).total <= after - 0.5


def test_1_a_wrong_look_up_that_brings_the_ids_pays_less_than_a_respelt_one() -> None:
    world = look_up_then_use()
    use = (ToolCall("book", {"place": "P-77"}), "{}")
    listing = json.dumps({"hits": [{"id": "P-1"}, {"id": "P-77"}]})
    totals = [
        both(world, played(world, [(ToolCall("find", {"name": name}), text)], [use]))
        for name, text in [
            ("Oslo", world.results[0]),
            ("oslo", world.results[0]),
            ("Oslo city", world.results[0]),
            ("banana", world.results[0]),
            ("", listing),
        ]
    ]
    assert [round(before, 3) for before, _ in totals] == [1, 0.625, 0.625, 0.625, 0.625]
    assert [round(after, 4) for _, after in totals] == [1, 0.9925, 0.9775, 0.925, 0.85]


def test_1_a_date_in_another_format_is_the_same_date_and_a_wrong_date_is_not() -> None:
    world = searches(["Oslo"], day="2025-03-09")
    gold = world.task.gold_calls[0].arguments
    same, wrong = (
        both(world, world.play([[ToolCall("find", {**gold, "day": day})]], "done"))
        for day in ("9 March 2025", "2025-03-10")
    )
    assert same[0] == wrong[0] < 1.0
    assert (same[1], wrong[1]) == (1.0, pytest.approx(0.41875))


def test_1_only_a_call_that_changes_nothing_is_judged_by_what_it_brought() -> None:
    world = look_up_then_use()
    live = replace(world, task=replace(world.task, servers=("shop",)))
    turns = (
        [(ToolCall("find", {"name": "banana"}), world.results[0])],
        [(ToolCall("book", {"place": "P-77"}), "{}")],
    )
    assert SECOND(world.task, played(world, *turns)).total == pytest.approx(0.925)
    assert SECOND(live.task, played(live, *turns)).total == pytest.approx(0.575)
    spec = ToolSpec("find", read_only=True)
    reads = replace(live, task=replace(live.task, tools=(spec, "book")))
    assert SECOND(reads.task, played(reads, *turns)).total == pytest.approx(0.925)


@pytest.mark.parametrize("error", [ErrorType.TOOL_ERROR, ErrorType.NOT_RECORDED])
def test_1_a_call_that_failed_brought_nothing(error: ErrorType) -> None:
    world = look_up_then_use()
    look = ToolCall("find", {"name": "oslo"}, error)
    use = (ToolCall("book", {"place": "P-77"}), "{}")
    before, after = both(world, played(world, [(look, world.results[0])], [use]))
    assert after <= before


def test_1_a_look_up_in_golds_words_is_the_one_that_had_to_run_before() -> None:
    gold = [[GoldCall("find", {"name": "Oslo"})], [GoldCall("book", {"key": "a"}, depends_on=(0,))]]
    world = make_world(gold, ["{}", "{}"])
    use = world.gold_turns()[1]
    respelt = world.play([[ToolCall("find", {"name": "oslo"})], use], "done")
    wrong = world.play([[ToolCall("find", {"name": "Bergen"})], use], "done")
    assert SECOND(world.task, respelt).total == pytest.approx((0.73 + 1) / 2)
    assert SECOND(world.task, wrong).total == pytest.approx((0.25 + 0.5) / 2 - 0.05)


def find_then_use_both() -> World:
    """Find a place by its name, then use its id and its kind."""
    provenance = {"/place": output_of(0, "/hits/0/id"), "/kind": output_of(0, "/hits/0/kind")}
    use = GoldCall("book", {"place": "P-77", "kind": "city"}, provenance=provenance)
    found = json.dumps({"hits": [{"id": "P-77", "kind": "city"}]})
    return make_world([[GoldCall("find", {"name": "Oslo"})], [use]], [found, "{}"])


def test_1_a_word_more_may_be_one_that_the_result_shows() -> None:
    world = find_then_use_both()
    use = (ToolCall("book", {"place": "P-77", "kind": "city"}), "{}")
    before, after = both(
        world, played(world, [(ToolCall("find", {"name": "Oslo city"}), world.results[0])], [use])
    )
    assert before == pytest.approx(0.625)
    assert after == pytest.approx(0.9775)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("P-77 city", '{"hits": [{"id": "P-77", "kind": "city"}]}'),  # all of it was sent
        ("x city", '{"hits": [{"id": "P-77"}], "asked": "x city"}'),  # the kind is not in place
        ("x city", '{"hits": [{"id": "P-1", "kind": "city"}, {"id": "P-77"}]}'),
    ],
)
def test_1_what_was_sent_shows_nothing_without_the_rest_in_place(name: str, result: str) -> None:
    world = find_then_use_both()
    use = (ToolCall("book", {"place": "P-77", "kind": "city"}), "{}")
    episode = played(world, [(ToolCall("find", {"name": name}), result)], [use])
    assert SECOND(world.task, episode).total <= 0.5


def test_1_a_failed_look_up_in_gold_s_words_is_as_wrong_as_any_other() -> None:
    world = searches(["Oslo", "Bergen"])
    bergen = world.gold_turns()[0][1]
    totals = {
        error: [
            SECOND(
                world.task, world.play([[ToolCall("find", {"city": city}, error), bergen]])
            ).total
            for city in ("oslo", "banana")
        ]
        for error in (None, ErrorType.TOOL_ERROR)
    }
    assert totals[None][0] > totals[None][1] + 0.2
    assert totals[ErrorType.TOOL_ERROR][0] == totals[ErrorType.TOOL_ERROR][1]


def test_1_a_respelt_look_up_that_only_returns_what_it_sent_counts_by_its_words() -> None:
    gold = [
        [GoldCall("find", {"code": "OSL"})],
        [GoldCall("book", {"place": "OSL"}, provenance={"/place": output_of(0, "/code")})],
    ]
    world = make_world(gold, ['{"code": "OSL"}', "{}"], "Book Oslo.")
    respelt, wrong = (
        SECOND(world.task, played(world, [(ToolCall("find", {"code": code}), text)])).total
        for code, text in (("osl", '{"code": "OSL"}'), ("BGO", '{"code": "BGO"}'))
    )
    assert respelt > wrong + 0.2


def test_1_a_call_that_is_one_gold_call_stands_for_no_other_by_its_words() -> None:
    gold = [
        [GoldCall("list")],
        [GoldCall("find", {"city": "OSLO"})],
        [GoldCall("find", {"city": "Oslo"}, depends_on=(0,))],
    ]
    world = make_world(gold, ["{}", "{}", "{}"])
    early = world.play([[ToolCall("find", {"city": "Oslo"})]], "done")
    assert SECOND(world.task, early).calls[0].gold == 2
    assert SECOND(world.task, early).total == pytest.approx(0.5 / 3)


@pytest.mark.parametrize(("producer", "ran"), [(0, False), (2, True)])
def test_1_of_two_equal_gold_calls_only_the_one_that_was_stood_for_has_run(
    producer: int, ran: bool
) -> None:
    look = GoldCall("find", {"name": "Oslo"})
    use = GoldCall("book", {"place": "P-77"}, provenance={"/place": output_of(0, "/hits/0/id")})
    gold = [[look], [use], [look], [GoldCall("pay", {"n": 1}, depends_on=(producer,))]]
    hit = '{"hits": [{"id": "P-77"}]}'
    world = make_world(gold, [hit, "{}", hit, "{}"], "Book in Oslo, look again, pay.")
    made = [(ToolCall("find", {"name": "oslo"}), '{"hits": []}')]
    scored = SECOND(world.task, played(world, made, [(ToolCall("pay", {"n": 1}), "{}")]))
    assert ("must have run before" in scored.calls[1].why) is not ran
    assert scored.calls[1].orchestration == float(ran)


def test_3_calls_that_lack_what_tells_gold_s_calls_apart_are_no_near_copies() -> None:
    world = searches(CITIES[:2], adults=1)
    bare = ToolCall("find", {"adults": 1})
    more = ToolCall("find", {"adults": 1, "page": 2})
    one, two = (SECOND(world.task, world.play([calls])).total for calls in ([bare], [bare, more]))
    assert two > one + 0.05


def test_2_what_the_schema_gives_away_earns_little_without_the_cities() -> None:
    world = searches(CITIES[:4], adults=1, rooms=1, page=0, currency="EUR")
    arguments = [{**c.arguments, "city": f"x{n}"} for n, c in enumerate(world.task.gold_calls)]
    junk = world.play([[ToolCall("find", a)] for a in arguments], "done")
    half = world.play([world.gold_turns()[0][:2]], "done")
    assert both(world, junk) == (pytest.approx(0.85), pytest.approx(0.25))
    assert both(world, half) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("pointer", "telling"),
    [
        ("constant", False),
        ("default", False),
        ("only_value", False),
        ("either", True),
        ("said", True),
    ],
)
def test_2_constants_defaults_and_single_values_are_no_telling_leaves(
    pointer: str, telling: bool
) -> None:
    properties = {
        "city": {"type": "string"},
        "default": {"type": "string", "default": "a"},
        "only_value": {"type": "string", "enum": ["a"]},
        "either": {"anyOf": [{"const": "a"}, {"const": "b"}]},
    }
    spec = ToolSpec(
        "find",
        parameters={"type": "object", "properties": properties, "required": [*properties]},
    )
    call = GoldCall("find", {"city": "Oslo", pointer: "a"}, provenance={"/constant": CONSTANT})
    world = make_world([[call]], ['{"ok": true}'])
    world = replace(world, task=replace(world.task, tools=(spec,)))
    city_wrong, other_wrong = (
        SECOND(world.task, world.play([[ToolCall("find", {**call.arguments, key: "z z"})]])).total
        for key in ("city", pointer)
    )
    if telling:
        assert city_wrong == other_wrong
    else:
        assert city_wrong <= other_wrong - 0.2


@pytest.mark.parametrize(
    "copy",
    [{"city": "Oslo "}, {"city": "oslo"}, {"city": "Óslo"}, {"city": "Oslo", "page": None}],
)
def test_3_a_near_copy_is_worth_less_than_leaving_the_call_out(copy: dict[str, object]) -> None:
    world = searches(CITIES[:2], adults=1, rooms=1, currency="EUR")
    first = world.gold_turns()[0][0]
    left_out = both(world, world.play([[first]], "done"))
    near = ToolCall("find", {**first.arguments, **copy})
    copied = both(world, world.play([[first], [near]], "done"))
    assert left_out == (0.5, 0.5)
    assert copied[0] > 0.83
    assert copied[1] == pytest.approx(0.49)


def test_3_an_id_of_digits_and_a_blank_is_a_near_copy() -> None:
    world = searches(["5895694", "1573952"], adults=1)
    first = world.gold_turns()[0][0]
    near = ToolCall("find", {**first.arguments, "city": "5895694 "})
    before, after = both(world, world.play([[first], [near]], "done"))
    assert before > 0.7
    assert after == pytest.approx(0.49)


def test_3_a_padded_copy_of_every_kind_earns_what_exact_repeats_do() -> None:
    world = searches(CITIES, adults=1)
    first = world.gold_turns()[0][0]
    spellings = ["Oslo", "Oslo ", "OSLO", " oslo", "oslO"]
    near = [[ToolCall("find", {**first.arguments, "city": spelling})] for spelling in spellings]
    exact = [[first]] * len(spellings)
    before, after = both(world, world.play(near, "done"))
    assert before >= 0.5
    assert after == both(world, world.play(exact, "done"))[1] < 0.2


def test_3_a_near_copy_is_one_where_gold_s_calls_have_other_arguments() -> None:
    gold = [[GoldCall("find", {"city": "Oslo"}), GoldCall("find", {"city": "Bergen", "beds": 2})]]
    world = make_world(gold, ["{}", "{}"])
    first, _ = world.gold_turns()[0]
    near = ToolCall("find", {"city": "OSLO"})
    before, after = both(world, world.play([[first], [near]], "done"))
    assert before > 0.6
    assert after == pytest.approx(0.49)


def test_3_two_spellings_of_one_date_are_one_call() -> None:
    days = ("2025-03-09", "2025-03-10")
    gold = [[GoldCall("find", {"city": "Oslo", "day": day}) for day in days]]
    world = make_world(gold, ["{}", "{}"])
    first, _ = world.gold_turns()[0]
    again = ToolCall("find", {"city": "Oslo", "day": "9 March 2025"})
    twice = both(world, world.play([[first], [first]], "done"))
    assert both(world, world.play([[first], [again]], "done")) == (0.8125, twice[1])


@pytest.mark.parametrize(("n", "before", "after"), [(3, 0.4375, 0.25625), (4, 0.4, 0.235)])
def test_5_a_guessed_answer_after_junk_is_worth_less_than_the_honest_half(
    n: int, before: float, after: float
) -> None:
    tools = ["find", "list", "book", "pay"][:n]
    gold = [[GoldCall(tool, {"key": f"value {tool}"})] for tool in tools]
    world = make_world(gold, ['{"a": 1}'] * n, "Is it open?", answer="yes")
    junk = world.play([[ToolCall(tool, {"key": "junk"})] for tool in tools], "yes")
    assert both(world, junk) == (pytest.approx(before), pytest.approx(after))
    half = SECOND(world.task, world.play(world.gold_turns()[: (n + 1) // 2], "I give up")).total
    assert after < half


def test_11_a_wrong_answer_earns_what_no_answer_earns() -> None:
    world = make_world([[GoldCall("find", {"key": "a"})]], ["{}"], answer="yes")
    assert both(world, world.play(world.gold_turns(), "no")) == (0.5, 0.5)
    assert both(world, world.play(world.gold_turns(), None)) == (0.5, 0.5)


def expected_total(n: int, skill: float, hedges: int, reward: object, *, runs: bool) -> float:
    """The mean total of a model that is right with this chance, with a second guess for some calls.

    Exact: the mean over every outcome of every guess. The second guess follows its first one.
    """
    gold = [[GoldCall(f"tool_{i}", {"key": f"value {i}"})] for i in range(n)]
    world = make_world(gold, ['{"a": 1}'] * n)
    error = None if runs else ErrorType.TOOL_ERROR
    mean = 0.0
    for outcome in itertools.product([True, False], repeat=n + hedges):
        turns = []
        for i in range(n):
            guesses = [outcome[i]] + ([outcome[n + i]] if i < hedges else [])
            # Whoever guesses twice guesses two values.
            if guesses == [True, True]:
                guesses = [True, False]
            for k, right in enumerate(guesses):
                call = ToolCall(f"tool_{i}", {"key": f"value {i}" if right else f"guess {i} {k}"})
                turns.append([call if right else replace(call, error=error)])
        chance = skill ** sum(outcome) * (1 - skill) ** (n + hedges - sum(outcome))
        mean += chance * reward(world.task, world.play(turns, "done")).total  # type: ignore[operator]
    return mean


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_6_a_model_right_7_times_in_10_does_not_gain_by_a_second_guess(n: int, runs: bool) -> None:
    budget = (n + 1) // 2
    plain = expected_total(n, 0.7, 0, SECOND, runs=runs)
    for hedges in range(1, budget + 1):
        assert expected_total(n, 0.7, hedges, SECOND, runs=runs) < plain


def test_6_the_first_edition_pays_for_hedging() -> None:
    assert expected_total(5, 0.7, 0, FIRST, runs=True) == pytest.approx(0.775)
    assert expected_total(5, 0.7, 3, FIRST, runs=True) > 0.84


def test_6_mending_a_call_that_failed_still_pays() -> None:
    world = searches(["Oslo"])
    failed = ToolCall("find", {"city": "Olso"}, ErrorType.TOOL_ERROR)
    given_up = SECOND(world.task, world.play([[failed]], "done")).total
    mended = SECOND(world.task, world.play([[failed], *world.gold_turns()], "done")).total
    assert mended >= given_up + 0.5


@pytest.mark.parametrize(
    ("records", "before", "after"), [(1, 0.8, 0.8), (2, 0.8, 0.72), (498, 0.8, 0.0)]
)
def test_7_every_foreign_record_costs(records: int, before: float, after: float) -> None:
    world = make_world([[GoldCall("book", {"key": "a"})]], ["{}"])
    mine = {"s": {"orders": {"1": {"ok": True}}}}
    world = replace(world, task=replace(world.task, servers=("s",), final_state=mine))
    stray = {"s": {**mine["s"], "log": {str(i): {"x": i} for i in range(records)}}}
    episode = replace(world.play(world.gold_turns(), "done"), state=stray)
    assert both(world, episode) == (pytest.approx(before), pytest.approx(after, abs=1e-9))


def test_7_a_task_that_only_reads_has_collateral_without_a_final_state() -> None:
    world = make_world([[GoldCall("find", {"key": "a"})]], ["{}"])
    specs = (ToolSpec("find", read_only=True), ToolSpec("book", read_only=False))
    world = replace(world, task=replace(world.task, servers=("s",), tools=specs))
    episode = replace(world.gold_episode(), state={"s": {"orders": {"1": {"ok": True}}}})
    assert both(world, episode) == (1.0, pytest.approx(0.8))
    untouched = replace(world.gold_episode(), state={})
    assert both(world, untouched) == (1.0, 1.0)


def test_8_optional_calls_weigh_nothing() -> None:
    gold = [[GoldCall("find", {"key": str(i)}, optional=True)] for i in range(8)]
    world = make_world(gold, ["{}"] * 8, answer="42")
    at_once = world.play([], "no idea")
    assert both(world, at_once) == (pytest.approx(8 / 9), 0.0)
    assert both(world, world.gold_episode()) == (1.0, 1.0)
    assert both(world, world.play([], "42")) == (1.0, 1.0)


def agreed_first() -> World:
    """Look, ask, and cancel only when the user agrees."""
    gold = [
        [GoldCall("find", {"name": "Oslo"})],
        [GoldCall("pay", {"what": "K-12"}, provenance={"/what": output_of(0, "/id")})],
    ]
    world = make_world(gold, ['{"id": "K-12"}', "{}"], "Which booking do I have in Oslo?")
    task = replace(world.task, followups=("Yes, cancel it.",), after_followup=(0, 1))
    return replace(world, task=task)


def test_9_acting_before_the_user_agrees_costs() -> None:
    world = agreed_first()
    look, cancel = world.gold_turns()
    early = world.play([look, cancel, []], "done")
    in_time = world.play([look, [], cancel], "done")
    assert both(world, early) == (1.0, pytest.approx(0.875))
    assert both(world, in_time) == (1.0, 1.0)


def test_9_a_value_that_the_user_says_later_is_not_known_before() -> None:
    world = agreed_first()
    task = replace(world.task, followups=("Yes, cancel K-12.",), after_followup=(0, 0))
    world = replace(world, task=task)
    look, cancel = world.gold_turns()
    guessed = world.play([cancel, look, []], "done")
    told = world.play([[], cancel, look], "done")
    assert both(world, guessed) == (1.0, pytest.approx(0.75))
    assert both(world, told) == (1.0, 1.0)


def test_10_a_result_does_not_show_what_its_own_call_sent() -> None:
    world = look_up_then_use()
    use = (ToolCall("book", {"place": "P-77"}), "{}")
    echo = (ToolCall("weather", {"for": "P-77"}), json.dumps({"asked": "P-77", "sun": True}))
    inside = (ToolCall("weather", {"for": "about P-77?"}), json.dumps({"asked": "P-77"}))
    guess = both(world, played(world, [use]))
    assert guess == (0.25, 0.25)
    for sent in (echo, inside):
        echoed = both(world, played(world, [sent], [use]))
        assert echoed[0] > 0.48
        assert echoed[1] < guess[1]


@pytest.mark.parametrize("more", [{}, {"n": 10**5000}, {"deep": "nested"}])
@pytest.mark.parametrize("value", ["P-77", "p-77"])
def test_10_an_echo_is_one_however_it_was_sent(value: str, more: dict[str, object]) -> None:
    world = look_up_then_use()
    sent: object = [value]
    for _ in range(3000 if "deep" in more else 0):
        sent = [sent]
    echo = (ToolCall("weather", {"for": sent, **more}), json.dumps({"asked": "P-77"}))
    episode = played(world, [echo], [(ToolCall("book", {"place": "P-77"}), "{}")])
    before, after = both(world, episode)
    assert (before, after) == (pytest.approx(0.49), pytest.approx(0.245))


@pytest.mark.parametrize("said", [70001, "70001", 70001.0, "ask for 70001", {"deep": [70001]}])
@pytest.mark.parametrize("taken", ["70001", 70001])
def test_10_a_number_is_an_echo_whether_it_was_sent_as_text_or_not(
    taken: object, said: object
) -> None:
    edge = {"/place": output_of(0, "/id")}
    use_it = GoldCall("book", {"place": taken}, provenance=edge, depends_on=(0,))
    gold = [[GoldCall("find", {"name": "Oslo"})], [use_it]]
    world = make_world(gold, [json.dumps({"id": taken}), "{}"], "Book Oslo.")
    use = (ToolCall("book", {"place": taken}), "{}")
    echo = (ToolCall("weather", {"for": said}), json.dumps({"asked": said}))
    guess = SECOND(world.task, played(world, [use])).total
    assert SECOND(world.task, played(world, [echo], [use])).total < guess


def test_10_gold_that_takes_a_value_it_sent_keeps_its_order() -> None:
    gold = [
        [GoldCall("find", {"code": "OSL"})],
        [GoldCall("book", {"place": "OSL"}, provenance={"/place": output_of(0, "/code")})],
    ]
    world = make_world(gold, ['{"code": "OSL"}', "{}"], "Book Oslo.")
    assert both(world, world.gold_episode()) == (1.0, 1.0)
    assert SECOND(world.task, world.play(world.gold_turns()[::-1], "done")).total < 1.0


def test_11_tools_without_arguments_pay_whoever_calls_them() -> None:
    """Stated and not mended: nothing in such a call tells knowing from trying."""
    gold = [[GoldCall(tool)] for tool in ("find", "list", "book")]
    world = make_world(gold, ["{}"] * 3)
    tools = ("find", "list", "book", "pay")
    every = world.play([[ToolCall(tool)] for tool in tools], "done")
    assert both(world, every) == (pytest.approx(0.99), pytest.approx(0.99))


@pytest.mark.parametrize(("gold", "made"), [("3.10", "3.1"), ("007", "7"), ("1e3", "1000")])
def test_12_versions_and_zeros_are_text_where_the_schema_says_so(gold: str, made: str) -> None:
    spec = ToolSpec("find", parameters={"type": "object", "properties": {"v": {"type": "string"}}})
    world = make_world([[GoldCall("find", {"v": gold})]], ["{}"])
    world = replace(world, task=replace(world.task, tools=(spec,)))
    assert SECOND(world.task, world.play([[ToolCall("find", {"v": made})]], "done")).total < 0.5
    assert SECOND(world.task, world.gold_episode()).total == 1.0


def test_10_honest_variations_lose_at_most_015_and_beat_the_honest_half() -> None:
    rng = random.Random(0)
    for n in (2, 3, 4, 6):
        cities = rng.sample(CITIES, min(n - 1, len(CITIES)))
        looks = [GoldCall("find", {"name": city}) for city in cities]
        places = {f"/p{i}": output_of(i, "/hits/0/id") for i in range(len(cities))}
        use = GoldCall("book", {f"p{i}": f"P-{i}7" for i in range(len(cities))}, provenance=places)
        texts = [json.dumps({"hits": [{"id": f"P-{i}7"}]}) for i in range(len(cities))]
        world = make_world([looks, [use]], [*texts, "{}"])
        last = (ToolCall("book", use.arguments), "{}")
        for vary in (str.lower, str.upper, lambda c: f" {c} ", lambda c: f"{c} centre", hash):
            made = [
                (ToolCall("find", {"name": str(vary(city))}), text)
                for city, text in zip(cities, texts, strict=True)
            ]
            total = SECOND(world.task, played(world, made, [last])).total
            half = SECOND(world.task, world.play([world.gold_turns()[0][: (n + 1) // 2]])).total
            assert total >= 0.85
            assert total > half


def test_a_call_paid_for_what_it_brought_says_so() -> None:
    world = look_up_then_use()
    use = (ToolCall("book", {"place": "P-77"}), "{}")
    look = ToolCall("find", {"name": "oslo"})
    scored = SECOND(world.task, played(world, [(look, world.results[0])], [use]))
    assert scored.calls[0].why == (
        "Stands for gold call 0, whose result it brings; /name is 'oslo', gold has 'Oslo' (differs "
        "only in letter case)."
    )
    again = ToolCall("find", {"name": "Bergen"})
    guessed = SECOND(world.task, world.play([*world.gold_turns(), [again]], "done"))
    assert guessed.calls[2].why.endswith("; a second guess.")


def test_a_source_with_an_index_of_thousands_of_digits_is_scored() -> None:
    far = output_of(0, f"/hits/{'9' * 5000}/id")
    gold = [
        [GoldCall("find", {"name": "Oslo"})],
        [GoldCall("book", {"place": "P-77"}, provenance={"/place": far})],
    ]
    world = make_world(gold, ['{"hits": [{"id": "P-77"}]}', "{}"], "Book in Oslo.")
    look = (ToolCall("find", {"name": "oslo"}), world.results[0])
    use = (ToolCall("book", {"place": "P-77"}), "{}")
    assert 0.8 < SECOND(world.task, played(world, [look], [use])).total < 1.0
