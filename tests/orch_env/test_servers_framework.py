"""The server framework: schemas from signatures, transactions, snapshots, isolation.

A small library server, written only on the public names, stands for the domain modules to come.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.servers import (
    Chance,
    NotFound,
    Server,
    ServerSession,
    Table,
    ToolRefusal,
    read,
    write,
)
from orch_env.servers.framework.arguments import Pattern, Range, problem_with, schema_of
from orch_env.servers.framework.records import from_json, to_json
from orch_env.types import ErrorType, OrchError
from orch_env.types.json import JsonObject

Shelf = Literal["low", "high"]


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
