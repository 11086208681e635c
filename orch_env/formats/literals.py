"""Python calls with literal arguments, read and never evaluated.

A call is ``name(argument=value, ...)``. Values are what JSON can hold, as Python writes it:
strings in either quote or in three, numbers, ``True``, ``False``, ``None``, lists, and dictionaries
with strings as keys. Accepted are also ``true``, ``false`` and ``null``, tuples (as lists), a comma
before a closing bracket, line breaks in strings, and ``**{"no identifier": value}``. Of repeated
arguments the last counts. A function's name that holds more than letters, digits, ``_``, ``.`` and
``-`` is quoted.

Positional arguments, variables, operators, other calls, string prefixes, sets and everything else
is refused, as are numbers beyond a double and nesting deeper than 64, as in
:mod:`orch_env.formats.strict_json`.
"""

from __future__ import annotations

import json
import re

from orch_env.formats.strict_json import MAX_DEPTH, decode
from orch_env.types import ToolCall
from orch_env.types.json import Json, JsonObject

_BLANK = re.compile(r"\s*+")
_NAME = re.compile(r"[^\W\d][\w.\-]*+")
_KEY = re.compile(r"[^\W\d]\w*+")
_NUMBER = re.compile(r"[+-]?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![\w.])")
# An unfinished string matches nothing; each opening quote is tried once.
_STRING = re.compile(
    r'"""((?:[^"\\]|\\.|"(?!""))*+)"""|\'\'\'((?:[^\'\\]|\\.|\'(?!\'\'))*+)\'\'\''
    r'|"((?:[^"\\]|\\.)*+)"|\'((?:[^\'\\]|\\.)*+)\'',
    re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "\n": ""}
_WORDS: dict[str, Json] = {
    "True": True,
    "False": False,
    "None": None,
    "true": True,
    "false": False,
    "null": None,
}
# The call is the first level and its arguments the second, as where both are JSON objects.
_ARGUMENT_DEPTH = 3
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_call(text: str, start: int) -> tuple[ToolCall, int]:
    """The call that begins at ``start``, and the index after it.

    Raises:
        ValueError: there is none, or an argument is no literal; one short sentence.
    """
    reader = _Reader(text, start)
    return reader.call(), reader.at


def write_call(call: ToolCall) -> str:
    """A call that :func:`read_call` reads as the same.

    Raises:
        ValueError: an argument is NaN or an infinity.
    """
    name = call.name if _NAME.fullmatch(call.name) else _write_string(call.name)
    arguments = (
        f"{key}={write(value)}"
        if key.isascii() and key.isidentifier()
        else f"**{write({key: value})}"
        for key, value in call.arguments.items()
    )
    return f"{name}({', '.join(arguments)})"


def write(value: Json) -> str:
    """A JSON value as a Python literal.

    Raises:
        ValueError: it is or holds NaN or an infinity.
    """
    if isinstance(value, str):
        return _write_string(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_write_string(k)}: {write(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(write, value))}]"
    if value is None or isinstance(value, bool):
        return str(value)
    return json.dumps(value, allow_nan=False)


def _write_string(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", written)


def _unescaped(found: re.Match[str]) -> str:
    for digits in found.group(1, 2, 3):
        if digits is not None:
            point = int(digits, 16)
            return chr(point) if point <= 0x10FFFF else found.group()
    if found[4] is not None:
        return chr(int(found[4], 8))
    letter = found[5]
    if letter in "\\'\"":
        return letter
    # As in Python, an escape that means nothing is the text itself.
    return _LETTERS.get(letter, found.group())


class _Reader:
    """Reads from ``at`` on; each character once."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.start = self.at = at

    def call(self) -> ToolCall:
        self._blanks()
        name = self._name()
        self._expect("(", "after the name")
        arguments: JsonObject = {}
        while not self._takes(")"):
            if self._takes("**"):
                more = self._value(_ARGUMENT_DEPTH)
                if not isinstance(more, dict):
                    raise self._error("** takes a dictionary")
                arguments.update(more)
            else:
                key = self._match(_KEY)
                if key is None or not self._takes("="):
                    raise self._error("each argument needs its name: argument=value")
                arguments[key] = self._value(_ARGUMENT_DEPTH)
            if not self._takes(","):
                self._expect(")", "or a comma after an argument")
                break
        return ToolCall(name, arguments)

    def _name(self) -> str:
        if name := self._match(_NAME):
            return name
        quoted = self._string()
        if not quoted:
            raise self._error("a function's name is expected")
        return quoted

    def _value(self, depth: int) -> Json:
        for opening, closing in ("[", "]"), ("(", ")"), ("{", "}"):
            if self._takes(opening):
                if depth > MAX_DEPTH:
                    raise self._error(f"nested deeper than {MAX_DEPTH} levels")
                return self._mapping(depth) if opening == "{" else self._items(closing, depth)
        if (string := self._string()) is not None:
            return string
        if number := self._match(_NUMBER):
            return decode(number.removeprefix("+"))
        word = self._match(_KEY) or self.text[self.at : self.at + 20]
        if word in _WORDS:
            return _WORDS[word]
        raise self._error(f"{word[:40]!r} is no literal")

    def _items(self, closing: str, depth: int) -> Json:
        items: list[Json] = []
        while not self._takes(closing):
            items.append(self._value(depth + 1))
            if not self._takes(","):
                self._expect(closing, "or a comma after a value")
                # (1) is a number in brackets, (1,) a tuple.
                return items[0] if closing == ")" and len(items) == 1 else items
        return items

    def _mapping(self, depth: int) -> Json:
        found: JsonObject = {}
        while not self._takes("}"):
            self._blanks()
            key = self._string()
            if key is None:
                raise self._error("a key must be a string")
            self._expect(":", "after a key")
            found[key] = self._value(depth + 1)
            if not self._takes(","):
                self._expect("}", "or a comma after a value")
                break
        return found

    def _string(self) -> str | None:
        found = _STRING.match(self.text, self.at)
        if found is None:
            if self.text.startswith(("'", '"'), self.at):
                raise self._error("a string does not end")
            return None
        self.at = found.end()
        body: str = next(group for group in found.groups() if group is not None)
        return _ESCAPE.sub(_unescaped, body) if "\\" in body else body

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        self._blanks()
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def _takes(self, mark: str) -> bool:
        self._blanks()
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def _expect(self, mark: str, where: str) -> None:
        if not self._takes(mark):
            raise self._error(f"{mark!r} is expected {where}")

    def _blanks(self) -> None:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{problem} (character {self.at - self.start})")
