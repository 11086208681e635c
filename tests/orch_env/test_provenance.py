"""Where arguments come from: flows of data are found, chance equalities are not taken for them."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.provenance import (
    Trace,
    TraceCall,
    count_sources,
    find_provenance,
    gold_steps,
    graph_size,
)
from orch_env.provenance.information import bits, folded, is_distinctive, key_of, occurs_in
from orch_env.types import ToolSpec, ValueRef
from orch_env.types.json import leaves, resolve
from orch_env.values import values_equal


def tool(name: str, **described: str) -> ToolSpec:
    properties = {key: {"type": "string", "description": text} for key, text in described.items()}
    return ToolSpec(name, "", {"type": "object", "properties": properties})


def trace(query: str, *steps: list[TraceCall] | TraceCall, tools: Any = ()) -> Trace:
    grouped = tuple(tuple(s) if isinstance(s, list) else (s,) for s in steps)
    return Trace(query, grouped, {spec.name: spec for spec in tools})


def sources(*traces: Trace) -> list[dict[str, ValueRef]]:
    """Sources of the last call of each trace."""
    return [found[-1] for found in find_provenance(traces)]


def shown(ref: ValueRef) -> str:
    return f"{ref.call}{ref.path}" if ref.path is not None else ref.kind.value


def test_an_id_is_traced_to_the_earlier_output_as_number_or_text() -> None:
    found = TraceCall("search", {"q": "Oslo"}, {"data": [{"id": 1}, {"id": 81927364}]})
    (refs,) = sources(trace("Hotels in Oslo", found, TraceCall("details", {"hotel": "81927364"})))
    assert shown(refs["/hotel"]) == "0/data/1/id"


def test_nested_arguments_carry_sources_of_their_own() -> None:
    oslo = TraceCall("search", {"q": "Oslo"}, [{"id": "OSL.AIRPORT"}])
    rome = TraceCall("search", {"q": "Rome"}, [{"id": "FCO.AIRPORT"}])
    legs = [{"from": "OSL.AIRPORT", "to": "FCO.AIRPORT"}, {"from": "FCO.AIRPORT", "cabin": None}]
    (refs,) = sources(trace("Oslo, Rome", [oslo, rome], TraceCall("fly", {"legs": legs})))
    assert {pointer: shown(ref) for pointer, ref in refs.items()} == {
        "/legs/0/from": "0/0/id",
        "/legs/0/to": "1/0/id",
        "/legs/1/from": "1/0/id",
        "/legs/1/cabin": "constant",
    }


def test_calls_of_one_step_do_not_feed_each_other() -> None:
    found = TraceCall("search", {"q": "Oslo"}, {"id": "token-4f8a91"})
    (refs,) = sources(trace("Oslo", [found, TraceCall("use", {"token": "token-4f8a91"})]))
    assert refs["/token"].kind.value == "reasoned"


def test_what_stands_in_the_query_comes_from_there() -> None:
    echo = TraceCall("search", {"q": "Grand Hotel Oslo"}, {"name": "Grand Hotel Oslo", "n": 250})
    use = TraceCall("book", {"name": "grand hotel  oslo", "budget": 250, "room": 25})
    (refs,) = sources(trace("Book the Grand Hotel Oslo for at most 250 euros", echo, use))
    assert {p: r.kind.value for p, r in refs.items()} == {
        "/name": "query",
        "/budget": "query",
        "/room": "constant",
    }


def test_an_echo_of_an_argument_is_no_source() -> None:
    # "2024-11-20" and "Café Mitte No.5" were sent before any response held them.
    sent = {"day": "2024-11-20", "place": "Café Mitte No.5"}
    first = TraceCall("search", sent, {"echo": sent, "id": 99887761})
    (refs,) = sources(trace("Next Wednesday, the usual café", first, TraceCall("book", sent)))
    assert [ref.kind.value for ref in refs.values()] == ["reasoned", "reasoned"]


def test_a_value_that_went_through_several_calls_keeps_its_first_source() -> None:
    one = TraceCall("search", {"q": "x"}, {"dest": "dest-00471"})
    two = TraceCall("list", {"dest": "dest-00471"}, {"dest": "dest-00471", "hotel": 55512399})
    (refs,) = sources(trace("x", one, two, TraceCall("filter", {"dest": "dest-00471"})))
    assert shown(refs["/dest"]) == "0/dest"


def test_of_outputs_that_explain_a_value_as_well_the_first_is_its_source() -> None:
    one, two = (TraceCall("search", {"q": q}, {"id": "token-4f8a91"}) for q in "ab")
    use = TraceCall("use", {"token": "token-4f8a91"})
    for steps in ([[one, two], use], [one, two, use]):
        (refs,) = sources(trace("a b", *steps))
        assert shown(refs["/token"]) == "0/id"


def test_joined_ids_are_composite_and_joined_words_of_the_query_are_not() -> None:
    found = TraceCall("filters", {"q": "x"}, {"a": "class::4001", "b": "facility::28"})
    use = TraceCall("list", {"by": "facility::28,class::4001", "ages": "3, 10"})
    (refs,) = sources(trace("children of 3 and 10", found, use))
    assert [shown(part) for part in refs["/by"].parts] == ["0/b", "0/a"]
    assert refs["/ages"].kind.value == "query"


def test_the_description_decides_between_several_places() -> None:
    found = TraceCall("Search_Cars", {"q": "x"}, {"meta": {"ref": "k-77-aa12"}, "key": "k-77-aa12"})
    other = TraceCall("Search_Vans", {"q": "x"}, {"key": "k-77-aa12"})
    tools = (
        tool("Search_Cars"),
        tool("Search_Vans"),
        tool("Car_Details", key="`key` can be retrieved from **(Search Cars)**."),
    )
    use = TraceCall("Car_Details", {"key": "k-77-aa12"})
    (refs,) = sources(trace("x", [other, found], use, tools=tools))
    assert shown(refs["/key"]) == "1/key"


def test_what_the_schema_spells_out_needs_no_output() -> None:
    tools = (tool("list", sort="One of `price_low_to_high` and `review_score_and_price`."),)
    found = TraceCall("search", {"q": "x"}, {"sorters": ["review_score_and_price"]})
    use = TraceCall("list", {"sort": "review_score_and_price"})
    (refs,) = sources(trace("best first", found, use, tools=tools))
    assert refs["/sort"].kind.value == "reasoned"


def counts_by_chance(count: int, seed: int) -> list[Trace]:
    """Searches whose responses hold small counts, and bookings of a few adults."""
    draw = random.Random(seed)
    out = []
    for _ in range(count):
        hotels = [{"stars": draw.randint(1, 5), "rooms": draw.randint(1, 9)} for _ in range(8)]
        use = TraceCall("book", {"adults": draw.randint(1, 4), "time": f"{draw.randint(8, 20)}:00"})
        times = {"open": [f"{hour}:00" for hour in range(8, 21)]}
        out.append(trace("some of us", TraceCall("s", {"q": "x"}, [hotels, times]), use))
    return out


def test_small_counts_and_times_are_no_data_flow_however_often_they_agree() -> None:
    for refs in sources(*counts_by_chance(80, seed=1)):
        assert {p: r.kind.value for p, r in refs.items()} == {
            "/adults": "constant",
            "/time": "reasoned",
        }


def weak_links(count: int) -> list[Trace]:
    draw = random.Random(5)
    out = []
    for _ in range(count):
        slots = draw.sample(range(100, 999), 6)
        listed = [{"slot": slot, "free": draw.randint(0, 9)} for slot in slots]
        use = TraceCall("reserve", {"slot": draw.choice(slots), "party": draw.randint(1, 6)})
        out.append(trace("a table", TraceCall("slots", {"q": "x"}, listed), use))
    return out


def test_support_over_many_traces_makes_an_uninformative_link_believable() -> None:
    alone = weak_links(1)
    assert sources(*alone)[0]["/slot"].kind.value == "reasoned"
    many = weak_links(60)
    for one, refs in zip(many, sources(*many), strict=True):
        ref = refs["/slot"]
        assert ref.path is not None and ref.path.endswith("/slot")
        assert resolve(one.steps[0][0].response, ref.path) == one.steps[1][0].arguments["slot"]
        assert refs["/party"].path is None


def test_a_believable_link_still_has_no_source_in_an_echo() -> None:
    slots = TraceCall("slots", {"q": "x", "wanted": 417}, [{"slot": 417, "free": 2}])
    echo = trace("the usual table", slots, TraceCall("reserve", {"slot": 417}))
    assert sources(*weak_links(60), echo)[-1]["/slot"].kind.value == "reasoned"


def test_dates_of_a_calendar_are_no_evidence_unless_the_name_is_the_very_same() -> None:
    draw = random.Random(3)
    traces = []
    for month in range(1, 11):
        days = [f"2025-{month:02}-{day:02}" for day in range(1, 29)]
        use = {"checkout_date": draw.choice(days), "returnDate": draw.choice(days)}
        calendar = [{"departureDate": day, "returnDate": day} for day in days]
        flight = TraceCall("calendar", {"q": "x"}, {"data": calendar})
        traces.append(trace("when it is cheapest", flight, TraceCall("book", use)))
    for refs in sources(*traces):
        assert refs["/checkout_date"].kind.value == "reasoned"
        assert shown(refs["/returnDate"]).endswith("/returnDate")


TOKENS = st.text(string.ascii_letters + string.digits, min_size=10, max_size=14)
SCALARS = st.one_of(TOKENS, st.integers(-5, 5), st.booleans(), st.none(), st.floats(0, 9, width=32))
OUTPUTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TOKENS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(outputs=st.lists(OUTPUTS, min_size=1, max_size=4), data=st.data())
def test_every_leaf_has_a_source_and_every_output_source_leads_to_its_value(
    outputs: list[Any], data: st.DataObject
) -> None:
    known: list[Any] = ["a word"]
    steps = []
    for output in outputs:
        values = data.draw(st.lists(st.sampled_from(known), max_size=3))
        steps.append(TraceCall("t", {"v": values, "n": {"m": values[:1]}}, output))
        known += [leaf for _, leaf in leaves(output)]
    made = trace("a word and 3", *steps)
    (refs,) = find_provenance([made])
    for call, found in zip(steps, refs, strict=True):
        assert list(found) == [pointer for pointer, _ in leaves(call.arguments)]
        for pointer, ref in found.items():
            if ref.path is not None and ref.call is not None:
                assert steps.index(call) > ref.call or steps[ref.call] is not call
                value = resolve(call.arguments, pointer)
                assert values_equal(resolve(steps[ref.call].response, ref.path), value)
    gold = gold_steps(made, refs, [None] * len(steps))
    assert sum(count_sources(c for step in gold for c in step).values()) == sum(map(len, refs))


def test_the_graph_of_a_task_is_measured() -> None:
    ids = ["id-7f21aa", "id-88b1cd", "id-99f0ee"]
    search = [TraceCall("s", {"q": word}, {"id": i}) for word, i in zip("abc", ids, strict=True)]
    use = TraceCall("use", {"x": ids[0], "y": ids[1]}, {"token": "tok-5512-xy"})
    last = TraceCall("end", {"token": "tok-5512-xy"})
    made = trace("a b c", search, use, last)
    (refs,) = find_provenance([made])
    gold = gold_steps(made, refs, [None] * 5)
    assert graph_size(gold) == {"calls": 5, "depth": 3, "width": 3, "edges": 3}
    assert [c.depends_on for step in gold for c in step] == [(), (), (), (0, 1), (3,)]
    assert graph_size(()) == {"calls": 0, "depth": 0, "width": 0, "edges": 0}


@pytest.mark.parametrize(
    ("value", "text", "stands"),
    [
        ("Oslo", "in OSLO.", True),
        ("Oslo", "Oslofjord", False),
        (20, "at 20 euros", True),
        (20, "in 2024", False),
        (20, "for 20.5", False),
        (20, "on 2024-11-20", False),
        (20, "for 20.", True),
        (4.5, "rated 4.5", True),
        ("10:00", "at 10:00 sharp", True),
        ("10:00", "at 10:00:30", False),
        ("it's", "It\u2019s fine", True),
        ("", "anything", False),
        (True, "true", False),
    ],
)
def test_literals_match_whole_words_and_numbers(value: Any, text: str, stands: bool) -> None:
    assert occurs_in(value, folded(text)) is stands


def test_information_orders_values_by_how_much_an_equality_says() -> None:
    assert bits(True) == bits(2) == 0
    assert bits(2) < bits(250) < bits("Oslo") < bits(81927364) < bits("eyJ1ZmkiOi01")
    assert (
        is_distinctive(-117.215935)
        and not is_distinctive("2024-11-20T10:00:00")
        and not is_distinctive("USD")
    )


@given(st.one_of(SCALARS, st.sampled_from(["1", "1.0", 1, 1.0, True, "b,a", "a,b"])), SCALARS)
def test_keys_agree_with_the_equality_of_values(left: Any, right: Any) -> None:
    assert (key_of(left) == key_of(right)) == values_equal(left, right)
    assert (key_of(left) == key_of("1")) == values_equal(left, "1")
