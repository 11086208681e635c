"""Which equalities are flows of data: the evidence for each candidate, weighed.

A candidate is a slot and a source. It becomes a link if one of these holds:

* *traces*: at least two traces show it with a memorable value, often enough among its chances that
  a path which repeats a later argument now and then does not pass;
* *cache*: at least three values of the slot stand at the source, they are surprising there, and
  names agree or half of the slot's values are there;
* *description*: the argument's description names the tool and the key;
* *name*: the source feeds an argument of the same name of another tool.

What many chances in traces contradict is never a link.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from scipy.stats import binom

from orch_env.provenance.evidence import surprise
from orch_env.provenance.information import Key, bits
from orch_env.provenance.names import ParameterHints, key_parts, name_match
from orch_env.synthesis.mining.followed import Followed, Tally
from orch_env.synthesis.mining.mined import Link, LinkKind, Slot
from orch_env.synthesis.mining.observed import MEMORABLE_BITS, Observed, Source
from orch_env.synthesis.mining.opaque import is_enumeration, is_machine_made
from orch_env.types.json import unescape

_ECHOES = 0.9
"""A path that repeats what was sent in this share of the responses is never a source."""
_FEWEST_TRACES, _FEWEST_VALUES = 2, 3
_LEAST_RATE = 0.15
"""Real links hold in at least this share of their chances."""
_COPIED, _CHANCE = 0.15, 1e-3
"""A path that holds a later argument in the first share of the responses by accident may look like
a link with the second probability, unless names or the cache speak for it too."""
_SURPRISING = 4.0
"""Bits of surprise of a value of a link that only the cache shows, and of a strong link."""
_HALF = 0.5
_CONTRADICTING = 5
"""Chances after which a link that never, or hardly ever, holds is given up."""
_NAMED = 2
"""Names agree: equal, or one ends with the other."""


@dataclass(slots=True)
class Candidate:
    """What speaks for one link.

    Attributes:
        slot: the argument.
        source: the output.
        tally: what traces show.
        chances: traces in which the slot is set after the tool.
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
    cached: set[Key] = field(default_factory=set)
    surprise: float = 0.0
    named: int = 0
    documented: bool = False
    transferred: bool = False

    @property
    def rate(self) -> float:
        """Share of the chances in which it holds; 0 where there is none."""
        return self.tally.traces / self.chances if self.chances else 0.0

    @property
    def values(self) -> set[Key]:
        """Every value that it is known to carry."""
        return self.tally.values | self.cached


def accept_links(observed: Observed, followed: Followed) -> dict[tuple[Slot, Source], Candidate]:
    """The candidates that are links, aliases included, sorted by slot and source."""
    candidates = _candidates(observed, followed)
    accepted = {at: c for at, c in candidates.items() if _accepted(c, observed)}
    for at in _transfers(accepted, observed, followed):
        candidate = candidates.get(at) or _candidate(at, observed, followed)
        candidate.transferred = True
        unseen = not candidate.values and len(observed.values[at[0]]) >= _FEWEST_VALUES
        if at not in accepted and not unseen and not _contradicted(candidate):
            accepted[at] = candidate
    return dict(sorted(accepted.items()))


def _candidates(observed: Observed, followed: Followed) -> dict[tuple[Slot, Source], Candidate]:
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
                    found[at] = _candidate(at, observed, followed)
                found[at].cached.add(key)
    for at in (*followed.links, *_documented(observed)):
        if at not in found:
            found[at] = _candidate(at, observed, followed)
    for at in _documented(observed):
        found[at].documented = True
    for candidate in found.values():
        candidate.surprise = _mean_surprise(candidate, observed)
    return found


def _candidate(at: tuple[Slot, Source], observed: Observed, followed: Followed) -> Candidate:
    slot, source = at
    return Candidate(
        slot,
        source,
        followed.links.get(at, Tally()),
        followed.chances[slot, source[0]],
        named=name_match(slot[1], source[1]),
    )


def _mean_surprise(candidate: Candidate, observed: Observed) -> float:
    tally = candidate.tally
    if tally.hits > tally.joined:
        return tally.surprise / (tally.hits - tally.joined)
    holders = observed.holders.get(candidate.source, {})
    rows = observed.rows_with[candidate.source]
    values = observed.values.get(candidate.slot, {})
    seen = [
        surprise(len(holders[key]) - 1, max(rows - 1, 0), bits(values[key]))
        for key in sorted(candidate.cached, key=repr)
    ]
    return sum(seen) / len(seen) if seen else 0.0


def _documented(observed: Observed) -> set[tuple[Slot, Source]]:
    """Slot and source pairs of which the slot's description names tool and key."""
    specs = observed.corpus.tools
    patterns: dict[str, list[str]] = defaultdict(list)
    for tool, pattern in observed.rows_with:
        patterns[tool].append(pattern)
    out = set()
    for slot in observed.values:
        hints = ParameterHints(specs.get(slot[0]), slot[1], specs)
        keys = {key.strip() for key in hints.keys}
        for tool in hints.tools:
            for pattern in patterns[tool]:
                if last_key(pattern) in keys or name_match(slot[1], pattern) > _NAMED:
                    out.add((slot, (tool, pattern)))
    return out


def _accepted(candidate: Candidate, observed: Observed) -> bool:
    if observed.echo_share(candidate.source) >= _ECHOES or _contradicted(candidate):
        return False
    evident = bool(candidate.values)
    if candidate.documented and evident:
        return True
    return _shown_by_traces(candidate) or _shown_by_cache(candidate, observed)


def _contradicted(candidate: Candidate) -> bool:
    return candidate.chances >= _CONTRADICTING and candidate.rate < _LEAST_RATE


def _shown_by_traces(candidate: Candidate) -> bool:
    tally = candidate.tally
    supported = candidate.named >= _NAMED or len(candidate.cached) >= _FEWEST_VALUES
    fewest = 1 if supported and len(candidate.cached) >= _FEWEST_VALUES else _FEWEST_TRACES
    if tally.strong < fewest or candidate.rate < _LEAST_RATE:
        return False
    tail = binom.sf(tally.traces - 1, candidate.chances, _COPIED)
    return bool(tail <= _CHANCE) or candidate.named >= _NAMED


def _shown_by_cache(candidate: Candidate, observed: Observed) -> bool:
    strong = [
        key
        for key in candidate.cached
        if bits(observed.values[candidate.slot][key]) >= MEMORABLE_BITS
    ]
    if len(strong) < _FEWEST_VALUES or candidate.surprise < _SURPRISING:
        return False
    if is_enumeration(candidate.slot, observed):
        return False
    share = len(candidate.cached) / len(observed.values[candidate.slot])
    return candidate.named >= _NAMED or share >= _HALF


def _transfers(
    accepted: dict[tuple[Slot, Source], Candidate], observed: Observed, followed: Followed
) -> set[tuple[Slot, Source]]:
    """Accepted sources, for all other arguments of the same name that outputs usually feed."""
    named: dict[tuple[str, ...], set[Source]] = defaultdict(set)
    machine = {slot for slot in observed.values if is_machine_made(slot, observed, followed)}
    for (slot, source), candidate in accepted.items():
        if slot not in machine:
            continue
        if candidate.rate >= _HALF or (not candidate.chances and candidate.named >= _NAMED):
            named[key_parts(slot[1])].add(source)
    return {
        (slot, source)
        for slot in sorted(machine)
        for source in named.get(key_parts(slot[1]), ())
        if source[0] != slot[0]
    }


def last_key(pattern: str) -> str:
    """The last named key of a pointer pattern."""
    named = [token for token in pattern.split("/") if token and token != "*"]
    return unescape(named[-1]) if named else ""


def without_aliases(candidates: Iterable[Candidate]) -> list[Candidate]:
    """One path for each value of a slot and tool: of paths with the same values the best one."""
    groups: dict[tuple[Slot, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.slot, candidate.source[0]].append(candidate)
    kept = []
    for _, group in sorted(groups.items()):
        covered: set[Key] = set()
        for candidate in sorted(group, key=_preference):
            new = candidate.values - covered
            if not covered or len(new) >= max(2, _LEAST_RATE * len(candidate.values)):
                kept.append(candidate)
                covered |= candidate.values
    return kept


def _preference(candidate: Candidate) -> tuple[float | int | str, ...]:
    """Sorts the best path first."""
    return (
        -candidate.tally.traces,
        -len(candidate.cached),
        -candidate.documented,
        -candidate.named,
        candidate.source[1].count("/"),
        candidate.source[1],
    )


def as_links(candidate: Candidate) -> list[Link]:
    """The links of a candidate: one for whole values, one for pieces of comma-joined texts."""
    tally = candidate.tally
    evidence = tuple(
        name
        for name, holds in (
            ("traces", tally.traces > 0),
            ("cache", len(candidate.cached) >= _FEWEST_VALUES),
            ("name", candidate.named >= _NAMED or candidate.transferred),
            ("description", candidate.documented),
        )
        if holds
    )
    whole = tally.hits - tally.joined
    kinds = (
        [LinkKind.TYPED if 2 * tally.typed > whole > 0 else LinkKind.VALUE]
        if (whole or not tally.joined)
        else []
    )
    kinds += [LinkKind.COMPOSITE] if tally.joined else []
    (to_tool, to_path), (from_tool, from_path) = candidate.slot, candidate.source
    return [
        Link(
            from_tool,
            from_path,
            to_tool,
            to_path,
            kind,
            tally.traces,
            len(candidate.values),
            round(candidate.rate, 4) if candidate.chances else 1.0,
            candidate.surprise >= _SURPRISING,
            evidence,
        )
        for kind in kinds
    ]
