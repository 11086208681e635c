"""How alike two texts are: a spelling is near, a word more less so, another value is not."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orch_env.values import likeness

SPELT_OTHERWISE = [
    ("oslo", "OSLO"),
    (" Oslo ", "Oslo"),
    ("Oslo", "\u00d3slo"),
    ("Sa\u0303o Paulo", "s\u00e3o  paulo"),
    ("Stra\u00dfe", "STRASSE"),
    ("\uff2fslo", "Oslo"),
    ("Os\u00adlo", "Oslo"),
    ("\u00abOslo!\u00bb", "oslo"),
    ("`Oslo`", "Oslo"),
    ("Oslo, Norway", "oslo norway"),
    ("New York", "new_york"),
    ("New York", "NewYork"),
    ("Wi-Fi", "wifi"),
    ("O\u2019Hare", "O'Hare"),
    ("St. John's", "St Johns"),
    ("Room 5.", "room 5"),
    ("P-77", "p 77"),
    ("10\u201312", "10-12"),
    ("\ud800a", "\ud800A"),
]
A_WORD_MORE = [
    ("Oslo", "oslo city"),
    ("Oslo", "Oslo, Norway"),
    ("Hotel Bristol", "the Bristol hotel"),
    ("Room 5", "Big room 5"),
    ("Marks & Spencer", "Marks Spencer"),
]
NOTHING = [
    ("Oslo", "Bergen"),
    ("Oslo", "Oslofjord"),
    ("Oslo city", "Oslo centre"),
    ("of", "of it"),
    ("Room", "Room 5"),
    ("Oslo P-77", "Oslo"),
    ("P-77", "P-78"),
    ("Room 1 23", "Room 12 3"),
    ("123-456", "456-123"),
    ("2024-03-04", "2024-04-03"),
    ("Flight 12 of May 13", "Flight 13 of May 12"),
    ("3.1", "3.10"),
    ("3.1", "3-1"),
    ("3.1", "31"),
    ("-5", "5"),
    ("5%", "5"),
    ("1,000", "1000"),
    ("C++", "C"),
    ("C#", "C"),
    ("O+", "O-"),
    ("\u0915\u093e", "\u0915\u093f"),  # two syllables
    ("\u30d1\u30d1", "\u30cf\u30cf"),  # papa and haha
    ("", ""),
    ("", "Oslo"),
    ("-", "!"),
    ("a" * 1025, "A" * 1025),
]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(*pair, 0.9) for pair in SPELT_OTHERWISE]
    + [(*pair, 0.7) for pair in A_WORD_MORE]
    + [(*pair, 0.0) for pair in NOTHING],
)
def test_a_spelling_is_near_a_word_more_less_and_another_value_not(
    one: str, other: str, expected: float
) -> None:
    assert likeness(one, other) == likeness(other, one) == expected


@given(st.text(), st.text() | st.sampled_from("-. 1\u0301\ud800"))
@example("\u00df", "\u1e9e")
@example("\ufdfa" * 1024, "\ufdfa" * 1024)
def test_any_two_texts_have_a_likeness_and_the_order_does_not_matter(one: str, other: str) -> None:
    for left, right in ((one, other), (one, one + other), (one, other + one)):
        assert likeness(left, right) == likeness(right, left)
        assert likeness(left, right) in (0.0, 0.7, 0.9)


@given(st.text(st.characters(categories=["Lu", "Ll"]), min_size=1, max_size=100))
def test_letters_in_another_case_are_near(word: str) -> None:
    assert likeness(word, f" {word.casefold()} ") == 0.9


@given(st.lists(st.integers(-99, 99), min_size=1), st.lists(st.integers(-99, 99), min_size=1))
def test_other_numbers_are_never_near(one: list[int], other: list[int]) -> None:
    texts = [" ".join(["room", *map(str, numbers)]) for numbers in (one, other)]
    assert likeness(*texts) == (0.9 if one == other else 0.0)
