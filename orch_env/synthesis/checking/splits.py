"""Splits that share no entity."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from orch_env.synthesis.checking.entities import Entities
from orch_env.synthesis.index import Index, is_composite
from orch_env.types import OrchError

_LARGE = 0.01
"""Share of all entities that a large group has."""


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
    index: Index, entities: Entities, shares: Mapping[str, float], seed: int
) -> list[Part]:
    """The recorded calls that each split may use.

    Groups of entities are dealt out whole, each to the split with the largest part of its room
    left: first the large groups, of which the largest split gets the first, then the others in the
    order of their hash. So no split is without a place of which much is recorded. A call that is
    fed by others may be used where every value that it needs can be read.

    Args:
        index: the rows.
        entities: what they are about.
        shares: name of a split -> wanted share of the entities, adding up to 1.
        seed: which entities go where.

    Raises:
        OrchError: a share is not positive, or there are fewer groups than splits.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise OrchError(f"the shares of the splits must be positive and add up to 1, got {shares}")
    names = list(shares)
    if len(names) == 1:
        return [Part(names[0], frozenset(range(len(index.corpus.rows))))]
    home = deal(entities, shares, seed)
    if len(set(home.values())) < len(names):
        raise OrchError(
            f"the cache is about {len(set(home))} groups of things that share no id: too few to "
            f"share out to {len(names)} splits; take fewer splits"
        )
    feeds = _feeds(index)
    open_to: dict[int, set[str]] = {}
    for row in index.corpus.rows:
        own = {home[entities.group_of[e]] for e in entities.of.get(row.number, ())}
        open_to[row.number] = own if len(own) == 1 else (set() if own else set(names))
    for _ in range(12):
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
    """Group of entities -> split; see :func:`split_rows`."""
    members: dict[str, int] = defaultdict(int)
    for group in entities.group_of.values():
        members[group] += 1
    total = sum(members.values())
    room = {name: share * total for name, share in shares.items()}
    home: dict[str, str] = {}
    large = _LARGE * total
    order = sorted(
        members, key=lambda g: (-members[g] if members[g] > large else 0, _hash(seed, g))
    )
    for group in order:
        first = members[group] > large
        best = max(shares, key=lambda n: (room[n] / shares[n], shares[n] if first else 0.0, n))
        home[group] = best
        room[best] -= members[group]
    return home


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
