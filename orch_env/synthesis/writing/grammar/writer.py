"""Puts a plan into words: goals once each, in order, with what they are about.

A call that only looks up a name is silent; the name stands where it is needed. A search whose
result is chosen from is said, and then the things that are wanted of what was chosen. Things about
the same element become one list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.writing.grammar.arguments import Arguments
from orch_env.synthesis.writing.grammar.clauses import (
    Clause,
    Sentence,
    again,
    referring,
    sentences_of,
    shortened,
    tidy,
    turns_of,
)
from orch_env.synthesis.writing.grammar.frames import Frames, frames_of, share
from orch_env.synthesis.writing.grammar.naming import Naming
from orch_env.synthesis.writing.grammar.spelling import listed, today_said
from orch_env.synthesis.writing.grammar.wording import (
    ToolWords,
    is_lookup,
    nouns_of,
    variants,
    words_of,
)
from orch_env.synthesis.writing.hints import Hints
from orch_env.synthesis.writing.plan import Plan, PlannedCall, Written

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
        style = self.chance.between(0, 11)
        self.naming = Naming(plan, self.words, self.silent, self.frames, style, self._order)
        self.arguments = Arguments(plan, hints, self.frames, self.chance, self.naming.first)

    def written(self) -> Written:
        """The text, or why there is none."""
        called = zip(self.plan.calls, self.words, strict=True)
        if any(call.goal and words.hints.lookup for call, words in called):
            return Written(None, "lookup_without_use")
        clauses: list[Clause] = []
        for number in self._order():
            clause = self._clause(number)
            if clause is None:
                return Written(None, "no_words_for_it")
            clauses.append(clause)
        read = {s.parent for call in self.plan.calls for s in call.selections}
        clauses = again(clauses, read, self.frames)
        if not clauses:
            return Written(None, "nothing_asked")
        turns = turns_of(sentences_of(clauses, self.frames, self.chance))
        referring(turns, self.naming.places)
        texts = [self._said(turn, first=number == 0) for number, turn in enumerate(turns)]
        texts = shortened(texts, self.naming.with_nouns)
        spoken = {
            call: at
            for at, turn in enumerate(turns)
            for sentence in turn
            for clause in sentence.clauses
            for call in clause.calls
        }
        turn_of = self._turn_of(spoken) if len(turns) > 1 else ()
        return Written(texts[0], None, tuple(texts[1:]), turn_of)

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

    def _clause(self, number: int) -> Clause | None:
        call, words = self.plan.calls[number], self.words[number]
        fed: dict[str, list[str]] = {}
        for selection in call.selections:
            mentions = self.naming.mentions(selection)
            if not mentions:
                return None
            if words.hints.each and selection.arguments[0].startswith(f"/{words.hints.each}/"):
                continue
            for name in (pointer.rsplit("/", 1)[-1] for pointer in selection.arguments):
                known = fed.setdefault(name, [])
                known += [mention for mention in mentions if mention not in known]
        say = self._say(words, fed)
        by_slot = _by_slot(call, fed, say)
        filled = set[str]()

        def fill(found: re.Match[str]) -> str:
            filled.add(found[1])
            said = by_slot.get(found[1]) or self.arguments.slot(number, found[1])
            return listed(said, self.frames.last) if isinstance(said, list) else said

        about: list[str] = []
        end = re.search(r"\{(\w+)\}$", say)
        body = say
        if end is not None and end[1] in by_slot:
            filled.add(end[1])
            about = by_slot[end[1]]
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
        return Clause(
            (number,),
            words.order,
            head,
            (*about, *rest),
            tail,
            frozenset(self._spoken_before(number)),
        )

    def _say(self, words: ToolWords, fed: Mapping[str, list[str]]) -> str:
        """One variant of a tool's words: those for one place where all its slots name the same."""
        plan = self.plan
        if words.hints.same is not None:
            slots = _SLOT.findall(words.says[0])
            named = [fed[slot] for slot in slots if slot in fed]
            if len(named) == len(slots) > 1 and all(names == named[0] for names in named):
                return self.chance.pick(share(variants(words.hints.same), plan.pool, plan.pools))
        return self.chance.pick(share(words.says, plan.pool, plan.pools))

    # -- sentences -----------------------------------------------------------------------------

    def _said(self, sentences: list[Sentence], *, first: bool) -> str:
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
            end = "?" if _ASKING.search(lead) else "."
            if parts and parts[-1].endswith((",", ":")) and not lead.startswith("I"):
                lead = lead[0].lower() + lead[1:]
            parts.append(f"{lead} {sentence.text(frames, chance)}{end}")
        if first:
            closing = chance.pick(frames.closings)
            if closing:
                parts.append(closing)
        return tidy(" ".join(parts))

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


_ASKING = re.compile(r"\b(can|could|would) you\b", re.IGNORECASE)


def _by_slot(call: PlannedCall, fed: Mapping[str, list[str]], say: str) -> dict[str, list[str]]:
    """What fills the slots of a clause: of each selection one argument, one with a slot first."""
    slots = _SLOT.findall(say)
    found: dict[str, list[str]] = {}
    for selection in call.selections:
        names = [pointer.rsplit("/", 1)[-1] for pointer in selection.arguments]
        for name in [name for name in names if name in slots] or names[:1]:
            if name in fed:
                found[name] = fed[name]
    return found


def _named_inside(head: str, mention: str) -> str | None:
    """A clause with "the ship" replaced by "the ship Rex"; ``None`` where it names no ship."""
    found = re.fullmatch(r"the ([a-z][a-z ]*) (.+)", mention)
    if found is None:
        return None
    whole, count = re.subn(
        rf"\bthe {re.escape(found[1])}\b(?! \w+ing\b)", lambda _: mention, head, count=1
    )
    return whole if count else None
