"""Every slot and source that may be a link, with all that speaks for it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from orch_env.provenance.evidence import surprise
from orch_env.provenance.information import Key, bits
from orch_env.provenance.names import ParameterHints, key_parts, name_match
from orch_env.synthesis.mining.followed import Followed, Tally
from orch_env.synthesis.mining.mined import Slot
from orch_env.synthesis.mining.observed import Observed, Source, names_an_id
from orch_env.types.json import escape, unescape
from orch_env.values import SchemaRules

EQUAL_NAMES = 3
"""What :func:`~orch_env.provenance.names.name_match` says of equal names."""
_VERBS = frozenset(
    [
        "get",
        "find",
        "search",
        "list",
        "read",
        "show",
        "fetch",
        "lookup",
        "query",
        "by",
        "for",
        "of",
        "the",
        "all",
    ]
)
"""Words of tool names that do not say what a tool is about."""
_DEEPEST = 8
"""Levels of nesting of a schema that are looked at."""
_MOST_LEAVES = 500
"""Arguments of a schema that are looked at: one that refers to itself has no end."""
_PLAIN = {"string", "integer", "number"}


@dataclass(slots=True)
class Candidate:
    """What speaks for one link.

    Attributes:
        slot: the argument.
        source: the output.
        tally: what traces show.
        chances: traces in which the slot is set after the tool.
        pooled: strong hits and chances of all arguments of this name and outputs of this tool and
            name together.
        cached: values of the slot that the source holds in some row.
        surprise: mean bits of surprise of these.
        named: as in :func:`~orch_env.provenance.names.name_match`.
        documented: whether the argument's description names tool and key.
        transferred: whether the source feeds an argument of this name of another tool.
    """

    slot: Slot
    source: Source
    tally: Tally = field(default_factory=Tally)
    chances: int = 0
    pooled: tuple[int, int] = (0, 0)
    cached: set[Key] = field(default_factory=set)
    surprise: float = 0.0
    named: int = 0
    documented: bool = False
    transferred: bool = False

    @property
    def rate(self) -> float:
        """Share of the chances in which it holds; 0 where there is none."""
        return len(self.tally.traces) / self.chances if self.chances else 0.0

    @property
    def qualified(self) -> bool:
        """Whether the names are those of an id of the same thing."""
        return names_an_id(self.slot[1]) and is_qualified(self.slot, self.source)

    @property
    def values(self) -> set[Key]:
        """Every value that it is known to carry."""
        return self.tally.values | self.cached


def unsent(observed: Observed) -> Iterator[Slot]:
    """Arguments that schemas have and that no recorded call sends."""
    for tool, spec in observed.corpus.cache.catalogue.items():
        for pattern in islice(_leaf_patterns(SchemaRules.of(spec.parameters), ""), _MOST_LEAVES):
            if (tool, pattern) not in observed.values and (tool, pattern) not in observed.other:
                yield tool, pattern


def _leaf_patterns(rules: SchemaRules | None, at: str) -> Iterator[str]:
    """Pointer patterns of the texts and numbers that a schema describes."""
    if rules is None or at.count("/") > _DEEPEST:
        return
    if rules.names:
        for name in rules.names:
            yield from _leaf_patterns(rules.member(name), f"{at}/{escape(name)}")
    elif (items := rules.items()) is not None:
        yield from _leaf_patterns(items, f"{at}/*")
    elif not rules.enums and rules.types & _PLAIN:
        yield at


def candidates_of(
    slots: Sequence[Slot], observed: Observed, followed: Followed
) -> dict[tuple[Slot, Source], Candidate]:
    """All candidates of some slots: an equality somewhere, or a description that names both."""
    sources_of: dict[Key, list[Source]] = defaultdict(list)
    for source, values in observed.holders.items():
        for key in values:
            sources_of[key].append(source)
    found: dict[tuple[Slot, Source], Candidate] = {}
    for slot, keys in observed.values.items():
        for key in keys:
            for source in sources_of.get(key, ()):
                at = slot, source
                if at not in found:
                    found[at] = candidate_of(at, observed, followed)
                found[at].cached.add(key)
    documented = _documented(slots, observed)
    for at in (*followed.links, *documented):
        if at not in found:
            found[at] = candidate_of(at, observed, followed)
    for at in documented:
        found[at].documented = True
    pools: dict[tuple[tuple[str, ...], str, str], list[Candidate]] = defaultdict(list)
    for candidate in found.values():
        candidate.surprise = _mean_surprise(candidate, observed)
        tool, path = candidate.source
        pools[key_parts(candidate.slot[1]), tool, last_key(path)].append(candidate)
    for pool in pools.values():
        hits = {(c.slot, trace) for c in pool for trace in c.tally.strong}
        chances = {c.slot: c.chances for c in pool}
        for candidate in pool:
            candidate.pooled = len(hits), sum(chances.values())
    return found


def candidate_of(at: tuple[Slot, Source], observed: Observed, followed: Followed) -> Candidate:
    """One candidate, with what traces and names say."""
    slot, source = at
    return Candidate(
        slot,
        source,
        followed.links.get(at, Tally()),
        followed.chances[slot, source[0]],
        named=name_match(slot[1], source[1]),
    )


def is_qualified(slot: Slot, source: Source) -> bool:
    """Whether names tell what an id is of, and tell the same of an argument and an output.

    ``user_id`` and ``/user_id`` do; so do ``user_id`` and ``/users/*/id``, and the ``id`` of
    ``get_user`` and ``/id`` of ``find_users``. ``user_id`` and ``/posts/*/id`` do not.
    """
    wanted, given = key_parts(slot[1]), key_parts(source[1])
    if not wanted or not given or wanted[-len(given) :] != given[-len(wanted) :]:
        return False
    of = set(wanted[: -len(given)]) or set(given[: -len(wanted)])
    if not of and len(wanted) > 1:
        return True
    about = _stems(key_parts(f"/{slot[0]}")) if not of else _stems(of)
    around = _stems(part for key in (source[0], *source[1].split("/")[:-1]) for part in _words(key))
    return bool(about & around - _VERBS) if not of else about <= around


def _words(key: str) -> tuple[str, ...]:
    return key_parts(f"/{key}") if key else ()


def _stems(words: Iterable[str]) -> set[str]:
    """Words without the endings of plurals."""
    return {re.sub(r"ies$", "y", word).removesuffix("s") for word in words}


def _mean_surprise(candidate: Candidate, observed: Observed) -> float:
    tally = candidate.tally
    if tally.hits > tally.joined:
        return tally.surprise / (tally.hits - tally.joined)
    holders = observed.holders.get(candidate.source, {})
    rows = observed.rows_with[candidate.source]
    seen = [
        surprise(len(holders.get(key, ())) - 1, max(rows - 1, 0), bits(key[1]))
        for key in sorted(candidate.cached or tally.values, key=repr)
    ]
    return sum(seen) / len(seen) if seen else 0.0


def _documented(slots: Sequence[Slot], observed: Observed) -> set[tuple[Slot, Source]]:
    """Slot and source pairs of which the slot's description names tool and key."""
    specs = observed.corpus.cache.catalogue
    patterns: dict[str, list[str]] = defaultdict(list)
    for tool, pattern in observed.rows_with:
        patterns[tool].append(pattern)
    out = set()
    for slot in slots:
        hints = ParameterHints(specs.get(slot[0]), slot[1], specs)
        keys = {key.strip() for key in hints.keys}
        for tool in hints.tools:
            for pattern in patterns[tool]:
                if last_key(pattern) in keys or name_match(slot[1], pattern) == EQUAL_NAMES:
                    out.add((slot, (tool, pattern)))
    return out


def last_key(pattern: str) -> str:
    """The last named key of a pointer pattern."""
    named = [token for token in pattern.split("/") if token and token != "*"]
    return unescape(named[-1]) if named else ""
