"""Which values a text shows, when a model could know one, and how long an index is kept."""

from __future__ import annotations

import json
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, ToolCall, Turn
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.presets.graduated.gold_view import MAX_VIEWS, forget_views, gold_view
from orch_env.rewards.presets.graduated.text_index import IndexCache, TextIndex
from orch_env.rewards.presets.graduated.visibility import Visibility
from orch_env.types import ErrorType, GoldCall, Task

CALL = ToolCall("find")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["5", "5.0", "a,b", "b,a", "", "Oslo", "-5", "1e3", "1.5,2.5"]),
    st.text(max_size=6),
)
PAYLOADS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def at_turn(turn: int) -> MadeCall:
    return MadeCall(9, turn, 0, "book", {}, None, "book{}")


def played(*results: str, error: ErrorType | None = None) -> Episode:
    turns = tuple(Turn("", (ToolCall("find", {}, error),), (text,)) for text in results)
    return Episode("t", turns=turns)


@settings(max_examples=150, deadline=None)
@given(PAYLOADS, st.lists(SCALARS, max_size=8))
def test_what_an_index_answers_does_not_depend_on_what_it_was_asked(
    payload: object, asked: list[object]
) -> None:
    text = json.dumps(payload)
    used = TextIndex(text)
    for scalar in asked:
        fresh = TextIndex(text)
        assert used.shows(scalar) == fresh.shows(scalar)
        if fresh.has_leaf(scalar):
            assert fresh.shows(scalar)


@settings(max_examples=150, deadline=None)
@given(PAYLOADS)
def test_every_leaf_and_key_of_a_payload_is_visible(payload: object) -> None:
    index = TextIndex(json.dumps(payload))
    stack = [payload]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            assert all(index.shows(key) for key in node)
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        else:
            assert index.shows(node)


def test_a_value_is_visible_in_any_spelling_that_is_the_same_value() -> None:
    index = TextIndex('{"n": 5, "ids": "a,b", "price": "2.50", "none": null, "yes": true}')
    for value in (5, 5.0, "5", "b,a", 2.5, "2.5", None, True, "n"):
        assert index.shows(value), value
    for value in (6, "a", 1, False, "null", 250):
        assert index.shows(value) is (value == "a"), value
    assert not TextIndex("[1, 0]").shows(True)
    assert not TextIndex("[true, false]").shows(1)


def known_from(seen: Visibility, value: object) -> list[bool]:
    return [seen.known_to(at_turn(turn), value) for turn in range(4)]


def test_a_value_is_known_one_turn_after_the_result_that_shows_it() -> None:
    seen = Visibility("A room in Oslo", played('{"id": "h7"}', '{"id": "h8"}', '{"id": "h7"}'))
    assert known_from(seen, "Oslo") == [True, True, True, True]
    assert known_from(seen, "h7") == [False, True, True, True]
    assert known_from(seen, "h8") == [False, False, True, True]
    assert known_from(seen, "h9") == [False, False, False, False]


def test_a_word_in_an_earlier_text_counts_before_a_leaf_in_a_later_one() -> None:
    # The quick look for exact leaves finds turn 1; the words of turn 0 hold the value, too.
    seen = Visibility("", played('"hotel h7, near the sea"', '{"id": "h7"}'))
    assert known_from(seen, "h7") == [False, True, True, True]


def test_a_composite_is_known_when_its_last_piece_is() -> None:
    seen = Visibility("", played('["x1"]', '["x2"]'))
    assert known_from(seen, "x1,x2") == [False, False, True, True]
    assert known_from(seen, ["x1", {"of": "x2"}]) == [False, False, True, True]
    assert known_from(seen, "x1,x3") == [False] * 4
    # As a whole in a later result, in pieces in earlier ones.
    seen = Visibility("", played('["x1", "x2"]', '["x1,x2"]'))
    assert known_from(seen, "x1,x2") == [False, True, True, True]


def test_errors_of_the_environment_show_nothing_and_errors_of_a_tool_do() -> None:
    for kind in ErrorType:
        seen = Visibility("", played('{"error": {"details": "h7"}}', error=kind))
        told = kind in (ErrorType.TOOL_ERROR, ErrorType.NOT_FOUND)
        assert known_from(seen, "h7") == [False, told, told, told], kind


def test_an_integer_too_long_to_print_is_visible_nowhere() -> None:
    assert not TextIndex('{"n": 1}').shows(10**5000)


def test_indexes_are_kept_by_the_length_of_their_texts_most_recent_first() -> None:
    cache = IndexCache(max_chars=100)
    small = [f'"{n:038d}"' for n in range(3)]  # 40 characters each
    first = cache.get(small[0])
    assert cache.get(small[0]) is first
    cache.get(small[1])
    assert cache.get(small[0]) is first  # used last, so the other one goes
    cache.get(small[2])
    assert (len(cache), cache.chars) == (2, 80)
    assert cache.get(small[0]) is first
    long = cache.get('"' + "x" * 200 + '"')
    assert long.has_leaf("x" * 200)
    assert (len(cache), cache.chars) == (0, 0)


def test_threads_may_share_the_caches() -> None:
    cache = IndexCache(max_chars=300)
    tasks = [
        Task(f"t{n}", ({"role": "user", "content": ""},), (), ((GoldCall("find", {"n": n}),),))
        for n in range(40)
    ]
    wrong: list[object] = []

    def work(offset: int) -> None:
        for n in range(400):
            number = (n * 7 + offset) % 40
            text = f'{{"id": "value-{number}", "fill": "{"y" * 20}"}}'
            if not cache.get(text).shows(f"value-{number}"):
                wrong.append(text)
            if (
                gold_view(tasks[number])
                .read(ToolCall("find", {"n": number}))
                .key.count(f":{number}")
                != 1
            ):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.chars <= 300


def test_a_view_is_kept_for_the_task_itself_not_for_one_at_the_same_place() -> None:
    forget_views()

    def task(n: int) -> Task:
        return Task("t", ({"role": "user", "content": ""},), (), ((GoldCall("f", {"n": n}),),))

    mine = task(0)
    assert gold_view(mine) is gold_view(mine)
    for n in range(2 * MAX_VIEWS):  # tasks that come and go, most at addresses used before
        assert gold_view(task(n)).calls[0].arguments == {"n": n}
    assert gold_view(mine).task is mine


def test_a_reading_does_not_confuse_values_that_python_calls_equal() -> None:
    gold = Task("t", ({"role": "user", "content": ""},), (), ((GoldCall("f", {"n": 1}),),))
    view = gold_view(gold)
    values = [view.read(ToolCall("f", {"n": v})).comparisons[0].values for v in (1, True, 1.0, "1")]
    assert values == [1.0, 0.0, 1.0, 1.0]
