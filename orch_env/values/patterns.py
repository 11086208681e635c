r"""Regular expressions of JSON Schemas, which are JavaScript's, for Python.

A pattern that Python reads is taken as it is. Any other one is translated: ``\p{L}`` and the other
general categories of Unicode, ``\u{1F600}``, ``\cJ``, ``(?<name>`` with ``\k<name>``, and ``[^]``.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby

from orch_env.types.json import Json

_NAMES = {
    "Letter": "L", "Cased_Letter": "LC", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt", "Modifier_Letter": "Lm", "Other_Letter": "Lo", "Mark": "M",
    "Nonspacing_Mark": "Mn", "Spacing_Mark": "Mc", "Enclosing_Mark": "Me", "Number": "N",
    "Decimal_Number": "Nd", "digit": "Nd", "Letter_Number": "Nl", "Other_Number": "No",
    "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc", "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf", "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc", "Modifier_Symbol": "Sk", "Other_Symbol": "So", "Separator": "Z",
    "Space_Separator": "Zs", "Line_Separator": "Zl", "Paragraph_Separator": "Zp", "Other": "C",
    "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Surrogate": "Cs", "Private_Use": "Co",
    "Unassigned": "Cn",
}  # fmt: skip
_LETTERS = frozenset(_NAMES.values())
_CASED = ("Lu", "Ll", "Lt")
_PIECE = re.compile(
    r"\\(?P<sign>[pP])\{(?:(?:General_Category|gc)=)?(?P<category>[^}]*)\}"
    r"|\\u\{(?P<code>0*[0-9A-Fa-f]{1,6})\}"
    r"|\\u(?P<high>[dD][89abAB][0-9A-Fa-f]{2})\\u(?P<low>[dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|\\c(?P<control>[A-Za-z])"
    r"|\(\?<(?P<group>[A-Za-z_]\w*)>"
    r"|\\k<(?P<back>[A-Za-z_]\w*)>"
    r"|(?P<any>\[\^\])"
    r"|(?P<other>\\.|.)",
    re.DOTALL,
)
_ASCII_CLASSES = {
    r"\d": "0-9",
    r"\w": "A-Za-z0-9_",
    r"\D": r"\x00-/:-\U0010ffff",
    r"\W": r"\x00-/:-@\[-\^`{-\U0010ffff",
}


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern for Python.

    Raises:
        ValueError: it is no regular expression, or cannot be translated; the message says why.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        first = problem
    try:
        return re.compile(_translated(pattern))
    except (re.error, OverflowError, RecursionError):
        raise ValueError(f"is no regular expression ({first})") from first


def _translated(pattern: str) -> str:
    out: list[str] = []
    inside = False  # a class in brackets
    for piece in _PIECE.finditer(pattern):
        text = piece[0]
        if piece["sign"]:
            ranges = _ranges(piece["category"], piece["sign"] == "P")
            text = ranges if inside else f"[{ranges}]"
        elif piece["code"]:
            text = _escaped(int(piece["code"], 16))
        elif piece["high"]:
            low = int(piece["low"], 16) - 0xDC00
            text = _escaped(0x10000 + ((int(piece["high"], 16) - 0xD800) << 10) + low)
        elif piece["control"]:
            text = _escaped(ord(piece["control"]) % 32)
        elif piece["group"] and not inside:
            text = f"(?P<{piece['group']}>"
        elif piece["back"]:
            text = f"(?P={piece['back']})"
        elif piece["any"] and not inside:
            text = r"[\s\S]"
        elif text in _ASCII_CLASSES:
            text = _ASCII_CLASSES[text] if inside else f"[{_ASCII_CLASSES[text]}]"
        elif text == "[":
            text, inside = r"\[" if inside else "[", True
        elif text == "]":
            inside = False
        out.append(text)
    return "".join(out)


def _escaped(code: int) -> str:
    if code > sys.maxunicode:
        raise ValueError(f"names U+{code:X}, which is no character")
    return f"\\U{code:08x}"


@lru_cache(maxsize=64)
def _ranges(category: str, complement: bool) -> str:
    """The characters of a general category, or all others, as they stand inside brackets."""
    short = _NAMES.get(category, category)
    if short == "Any":
        wanted = frozenset(_LETTERS)
    elif short == "ASCII":
        return r"\U00000080-\U0010ffff" if complement else r"\x00-\x7f"
    elif short in _LETTERS:
        wanted = frozenset(
            _CASED if short == "LC" else (c for c in _LETTERS if c.startswith(short))
        )
    else:
        raise ValueError(
            f"asks for \\p{{{category}}}, which is not known here: of Unicode's properties only "
            "the general categories are, such as \\p{L}; write the characters out, or leave the "
            "pattern out"
        )
    ranges: list[str] = []
    runs = groupby(_runs(), key=lambda run: (run[0] in wanted) is not complement)
    for among, neighbours in runs:
        if among:
            several = list(neighbours)
            ranges.append(f"{_escaped(several[0][1])}-{_escaped(several[-1][2])}")
    return "".join(ranges)


@lru_cache(maxsize=1)
def _runs() -> list[tuple[str, int, int]]:
    """All of Unicode as runs of characters: their general category, the first, the last."""
    runs: list[tuple[str, int, int]] = []
    start = 0
    for category, run in groupby(map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))):
        end = start + sum(1 for _ in run)
        runs.append((category, start, end - 1))
        start = end
    return runs


def matches(pattern: Json, text: str) -> bool:
    """Whether a pattern is found in a text; one that cannot be read is found everywhere."""
    try:
        return compiled(str(pattern)).search(text) is not None
    except ValueError:
        return True
