"""Puts a plan into words: goals once each, in order, with what they are about.

A call that only looks up a name is silent; the name stands where it is needed. A search whose
result is chosen from is said, and then the things that are wanted of what was chosen. Things about
the same element become one list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from orch_env.provenance.information import folded
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.writing.grammar.arguments import Arguments
from orch_env.synthesis.writing.grammar.frames import Frames, frames_of, share
from orch_env.synthesis.writing.grammar.spelling import listed, ordinal, today_said
from orch_env.synthesis.writing.grammar.wording import ToolWords, is_lookup, nouns_of, words_of
from orch_env.synthesis.writing.hints import Hints
from orch_env.synthesis.writing.plan import Plan, PlannedCall, Selection, Written
from orch_env.values import values_equal

_MOST_CLAUSES = 4
"""Things asked for in one user turn; more become a conversation."""
_SLOT = re.compile(r"\{(\w+)\}")


class GrammarWriter:
    """The offline writer.

    Args:
        hints: words for the API; ``None`` takes everything from the tools' own descriptions.
    """

    name = "grammar"

    def __init__(self, hints: Hints | None = None) -> None:
        self._hints = hints

    def write(self, plans: Sequence[Plan]) -> list[Written]:
        """One text per plan; the same plan always gets the same text."""
        return [_Request(plan, self._hints).written() for plan in plans]


@dataclass(slots=True)
class _Clause:
    """One thing that is asked for.

    Attributes:
        call: its number.
        order: whether it is an order.
        head: what is wanted, without what it is about: "the reviews of".
        about: what it is about, at its end: "Hotel Rex"; empty where it stands inside.
        tail: arguments behind it.
    """

    call: int
    order: bool
    head: str
    about: str = ""
    tail: str = ""

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.head, self.about, self.tail) if part)


@dataclass(slots=True)
class _Sentence:
    """Clauses that become one sentence."""

    clauses: list[_Clause] = field(default_factory=list)

    @property
    def order(self) -> bool:
        return self.clauses[0].order


class _Request:
    """The words of one plan."""

    def __init__(self, plan: Plan, hints: Hints | None) -> None:
        self.plan = plan
        self.hints = hints
        self.chance = Chance(plan.seed)
        self.frames: Frames = frames_of(plan.pool, plan.pools)
        nouns = nouns_of(plan)
        words = {tool: words_of(spec, hints, nouns) for tool, spec in plan.specs.items()}
        self.words: list[ToolWords] = [words[call.tool] for call in plan.calls]
        self.silent = [self._is_silent(number) for number in range(len(plan.calls))]
        self.arguments = Arguments(plan, hints, self.frames, self.chance, self._first_mention)

    def written(self) -> Written:
        """The text, or why there is none."""
        if not all(call.goal for call in self.plan.calls if self._is_alone(call)):
            return Written(None, "lookup_without_use")
        clauses: list[_Clause] = []
        for number in self._order():
            clause = self._clause(number)
            if clause is None:
                return Written(None, "no_words_for_it")
            clauses.append(clause)
        if not clauses:
            return Written(None, "nothing_asked")
        sentences = _merged(clauses, self.frames)
        turns = _turns(sentences)
        texts = [self._said(turn, first=number == 0) for number, turn in enumerate(turns)]
        spoken = {c.call: at for at, turn in enumerate(turns) for s in turn for c in s.clauses}
        turn_of = self._turn_of(spoken) if len(turns) > 1 else ()
        return Written(texts[0], None, tuple(texts[1:]), turn_of)

    def _is_alone(self, call: PlannedCall) -> bool:
        return call.goal and not call.selections and not call.arguments and len(self.plan.calls) > 1

    # -- what is said, and in which order ------------------------------------------------------

    def _is_silent(self, number: int) -> bool:
        """Whether a call goes without saying: a look-up, or a step that leaves no choice."""
        call = self.plan.calls[number]
        if call.goal:
            return False
        if is_lookup(call, self.words[number]):
            return True
        if self.words[number].order:
            return False
        if self.words[number].hints.implied:
            return True
        if self.hints is not None and self.words[number].hints.say is not None:
            return False
        loud = any(not a.silent for a in call.arguments)
        uses = [s for other in self.plan.calls for s in other.selections if s.parent == number]
        return not loud and all(s.how == "single" for s in uses)

    def _order(self) -> list[int]:
        """Calls that are said: each search before what is chosen from it, earlier dates first."""
        spoken = [n for n, silent in enumerate(self.silent) if not silent]
        left, order = list(spoken), list[int]()
        while left:
            ready = [n for n in left if not self._spoken_before(n) & set(left)]
            last = order[-1] if order else None
            following = min(
                ready,
                key=lambda n: (
                    last is None or last not in self._spoken_before(n),
                    self.arguments.first_date(n) or "",
                    n,
                ),
            )
            left.remove(following)
            order.append(following)
        return order

    def _spoken_before(self, number: int) -> set[int]:
        """Spoken calls that a call reads, through silent ones too."""
        found: set[int] = set()
        for selection in self.plan.calls[number].selections:
            parent = selection.parent
            found |= self._spoken_before(parent) if self.silent[parent] else {parent}
        return found

    # -- one clause ----------------------------------------------------------------------------

    def _clause(self, number: int) -> _Clause | None:
        call, words = self.plan.calls[number], self.words[number]
        options = share(words.says, self.plan.pool, self.plan.pools)
        say = self.chance.pick(options)
        by_slot: dict[str, list[str]] = {}
        for selection in call.selections:
            mentions = self._mentions(selection)
            if not mentions:
                return None
            if words.hints.each and selection.arguments[0].startswith(f"/{words.hints.each}/"):
                continue
            for slot in _slots_of(selection, say):
                slots = by_slot.setdefault(slot, [])
                slots += [mention for mention in mentions if mention not in slots]
        filled = set[str]()

        def fill(found: re.Match[str]) -> str:
            filled.add(found[1])
            said = by_slot.get(found[1]) or self.arguments.slot(number, found[1])
            return listed(said, self.frames.last) if isinstance(said, list) else said

        about = ""
        end = re.search(r"\{(\w+)\}$", say)
        body = say
        if end is not None and end[1] in by_slot:
            filled.add(end[1])
            about = listed(by_slot[end[1]], self.frames.last)
            body = say[: end.start()].rstrip()
        head = _SLOT.sub(fill, body)
        tail = self.arguments.tail(number, filled, by_slot)
        rest: list[str] = []
        phrased = self.hints.arguments if self.hints is not None else {}
        used = {m for slot in filled for m in by_slot.get(slot, ())}
        for mention in dict.fromkeys(
            m
            for slot, ms in by_slot.items()
            if slot not in filled and slot not in phrased
            for m in ms
            if m not in used
        ):
            inside = _named_inside(head, mention)
            if inside is None:
                rest.append(mention)
            else:
                head = inside
        if rest and not about:
            head = f"{head} {self.chance.pick(self.frames.about)}"
            about = listed(rest, self.frames.last)
        elif rest:
            about = listed([about, *rest], self.frames.last)
        return _Clause(number, words.order, head, about, tail)

    def _mentions(self, selection: Selection) -> list[str]:
        """How the element that a call is about is named: by itself, or by what it comes from."""
        parent = selection.parent
        call, words = self.plan.calls[parent], self.words[parent]
        if isinstance(selection.label, str) and selection.label in words.hints.labels:
            return [words.hints.labels[selection.label]]
        if words.hints.implied and selection.how == "label":
            return [str(selection.label)]
        if self.silent[parent] or (words.order and selection.how == "single"):
            if is_lookup(call, words):
                name = self._named(call, words, selection)
                return [name] if name is not None else []
            return list(dict.fromkeys(m for s in call.selections for m in self._mentions(s)))
        if selection.how == "label":
            name = str(selection.label)
            if folded(words.thing) in folded(name):
                return [name]
            return [self.chance.pick(self.frames.called).format(thing=words.thing, name=name)]
        if selection.how == "position":
            return [f"the {ordinal(selection.position)} {words.thing}{self._which(parent)}"]
        return [f"that {words.thing}{self._which(parent)}"]

    def _first_mention(self, selection: Selection) -> str:
        return next(iter(self._mentions(selection)), "")

    def _which(self, number: int) -> str:
        """Which of several spoken searches for the same thing is meant."""
        same = [
            n
            for n, silent in enumerate(self.silent)
            if not silent and self.words[n].thing == self.words[number].thing and n != number
        ]
        if not same:
            return ""
        for selection in self.plan.calls[number].selections:
            for mention in self._mentions(selection):
                found = re.search(r"(\w+) \{\w+\}$", self.words[number].says[0])
                return f" {found[1] if found else 'for'} {mention}"
        return ""

    def _named(self, call: PlannedCall, words: ToolWords, selection: Selection) -> str | None:
        """The name that a look-up looks up; ``None`` where it found something of another name."""
        said = next(str(a.value) for a in call.arguments if not a.silent)
        if selection.how == "position":
            return None
        if selection.how == "label":
            label = str(selection.label)
            if folded(said) in folded(label):
                said = label
            elif folded(label) not in folded(said):
                if not set(folded(label).split()) & set(folded(said).split()):
                    return None
                said = f"{said} ({label})"
        return f"the {words.noun} {said}" if words.noun else said

    # -- sentences -----------------------------------------------------------------------------

    def _said(self, sentences: list[_Sentence], *, first: bool) -> str:
        frames, chance = self.frames, self.chance
        parts: list[str] = []
        if first:
            opening = chance.pick(frames.openings)
            if opening:
                parts.append(opening)
            if self.plan.today is not None:
                said = today_said(self.plan.today, chance, self.plan.pool)
                sentence_of_day = chance.pick(frames.today).format(said)
                if opening.endswith((",", ":")):
                    sentence_of_day = sentence_of_day[0].lower() + sentence_of_day[1:]
                parts.append(sentence_of_day)
        used: list[str] = []
        for number, sentence in enumerate(sentences):
            if number == 0 and first:
                options = frames.orders if sentence.order else frames.wants
            elif number == 0:
                options = frames.followup_orders if sentence.order else frames.followups
            else:
                options = frames.more_orders if sentence.order else frames.more
            fresh = [option for option in options if option not in used] or list(options)
            lead = chance.pick(fresh)
            used.append(lead)
            end = "?" if lead.split()[0] in _ASKING else "."
            if parts and parts[-1].endswith((",", ":")) and not lead.startswith("I"):
                lead = lead[0].lower() + lead[1:]
            parts.append(f"{lead} {_joined(sentence, frames, chance)}{end}")
        if first:
            closing = chance.pick(frames.closings)
            if closing:
                parts.append(closing)
        return _tidy(" ".join(parts))

    def _turn_of(self, spoken: dict[int, int]) -> tuple[int, ...]:
        turn_of = [spoken.get(number, 0) for number in range(len(self.plan.calls))]
        for number in reversed(range(len(self.plan.calls))):
            if self.silent[number]:
                uses = [
                    turn_of[n]
                    for n, call in enumerate(self.plan.calls)
                    if any(s.parent == number for s in call.selections)
                ]
                turn_of[number] = min(uses, default=0)
        for number, call in enumerate(self.plan.calls):  # nothing before what it reads
            before = [turn_of[s.parent] for s in call.selections]
            turn_of[number] = max([turn_of[number], *before])
        return tuple(turn_of)


_ASKING = frozenset(["Can", "Could", "Would"])


def _slots_of(selection: Selection, say: str) -> list[str]:
    """The slots of a clause that a selection fills; its first argument where there is none."""
    names = [pointer.rsplit("/", 1)[-1] for pointer in selection.arguments]
    slots = _SLOT.findall(say)
    return [name for name in names if name in slots] or names[:1]


def _named_inside(head: str, mention: str) -> str | None:
    """A clause with "the ship" replaced by "the ship Rex"; ``None`` where it names no ship."""
    found = re.fullmatch(r"the ([a-z][a-z ]*) (.+)", mention)
    if found is None:
        return None
    whole, count = re.subn(
        rf"\bthe {re.escape(found[1])}\b(?! \w+ing\b)", lambda _: mention, head, count=1
    )
    return whole if count else None


def _merged(clauses: list[_Clause], frames: Frames) -> list[_Sentence]:
    """Clauses about the same thing that end alike become one sentence."""
    sentences: list[_Sentence] = []
    for clause in clauses:
        for sentence in sentences:
            last = sentence.clauses[-1]
            same = last.about and last.about == clause.about and not (last.tail or clause.tail)
            ends = last.head.rsplit(" ", 1)[-1] == clause.head.rsplit(" ", 1)[-1]
            if same and ends and last.order == clause.order and len(sentence.clauses) < 3:
                sentence.clauses.append(clause)
                break
        else:
            sentences.append(_Sentence([clause]))
    return sentences


def _joined(sentence: _Sentence, frames: Frames, chance: Chance) -> str:
    clauses = sentence.clauses
    if len(clauses) == 1:
        return clauses[0].text
    *heads, last = clauses
    preposition = last.head.rsplit(" ", 1)[-1]
    bare = [c.head.removesuffix(preposition).rstrip() for c in heads]
    return f"{listed([*bare, last.head], frames.last)} {last.about}"


def _turns(sentences: list[_Sentence]) -> list[list[_Sentence]]:
    """Sentences by user turn."""
    turns: list[list[_Sentence]] = [[]]
    for sentence in sentences:
        size = sum(len(s.clauses) for s in turns[-1])
        if turns[-1] and size + len(sentence.clauses) > _MOST_CLAUSES:
            turns.append([])
        turns[-1].append(sentence)
    return turns


def _tidy(text: str) -> str:
    """The text with its sentences' first letters large and without doubled signs."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.?!])", r"\1", text)
    text = re.sub(r"([ap])\.m\.\.", r"\1.m.", text)
    text = re.sub(r"\.\.", ".", text)
    return text[:1].upper() + text[1:]


def is_omitted(name: str, value: object, hints: Hints | None) -> bool:
    """Whether an argument's value goes without saying."""
    return hints is not None and name in hints.omit and values_equal(value, hints.omit[name])
