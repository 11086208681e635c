"""How a person can name one element of a list in a response: its label, or its place.

The label path is chosen once for each list, over the whole corpus: a path that happens to be unique
in one response and says nothing (a class of car, a word of praise) is not what a person would use.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orch_env.provenance.information import folded, is_temporal
from orch_env.provenance.names import with_wildcards
from orch_env.synthesis.index import Index
from orch_env.types.json import Json, escape, find

_LISTS_READ = 150
"""Recorded responses of a tool that are read to choose a label path."""
_UNIQUE = 0.9
"""Share of lists in which a label path must tell all elements apart, to be preferred."""
_TELLING = 0.3
"""Share of lists in which it must do so at least."""
_LONGEST = 70
"""Characters of a label."""
_NAMING = ("name", "title", "label")
"""Last words of keys that mostly hold what a thing is called."""
_WORDY = re.compile(r"[^\W\d_]{2,}")
_CODE = re.compile(r"^\S*[\d_/:]\S*$|^https?:")


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a list.

    Attributes:
        pointer: where it is, a JSON Pointer.
        value: what it is.
    """

    pointer: str
    value: Json


def list_pattern(patterns: Sequence[str]) -> str:
    """The pattern of the list element that these outputs are read from; ``""`` where none is.

    Outputs that stand beside every list (the key of a search) belong to whichever element is taken.
    """
    listed = [pattern.split("/") for pattern in patterns if "*" in pattern.split("/")]
    if not listed:
        return ""
    shared = listed[0]
    for tokens in listed[1:]:
        same = 0
        while same < min(len(shared), len(tokens)) and shared[same] == tokens[same]:
            same += 1
        shared = shared[:same]
    while shared and shared[-1] != "*":
        shared = shared[:-1]
    return "/".join(shared)


def elements_of(response: Json, pattern: str) -> list[Element]:
    """All elements that a list pattern names, in the order of the response."""
    return [Element(at, value) for at, value in _walk(response, pattern.split("/")[1:], "")]


def _walk(node: Json, tokens: Sequence[str], at: str) -> Iterator[tuple[str, Json]]:
    if not tokens:
        yield at, node
    elif isinstance(node, list) and tokens[0] == "*":
        for number, item in enumerate(node):
            yield from _walk(item, tokens[1:], f"{at}/{number}")
    elif isinstance(node, dict):
        for name, item in node.items():
            token = escape(str(name))
            if token == tokens[0] or (tokens[0] == "*" and token.isdigit()):
                yield from _walk(item, tokens[1:], f"{at}/{token}")


def texts_of(value: Json, at: str = "") -> Iterator[tuple[str, str]]:
    """The texts of an element that no further list holds: pointer below it, text."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from texts_of(item, f"{at}/{escape(str(name))}")


def is_label(text: str) -> bool:
    """Whether a text could be what a thing is called: words, not a code, a date or a link."""
    return (
        0 < len(text) <= _LONGEST
        and _WORDY.search(text) is not None
        and "\n" not in text
        and not (_CODE.search(text) and " " not in text)
        and not is_temporal(text)
    )


class Selectors:
    """The label paths of every list that attachments read.

    Args:
        index: the rows.
        given: tool -> label path below an element of its lists, from hints.
    """

    def __init__(self, index: Index, given: Mapping[str, str] | None = None) -> None:
        self._index = index
        self._paths: dict[tuple[str, str], tuple[str, ...]] = {}
        linked: dict[tuple[str, str], set[str]] = defaultdict(set)
        for a in index.mined.attachments:
            at = list_pattern([pattern for _, pattern in a.pairs])
            if at:
                linked[a.from_tool, at].update(
                    pattern.removeprefix(at)
                    for pointer, pattern in a.pairs
                    if pattern.startswith(f"{at}/")
                    and (a.to_tool, with_wildcards(pointer)) in index.mined.opaque
                )
        for (tool, pattern), outputs in sorted(linked.items()):
            chosen = (given or {}).get(tool)
            self._paths[tool, pattern] = (
                (chosen,) if chosen is not None else self._best(tool, pattern, outputs)
            )

    def label_paths(self, tool: str, pattern: str) -> tuple[str, ...]:
        """Paths below an element that may name it, best first; empty where none can."""
        return self._paths.get((tool, pattern), ())

    def _best(self, tool: str, pattern: str, outputs: set[str]) -> tuple[str, ...]:
        lists = 0
        unique: dict[str, int] = defaultdict(int)
        held: dict[str, int] = defaultdict(int)
        good: dict[str, int] = defaultdict(int)
        total = 0
        for row in self._index.corpus.rows_of.get(tool, ())[:_LISTS_READ]:
            found = elements_of(self._index.corpus.response(row), pattern)
            if not found:
                continue
            several = len(found) > 1
            lists += several
            total += len(found)
            texts: dict[str, list[str]] = defaultdict(list)
            things = set()
            named: dict[str, set[tuple[str, str]]] = defaultdict(set)
            for element in found:
                thing = str([find(element.value, path) for path in sorted(outputs)])
                things.add(thing)
                for path, text in texts_of(element.value):
                    texts[path].append(text)
                    named[path].add((folded(text), thing))
            for path, values in texts.items():
                held[path] += len(values)
                good[path] += sum(is_label(v) for v in values)
                names = {name for name, _ in named[path]}
                alone = len(names) == len(named[path]) == len(things)
                unique[path] += several and alone and len(values) == len(found)
        usable = [
            path
            for path, count in held.items()
            if path not in outputs
            and good[path] >= 0.8 * count
            and count >= 0.8 * total
            and unique[path] >= _TELLING * lists
        ]
        return tuple(
            sorted(
                usable,
                key=lambda path: (
                    unique[path] < _UNIQUE * lists,
                    not _is_naming(path),
                    -unique[path],
                    path.count("/"),
                    path,
                ),
            )[:3]
        )


def _is_naming(path: str) -> bool:
    last = path.rsplit("/", 1)[-1].lower().replace("-", "_")
    return last in _NAMING or last.endswith(tuple(f"_{word}" for word in _NAMING))
