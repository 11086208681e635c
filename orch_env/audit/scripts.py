"""Scripts: whole episodes written down beforehand, and small random changes that make new ones.

Values come from what a policy may know: the schemas of the offered tools, the words, names, dates
and numbers of the prompt, and, if the caller notes them, results. Nothing here sees gold.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from orch_env.audit.argument_guesses import MAX_DEPTH, arguments_by_schema, arguments_of_text
from orch_env.audit.knowledge_free import Prompt
from orch_env.replay.policies import CLOSING
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json, JsonObject, leaves, parse_json
from orch_env.values.dates import read as read_date

MOST_MESSAGES = 19
"""Messages with calls; with the answer this is an episode's 20."""
MOST_CALLS = 32
"""Calls of a script."""
_FIRST_NAMES = 4
"""Names of the prompt that a search begins with, each in every argument of every tool."""
_MOST_SEEN = 500
"""Values of results that are remembered for one name."""
_LARGEST = 1e15
"""Numbers from here on, infinity among them, are not copied."""
_CHANGES = (1, 1, 2, 3)
"""How many changes are made to a script at once."""

_CAPITAL = r"[^\W\d_a-z]\w[\w'-]*"
_NAME = re.compile(rf"{_CAPITAL}(?: {_CAPITAL})+|(?<=[\w,:] ){_CAPITAL}")
"""A run of capitalised words, or one that does not begin a sentence."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d|[A-Z][a-z]{2,8} \d{1,2}(?:st|nd|rd|th)?,? \d{4}")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
_WORD = re.compile(r"[\w:@./+'-]*\w")

T = TypeVar("T")
Messages: TypeAlias = list[list[ToolCall]]


@dataclass(frozen=True, slots=True)
class Script:
    """What a policy says in one episode, whatever it is told.

    Attributes:
        messages: the calls of each message.
        answer: its closing message, and its reply to every follow-up.
    """

    messages: tuple[tuple[ToolCall, ...], ...]
    answer: str

    @property
    def calls(self) -> int:
        """Number of calls."""
        return sum(map(len, self.messages))

    def to_dict(self) -> JsonObject:
        """Plain data."""
        messages = [[{"name": c.name, "arguments": c.arguments} for c in m] for m in self.messages]
        return {"messages": messages, "answer": self.answer}

    def key(self) -> str:
        """A text that only equal scripts have."""
        return json.dumps(self.to_dict())


class Known:
    """The values that a policy may write.

    Args:
        prompt: what it sees before its first message.
        draw: the source of chance.

    Attributes:
        names: what looks like a name in the prompt, in its order.
    """

    def __init__(self, prompt: Prompt, draw: random.Random) -> None:
        self._draw = draw
        text = prompt.text
        dates = [read_date(found.lower(), "date") for found in _DATE.findall(text)]
        self.names = list(dict.fromkeys(_NAME.findall(text)))
        self._words = list(dict.fromkeys(_WORD.findall(text)))
        self._dates = list(dict.fromkeys(date for date in dates if date))
        self._numbers = [float(found) for found in dict.fromkeys(_NUMBER.findall(text))]
        self._seen: dict[str, dict[Json, None]] = {}

    def note(self, result: str) -> None:
        """Remember the values of a result by the names that they stand under."""
        for pointer, value in leaves(parse_json(result, result)):
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                names = [part for part in pointer.split("/") if part and not part.isdecimal()]
                kept = self._seen.setdefault(_plain(names[-1]) if names else "", {})
                if len(kept) < _MOST_SEEN:
                    kept.setdefault(value)

    def text(self, name: str, more: Sequence[Json] = ()) -> str:
        """A text for an argument; ``more`` are values that its schema names."""
        seen = self._seen_for(name)
        likely: list[list[str]] = []
        if "date" in name.lower():
            likely.append(self._dates)
        likely += [[str(v) for v in values] for values in seen[:1]]
        groups: list[list[str]] = [self._dates, self.names, self.names, self._words, [""]]
        groups += [[v for v in more if isinstance(v, str)], *([str(v) for v in g] for g in seen)]
        return self._one_of(likely if any(likely) and self._draw.random() < 0.5 else groups)

    def number(self, name: str, kind: str, more: Sequence[Json] = ()) -> int | float:
        """A number for an argument of type ``integer`` or ``number``."""
        seen = self._seen_for(name)
        groups = [_numbers(values) for values in (self._numbers, more, *seen, range(4))]
        found = self._one_of(groups)
        return int(found) if kind == "integer" or float(found).is_integer() else found

    def answer(self) -> str:
        """A closing message: yes or no, something that the prompt names, or a seen value."""
        found = self._draw.choice((CLOSING, "yes", "no", self.text(""), str(self.number("", ""))))
        return found if self._draw.random() < 0.8 else f"{found} or {self.text('')}"

    def _seen_for(self, name: str) -> list[list[Json]]:
        """Seen values: those under a similar name, and those under any one."""
        if not self._seen:
            return []
        plain = _plain(name)
        near = [v for n, vs in self._seen.items() if n and _alike(n, plain) for v in vs]
        return [near, list(self._seen[self._draw.choice(list(self._seen))])]

    def _one_of(self, groups: Sequence[Sequence[T]]) -> T:
        return self._draw.choice(self._draw.choice([group for group in groups if group]))


class Mutations:
    """Makes scripts: first ones, and changed ones.

    Args:
        prompt: what the policy sees before its first message.
        known: where values come from.
        draw: the source of chance.
    """

    def __init__(self, prompt: Prompt, known: Known, draw: random.Random) -> None:
        self._tools = {spec.name: spec for spec in prompt.tools}
        self._text = prompt.text
        self._known = known
        self._draw = draw
        self._changes: tuple[Callable[[Messages], None], ...] = (
            self._add,
            self._change,
            self._change,
            self._change,
            self._change,
            self._drop,
            self._repeat,
            self._respell,
            self._merge,
            self._swap,
        )

    def first(self) -> list[Script]:
        """Where a search begins: no call, every tool in one script, every tool by itself.

        The arguments are those of the schema, the prompt or a name in it, and drawn ones.
        """
        texts = [self._text, *self._known.names[:_FIRST_NAMES]]
        fills: list[Callable[[ToolSpec], JsonObject]] = [arguments_by_schema, self._arguments]
        fills += [partial(arguments_of_text, text=text) for text in texts]
        tools = list(self._tools.values())
        scripts = [Script((), answer) for answer in (CLOSING, "yes", "no")]
        scripts += [_script([[ToolCall(t.name, f(t))] for t in tools], CLOSING) for f in fills]
        alone = [ToolCall(tool.name, self._arguments(tool)) for tool in tools]
        return scripts + [Script(((call,),), CLOSING) for call in alone]

    def changed(self, script: Script, other: Script) -> Script:
        """A script with one to three changes; a change may borrow a call from another script."""
        messages = [list(message) for message in script.messages]
        answer = script.answer
        for _ in range(self._draw.choice(_CHANGES)):
            kind = self._draw.random()
            if kind < 0.1 or not self._tools:
                answer = self._known.answer()
            elif kind < 0.2 and other.calls:
                message = self._draw.choice(other.messages)
                self._insert(messages, self._draw.choice(message))
            else:
                self._draw.choice(self._changes)(messages)
        return _script(messages, answer)

    def _call(self) -> ToolCall:
        spec = self._draw.choice(list(self._tools.values()))
        return ToolCall(spec.name, self._arguments(spec))

    def _arguments(self, spec: ToolSpec) -> JsonObject:
        return self._object(spec.parameters, MAX_DEPTH)

    def _insert(self, messages: Messages, call: ToolCall) -> None:
        messages.insert(self._draw.randint(0, len(messages)), [call])

    def _place(self, messages: Messages) -> tuple[int, int] | None:
        places = [(m, c) for m, calls in enumerate(messages) for c in range(len(calls))]
        return self._draw.choice(places) if places else None

    def _add(self, messages: Messages) -> None:
        self._insert(messages, self._call())

    def _drop(self, messages: Messages) -> None:
        if place := self._place(messages):
            del messages[place[0]][place[1]]

    def _repeat(self, messages: Messages) -> None:
        if place := self._place(messages):
            self._insert(messages, messages[place[0]][place[1]])

    def _change(self, messages: Messages) -> None:
        """Draw one value of a call again."""
        if place := self._place(messages):
            message, number = place
            call = messages[message][number]
            changed = self._redrawn(self._tools[call.name].parameters, call.arguments, "")
            if isinstance(changed, dict):
                messages[message][number] = ToolCall(call.name, changed)

    def _respell(self, messages: Messages) -> None:
        """Write one argument otherwise: case, a blank, a number as text, or a null added."""
        if place := self._place(messages):
            message, number = place
            call = messages[message][number]
            offered = self._tools[call.name].parameters.get("properties")
            names = [*(offered if isinstance(offered, Mapping) else ()), *call.arguments]
            if not names:
                return
            name = self._draw.choice(names)
            value = call.arguments.get(name)
            spellings: list[Json] = [f"{value} ", str(value).upper(), str(value).lower()]
            spelt = None if name not in call.arguments else self._draw.choice(spellings)
            messages[message][number] = ToolCall(call.name, {**call.arguments, name: spelt})

    def _merge(self, messages: Messages) -> None:
        """Join a message with the next one; the last is cut into one message per call."""
        if messages:
            number = self._draw.randrange(len(messages))
            if number + 1 < len(messages):
                messages[number : number + 2] = [messages[number] + messages[number + 1]]
            else:
                messages[number:] = [[call] for call in messages[number]]

    def _swap(self, messages: Messages) -> None:
        if len(messages) > 1:
            one, other = self._draw.sample(range(len(messages)), 2)
            messages[one], messages[other] = messages[other], messages[one]

    def _redrawn(self, schema: Any, value: Json, name: str) -> Json:
        """A copy with one leaf drawn again, added or left out."""
        schema = schema if isinstance(schema, Mapping) else {}
        parts = schema.get("properties")
        if isinstance(value, dict) and isinstance(parts, Mapping) and parts:
            inner = self._draw.choice(list(parts))
            required = schema.get("required")
            needed = isinstance(required, list) and inner in required
            if inner in value and not needed and self._draw.random() < 0.2:
                return {key: part for key, part in value.items() if key != inner}
            return {**value, inner: self._redrawn(parts[inner], value.get(inner), inner)}
        if isinstance(value, list) and value and self._draw.random() < 0.7:
            number = self._draw.randrange(len(value))
            again = self._redrawn(schema.get("items"), value[number], name)
            return [*value[:number], again, *value[number + 1 :]]
        return self._value(schema, name, MAX_DEPTH)

    def _value(self, schema: Any, name: str, depth: int) -> Any:
        schema = schema if isinstance(schema, Mapping) else {}
        listed = [schema[key] for key in ("const", "default", "example") if key in schema]
        for key in ("enum", "examples"):
            listed += schema[key] if isinstance(schema.get(key), list) else []
        if listed and ("enum" in schema or "const" in schema or self._draw.random() < 0.4):
            return self._draw.choice(listed)
        kind = schema.get("type", "string")
        if isinstance(kind, list):
            kind = self._draw.choice(kind) if kind else "string"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            count = self._draw.randint(1, 3) if depth else 0
            return [self._value(schema.get("items"), name, depth - 1) for _ in range(count)]
        if kind == "boolean":
            return self._draw.random() < 0.5
        if kind in ("integer", "number"):
            return self._known.number(name, kind, listed)
        return None if kind == "null" else self._known.text(name, listed)

    def _object(self, schema: Mapping[str, Any], depth: int) -> JsonObject:
        parts, required = schema.get("properties"), schema.get("required")
        if not isinstance(parts, Mapping) or not depth:
            return {}
        needed = required if isinstance(required, list) else ()
        return {
            name: self._value(part, name, depth - 1)
            for name, part in parts.items()
            if name in needed or self._draw.random() < 0.3
        }


def _script(messages: Messages, answer: str) -> Script:
    """A script of these messages, cut to what an episode may hold."""
    kept: list[tuple[ToolCall, ...]] = []
    left = MOST_CALLS
    for message in messages:
        if message and left and len(kept) < MOST_MESSAGES:
            kept.append(tuple(message[:left]))
            left -= len(kept[-1])
    return Script(tuple(kept), answer)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _alike(one: str, other: str) -> bool:
    return one.endswith(other) or other.endswith(one)


def _numbers(values: Any) -> list[int | float]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return [number for number in numbers if -_LARGEST < number < _LARGEST]
