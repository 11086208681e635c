"""What a request has to say, before any word is chosen: the input of every writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from orch_env.types import ToolSpec
from orch_env.types.json import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Argument:
    """An independent argument that the request must make known.

    Attributes:
        path: its JSON Pointer in the call's arguments.
        value: the value.
        schema: the parameter's schema, ``{}`` where there is none.
        silent: whether it may stay unsaid, because it equals the schema's default.
    """

    path: str
    value: Json
    schema: JsonObject
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which element of an earlier response a call is about.

    Attributes:
        parent: number of the call whose response it is.
        element: JSON Pointer of the element, ``""`` for the whole response.
        arguments: pointers of the arguments that it feeds.
        position: the element's index in its list, from 0.
        size: number of elements in the list; 1 where there is nothing to choose.
        how: ``single`` (nothing to choose), ``label``, ``position``, ``lowest`` or ``highest``.
        label_path: pattern below the element of what names it or orders it.
        label: the element's value there: unique among its siblings. It is given beside ``position``
            too where there is one.
    """

    parent: int
    element: str
    arguments: tuple[str, ...]
    position: int = 0
    size: int = 1
    how: str = "single"
    label_path: str | None = None
    label: Json = None


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call as a request sees it.

    Attributes:
        tool: the tool.
        arguments: the independent arguments.
        selections: one per edge of the template that ends here.
        goal: whether the user wants its result itself: nothing else reads it.
    """

    tool: str
    arguments: tuple[Argument, ...]
    selections: tuple[Selection, ...]
    goal: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The request to write.

    Attributes:
        calls: in the template's order; a call's number is its index.
        specs: tool -> spec, of the tools called.
        today: the task's date, before every date that the request names; ``None`` where no
            argument is a date.
        seed: seed of every choice of words.
        pool: which part of the phrase pools to use, so that splits share no wording.
        pools: number of parts.
    """

    calls: tuple[PlannedCall, ...]
    specs: Mapping[str, ToolSpec]
    today: date | None
    seed: int
    pool: int = 0
    pools: int = 1


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer gives back for one plan.

    Attributes:
        text: the opening request; ``None`` where the writer refuses the plan.
        reason: why it refuses, as a short snake_case word.
        followups: later user turns.
        turn_of: for each call, how many follow-ups the user has said before it may be made; empty
            where there are no follow-ups.
    """

    text: str | None
    reason: str | None = None
    followups: tuple[str, ...] = ()
    turn_of: tuple[int, ...] = ()


class Writer(Protocol):
    """Puts plans into words."""

    name: str

    def write(self, plans: Sequence[Plan]) -> list[Written]:
        """One text per plan, in order. The same plan always gets the same text."""
        ...
