"""Things that are asked for, and how several of them become one sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.writing.grammar.frames import Frames
from orch_env.synthesis.writing.grammar.spelling import ORDINALS, listed

_MOST_CLAUSES = 4
"""Things asked for in one user turn; more become a conversation."""
_MOST_TOGETHER = 3
"""Things about one element in one sentence."""
_THERE = {"at": "there", "near": "near there", "in": "there"}
_LONG = 12
"""Characters of a name that is not said again right away."""
_SHORT = 26
"""Words of two things that may share a sentence."""
_TOGETHER = 0.5
"""How often two short things share a sentence."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that is asked for; where they differ in one part only, one thing of several calls.

    Attributes:
        calls: numbers of the calls.
        order: whether it is an order.
        head: what is wanted, without what it is about: "the reviews of".
        about: what it is about, at its end: "Hotel Rex"; empty where it stands inside.
        tail: arguments behind it.
        after: calls that the request has to say before it.
    """

    calls: tuple[int, ...]
    order: bool
    head: str
    about: tuple[str, ...] = ()
    tail: str = ""
    after: frozenset[int] = frozenset()

    def text(self, last: str) -> str:
        """The clause in words; ``last`` stands before the last of several."""
        parts = (self.head, mentioned(self.about, last), self.tail)
        return " ".join(part for part in parts if part)

    @property
    def ending(self) -> str:
        """The last word of what is wanted: "of"."""
        return self.head.rsplit(" ", 1)[-1]


@dataclass(slots=True)
class Sentence:
    """Clauses that become one sentence.

    Attributes:
        groups: clauses in order; those of a group are about the same.
    """

    groups: list[list[Clause]] = field(default_factory=list)

    @property
    def order(self) -> bool:
        """Whether it is an order."""
        return self.groups[0][0].order

    @property
    def clauses(self) -> list[Clause]:
        """All its clauses."""
        return [clause for group in self.groups for clause in group]

    def text(self, frames: Frames, chance: Chance) -> str:
        """The sentence without its beginning."""
        said = [_group_text(group, frames) for group in self.groups]
        if len(said) == 1:
            return said[0]
        first, second = (group[-1] for group in self.groups)
        if first.about == second.about and len(first.about) == 1:
            there = _THERE.get(second.ending)
            named = f"{second.ending} {first.about[0]}" if there else first.about[0]
            said[1] = said[1].replace(named, there or "it")
        join = frames.join_orders if self.order else chance.pick(frames.joins)
        return f"{said[0]}, {join} {said[1]}"


def mentioned(names: Sequence[str], last: str) -> str:
    """Names as a list: "the first and the second hotel" for two places in one list."""
    found = [re.fullmatch(r"the (\w+(?:st|nd|rd|th)) (.+)", name) for name in names]
    places = [(match[1], match[2]) for match in found if match is not None]
    if len(names) == len(places) > 1 and len({rest for _, rest in places}) == 1:
        ordinals = sorted((word for word, _ in places), key=_place)
        return f"{listed([f'the {word}' for word in ordinals], last)} {places[0][1]}"
    return listed(list(names), last)


def again(clauses: Sequence[Clause], read: Collection[int], frames: Frames) -> list[Clause]:
    """Clauses that ask for the same with other arguments become one, unless others choose from it.

    Args:
        clauses: what is asked for.
        read: calls whose results others read.
        frames: the way of talking.
    """
    found: list[Clause] = []
    for clause in clauses:
        other = found[-1] if found else None
        if (
            other is not None
            and (other.head, other.about, other.order) == (clause.head, clause.about, clause.order)
            and not {*other.calls, *clause.calls} & set(read)
            and other.tail
            and clause.tail
            and len(other.calls) == 1
        ):
            second = clause.tail.removeprefix(",").strip()
            tail = f"{other.tail}, {frames.again} {second}"
            found[-1] = replace(other, calls=other.calls + clause.calls, tail=tail)
        else:
            found.append(clause)
    return found


def sentences_of(clauses: Sequence[Clause], frames: Frames, chance: Chance) -> list[Sentence]:
    """Clauses as sentences: alike ones together, then what is about the same, then short pairs."""
    groups: list[list[Clause]] = []
    for clause in _alike(clauses):
        for at, group in enumerate(groups):
            last = group[-1]
            same = last.about and last.about == clause.about and not (last.tail or clause.tail)
            ends = last.ending == clause.ending and last.order == clause.order
            said = [other for earlier in groups[: at + 1] for other in earlier]
            few = len(group) < _MOST_TOGETHER
            if same and ends and few and _may_move(clause, said):
                group.append(clause)
                break
        else:
            groups.append([clause])
    sentences: list[Sentence] = []
    for group in groups:
        before = sentences[-1] if sentences else None
        if before is not None and len(before.groups) == 1 and before.order == group[0].order:
            first = before.groups[0]
            both = _group_text(first, frames), _group_text(group, frames)
            size = sum(len(text.split()) for text in both)
            plain = not any("," in text or " and " in text for text in both)
            same = first[-1].about == group[-1].about and len(group[-1].about) == 1
            if size <= _SHORT and plain and (same or chance.often(_TOGETHER)):
                before.groups.append(group)
                continue
        sentences.append(Sentence([group]))
    return sentences


def referring(turns: Sequence[Sequence[Sentence]], names: Collection[str]) -> None:
    """A place that was said in the sentence before, and nothing else, becomes "there".

    Args:
        turns: the sentences; changed in place.
        names: names that the request says by themselves.
    """
    for turn in turns:
        last: tuple[str, ...] = ()
        for sentence in turn:
            for group in sentence.groups:
                for at, clause in enumerate(group):
                    about = clause.about
                    again = about == last and len(about) == 1 and len(group) == 1
                    named = again and about[0] in names and len(about[0]) > _LONG
                    if named and clause.ending in _THERE:
                        head = clause.head.removesuffix(clause.ending) + _THERE[clause.ending]
                        group[at] = replace(clause, head=head, about=())
                    last = about if clause.ending in _THERE else ()


def turns_of(sentences: Sequence[Sentence]) -> list[list[Sentence]]:
    """Sentences by user turn."""
    turns: list[list[Sentence]] = [[]]
    for sentence in sentences:
        size = sum(len(s.clauses) for s in turns[-1])
        if turns[-1] and size + len(sentence.clauses) > _MOST_CLAUSES:
            turns.append([])
        turns[-1].append(sentence)
    return turns


def shortened(texts: Sequence[str], names: Collection[tuple[str, str]]) -> list[str]:
    """Texts in which a thing has its noun once: "the ship Rex", and then "Rex".

    Args:
        texts: what is said, in order.
        names: names with their noun, and without.
    """
    found = list(texts)
    for full, short in sorted(names):
        seen = False
        for at, text in enumerate(found):
            first, whole, rest = text.partition(full)
            if whole and not seen:
                seen = True
                found[at] = first + whole + rest.replace(full, short)
            else:
                found[at] = text.replace(full, short)
    return found


def tidy(text: str) -> str:
    """The text with its first letter large and without doubled or loose signs."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.?!])", r"\1", text)
    text = re.sub(r"\.+([?!])", r"\1", text)
    text = re.sub(r"([ap])\.m\?", r"\1.m.?", text)
    text = re.sub(r"\.\.+", ".", text)
    text = re.sub(r",(,| and,)+", ",", text)
    return text[:1].upper() + text[1:]


def _place(word: str) -> int:
    return ORDINALS.index(word) if word in ORDINALS else int(re.sub(r"\D", "", word) or 0)


def _alike(clauses: Sequence[Clause]) -> list[Clause]:
    """Clauses that differ only in what they are about become one: "the reviews of A and B"."""
    found: list[Clause] = []
    for clause in clauses:
        for at, other in enumerate(found):
            same = (other.head, other.tail, other.order) == (clause.head, clause.tail, clause.order)
            near = at == len(found) - 1 or not clause.tail
            few = len(other.calls) < _MOST_TOGETHER and other.about and clause.about
            if same and near and few and _may_move(clause, found[: at + 1]):
                about = tuple(dict.fromkeys(other.about + clause.about))
                found[at] = replace(other, calls=other.calls + clause.calls, about=about)
                break
        else:
            found.append(clause)
    return found


def _may_move(clause: Clause, before: Sequence[Clause]) -> bool:
    """Whether everything that a clause relies on is said before its new place."""
    return clause.after <= {call for other in before for call in other.calls}


def _group_text(group: Sequence[Clause], frames: Frames) -> str:
    if len(group) == 1:
        return group[0].text(frames.last)
    *heads, last = group
    bare = [clause.head.removesuffix(last.ending).rstrip() for clause in heads]
    about = mentioned(last.about, frames.last)
    word = frames.join_orders if last.order else frames.both
    return f"{listed([*bare, last.head], word)} {about}"
