"""What the recorded calls send and hold: the values of arguments, and where outputs show them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from orch_env.provenance.evidence import argument_leaves, leaves_with_patterns, pieces_of
from orch_env.provenance.information import Key, bits, is_temporal, is_void, key_of
from orch_env.provenance.names import key_parts, with_wildcards
from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.mining.mined import Slot
from orch_env.types.json import Json

MEMORABLE_BITS = 12.0
"""A value at least this informative is hardly met twice by chance: a word of six letters."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One argument leaf of a recorded call, with a value that an output may have given.

    Attributes:
        pointer: where it stands in the arguments.
        slot: its tool and pattern.
        value: the value.
        key: equal for equal values.
        pieces: keys of the pieces of a comma-joined text, else empty.
    """

    pointer: str
    slot: Slot
    value: Json
    key: Key
    pieces: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response holds a value.

    Attributes:
        pattern: pointer with ``*`` for list indices and digit-only keys.
        path: the pointer itself.
        kind: the value's JSON type; ``number`` for whole numbers and fractions.
    """

    pattern: str
    path: str
    kind: str


_ID_NAMES = frozenset((name,) for name in ("id", "ids", "uuid", "key", "ref", "code"))

Source = tuple[str, str]
"""(tool, output pattern)."""


class Observed:
    """An index over all rows of a corpus.

    Attributes:
        sent: for each row, its argument leaves that can be links: no dates, times, booleans or
            empty values, and small numbers only where the name says that they are ids.
        held: for each row, value -> where its response holds it; values that the same call sent
            are echoes and left out. Only values that some argument has are looked at.
        holders: source -> value -> numbers of the rows that hold it there.
        rows_with: source -> rows whose response has a value there.
        echoes: source -> rows where all values there were sent by the call itself.
        values: slot -> distinct values that were sent there.
        uses: slot -> how often it was sent.
        wanted: all values that some argument has, pieces of comma-joined texts too.
        other: slots that were only sent with values that cannot be links.
    """

    def __init__(self, corpus: Corpus, progress: Callable[[int, int], None] | None = None) -> None:
        self.corpus = corpus
        self.sent = [tuple(_sent(row.tool, row.arguments)) for row in corpus.rows]
        self.values: dict[Slot, dict[Key, Json]] = defaultdict(dict)
        self.uses: Counter[Slot] = Counter()
        self.wanted: set[Key] = set()
        for leaves in self.sent:
            for leaf in leaves:
                self.uses[leaf.slot] += 1
                self.values[leaf.slot].setdefault(leaf.key, leaf.value)
                self.wanted.update((leaf.key, *leaf.pieces))
        self.held: list[dict[Key, tuple[Place, ...]]] = []
        self.holders: dict[Source, dict[Key, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.rows_with: Counter[Source] = Counter()
        self.echoes: Counter[Source] = Counter()
        self.other: set[Slot] = {
            (row.tool, with_wildcards(pointer))
            for row in corpus.rows
            for pointer, _ in argument_leaves(row.arguments)
        } - self.values.keys()
        for row in corpus.rows:
            self._read(row.number, row.tool)
            if progress is not None:
                progress(row.number + 1, len(corpus.rows))

    def _read(self, number: int, tool: str) -> None:
        own = {key_of(v) for _, v in argument_leaves(self.corpus.rows[number].arguments)}
        found: dict[Key, list[Place]] = defaultdict(list)
        fresh: dict[str, bool] = {}
        for path, pattern, value in leaves_with_patterns(self.corpus.response(number)):
            key = key_of(value)
            echo = key in own
            fresh[pattern] = fresh.get(pattern, False) or not echo
            if not echo and key in self.wanted:
                found[key].append(Place(pattern, path, json_kind(value)))
        for pattern, any_fresh in fresh.items():
            self.rows_with[tool, pattern] += 1
            self.echoes[tool, pattern] += not any_fresh
        for key, places in found.items():
            for pattern in dict.fromkeys(place.pattern for place in places):
                self.holders[tool, pattern][key].append(number)
        self.held.append({key: tuple(places) for key, places in found.items()})

    def echo_share(self, source: Source) -> float:
        """Share of the responses with a value there that only repeat what was sent, 0..1."""
        return self.echoes[source] / self.rows_with[source] if self.rows_with[source] else 0.0

    def rows_of(self, tool: str) -> int:
        """Number of rows of a tool."""
        return len(self.corpus.rows_of.get(tool, ()))


def names_an_id(pointer: str) -> bool:
    """Whether the name of an argument says that it holds an id."""
    return key_parts(pointer)[-1:] in _ID_NAMES


def json_kind(value: Json) -> str:
    """The JSON type of a scalar, with one name for all numbers."""
    return "number" if isinstance(value, int | float) else "string"


def _sent(tool: str, arguments: Mapping[str, Json]) -> Iterator[Sent]:
    for pointer, value in argument_leaves(arguments):
        if is_void(value) or is_temporal(value):
            continue
        if bits(value) == 0 and not names_an_id(pointer):
            continue
        pieces = tuple(key_of(piece) for piece in pieces_of(value))
        informative = all(not is_temporal(p) and bits(p) > 0 for p in pieces_of(value))
        if pieces and not informative:
            pieces = ()
        slot = tool, with_wildcards(pointer)
        yield Sent(pointer, slot, value, key_of(value), pieces)
