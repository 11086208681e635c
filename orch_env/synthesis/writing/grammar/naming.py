"""How a request names the things that its calls are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from orch_env.provenance.information import folded
from orch_env.synthesis.writing.grammar.frames import Frames, share
from orch_env.synthesis.writing.grammar.spelling import ordinal
from orch_env.synthesis.writing.grammar.wording import ToolWords, is_lookup, variants
from orch_env.synthesis.writing.plan import Plan, PlannedCall, Selection

_LONGEST_NAME = 6
"""Words of a name that is said beside what was looked up."""
_LONGEST_CODE = 4
"""Letters of a code such as that of an airport, which may stand in brackets."""


class Naming:
    """Names elements of results: by a label, by their place, or by what was looked up.

    Args:
        plan: the plan.
        words: the words for the tool of each call.
        silent: for each call, whether it goes without saying.
        frames: the way of talking.
        style: chooses among the forms of names, one for a whole request.
        order: the calls that are said, in order.

    Attributes:
        places: names of looked-up things, as said.
        with_nouns: such names with their noun, and without.
    """

    def __init__(
        self,
        plan: Plan,
        words: Sequence[ToolWords],
        silent: Sequence[bool],
        frames: Frames,
        style: int,
        order: Callable[[], Sequence[int]],
    ) -> None:
        self._plan = plan
        self._words = words
        self._silent = silent
        self._frames = frames
        self._style = style
        self._order = order
        self._known: dict[tuple[int, str], list[str]] = {}
        self.places: set[str] = set()
        self.with_nouns: set[tuple[str, str]] = set()

    def first(self, selection: Selection) -> str:
        """The first name of what a call is about; empty where there is none."""
        return next(iter(self.mentions(selection)), "")

    def mentions(self, selection: Selection) -> list[str]:
        """How the element that a call is about is named; the same each time."""
        key = (selection.parent, selection.element)
        if key not in self._known:
            self._known[key] = self._names_of(selection)
        return self._known[key]

    def _names_of(self, selection: Selection) -> list[str]:
        """Names of an element: its own, or those of what it comes from."""
        parent = selection.parent
        call, words = self._plan.calls[parent], self._words[parent]
        if str(selection.label) in words.hints.labels and selection.how == "label":
            return [words.hints.labels[str(selection.label)] + self._which(parent)]
        if words.hints.implied:
            return [str(selection.label)] if selection.label is not None else []
        one = selection.how == "single" and (not selection.element or words.order)
        if self._silent[parent] or (one and call.selections and words.hints.thing is None):
            if is_lookup(call, words):
                name = self._named(call, words, selection)
                if name is None:
                    return []
                self.places.add(name)
                return [name]
            return list(dict.fromkeys(m for s in call.selections for m in self.mentions(s)))
        if selection.how == "label":
            name = str(selection.label).strip()
            if words.hints.called is None or folded(words.thing) in folded(name).split():
                return [name]
            return [self._pick(variants(words.hints.called)).replace("{}", name)]
        which = self._which(parent)
        place = ordinal(selection.position)
        if which:
            begin = f"the {place} " if selection.how == "position" else "the "
            return [f"{begin}{words.thing}{which}"]
        if selection.how == "position":
            forms = self._frames.position
            return [forms[self._style % len(forms)].format(place, words.thing)]
        forms = self._frames.single
        return [forms[self._style % len(forms)].format(words.thing)]

    def _pick(self, options: Sequence[str]) -> str:
        """One variant, the same for all of its kind in a request."""
        own = share(options, self._plan.pool, self._plan.pools)
        return own[self._style % len(own)]

    def _which(self, number: int) -> str:
        """Which of several spoken searches for the same thing is meant."""
        chosen_from = {s.parent for call in self._plan.calls for s in call.selections}
        thing = self._words[number].thing
        searches = [
            n
            for n, (call, words) in enumerate(zip(self._plan.calls, self._words, strict=True))
            if n in chosen_from
            or words.hints.thing is not None
            or call.tool == self._plan.calls[number].tool
        ]
        same = [n for n in searches if not self._silent[n] and self._words[n].thing == thing]
        if len(same) < 2:
            return ""
        places = {n: self._places(n) for n in same}
        alike = sum(places[n] == places[number] for n in same) > 1
        if alike or len(places[number]) != 1:
            at = [n for n in self._order() if n in same].index(number)
            return f" from the {ordinal(at)} search"
        found = re.search(r"(\w+) \{\w+\}$", self._words[number].says[0])
        return f" {found[1] if found else 'for'} {places[number][0]}"

    def _places(self, number: int) -> list[str]:
        """What a search is about."""
        selections = self._plan.calls[number].selections
        return list(dict.fromkeys(m for s in selections for m in self.mentions(s)))

    def _named(self, call: PlannedCall, words: ToolWords, selection: Selection) -> str | None:
        """The name that a look-up looks up; ``None`` where it found something of another name."""
        spoken = [str(a.value) for a in call.arguments if not a.silent]
        if not spoken or (selection.how == "position" and selection.label is None):
            return None
        said = spoken[0].rstrip(". ")
        if selection.label is not None:
            label = str(selection.label)
            if folded(said) in folded(label):
                said = label
            elif folded(label) not in folded(said):
                alike = set(folded(label).split()) & set(folded(said).split())
                longer = len(label.split()) > max(2, len(said.split()))
                code = label.isupper() and len(label) <= _LONGEST_CODE
                if len(label.split()) > _LONGEST_NAME or not (alike or longer or code):
                    return None
                said = f"{said} ({label})" if alike or code else f"{label} in {said}"
        if not words.noun:
            return said
        full = f"the {words.noun} {said}"
        self.with_nouns.add((full, said))
        return full
