"""The arguments of a call in words: ranges of dates, counts, choices, and what else there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date

from orch_env.provenance.evidence import pieces_of
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.writing.grammar.frames import Frames, share
from orch_env.synthesis.writing.grammar.spelling import (
    Speller,
    count_said,
    listed,
    on,
)
from orch_env.synthesis.writing.grammar.wording import argument_name, plain_name, variants
from orch_env.synthesis.writing.hints import Hints
from orch_env.synthesis.writing.plan import Argument, Plan, Selection
from orch_env.synthesis.writing.planning import dates_of
from orch_env.types.json import Json
from orch_env.values import values_equal

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAMED = re.compile(r"\{(\w+)\}")


class Arguments:
    """The words for the independent arguments of a plan's calls.

    Args:
        plan: the plan.
        hints: words for the API.
        frames: the way of talking.
        chance: chooses spellings.
        mention: names the element that a selection is about.
    """

    def __init__(
        self,
        plan: Plan,
        hints: Hints | None,
        frames: Frames,
        chance: Chance,
        mention: Callable[[Selection], str],
    ) -> None:
        self._plan = plan
        self._mention = mention
        self._hints = hints or Hints()
        self._frames = frames
        self._chance = chance
        self._spelt: dict[date, str] = {}
        self._speller = Speller(plan.today, chance)
        self._last_range: tuple[Json, Json] | None = None

    def first_date(self, number: int) -> str | None:
        """The earliest date of a call, ISO 8601."""
        found = [d for a in self._plan.calls[number].arguments for d in dates_of(a.value)]
        return min(found).isoformat() if found else None

    def slot(self, number: int, name: str) -> str:
        """The words for one argument that a clause has a slot for."""
        for argument in self._plan.calls[number].arguments:
            if argument_name(argument) == name:
                return self._value(argument)
        return name

    def tail(self, number: int, said: Collection[str], fed: Mapping[str, list[str]]) -> str:
        """Everything that a call's clause has not said yet, as phrases behind it.

        Args:
            number: the call.
            said: argument names that its clause has said.
            fed: argument names that outputs feed.
        """
        call = self._plan.calls[number]
        left = [
            a
            for a in call.arguments
            if not a.silent and argument_name(a) not in said and not self._goes_without(a)
        ]
        items, told = self._items(number, left, fed)
        moments = self._moments(left)
        phrases = [*items, *self._ranges(left, moments), *self._dates_with_times(left, moments)]
        later = [(argument_name(argument), self._phrase(argument)) for argument in left]
        later += [
            (name, self._worded(name, listed(mentions, self._frames.last)))
            for name, mentions in fed.items()
            if name not in said and name not in told and name in self._hints.arguments
        ]
        order = {name: place for place, name in enumerate(self._hints.arguments)}
        later.sort(key=lambda found: order.get(found[0], len(order)))
        return " ".join([*phrases, *(phrase for _, phrase in later)])

    def _goes_without(self, argument: Argument) -> bool:
        name = argument_name(argument)
        return name in self._hints.omit and values_equal(argument.value, self._hints.omit[name])

    def _items(
        self, number: int, left: list[Argument], fed: Mapping[str, list[str]]
    ) -> tuple[list[str], set[str]]:
        """The items of a list of objects, each in its own words, and the names that they say."""
        hints = self._hints.tools.get(self._plan.calls[number].tool)
        if hints is None or hints.each is None or hints.say_each is None:
            return [], set()
        items: dict[int, dict[str, str]] = {}
        for argument in list(left):
            head, at, name = _item_of(argument.path)
            if head == hints.each:
                items.setdefault(at, {})[name] = self._value(argument)
                left.remove(argument)
        for selection in self._plan.calls[number].selections:
            for pointer in selection.arguments:
                head, at, name = _item_of(pointer)
                if head == hints.each:
                    items.setdefault(at, {})[name] = self._mention(selection)
        phrases = []
        options = share(variants(hints.say_each), self._plan.pool, self._plan.pools)
        for at in sorted(items):
            phrase = options[at % len(options)]
            for name in _NAMED.findall(phrase):
                phrase = phrase.replace(f"{{{name}}}", _filled(name, items[at]))
            phrases.append(phrase)
        return [listed(phrases, self._frames.then)], {
            name for said in items.values() for name in said
        }

    def _moments(self, left: list[Argument]) -> dict[str, Argument]:
        """Times of day by the path of the date that they go with, by their names."""
        found: dict[str, Argument] = {}
        times = [a for a in left if isinstance(a.value, str) and _is_time(a.value)]
        for day in sorted((a for a in left if _is_day(a.value)), key=lambda a: str(a.value)):
            for time in times:
                if _stem(day, "date") == _stem(time, "time"):
                    found[day.path] = time
                    left.remove(time)
                    times.remove(time)
                    break
        return found

    def _moment(self, day: Argument, moments: Mapping[str, Argument]) -> str:
        said = self._value(day)
        time = moments.get(day.path)
        return f"{said} at {self._value(time)}" if time is not None else said

    def _ranges(self, left: list[Argument], moments: Mapping[str, Argument]) -> list[str]:
        phrases = []
        named = {argument_name(a): a for a in left}
        for pair, phrase in self._hints.ranges.items():
            first, _, last = (part.strip() for part in pair.partition(","))
            if first in named and last in named:
                phrases.append(self._range(named[first], named[last], phrase, moments))
                left[:] = [a for a in left if a not in (named[first], named[last])]
        days = [a for a in left if _is_day(a.value)]
        if not self._hints.ranges and len(days) == 2 and len(moments) != 1:
            first_day, last_day = sorted(days, key=lambda a: str(a.value))
            phrases.append(self._range(first_day, last_day, self._frames.span[0], moments))
            left[:] = [a for a in left if a not in days]
        return phrases

    def _range(
        self, first: Argument, last: Argument, phrase: str, moments: Mapping[str, Argument]
    ) -> str:
        both = (first.value, last.value)
        if both == self._last_range and not moments:
            return self._chance.pick(self._frames.same_range)
        self._last_range = both
        chosen = self._chance.pick(share(variants(phrase), self._plan.pool, self._plan.pools))
        said = self._moment(first, moments), self._moment(last, moments)
        if re.search(r"\{\} (to|until|till) \{\}", chosen) and not moments:
            days = [dates_of(value)[0] for value in both if _is_day(value)]
            said = self._speller.days(days[0], days[1]) if len(days) == 2 else said
        for value in said:
            place = min((chosen.find(mark), mark) for mark in ("{}", "{on}") if mark in chosen)[1]
            chosen = chosen.replace(place, on(value) if place == "{on}" else value, 1)
        return chosen

    def _dates_with_times(self, left: list[Argument], moments: Mapping[str, Argument]) -> list[str]:
        """The dates that a time of day goes with."""
        phrases = []
        for day in sorted((a for a in left if a.path in moments), key=lambda a: str(a.value)):
            said = on(self._moment(day, moments))
            name, stem = argument_name(day), _stem(day, "date")
            if name in self._hints.arguments:
                said = self._worded(name, self._moment(day, moments))
            elif stem:
                said = f"{plain_name(stem)} {said}"
            phrases.append(said)
            left.remove(day)
        return phrases

    def _phrase(self, argument: Argument) -> str:
        name = argument_name(argument)
        said = self._value(argument)
        if name in self._hints.arguments:
            return self._worded(name, said)
        if _is_day(argument.value):
            return on(said)
        if isinstance(argument.value, bool):
            return f"{'with' if argument.value else 'without'} {plain_name(name)}"
        if self._word(name, argument.value) is not None:
            return said
        return f"with {plain_name(name)} {said}"

    def _worded(self, name: str, said: str) -> str:
        options = variants(self._hints.arguments[name])
        phrase = self._chance.pick(share(options, self._plan.pool, self._plan.pools))
        if "{on}" in phrase:
            return phrase.replace("{on}", on(said))
        return phrase.replace("{}", said)

    def _word(self, name: str, value: Json) -> str | None:
        return self._hints.words.get(name, {}).get(str(value))

    def _value(self, argument: Argument) -> str:
        value, chance = argument.value, self._chance
        word = self._word(argument_name(argument), value)
        if word is not None:
            return chance.pick(share(variants(word), self._plan.pool, self._plan.pools))
        if isinstance(value, str) and _is_day(value):
            day = dates_of(value)[0]
            if day not in self._spelt:
                self._spelt[day] = self._speller.said(day)
            return self._spelt[day]
        if isinstance(value, str) and _is_time(value):
            return self._speller.time(value) or value
        if isinstance(value, int) and not isinstance(value, bool):
            return count_said(value, chance)
        if isinstance(value, str) and (pieces := pieces_of(value)) and value.count(" ") < 3:
            return listed(pieces)
        if isinstance(value, str) and value.isupper() and argument.schema.get("enum"):
            return value.replace("_", " ").lower()
        return str(value)


def _item_of(pointer: str) -> tuple[str, int, str]:
    """List, index and name of a pointer ``/legs/0/date``; an index of -1 where it is no such."""
    parts = pointer.split("/")[1:]
    if len(parts) == 3 and parts[1].isdigit():
        return parts[0], int(parts[1]), parts[2]
    return "", -1, ""


def _stem(argument: Argument, word: str) -> str:
    """An argument's name without the word that says what it is: ``pick_up`` of a date."""
    return argument_name(argument).lower().replace(word, "").strip("_")


def _filled(name: str, said: Mapping[str, str]) -> str:
    if name.startswith("on_"):
        return on(said.get(name[3:], ""))
    return said.get(name, "")


def _is_day(value: Json) -> bool:
    return isinstance(value, str) and _DAY.fullmatch(value) is not None and bool(dates_of(value))


def _is_time(value: str) -> bool:
    return re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d(:00)?", value) is not None
