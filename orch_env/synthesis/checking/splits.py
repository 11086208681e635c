"""Splits that share no entity."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from orch_env.synthesis.checking.entities import Entities
from orch_env.synthesis.index import Index, is_composite
from orch_env.types import OrchError

_LARGE = 0.01
"""Share of all entities, or of all recorded calls, that a large group has."""
_LONGEST = 12
"""Calls in a row, each of which needs the one before it, at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """One split.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        rows: recorded calls that this split may use. Calls that name an entity are in one split
            only; what can be read from them may be in several.
    """

    name: str
    rows: frozenset[int]


def split_rows(
    index: Index,
    entities: Entities,
    shares: Mapping[str, float],
    seed: int,
    by: Literal["chance", "links"] = "chance",
) -> list[Part]:
    """The recorded calls that each split may use.

    Groups of entities are dealt out whole, each to the split with the largest part of its room
    left: first the large groups, of which the largest split gets the first, then the others in the
    order of their hash. So no split is without a place of which much is recorded. A call that is
    fed by others may be used where every value that it needs can be read.

    Args:
        index: the rows.
        entities: what they are about.
        shares: name of a split -> wanted share, adding up to 1: of the entities, or by ``links`` of
            the recorded calls.
        seed: which entities go where.
        by: ``chance``, or ``links``: groups that are not large go where most recorded calls need
            them beside what is there, weighed by the room left (linear deterministic greedy;
            Stanton and Kliot 2012, https://doi.org/10.1145/2339530.2339722). Then fewer calls are
            lost because what they need is in two splits, and a split holds what belongs together.

    Raises:
        OrchError: a share is not positive, or there are fewer groups than splits.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise OrchError(f"the shares of the splits must be positive and add up to 1, got {shares}")
    names = list(shares)
    if len(names) == 1:
        return [Part(names[0], frozenset(range(len(index.corpus.rows))))]
    feeds = _feeds(index)
    if by == "links":
        home = deal_linked(_needed_groups(index, entities, feeds).values(), shares, seed)
    else:
        home = deal(entities, shares, seed)
    if len(set(home.values())) < len(names):
        raise OrchError(
            f"the cache is about {len(set(home))} groups of things that share no id: too few to "
            f"share out to {len(names)} splits; take fewer splits"
        )
    open_to: dict[int, set[str]] = {}
    for row in index.corpus.rows:
        own = {home[entities.group_of[e]] for e in entities.of.get(row.number, ())}
        open_to[row.number] = own if len(own) == 1 else (set() if own else set(names))
    for _ in range(_LONGEST):
        before = sum(map(len, open_to.values()))
        for number, needs in feeds.items():
            for parents in needs:
                open_to[number] &= set().union(*(open_to[p] for p in parents))
        if sum(map(len, open_to.values())) == before:
            break
    return [
        Part(name, frozenset(row for row, options in open_to.items() if name in options))
        for name in names
    ]


def deal(entities: Entities, shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Group of entities -> split, by chance; see :func:`split_rows`."""
    return _dealt(Counter(entities.group_of.values()), {}, shares, seed)


def deal_linked(
    needed: Iterable[Collection[str]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Group of entities -> split, by links; see :func:`split_rows`.

    Args:
        needed: the groups that each recorded call needs.
        shares: name of a split -> wanted share of the recorded calls.
        seed: which groups go where.
    """
    sizes: dict[str, float] = defaultdict(float)
    links: dict[str, Counter[str]] = defaultdict(Counter)
    for groups in needed:
        for group in groups:
            sizes[group] += 1 / len(groups)
            links[group].update(other for other in groups if other != group)
    return _dealt(sizes, links, shares, seed)


def _dealt(
    sizes: Mapping[str, float],
    links: Mapping[str, Mapping[str, int]],
    shares: Mapping[str, float],
    seed: int,
) -> dict[str, str]:
    total = sum(sizes.values())
    room = {name: share * total for name, share in shares.items()}
    large = {group for group, size in sizes.items() if size > _LARGE * total}
    home: dict[str, str] = {}

    def worth(name: str, group: str, near: Counter[str]) -> tuple[float, float, float, str]:
        left = room[name] / shares[name]
        return near[name] * max(0.0, left), left, shares[name] if group in large else 0.0, name

    for group in sorted(sizes, key=lambda g: (-sizes[g] if g in large else 0, _hash(seed, g))):
        near: Counter[str] = Counter()
        if group not in large:
            for other, calls in links.get(group, {}).items():
                near[home.get(other, "")] += calls
        home[group] = max(shares, key=lambda name: worth(name, group, near))
        room[home[group]] -= sizes[group]
    return home


def _needed_groups(
    index: Index, entities: Entities, feeds: Mapping[int, list[set[int]]]
) -> dict[int, frozenset[str]]:
    """Row -> the groups that it is about, or from which alone a value comes that it must read."""
    own = {row.number: entities.groups_of_rows([row.number]) for row in index.corpus.rows}
    needed = dict(own)
    for _ in range(_LONGEST):
        before = dict(needed)
        for number, needs in feeds.items():
            common = [frozenset.intersection(*(needed[p] for p in ps)) for ps in needs if ps]
            needed[number] = own[number].union(*common)
        if needed == before:
            break
    return needed


def _feeds(index: Index) -> dict[int, list[set[int]]]:
    """For each row, for each value that it must read: the rows that hold it."""
    found: dict[int, list[set[int]]] = {}
    for row in index.corpus.rows:
        opaque = index.opaque(row.number)
        if not opaque:
            continue
        by_argument: dict[str, set[int]] = {pointer: set() for pointer in opaque}
        for attachment in index.attachments_into(row.tool):
            relation = index.relation(
                attachment.from_tool, row.tool, attachment.pairs, is_composite(attachment)
            )
            for pointer, _ in attachment.pairs:
                if pointer in by_argument:
                    by_argument[pointer].update(relation.parents.get(row.number, ()))
        found[row.number] = [by_argument[pointer] for pointer in sorted(by_argument)]
    return found


def _hash(seed: int, text: str) -> bytes:
    data = f"{seed}\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).digest()
