"""The server framework: schemas from signatures, transactions, snapshots, isolation.

A small library server, written only on the public names, stands for the domain modules to come.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.servers import (
    SERVERS,
    Chance,
    Format,
    InvalidArguments,
    Length,
    NotFound,
    Server,
    ServerSession,
    Stamp,
    Table,
    ToolRefusal,
    open_session,
    read,
    register_server,
    server_names,
    server_type,
    write,
)
from orch_env.servers.framework.arguments import Pattern, Range, problem_with, schema_of
from orch_env.servers.framework.chance import LISTS, words
from orch_env.servers.framework.money import from_cents, to_cents
from orch_env.servers.framework.records import from_json, to_json
from orch_env.servers.framework.session import differences
from orch_env.types import ErrorType, OrchError
from orch_env.types.json import JsonObject

Shelf = Literal["low", "high"]
DRAWS: dict[str, Any] = {
    "between": [5, 3, 3, 1, 2, 4, 1, 4],
    "draw": ["b", "g", "f", "a"],
    "shuffled": [1, 3, 2, 4, 0],
    "pick": ["z", "z", "z", "x", "z", "x"],
    "id": "A-5676",
}
"""What a chance draws, written down once."""


@dataclass(frozen=True)
class Place:
    aisle: int
    shelf: str


@dataclass(frozen=True)
class Book:
    id: str
    title: str
    place: Place
    readers: tuple[str, ...] = ()
    due: str | None = None


class Library(Server):
    name = "library"
    books: Table[Book]

    def populate(self, chance: Chance) -> None:
        for number in range(5):
            self.books[f"B-{number}"] = Book(
                f"B-{number}", f"Title {chance.random()}", Place(number, "low")
            )

    @read
    def titles(self, aisle: Annotated[int, Range(0, 9)], limit: int | None = None) -> list[str]:
        """Titles in an aisle.

        Args:
            aisle: The aisle's number.
            limit: How many at most,
                all where left out.
        """
        return [b.title for b in self.books.values() if b.place.aisle == aisle][:limit]

    @write
    def lend(self, book: Annotated[str, Pattern("B-[0-9]+")], reader: str) -> JsonObject:
        """Lend a book.

        Args:
            book: The book's id.
            reader: Who takes it.
        """
        held = self.books.need(book)
        self.books[book] = replace(held, readers=(*held.readers, reader), due=self.today)
        if reader == "nobody":
            raise ToolRefusal("A reader needs a name.")
        if reader == "bug":
            raise ZeroDivisionError
        return {"book": book, "due": self.today}

    @write
    def shelve(self, title: str, shelf: Shelf = "low") -> JsonObject:
        """Put a new book on a shelf.

        Args:
            title: The title.
            shelf: Which shelf.
        """
        book = self.new_id("B-", title, taken=self.books)
        self.books[book] = Book(book, title, Place(0, shelf))
        return {"book": book}

    @write
    def burn(self, book: str) -> JsonObject:
        """Destroy a book.

        Args:
            book: The book's id.
        """
        if book not in self.books:
            raise NotFound(f"No book {book}.")
        del self.books[book]
        return {"burnt": book}

    @read
    def vandalise(self, book: str) -> JsonObject:
        """A tool that was declared READ and lies.

        Args:
            book: The book's id.
        """
        self.books[book] = replace(self.books[book], title="?")
        return {}


def open_library(seed: int = 0) -> ServerSession:
    return ServerSession(Library, seed)


def test_schema_comes_from_hints_and_docstring() -> None:
    spec = Library.tools["titles"].spec
    assert spec.description == "Titles in an aisle."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "aisle": {
                "type": "integer",
                "minimum": 0,
                "maximum": 9,
                "description": "The aisle's number.",
            },
            "limit": {"type": "integer", "description": "How many at most, all where left out."},
        },
        "required": ["aisle"],
        "additionalProperties": False,
    }
    shelf = Library.tools["shelve"].spec.parameters["properties"]["shelf"]
    assert (shelf["enum"], shelf["default"]) == (["low", "high"], "low")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({}, "Missing argument 'aisle'"),
        ({"aisle": "3"}, "must be of type integer"),
        ({"aisle": True}, "must be of type integer"),
        ({"aisle": 10}, "at most 9"),
        ({"aisle": 1, "limit": None}, "'limit' must be of type integer"),
        ({"aisle": 1, "row": 2}, "Unknown argument 'row'; known arguments: aisle, limit."),
    ],
)
def test_wrong_arguments_are_named_with_the_way_to_repair(arguments: JsonObject, part: str) -> None:
    result = open_library().call("titles", arguments)
    assert result.error is ErrorType.INVALID_ARGUMENTS
    assert part in json.loads(result.text)["error"]["message"]


def test_own_check_agrees_with_a_json_schema_validator() -> None:
    from jsonschema import Draft202012Validator

    values = st.one_of(
        st.none(), st.booleans(), st.integers(-3, 12), st.floats(0, 3), st.text(max_size=3)
    )
    keys = st.sampled_from(["aisle", "limit", "book", "reader", "title", "shelf"])
    arguments = st.dictionaries(
        keys, values | st.sampled_from(["low", "high", "B-1"]) | st.lists(values, max_size=2)
    )

    @settings(max_examples=300, deadline=None)
    @given(arguments, st.sampled_from(["titles", "lend", "shelve"]))
    def agree(made: JsonObject, tool: str) -> None:
        schema = Library.tools[tool].spec.parameters
        # The standard counts 1.0 as an integer; a model that writes it is told to write 1.
        if any(isinstance(v, float) for v in made.values()):
            return
        assert (problem_with(made, schema) is None) == Draft202012Validator(schema).is_valid(made)

    agree()


def test_a_tool_without_description_of_an_argument_is_refused() -> None:
    def tool(self: object, book: str) -> None:
        """Do something."""

    with pytest.raises(TypeError, match="'book' needs a type hint and a line"):
        schema_of(tool)


def test_a_refusal_changes_nothing_and_says_its_type() -> None:
    session = open_library()
    before = session.state_hash()
    result = session.call("lend", {"book": "B-1", "reader": "nobody"})
    assert json.loads(result.text) == {
        "error": {"type": "tool_error", "message": "A reader needs a name.", "details": {}}
    }
    missing = session.call("lend", {"book": "B-77", "reader": "me"})
    assert missing.error is ErrorType.NOT_FOUND
    assert session.state_hash() == before


def test_a_bug_is_an_error_to_the_model_a_warning_to_us_and_rolled_back() -> None:
    session = open_library()
    before = session.state_hash()
    with pytest.warns(UserWarning, match=r"lend of server 'library' failed at .*ZeroDivision"):
        result = session.call("lend", {"book": "B-1", "reader": "bug"})
    assert result.error is ErrorType.TOOL_ERROR
    assert session.state_hash() == before


def test_a_read_tool_that_writes_is_caught() -> None:
    session = open_library()
    before = session.state_hash()
    with pytest.warns(UserWarning, match="declared READ"):
        assert session.call("vandalise", {"book": "B-1"}).error is ErrorType.TOOL_ERROR
    assert session.state_hash() == before


def test_equal_states_have_equal_hashes_however_reached() -> None:
    there, back = open_library(), open_library()
    made = json.loads(there.call("shelve", {"title": "New"}).text)["book"]
    changed = there.state_hash()
    assert changed != back.state_hash()
    there.call("burn", {"book": made})
    assert there.state_hash() == back.state_hash()


def test_snapshot_survives_json_and_restores_the_same_answers() -> None:
    session = open_library()
    session.call("lend", {"book": "B-1", "reader": "Ada"})
    session.call("burn", {"book": "B-2"})
    state = json.loads(json.dumps(session.snapshot()))
    after = [session.call("shelve", {"title": "x"}), session.call("titles", {"aisle": 0})]
    end = session.state_hash()
    session.restore(state)
    assert [session.call("shelve", {"title": "x"}), session.call("titles", {"aisle": 0})] == after
    assert session.state_hash() == end


def test_a_snapshot_of_another_world_is_refused() -> None:
    with pytest.raises(OrchError, match="the snapshot belongs to"):
        open_library(1).restore(open_library(2).snapshot())


def test_worlds_follow_from_their_seed() -> None:
    assert open_library(1).state_hash() == open_library(1).state_hash()
    assert open_library(1).state_hash() != open_library(2).state_hash()


CALLS = st.one_of(
    st.tuples(
        st.just("lend"),
        st.fixed_dictionaries(
            {"book": st.sampled_from(["B-0", "B-1", "B-9"]), "reader": st.text(max_size=2)}
        ),
    ),
    st.tuples(
        st.just("shelve"), st.fixed_dictionaries({"title": st.sampled_from(["u", "v", "w"])})
    ),
    st.tuples(st.just("burn"), st.fixed_dictionaries({"book": st.sampled_from(["B-0", "B-1"])})),
    st.tuples(st.just("titles"), st.fixed_dictionaries({"aisle": st.integers(0, 2)})),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_interleaved_sessions_and_forks_do_not_see_each_other(
    calls: list[tuple[str, JsonObject]], turns: list[bool]
) -> None:
    alone = open_library()
    expected = [alone.call(*call) for call in calls]
    one, other = open_library(), open_library()
    got = []
    for call, noise in zip(calls, turns, strict=False):
        if noise:
            other.call("burn", {"book": "B-1"})
            one.fork().call("burn", {"book": "B-0"})
        got.append(one.call(*call))
    assert got == expected
    assert one.state_hash() == alone.state_hash()


def test_records_survive_plain_data() -> None:
    book = Book("B-1", "T", Place(2, "high"), ("a", "b"), None)
    assert from_json(Book, json.loads(json.dumps(to_json(book)))) == book


def test_a_huge_argument_is_answered_shortly() -> None:
    session = open_library()
    for call in [("burn", {"book": "x" * 10**6}), ("titles", {"y" * 10**6: 1}), ("z" * 10**6, {})]:
        result = session.call(*call)
        assert result.error is not None
        assert len(result.text) < 2_000


# -- time, stamps, sizes -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loan:
    id: str
    book: str
    since: Stamp
    due: str
    fined: bool = False


class Counter(Server):
    """A desk where loans fall due; its tools come from two classes."""

    name = "counter"
    epoch = "2025-03-03"
    loans: Table[Loan]

    def populate(self, chance: Chance) -> None:
        self.loans["L-1"] = Loan("L-1", "B-1", "", "2025-03-03T09:02")

    def settle(self) -> None:
        for loan in self.loans.values():
            if not loan.fined and self.now >= datetime.fromisoformat(loan.due):
                self.loans[loan.id] = replace(loan, fined=True)

    @read
    def fines(self) -> list[str]:
        """Loans that are fined now."""
        return [loan.id for loan in self.loans.values() if loan.fined]

    @write
    def lend_out(
        self, book: Annotated[str, Length(1, 5)], due: Annotated[str, Format("date")]
    ) -> str:
        """Lend a book from now on.

        Args:
            book: The book.
            due: The day until which.
        """
        if book == "none":
            raise ToolRefusal("There is no such book; take another.", reason="no_book")
        loan = self.new_id("L-", book, taken=self.loans, digits=6)
        stamp = self.now.isoformat(timespec="minutes")
        self.loans[loan] = Loan(loan, book, stamp, f"{due}T23:59")
        return loan

    @write
    def touch(self, loan: str) -> str:
        """Set the time of a loan to now.

        Args:
            loan: The loan's id.
        """
        held = self.loans.need(loan)
        self.loans[loan] = replace(held, since=self.now.isoformat(timespec="minutes"))
        return loan


class Desk(Counter):
    """Adds a tool to those that it inherits."""

    name = "desk"

    @read
    def shout(self, words: Annotated[list[str], Length(0, 3)], times: int = 1) -> str:
        """Say words often.

        Args:
            words: The words.
            times: How often.
        """
        return " ".join(words) * times


def test_a_read_sees_what_fell_due_and_writes_nothing() -> None:
    session = ServerSession(Counter, 0)
    before = session.state_hash()
    texts = [session.call("fines", {}).text for _ in range(4)]
    assert texts == ["[]", "[]", '["L-1"]', '["L-1"]']  # a minute a call, from 09:00
    assert session.state_hash() == before
    assert session.changes() == {}


def test_the_next_successful_write_keeps_what_fell_due_and_a_refusal_does_not() -> None:
    session = ServerSession(Counter, 0)
    for _ in range(3):
        session.call("fines", {})
    before = session.state_hash()
    refused = session.call("lend_out", {"book": "none", "due": "2025-03-09"})
    assert refused.error is ErrorType.TOOL_ERROR
    assert json.loads(refused.text)["error"]["details"] == {"reason": "no_book"}
    assert session.state_hash() == before
    made = json.loads(session.call("lend_out", {"book": "B-2", "due": "2025-03-09"}).text)
    assert session.changes()["loans"]["L-1"]["fined"] is True
    assert [str(d) for d in session.diff() if "L-1" in d.path] == [
        "/loans/L-1/fined: false -> true"
    ]
    assert session.created() == (("loans", made),)


@pytest.mark.parametrize(
    "call",
    [("fines", {}), ("no_such", {}), ("lend_out", {}), ("lend_out", None), ("fines", 7), (7, None)],
)
def test_every_call_moves_the_clock_and_the_clock_is_not_in_the_hash(call: Any) -> None:
    session = ServerSession(Counter, 0, "2025-04-01T08:30")
    before, state = session.state_hash(), session.snapshot()
    session.call(*call)
    assert session.server.now == datetime(2025, 4, 1, 8, 31)
    assert session.server.today == "2025-04-01"
    assert session.fork().server.now == session.server.now
    assert session.state_hash() == before
    session.restore(json.loads(json.dumps(state)))
    assert session.server.now == datetime(2025, 4, 1, 8, 30)


def test_times_of_calls_are_in_the_hash_and_not_in_what_rewards_compare() -> None:
    early, late = ServerSession(Counter, 0), ServerSession(Counter, 0)
    late.call("fines", {})
    for session in (early, late):
        session.call("lend_out", {"book": "B-2", "due": "2025-03-09"})
    assert early.changes() == late.changes()
    assert early.state_hash() != late.state_hash()
    assert not any("since" in loan for loan in early.changes()["loans"].values())
    only_a_time = ServerSession(Counter, 0)
    only_a_time.call("touch", {"loan": "L-1"})
    assert only_a_time.changes() == {}
    assert only_a_time.state_hash() != ServerSession(Counter, 0).state_hash()


@pytest.mark.parametrize("today", ["tomorrow", "2025-13-01", "2025-03-03T09:00+02:00", 7])
def test_a_session_on_no_date_is_one_clear_line(today: Any) -> None:
    with pytest.raises(OrchError, match=r"date|time zone") as caught:
        ServerSession(Counter, 0, today)
    assert "\n" not in str(caught.value)


def test_the_end_of_the_calendar_stops_no_session() -> None:
    session = ServerSession(Counter, 0, "9999-12-31T23:59")
    for _ in range(3):
        assert session.call("fines", {}).error is None


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"book": "", "due": "2025-03-09"}, "at least 1 characters"),
        ({"book": "123456", "due": "2025-03-09"}, "at most 5 characters"),
        ({"book": "\ud800", "due": "2025-03-09"}, "lone surrogates"),
        ({"book": "B-1", "due": "2025-02-30"}, "a date such as 2025-03-03"),
        ({"book": "B-1", "due": "20250303"}, "a date such as 2025-03-03"),
        ({"book": "B-1", "due": "2025-03-09 "}, "a date such as 2025-03-03"),
    ],
)
def test_lengths_formats_and_unicode_are_checked(arguments: JsonObject, part: str) -> None:
    result = ServerSession(Counter, 0).call("lend_out", arguments)
    assert result.error is ErrorType.INVALID_ARGUMENTS
    assert part in json.loads(result.text)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"words": ["a"] * 4}, "at most 3 items"),
        ({"words": ["a", 1]}, "item 1 must be of type string"),
        ({"words": [], "times": 2**53 + 1}, "must lie between"),
        ({"words": ["x" * 20_001]}, "at most 20000 characters"),
    ],
)
def test_lists_and_numbers_have_bounds(arguments: JsonObject, part: str) -> None:
    result = ServerSession(Desk, 0).call("shout", arguments)
    assert result.error is ErrorType.INVALID_ARGUMENTS
    assert part in json.loads(result.text)["error"]["message"]


def test_bounds_stand_in_the_schema() -> None:
    lend, shout = Desk.tools["lend_out"].spec, Desk.tools["shout"].spec
    book, due = lend.parameters["properties"].values()
    assert (book["minLength"], book["maxLength"], due["format"]) == (1, 5, "date")
    assert shout.parameters["properties"]["words"]["maxItems"] == 3


def test_a_result_that_is_too_long_is_refused_and_its_change_undone() -> None:
    result = ServerSession(Desk, 0).call("shout", {"words": ["x" * 100], "times": 1_000})
    assert result.error is ErrorType.TOOL_ERROR
    assert json.loads(result.text)["error"]["details"] == {"reason": "result_too_large"}


def test_tools_of_the_base_classes_are_tools_too() -> None:
    assert list(Desk.tools) == ["shout", "fines", "lend_out", "touch"]
    assert list(Counter.tools) == ["fines", "lend_out", "touch"]
    assert ServerSession(Desk, 0).call("fines", {}).text == "[]"


def test_what_a_tool_may_do_is_what_its_mark_says() -> None:
    found = {name: (t.access, t.destructive, t.idempotent) for name, t in Desk.tools.items()}
    assert found["fines"] == ("READ", False, True)
    assert found["touch"] == ("WRITE", False, False)
    cancel = server_type("banking").tools["cancel_order"]
    assert (cancel.access, cancel.destructive) == ("WRITE", True)


def test_what_was_deleted_is_in_no_list_and_in_the_diff() -> None:
    session = open_library()
    session.call("burn", {"book": "B-2"})
    assert session.call("titles", {"aisle": 2}).text == "[]"
    (gone,) = session.diff()
    assert (gone.path, gone.after) == ("/books/B-2", None)
    assert str(gone).endswith("-> nothing")


def test_a_diff_goes_as_deep_as_both_have_the_same_shape() -> None:
    before = {"a": {"x": 1}, "b": [1, 2], "c": {"y": 1}, "d/e": 0}
    after = {"a": {"x": 2}, "b": [1, 2, 3], "c": {"z": 1}, "d/e": 1}
    assert [str(d) for d in differences("", before, after)] == [
        "/a/x: 1 -> 2",
        "/b: [1, 2] -> [1, 2, 3]",
        '/c: {"y": 1} -> {"z": 1}',
        "/d~1e: 0 -> 1",
    ]


# -- chance and money --------------------------------------------------------------------------


def test_draws_of_a_seed_are_the_same_with_every_python() -> None:
    chance = Chance("library/0")
    assert [chance.between(1, 6) for _ in range(8)] == DRAWS["between"]
    assert chance.draw("abcdefgh", 4) == DRAWS["draw"]
    assert chance.shuffled(range(5)) == DRAWS["shuffled"]
    assert [chance.pick("xyz") for _ in range(6)] == DRAWS["pick"]
    assert chance.id("A-", 4, {}) == DRAWS["id"]


def test_draws_reach_both_ends_and_ids_pass_over_taken_ones() -> None:
    chance = Chance(1)
    assert {chance.between(2, 4) for _ in range(200)} == {2, 3, 4}
    assert sorted(chance.shuffled(range(9))) == list(range(9))
    assert len(set(chance.draw(range(9), 9))) == 9
    taken = {str(n) for n in range(10)} - {"7"}
    assert chance.id("", 1, taken) == "7"
    assert not chance.often(0.0) and chance.often(1.0)
    with pytest.raises(ValueError, match="cannot draw 3 of 2"):
        chance.draw("ab", 3)


def test_money_is_whole_cents() -> None:
    assert [to_cents(x) for x in (0.29, 1.1, 12, 1234567.89, -0.07)] == [
        29,
        110,
        1200,
        123456789,
        -7,
    ]
    assert from_cents(1250) == 12.5
    for wrong in (0.001, 19.999, 1e-9):
        with pytest.raises(InvalidArguments, match="more than two decimals"):
            to_cents(wrong)


# -- servers by name ---------------------------------------------------------------------------


def test_a_server_of_ones_own_is_known_once_it_is_registered() -> None:
    path = f"{__name__}:Counter"
    with pytest.raises(OrchError, match="there is no server 'counter'"):
        open_session("counter")
    try:
        assert register_server(path) == register_server(path) == "counter"
        assert register_server("banking") == "banking"
        assert "counter" in server_names()
        assert open_session("counter").call("fines", {}).text == "[]"
        with pytest.raises(OrchError, match="is called 'counter', and so is"):
            register_server(f"{__name__}:Other")
    finally:
        SERVERS.pop("counter", None)


class Other(Counter):
    """Takes the name of another server."""


def test_lists_have_no_word_twice() -> None:
    for path in sorted(LISTS.glob("*.txt")):
        found = words(path.stem)
        assert len(found) == len(set(found)) > 3, path.stem
