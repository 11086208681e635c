"""From a draw to what a request has to say: goals, arguments, and what each call is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import folded, is_temporal, is_void
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.index import Index
from orch_env.synthesis.sampling.draw import Draw
from orch_env.synthesis.templates.template import Edge
from orch_env.synthesis.writing.plan import Argument, Plan, PlannedCall, Selection
from orch_env.synthesis.writing.selectors import (
    Element,
    Selectors,
    elements_of,
    is_label,
    list_pattern,
)
from orch_env.types import ValueRef
from orch_env.types.json import Json, find
from orch_env.values import values_equal
from orch_env.values.canonical import normal

_FURTHEST = 10
"""Elements of a list that a person still counts ("the seventh")."""
_DAYS_BEFORE = 21
"""A task's today lies up to so many days before the first date that it names."""
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a draw cannot be put into a request.

    Attributes:
        reason: a short snake_case word.
    """

    reason: str


class Planner:
    """Makes plans of draws.

    Args:
        index: the rows.
        selectors: how elements are named.
        position: whether an element without a label may be named by its place in the list.
    """

    def __init__(self, index: Index, selectors: Selectors, *, position: bool = True) -> None:
        self._index = index
        self._selectors = selectors
        self._position = position

    def plan(self, draw: Draw, seed: int, pool: int = 0, pools: int = 1) -> Plan | Refusal:
        """The plan of a draw; the same seed gives the same plan."""
        corpus, template = self._index.corpus, draw.template
        chance = Chance(seed)
        read = {e.parent for e in template.edges}
        calls: list[PlannedCall] = []
        for node, number in enumerate(draw.rows):
            row = corpus.rows[number]
            selections: list[Selection] = []
            for e in template.edges:
                if e.child == node:
                    found = self._selections(draw, e, chance)
                    if isinstance(found, Refusal):
                        return found
                    selections += found
            arguments = self._arguments(number, draw.sources[node])
            if any(is_opaque_text(a.value) for a in arguments):
                return Refusal("unsayable_argument")
            calls.append(
                PlannedCall(row.tool, tuple(arguments), tuple(selections), node not in read)
            )
        if _asks_twice(calls):
            return Refusal("asked_twice")
        dates = [d for call in calls for a in call.arguments for d in dates_of(a.value)]
        today = min(dates) - timedelta(days=chance.between(0, _DAYS_BEFORE)) if dates else None
        specs = {tool: corpus.tools[tool] for tool in sorted(set(template.tools))}
        return Plan(tuple(calls), specs, today, seed, pool, pools)

    def _arguments(self, number: int, sources: Mapping[str, ValueRef]) -> list[Argument]:
        corpus = self._index.corpus
        row, needed = corpus.rows[number], corpus.stated(number)
        rules = corpus.rules(row.tool)
        found = []
        for pointer, value in argument_leaves(row.arguments):
            if pointer in sources or (is_void(value) and not isinstance(value, bool)):
                continue
            schema = rules.keywords_at(pointer) if rules is not None else {}
            silent = normal(pointer) not in needed or (
                "default" in schema and values_equal(value, schema["default"], schema)
            )
            found.append(Argument(pointer, value, schema, silent))
        return found

    def _selections(self, draw: Draw, edge: Edge, chance: Chance) -> list[Selection] | Refusal:
        tool = draw.template.tools[edge.parent]
        response = self._index.corpus.response(draw.rows[edge.parent])
        pattern = list_pattern([out for _, out in edge.pairs])
        sources = draw.sources[edge.child]
        said = self._looked_up(draw, edge.parent)
        if not edge.composite:
            paths = {p: sources[p].path or "" for p, _ in edge.pairs}
            one = self._selection(tool, response, pattern, edge.parent, paths, chance, said)
            return one if isinstance(one, Refusal) else [one]
        ((pointer, _),) = edge.pairs
        found = []
        for part in sources[pointer].parts:
            one = self._selection(
                tool, response, pattern, edge.parent, {pointer: part.path or ""}, chance, said
            )
            if isinstance(one, Refusal):
                return one
            found.append(one)
        return found

    def _looked_up(self, draw: Draw, node: int) -> str | None:
        """The name that a call looks up: it reads nothing and is called with one text."""
        if draw.sources[node]:
            return None
        arguments = self._arguments(draw.rows[node], {})
        loud = [a.value for a in arguments if not a.silent]
        return loud[0] if len(loud) == 1 and isinstance(loud[0], str) else None

    def _selection(
        self,
        tool: str,
        response: Json,
        pattern: str,
        parent: int,
        paths: Mapping[str, str],
        chance: Chance,
        said: str | None,
    ) -> Selection | Refusal:
        fed = tuple(sorted(paths))
        if not pattern:
            return Selection(parent, "", fed)
        elements = elements_of(response, pattern)
        place, at = next(
            (number, element.pointer)
            for number, element in enumerate(elements)
            if any(f"{path}/".startswith(f"{element.pointer}/") for path in paths.values())
        )
        below = [
            path.removeprefix(at) for path in paths.values() if f"{path}/".startswith(f"{at}/")
        ]
        size = len(elements)

        def thing(element: Element) -> list[Json]:
            return [find(element.value, path) for path in below]

        mine = thing(elements[place])
        others = [e for e in elements if thing(e) != mine]
        if not others:
            return Selection(parent, at, fed, place, size)
        paths_of_labels = self._selectors.label_paths(tool, pattern)
        if said is not None and paths_of_labels:
            # Another label than the name only qualifies what was looked up: "Paris (CDG)".
            name = find(elements[place].value, paths_of_labels[0])
            if not (isinstance(name, str) and _shares_word(name, said)):
                paths_of_labels = paths_of_labels[:1]
        for path in paths_of_labels:
            label = find(elements[place].value, path)
            if isinstance(label, str) and is_label(label):
                same = folded(label)
                if all(folded(str(find(e.value, path))) != same for e in others):
                    counted = (
                        said is None and self._position and pattern.count("*") == 1 and place < 3
                    )
                    if counted and chance.often(0.25):
                        return Selection(parent, at, fed, place, size, "position", path, label)
                    return Selection(parent, at, fed, place, size, "label", path, label)
        if said is not None:
            return Refusal("several_of_that_name")
        if self._position and pattern.count("*") == 1 and place < _FURTHEST:
            return Selection(parent, at, fed, place, size, "position")
        return Refusal("element_without_a_name")


def _shares_word(one: str, other: str) -> bool:
    words = set(re.findall(r"[^\W_]+", folded(one)))
    return bool(words & set(re.findall(r"[^\W_]+", folded(other))))


def dates_of(value: Json) -> list[date]:
    """The dates in a value."""
    found = []
    for year, month, day in _DATE.findall(value) if isinstance(value, str) else ():
        try:
            found.append(date(int(year), int(month), int(day)))
        except ValueError:
            continue
    return found


def is_opaque_text(value: Json) -> bool:
    """Whether a value is a code that no person would type: long, mixed, and no words."""
    if not isinstance(value, str) or is_temporal(value) or " " in value:
        return False
    letters = sum(c.isalpha() for c in value)
    digits = sum(c.isdigit() for c in value)
    return len(value) > 24 or (letters > 2 and digits > 2 and len(value) > 8)


def _asks_twice(calls: list[PlannedCall]) -> bool:
    """Whether a call asks for nothing that another about the same thing does not ask for too."""
    seen: dict[tuple[str, frozenset[tuple[int, str]]], list[set[tuple[str, str]]]] = {}
    for call in calls:
        about = frozenset((s.parent, s.element) for s in call.selections)
        said = {(a.path, str(a.value)) for a in call.arguments if not a.silent}
        others = seen.setdefault((call.tool, about), [])
        if any(said <= other or other <= said for other in others):
            return True
        others.append(said)
    return False
