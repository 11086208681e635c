"""Practice conversations with random tools: requests in prose, calls, JSON results, calls again.

Nothing here is about any server. Tools, keys and values are drawn anew for every conversation; what
stays the same is how such conversations work: an argument is said in the request, or stands behind
its key in an earlier result, or in the one row of a list that fits the request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from orch_env.replay.policies import CLOSING
from tools.reader_model.words import (
    ACTIONS,
    ADJECTIVES,
    CUES,
    FINDERS,
    FIRST_NAMES,
    KEYS,
    NOUNS,
    PLACES,
    STATES,
    SURNAMES,
)

_KEYS = {kind: text.split() for kind, text in KEYS.items()}
_SAID = tuple(kind for kind in CUES if kind not in ("id",))
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Value:
    """A value: its JSON, without quotes, and how a person says it."""

    kind: str
    text: str
    quoted: bool = True
    spoken: str | None = None

    @property
    def said(self) -> str:
        """How a request writes it."""
        return self.text if self.spoken is None else self.spoken


@dataclass(frozen=True, slots=True)
class Copy:
    """A value that is written again.

    Attributes:
        target: where it is written.
        source: where it stands.
        criterion: what in the same row shows that this row is meant, where there are several.
        wanted: where the request says so.
        what: for measuring, one of ``prose``, ``key``, ``row``, ``verbatim``.
        rows: among how many it was chosen.
    """

    target: Span
    source: Span
    criterion: Span | None = None
    wanted: Span | None = None
    what: str = "key"
    rows: int = 1


@dataclass(slots=True)
class Page:
    """A text with what is learned in it. Spans count characters.

    Attributes:
        varied: requests may say more than is needed, and results may be wrapped in an object.
        text: all of it.
        learned: what a model has to write.
        copies: values in it that stand earlier.
        rows: each JSON object and the first value in it.
    """

    varied: bool = False
    text: str = ""
    learned: list[Span] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    rows: list[tuple[Span, Span]] = field(default_factory=list)

    def add(self, text: str) -> Span:
        """Append, and say where."""
        start = len(self.text)
        self.text += text
        return start, len(self.text)

    def add_value(self, value: Value) -> Span:
        """Append a JSON value; the span is without its quotes."""
        if not value.quoted:
            return self.add(value.text)
        self.add('"')
        span = self.add(value.text)
        self.add('"')
        return span

    def add_object(self, fields: Sequence[tuple[str, Value]]) -> dict[str, Span]:
        """Append a JSON object; returns where the value of each key stands."""
        start, spans = len(self.text), {}
        for number, (key, value) in enumerate(fields):
            self.add(("{" if number == 0 else ", ") + f'"{key}": ')
            spans[key] = self.add_value(value)
        self.add("}")
        self.rows.append(((start, len(self.text)), next(iter(spans.values()))))
        return spans


def made_up_word(rng: Random) -> str:
    """A word of two or three syllables that means nothing."""
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(2, 3)))


def id_maker(rng: Random, noun: str) -> IdShape:
    """How the ids of one kind of thing look."""
    letters = rng.choice(
        (noun[:2], noun[:1], noun[:3], rng.choice(_CONSONANTS) + rng.choice(_CONSONANTS))
    )
    prefix = letters.upper() if rng.random() < 0.7 else letters
    return IdShape(
        prefix if rng.random() < 0.92 else "",
        rng.choice(("-", "-", "-", "_", "", "-2025-")),
        rng.choice(("digits", "digits", "digits", "mixed", "short")),
        rng.choice((4, 4, 5, 6, 6, 8)),
    )


@dataclass(frozen=True, slots=True)
class IdShape:
    """The look of an id."""

    prefix: str
    joint: str
    style: str
    length: int

    def draw(self, rng: Random) -> str:
        """A fresh id."""
        alphabet = "0123456789" if self.style != "mixed" else "0123456789abcdef"
        length = 3 if self.style == "short" else self.length
        body = "".join(rng.choice(alphabet) for _ in range(length))
        return self.prefix + (self.joint if self.prefix else "") + body


def draw_value(kind: str, rng: Random, shape: IdShape | None = None) -> Value:
    """A random value of a kind."""
    if kind in ("id", "other_id"):
        return Value(kind, (shape or id_maker(rng, rng.choice(NOUNS))).draw(rng))
    if kind == "person":
        if rng.random() < 0.15:
            made = made_up_word(rng).capitalize()
            return Value(kind, f"{made} {rng.choice(SURNAMES)}")
        return Value(kind, f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)}")
    if kind == "title":
        parts = [rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(NOUNS)]
        if rng.random() < 0.15:
            parts[1] = made_up_word(rng)
        text = " ".join(parts[rng.randint(0, 1) : rng.choice((2, 2, 3))])
        return Value(kind, text.title() if rng.random() < 0.3 else text.capitalize())
    if kind == "money":
        whole = rng.choice((rng.randint(2, 99), rng.randint(100, 3000)))
        if rng.random() < 0.5:
            spoken = rng.choice((f"{whole}", f"{whole}", f"{whole}.00"))
            return Value(kind, f"{whole}.0", quoted=False, spoken=spoken)
        cents = rng.randint(1, 99)
        return Value(
            kind, json.dumps(whole + cents / 100), quoted=False, spoken=f"{whole}.{cents:02d}"
        )
    if kind == "count":
        number = rng.choice((rng.randint(1, 9), rng.randint(10, 240)))
        return Value(kind, str(number), quoted=False)
    day = (
        f"{rng.choice((2024, 2025, 2025, 2026))}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    )
    clock = f"{rng.randint(0, 23):02d}:{rng.choice((0, 15, 30, 45, rng.randint(0, 59))):02d}"
    if kind == "date":
        return Value(kind, day)
    if kind == "time":
        return Value(kind, clock)
    if kind == "moment":
        return Value(kind, f"{day}T{clock}")
    if kind == "email":
        name = rng.choice(
            (rng.choice(FIRST_NAMES), rng.choice(SURNAMES), made_up_word(rng))
        ).lower()
        host = rng.choice((rng.choice(NOUNS), made_up_word(rng)))
        return Value(kind, f"{name}@{host}.{rng.choice(('com', 'org', 'net', 'example'))}")
    if kind == "path":
        parts = [rng.choice((*NOUNS, made_up_word(rng))) for _ in range(rng.randint(1, 3))]
        ending = rng.choice((".txt", ".md", ".csv", ".log", "", f"_{rng.randint(1, 30)}.txt"))
        return Value(kind, rng.choice(("/", "/", "")) + "/".join(parts) + ending)
    if kind == "place":
        return Value(kind, rng.choice(PLACES))
    if kind == "phone":
        return Value(
            kind, f"+{rng.randint(1, 99)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}"
        )
    if kind == "state":
        return Value(kind, rng.choice(STATES))
    if kind == "flag":
        return Value(kind, rng.choice(("true", "false")), quoted=False)
    head = "".join(rng.choice(_CONSONANTS) for _ in range(rng.randint(1, 3))).upper()
    return Value("code", f"{head}{rng.choice(('-', '', ' '))}{rng.randint(1, 9999)}")


@dataclass(frozen=True, slots=True)
class Thing:
    """A kind of record: its noun and its fields (key, kind), the id's first or last."""

    noun: str
    id_key: str
    fields: tuple[tuple[str, str], ...]
    shape: IdShape

    def record(self, rng: Random) -> list[tuple[str, Value]]:
        """A record of this kind."""
        return [(key, draw_value(kind, rng, self._shape(kind))) for key, kind in self.fields]

    def _shape(self, kind: str) -> IdShape | None:
        return self.shape if kind == "id" else None


def draw_thing(rng: Random, fields: tuple[int, int] = (3, 6)) -> Thing:
    """A kind of record with a random schema."""
    noun = rng.choice(NOUNS) if rng.random() < 0.85 else made_up_word(rng)
    id_key = rng.choice(_KEYS["id"]).format(noun)
    chosen: dict[str, str] = {}
    kinds = rng.sample(sorted(_KEYS), len(_KEYS))
    for kind in kinds[: rng.randint(*fields)]:
        if kind == "id":
            continue
        key = rng.choice(_KEYS[kind])
        if rng.random() < 0.15:
            key = f"{rng.choice(NOUNS)}_{key}"
        if key != id_key:
            chosen.setdefault(key, kind)
    if not any(kind in _SAID for kind in chosen.values()):
        chosen["name" if id_key != "name" else "title"] = "person"
    listed = list(chosen.items())
    at = rng.choice((0, 0, 0, 0, len(listed), rng.randint(0, len(listed))))
    listed.insert(at, (id_key, "id"))
    return Thing(noun, id_key, tuple(listed), id_maker(rng, noun))


def spoken_key(key: str) -> str:
    """A key as words."""
    return key.replace("_", " ").strip()


@dataclass(slots=True)
class Argument:
    """An argument of a call: its name, its value, and where that stands."""

    name: str
    value: Value
    source: Span
    criterion: Span | None = None
    wanted: Span | None = None
    what: str = "prose"
    rows: int = 1


class Conversation:
    """Writes one conversation onto a page."""

    def __init__(self, page: Page, rng: Random) -> None:
        self.page, self.rng = page, rng

    def tools(self, used: Sequence[tuple[str, Sequence[str]]], others: int) -> None:
        """The system message with these tools among others."""
        rng = self.rng
        lines = [f"{name}({', '.join(arguments)})" for name, arguments in used]
        for _ in range(others):
            thing = draw_thing(rng, (1, 3))
            verb = rng.choice((*ACTIONS, *FINDERS))
            names = [k for k, _ in thing.fields][: rng.randint(1, 3)]
            lines.append(f"{verb}_{thing.noun}({', '.join(names)})")
        rng.shuffle(lines)
        self.page.add("<|system|>Tools:" + "".join("\n" + line for line in lines) + "<|end|>")

    def call(self, *calls: tuple[str, Sequence[Argument]]) -> None:
        """An assistant message with calls, learned as a whole."""
        page = self.page
        page.add("<|assistant|>")
        start = len(page.text)
        for number, (tool, arguments) in enumerate(calls):
            page.add("\n" * bool(number) + f'<tool_call>\n{{"name": "{tool}", "arguments": {{')
            for place, argument in enumerate(arguments):
                page.add((", " if place else "") + f'"{argument.name}": ')
                target = page.add_value(argument.value)
                page.copies.append(
                    Copy(
                        target,
                        argument.source,
                        argument.criterion,
                        argument.wanted,
                        argument.what,
                        argument.rows,
                    )
                )
            page.add("}}\n</tool_call>")
        page.add("<|end|>")
        page.learned.append((start, len(page.text)))

    def result(self, fields: Sequence[tuple[str, Value]]) -> dict[str, Span]:
        """A tool message with one object, now and then inside another."""
        wrapped = self.page.varied and self.rng.random() < 0.2
        outer = self.rng.choice(NOUNS) if wrapped else ""
        self.page.add("<|tool|>" + (f'{{"{outer}": ' if outer else ""))
        spans = self.page.add_object(fields)
        self.page.add(("}" if outer else "") + "<|end|>")
        return spans

    def rows(
        self, noun: str, records: Sequence[Sequence[tuple[str, Value]]]
    ) -> list[dict[str, Span]]:
        """A tool message with a list of objects."""
        rng, page = self.rng, self.page
        plural = rng.choice((f"{noun}s", f"{noun}s", "items", "results", "matches"))
        page.add(
            "<|tool|>"
            + rng.choice((f'{{"{plural}": [', f'{{"count": {len(records)}, "{plural}": ['))
        )
        spans = []
        for number, record in enumerate(records):
            page.add(", " * bool(number))
            spans.append(page.add_object(record))
        page.add(
            rng.choice(("]}", f'], "total": {len(records)}}}', '], "more": false}')) + "<|end|>"
        )
        return spans

    def done(self) -> None:
        """The closing answer."""
        self.page.add("<|assistant|>")
        self.page.learned.append(self.page.add(CLOSING + "<|end|>"))

    def say(self, opening: str, values: Sequence[tuple[str, Value]]) -> list[Span]:
        """A request that names these values; returns where each is said."""
        rng, page = self.rng, self.page
        page.add("<|user|>")
        polite = rng.choice(("", "", "", "Please ", "Can you ", "I need to ", "I would like to "))
        page.add(polite + (opening if polite else opening[:1].upper() + opening[1:]))
        spans = []
        for number, (key, value) in enumerate(values):
            cue = rng.choice(CUES.get(value.kind, "{k} {v}").split("|"))
            before, _, after = cue.replace("{k}", spoken_key(key)).partition("{v}")
            joint = rng.choice((" ", " ", " ", " and ", ", ")) if number else " "
            page.add(joint + before)
            spans.append(page.add(value.said))
            page.add(after)
        page.add("?" if polite == "Can you " else rng.choice((".", ".", "")))
        if page.varied and rng.random() < 0.25:
            page.add(f" It is for the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}.")
        page.add("<|end|>")
        return spans


def _said_fields(thing: Thing, record: Sequence[tuple[str, Value]]) -> list[tuple[str, Value]]:
    return [
        (k, v) for k, v in record if k != thing.id_key and v.kind in _SAID and v.kind != "state"
    ]


def _extras(rng: Random, taken: Sequence[str], most: int) -> list[tuple[str, Value]]:
    chosen: dict[str, Value] = {}
    for kind in rng.sample(_SAID, rng.choice((0, 1, 1, 2, 2)[: most + 2])):
        key = rng.choice(_KEYS[kind]).format("its")
        if key not in taken:
            chosen.setdefault(key, draw_value(kind, rng))
    return list(chosen.items())


def _distinct_rows(
    thing: Thing, k: int, shared: set[str], rng: Random
) -> list[list[tuple[str, Value]]]:
    """Records that differ in every field but the shared ones (and truth values)."""
    rows = [thing.record(rng)]
    for _ in range(k - 1):
        row = []
        for (key, kind), (_, first) in zip(thing.fields, rows[0], strict=True):
            value = first
            if key not in shared:
                taken = {dict(r)[key].text for r in rows}
                for _ in range(8):
                    value = draw_value(kind, rng, thing._shape(kind))
                    if value.text not in taken:
                        break
            row.append((key, value))
        rows.append(row)
    rng.shuffle(rows)
    return rows


def episode(page: Page, rng: Random, rows: tuple[int, ...] = (1, 1, 2, 2, 2, 3)) -> None:
    """Find a thing, look further if need be, then act on it; one to three calls."""
    thing, talk = draw_thing(rng), Conversation(page, rng)
    k = rng.choice(rows)
    shape = rng.random()
    rowed = k > 1 or rng.random() < 0.2
    shared = set()
    by: list[tuple[str, Value]] = []
    record = thing.record(rng)
    said = _said_fields(thing, record)
    searched = rng.choice(said)[0] if said else thing.id_key
    if rowed and k > 1:
        shared.add(searched)
    records = _distinct_rows(thing, k, shared, rng)
    chosen = rng.randrange(k)
    record = records[chosen]
    values = dict(record)
    by.append((searched, values[searched]))
    if k > 1:
        others = [
            (key, v)
            for key, v in _said_fields(thing, record)
            if key != searched and sum(dict(r)[key].text == v.text for r in records) == 1
        ]
        if not others:
            return
        by.append(rng.choice(others))
    finder = rng.choice(FINDERS)
    verb = rng.choice(ACTIONS)
    find_tool = f"{finder}_{thing.noun}" + ("s" if rowed else "")
    id_name = rng.choice((thing.id_key, thing.id_key, thing.noun, f"{thing.noun}_id", "id"))
    extras = _extras(rng, [*values, id_name], 2)
    act_tool = f"{verb}_{thing.noun}"
    arguments = [id_name, *(key for key, _ in extras)]
    if rng.random() < 0.2:
        arguments.append(arguments.pop(0))
    used = [(find_tool, [searched]), (act_tool, arguments)]
    detail = shape < 0.25
    if detail:
        used.append((f"get_{thing.noun}_{rng.choice(('details', 'state', 'info'))}", [id_name]))
    talk.tools(used, rng.choice((1, 2, 3, 5, 7)))
    mentioned = [(key, v, "by") for key, v in by] + [(key, v, "extra") for key, v in extras]
    if rng.random() < 0.3:
        rng.shuffle(mentioned)
    the = rng.choice(("the ", "my ", "the ", "our "))
    spans = talk.say(f"{verb.replace('_', ' ')} {the}{thing.noun}", [m[:2] for m in mentioned])
    places = {(key, what): span for (key, _, what), span in zip(mentioned, spans, strict=True)}
    talk.call((find_tool, [Argument(searched, values[searched], places[searched, "by"])]))
    found = talk.rows(thing.noun, records)[chosen] if rowed else talk.result(record)
    criterion = found[by[-1][0]] if k > 1 else None
    wanted = places[by[-1][0], "by"] if k > 1 else None
    what = "row" if k > 1 else "key"
    target = Argument(
        id_name, values[thing.id_key], found[thing.id_key], criterion, wanted, what, k
    )
    if detail:
        talk.call((used[2][0], [target]))
        again = draw_thing(rng, (2, 4))
        more = again.record(rng)
        if rng.random() < 0.6:  # the id that counts is shown again
            more = [(key, v) for key, v in more if key not in (id_name, thing.id_key)]
            more.insert(rng.choice((0, len(more))), (id_name, values[thing.id_key]))
            shown = talk.result(more)
            target = Argument(id_name, values[thing.id_key], shown[id_name])
        else:
            talk.result(more)
    every = {id_name: target} | {key: Argument(key, v, places[key, "extra"]) for key, v in extras}
    talk.call((act_tool, [every[name] for name in arguments]))
    answer = [(id_name, values[thing.id_key]), *extras][: rng.randint(1, 3)]
    talk.result(answer if rng.random() < 0.6 else [("status", draw_value("state", rng)), *answer])
    talk.done()


def pair(page: Page, rng: Random) -> None:
    """Find two things, in one message or two, then do something with both."""
    talk, one, other = Conversation(page, rng), draw_thing(rng), draw_thing(rng)
    first, second = one.record(rng), other.record(rng)
    said_1, said_2 = _said_fields(one, first), _said_fields(other, second)
    if not said_1 or not said_2 or one.noun == other.noun:
        return
    by_1, by_2 = rng.choice(said_1), rng.choice(said_2)
    verb = rng.choice(ACTIONS)
    tools = [
        (f"{rng.choice(FINDERS)}_{one.noun}", [by_1[0]]),
        (f"{rng.choice(FINDERS)}_{other.noun}", [by_2[0]]),
        (f"{verb}_{rng.choice((one.noun, other.noun))}", [one.noun, other.noun]),
    ]
    talk.tools(tools, rng.choice((0, 2, 4)))
    page.add("<|user|>" + verb.capitalize() + f" the {one.noun} ")
    place_1 = page.add(by_1[1].said)
    page.add(rng.choice((" to", " with", " for", " and", " on", " into")) + f" the {other.noun} ")
    place_2 = page.add(by_2[1].said)
    page.add(".<|end|>")
    calls = [
        (tools[0][0], [Argument(by_1[0], by_1[1], place_1)]),
        (tools[1][0], [Argument(by_2[0], by_2[1], place_2)]),
    ]
    if rng.random() < 0.4:
        talk.call(*calls)
        found_1 = talk.result(first)
        found_2 = talk.result(second)
    else:
        talk.call(calls[0])
        found_1 = talk.result(first)
        talk.call(calls[1])
        found_2 = talk.result(second)
    id_1, id_2 = dict(first)[one.id_key], dict(second)[other.id_key]
    talk.call(
        (
            tools[2][0],
            [
                Argument(one.noun, id_1, found_1[one.id_key], what="key"),
                Argument(other.noun, id_2, found_2[other.id_key], what="key"),
            ],
        )
    )
    talk.result([("status", draw_value("state", rng))])
    talk.done()


def choice(page: Page, rng: Random, k: int, fields: tuple[int, int] = (4, 6)) -> None:
    """A request that describes one row, a list, and a call that asks for a field of that row."""
    talk = Conversation(page, rng)
    thing = draw_thing(rng, fields)
    records = _distinct_rows(thing, k, set(), rng)
    chosen = rng.randrange(k)
    values = dict(records[chosen])
    unique = [
        (key, v)
        for key, v in records[chosen]
        if v.kind != "flag" and sum(dict(r)[key].text == v.text for r in records) == 1
    ]
    if len(unique) < 2:
        return
    criterion, asked = rng.sample(unique, 2)
    if rng.random() < 0.5 and criterion[0] != thing.id_key:
        asked = (thing.id_key, values[thing.id_key])
    verb = rng.choice(ACTIONS)
    tools = [(f"list_{thing.noun}s", ["limit"]), (f"{verb}_{thing.noun}", [asked[0]])]
    talk.tools(tools, rng.choice((0, 1, 3)))
    wanted = talk.say(f"{verb} the {thing.noun}", [criterion])[0]
    call = f'<tool_call>\n{{"name": "{tools[0][0]}", "arguments": {{}}}}\n</tool_call>'
    page.add(f"<|assistant|>{call}<|end|>")
    found = talk.rows(thing.noun, records)[chosen]
    talk.call(
        (tools[1][0], [Argument(*asked, found[asked[0]], found[criterion[0]], wanted, "row", k)])
    )


def lookups(page: Page, rng: Random, distance: int, calls: int) -> None:
    """Objects with keys of their own, more results as padding, then calls that ask by key.

    Args:
        page: is written to.
        rng: all chance.
        distance: characters between the objects and the calls, about.
        calls: how many.
    """
    talk = Conversation(page, rng)
    known: dict[str, tuple[Value, Span]] = {}
    used: set[str] = set()

    def fresh_object(least: int, most: int) -> None:
        fields = []
        for key, kind in draw_thing(rng, (least, most)).fields:
            if rng.random() < 0.3:
                key = f"{made_up_word(rng)}_{key}" if rng.random() < 0.5 else made_up_word(rng)
            if key not in used:
                used.add(key)
                fields.append((key, draw_value(kind, rng)))
        if fields:
            spans = talk.result(fields)
            known.update({key: (value, spans[key]) for key, value in fields})

    for _ in range(max(1, calls // 4)):
        fresh_object(2, 4)
    asked = [
        key for key, (value, _) in known.items() if value.kind not in ("flag", "state", "count")
    ]
    start = len(page.text)
    while len(page.text) - start < distance:
        padding = [(k, v) for k, v in draw_thing(rng).record(rng) if k not in used]
        if padding:
            talk.result(padding)
    rng.shuffle(asked)
    for key in asked[:calls]:
        value, source = known[key]
        noun = rng.choice(NOUNS)
        page.add(f'<|assistant|><tool_call>\n{{"name": "get_{noun}", "arguments": {{"{key}": ')
        target = page.add_value(value)
        page.copies.append(Copy(target, source, what="key"))
        page.learned.append(target)
        page.add("}}\n</tool_call><|end|>")
        if rng.random() < 0.5:
            talk.result(
                [(k, v) for k, v in draw_thing(rng, (1, 2)).record(rng) if k not in used][:1]
                or [("ok", Value("flag", "true", quoted=False))]
            )
