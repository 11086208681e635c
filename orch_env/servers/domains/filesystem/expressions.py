"""Regular expressions and file name patterns, matched in bounded time.

An expression becomes a non-deterministic automaton, which is run as a deterministic one whose
states are made when they are met. So time grows with the length of the text, whatever the
expression, and a :class:`Budget` bounds the whole call. The syntax is that of `grep -E` in the C
locale without back-references; matches are leftmost and longest.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Never

from orch_env.servers.framework.errors import InvalidArguments, ToolRefusal

MAX_PATTERN = 200
MAX_PROGRAM = 2000
"""Instructions of an automaton; counts such as ``{200}`` are written out."""
MAX_COUNT = 255
MAX_DEPTH = 20
MAX_STEPS = 200_000
"""Steps of the automaton in one call of a tool, some 50 ms."""

CLASSES = {
    "alpha": string.ascii_letters,
    "digit": string.digits,
    "alnum": string.ascii_letters + string.digits,
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "space": " \t\n\r\f\v",
    "blank": " \t",
    "punct": string.punctuation,
    "xdigit": string.hexdigits,
}
SHORT = {
    "w": (CLASSES["alnum"] + "_", False),
    "W": (CLASSES["alnum"] + "_", True),
    "s": (CLASSES["space"], False),
    "S": (CLASSES["space"], True),
}
SPECIAL = "\\.[]()*+?{}|^$/-"


def as_bytes(text: str) -> str:
    """One character a byte of UTF-8: what the C locale sees."""
    return text if text.isascii() else text.encode().decode("latin-1")


def from_bytes(text: str) -> str:
    """Undo :func:`as_bytes`; half a character becomes U+FFFD."""
    return text if text.isascii() else text.encode("latin-1").decode(errors="replace")


class Budget:
    """The steps that one call may still take."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Take steps off.

        Raises:
            ToolRefusal: none are left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise ToolRefusal(
                "This takes too many steps here. "
                "Use a simpler pattern, or fewer and smaller files.",
                reason="too_costly",
            )


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction: read a character, or go on without reading one.

    Attributes:
        to: the next instructions.
        kind: ``char``, ``split``, ``start`` (of the line), ``end`` or ``match``.
        chars: what ``char`` reads.
        negated: reads all characters but these.
    """

    kind: str
    to: tuple[int, ...] = ()
    chars: frozenset[str] = frozenset()
    negated: bool = False


class _Automaton:
    """The deterministic automaton of a program, made on demand."""

    def __init__(self, program: list[_Step], floating: bool) -> None:
        self._program = program
        self._floating = floating
        self._numbers: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = []
        self._moves: list[dict[str, int]] = []
        self.accepts: list[bool] = []
        self.accepts_at_end: list[bool] = []
        self._again = self._closure([0], at_start=False) if floating else frozenset()
        self.at_start = self._number(self._closure([0], at_start=True))
        self.inside = self._number(self._closure([0], at_start=False))

    def move(self, state: int, char: str, budget: Budget) -> int:
        """The state after reading a character; state ``dead`` never accepts."""
        known = self._moves[state].get(char)
        if known is None:
            budget.spend(4 * len(self._sets[state]) + 4)
            reached = [
                step.to[0]
                for step in map(self._program.__getitem__, sorted(self._sets[state]))
                if step.kind == "char" and (char in step.chars) != step.negated
            ]
            known = self._number(self._closure(reached, at_start=False) | self._again)
            self._moves[state][char] = known
        return known

    def is_dead(self, state: int) -> bool:
        """Whether nothing can match any more."""
        return not self._sets[state]

    def _number(self, states: frozenset[int]) -> int:
        number = self._numbers.setdefault(states, len(self._sets))
        if number == len(self._sets):
            self._sets.append(states)
            self._moves.append({})
            match = len(self._program) - 1
            self.accepts.append(match in states)
            ends = self._closure(states, at_start=False, at_end=True)
            self.accepts_at_end.append(match in ends)
        return number

    def _closure(
        self, states: Iterable[int], *, at_start: bool, at_end: bool = False
    ) -> frozenset[int]:
        found: set[int] = set()
        todo = list(states)
        while todo:
            number = todo.pop()
            if number in found:
                continue
            found.add(number)
            step = self._program[number]
            passes = {"split": True, "start": at_start, "end": at_end}.get(step.kind, False)
            if passes:
                todo += step.to
        kept = ("char", "end", "match")
        return frozenset(n for n in found if self._program[n].kind in kept)


class Expression:
    """A compiled expression; it lives for one call of a tool.

    Args:
        program: its instructions; the last one is the match.
        literal: the text that it stands for, if it has no special characters.
    """

    def __init__(self, program: list[_Step], literal: str | None = None) -> None:
        self._program = program
        self._literal = literal
        self._fixed: _Automaton | None = None
        self._floating: _Automaton | None = None

    def found_in(self, line: str, budget: Budget) -> bool:
        """Whether a line (as bytes) holds a match."""
        if self._literal is not None:
            return self._literal in line
        machine = self._floating = self._floating or _Automaton(self._program, True)
        budget.spend(len(line) + 1)
        state = machine.at_start
        for char in line:
            if machine.accepts[state]:
                return True
            state = machine.move(state, char, budget)
        return machine.accepts_at_end[state]

    def fits(self, text: str, budget: Budget) -> bool:
        """Whether all of a text matches."""
        machine = self._fixed = self._fixed or _Automaton(self._program, False)
        line = as_bytes(text)
        budget.spend(len(line) + 1)
        state = machine.at_start
        for char in line:
            state = machine.move(state, char, budget)
        return machine.accepts_at_end[state]

    def search(self, line: str, start: int, budget: Budget) -> tuple[int, int] | None:
        """The leftmost longest match (first and end) in a line from a place on."""
        if self._literal is not None:
            at = line.find(self._literal, start)
            return None if at < 0 else (at, at + len(self._literal))
        machine = self._fixed = self._fixed or _Automaton(self._program, False)
        for first in range(start, len(line) + 1):
            state = machine.at_start if first == 0 else machine.inside
            end, place = None, first
            while not machine.is_dead(state):
                if machine.accepts[state] or (place == len(line) and machine.accepts_at_end[state]):
                    end = place
                if place == len(line):
                    break
                state = machine.move(state, line[place], budget)
                place += 1
            budget.spend(place - first + 1)
            if end is not None:
                return first, end
        return None


def expression(pattern: str, *, fixed: bool = False, ignore_case: bool = False) -> Expression:
    """Compile a regular expression, or a text that is searched as it is.

    Raises:
        InvalidArguments: it is none, or uses what is not offered; the message says what.
    """
    text = as_bytes(pattern)
    if (fixed or not any(c in "\\.[]()*+?{}|^$" for c in text)) and not ignore_case:
        return Expression([_Step("match")], text)
    parser = _Parser(text, ignore_case)
    return Expression([*(parser.literal() if fixed else parser.whole()), _Step("match")])


def glob(pattern: str) -> Expression:
    """Compile a file name pattern: ``*``, ``?``, ``[a-z]`` and ``[!a-z]``."""
    parser = _Parser(as_bytes(pattern), False)
    return Expression([*parser.glob(), _Step("match")])


Code = list[_Step]
"""Instructions whose jumps count from the first one; it ends where the next code starts."""


class _Parser:
    def __init__(self, pattern: str, ignore_case: bool) -> None:
        self._pattern = pattern
        self._ignore_case = ignore_case
        self._at = 0

    # -- expressions ----------------------------------------------------------------------------

    def whole(self) -> Code:
        code = self._choice(0)
        if self._at < len(self._pattern):
            self._fail("has a ')' without '('")
        return code

    def literal(self) -> Code:
        return _sequence([self._char(c) for c in self._pattern])

    def _choice(self, depth: int) -> Code:
        if depth > MAX_DEPTH:
            self._fail("has too many groups within groups")
        options = [self._run(depth)]
        while self._take("|"):
            options.append(self._run(depth))
        code = options.pop()
        while options:
            code = self._checked(_either(options.pop(), code))
        return code

    def _run(self, depth: int) -> Code:
        parts: list[Code] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            atom = self._atom(depth)
            while self._at < len(self._pattern) and self._pattern[self._at] in "*+?{":
                atom = self._repeated(atom)
            parts.append(atom)
        if not parts and self._pattern:
            self._fail("has an empty alternative or group")
        return self._checked(_sequence(parts))

    def _atom(self, depth: int) -> Code:
        char = self._next()
        if char == "(":
            inner = self._choice(depth + 1)
            if not self._take(")"):
                self._fail("has a '(' without ')'")
            return inner
        if char in "*+?{":
            self._fail(f"has nothing that {char!r} could repeat")
        if char in "^$":
            if self._at < len(self._pattern) and self._pattern[self._at] in "*+?{":
                self._fail(f"repeats {char!r}")
            return [_Step("start" if char == "^" else "end", (1,))]
        if char == ".":
            return [_Step("char", (1,), frozenset("\n"), True)]
        if char == "[":
            return self._bracket()
        if char == "\\":
            return self._escaped()
        return self._char(char)

    def _escaped(self) -> Code:
        if self._at == len(self._pattern):
            self._fail("ends with a backslash")
        char = self._next()
        if char in SHORT:
            chars, negated = SHORT[char]
            return [_Step("char", (1,), frozenset(chars), negated)]
        if char not in SPECIAL:
            self._fail(
                f"uses \\{char}, which is not offered; [0-9] is a digit, [[:alpha:]] a letter"
            )
        return self._char(char)

    def _repeated(self, atom: Code) -> Code:
        sign = self._next()
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign, (0, None))
        if sign == "{":
            low, high = self._counts()
        if len(atom) * max(low, high or 0) > MAX_PROGRAM:
            self._fail("repeats too much")
        parts = [atom] * low
        if high is None:
            parts.append(_any_number(atom))
        else:
            optional: Code = []
            for _ in range(high - low):
                optional = _optional(_sequence([atom, optional]))
            parts.append(optional)
        return self._checked(_sequence(parts))

    def _counts(self) -> tuple[int, int | None]:
        body, closed, _ = self._pattern[self._at :].partition("}")
        low, comma, high = body.partition(",")
        numbers = [n for n in (low, high) if n]
        right = closed and numbers and all(n.isdecimal() and n.isascii() for n in numbers)
        if not right or len(body) > 8:
            self._fail("has a '{' that is no count such as {2} or {2,4}; write \\{ for the sign")
        self._at += len(body) + 1
        least = int(low or 0)
        most = (int(high) if high else None) if comma else least
        if max(least, most or 0) > MAX_COUNT or (most is not None and most < least):
            self._fail(f"has a count that is no range up to {MAX_COUNT}")
        return least, most

    def _bracket(self) -> Code:
        negated = self._take("^")
        chars: set[str] = set()
        first = True
        while first or not self._take("]"):
            if self._at >= len(self._pattern):
                self._fail("has a '[' without ']'")
            chars |= self._bracket_item()
            first = False
        return [_Step("char", (1,), self._cased(chars), negated)]

    def _bracket_item(self) -> set[str]:
        rest = self._pattern[self._at :]
        if rest.startswith("[:"):
            name, closed, _ = rest[2:].partition(":]")
            if not closed or name not in CLASSES:
                self._fail(f"has a character class that is none of {', '.join(CLASSES)}")
            self._at += len(name) + 4
            return set(CLASSES[name])
        char = self._next()
        if char == "\\" or (char == "[" and self._pattern[self._at : self._at + 1] in (".", "=")):
            self._fail(f"has {char!r} in brackets; write it before them")
        after = self._pattern[self._at : self._at + 2]
        if len(after) == 2 and after[0] == "-" and after[1] != "]":
            self._at += 2
            if after[1] in "\\[" or after[1] < char:
                self._fail(f"has the range {char}-{after[1]}, which is none")
            return {chr(c) for c in range(ord(char), ord(after[1]) + 1)}
        return {char}

    # -- file names -----------------------------------------------------------------------------

    def glob(self) -> Code:
        anything = [_Step("char", (1,), frozenset(), True)]
        parts: list[Code] = []
        while self._at < len(self._pattern):
            char = self._next()
            if char == "*":
                parts.append(_any_number(anything))
            elif char == "?":
                parts.append(anything)
            elif char == "[":
                parts.append(self._glob_bracket())
            else:
                escaped = char == "\\" and self._at < len(self._pattern)
                parts.append(self._char(self._next() if escaped else char))
        return self._checked(_sequence(parts))

    def _glob_bracket(self) -> Code:
        end = self._pattern.find(
            "]", self._at + 1 + (self._pattern[self._at : self._at + 1] in "!^")
        )
        if end < 0:
            return self._char("[")
        negated = self._take("!") or self._take("^")
        chars: set[str] = set()
        while self._at < end:
            chars |= self._bracket_item()
        self._at = max(end, self._at)
        if not self._take("]"):
            self._fail("has a '[' without ']'")
        return [_Step("char", (1,), frozenset(chars), negated)]

    # -- characters -----------------------------------------------------------------------------

    def _char(self, char: str) -> Code:
        return [_Step("char", (1,), self._cased({char}))]

    def _cased(self, chars: set[str]) -> frozenset[str]:
        if self._ignore_case:
            chars |= {c.swapcase() for c in chars if c.isascii() and c.isalpha()}
        return frozenset(chars)

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, char: str) -> bool:
        there = self._pattern.startswith(char, self._at)
        self._at += there
        return there

    def _checked(self, code: Code) -> Code:
        if len(code) > MAX_PROGRAM:
            self._fail("is too long")
        return code

    def _fail(self, problem: str) -> Never:
        raise InvalidArguments(
            f"The pattern {from_bytes(self._pattern)[:200]!r} {problem}. "
            "Write an extended regular expression as for grep -E, or a file name pattern.",
            reason="bad_pattern",
        )


def _moved(code: Code, by: int) -> Code:
    return [_Step(s.kind, tuple(t + by for t in s.to), s.chars, s.negated) for s in code]


def _sequence(parts: list[Code]) -> Code:
    # An instruction's jumps count from the start of its own part until they are moved here; the
    # single ones made above jump to 1, which is the one after them.
    whole: Code = []
    for part in parts:
        whole += _moved(part, len(whole))
    return whole


def _either(one: Code, other: Code) -> Code:
    start = _Step("split", (1, len(one) + 2))
    over = _Step("split", (len(one) + 2 + len(other),))
    return [start, *_moved(one, 1), over, *_moved(other, len(one) + 2)]


def _any_number(code: Code) -> Code:
    end = len(code) + 2
    return [_Step("split", (1, end)), *_moved(code, 1), _Step("split", (0,))]


def _optional(code: Code) -> Code:
    return [_Step("split", (1, len(code) + 1)), *_moved(code, 1)]
