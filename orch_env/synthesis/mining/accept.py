"""Which equalities are flows of data: the evidence for each candidate, weighed.

A candidate is a slot and a source. It becomes a link if one of these holds:

* *traces*: at least two traces show it with a memorable value, often enough among its chances that
  a path which repeats a later argument now and then does not pass;
* *cache*: at least three values of the slot stand at the source, they are surprising there, and
  names agree, or the slot holds ids and the like and more of its values are there than a path that
  holds arguments by accident would have; small numbers only where names say of what they are ids;
* *description*: the argument's description names the tool and the key;
* *name*: the source feeds arguments of the same name of other tools.

What many chances in traces contradict is never a link.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from scipy.special import bdtrc

from orch_env.provenance.information import bits
from orch_env.provenance.names import key_parts
from orch_env.synthesis.mining.candidates import Candidate, candidate_of, candidates_of, unsent
from orch_env.synthesis.mining.followed import Followed
from orch_env.synthesis.mining.mined import Link, LinkKind, Slot
from orch_env.synthesis.mining.observed import MEMORABLE_BITS, Observed, Source, json_kind
from orch_env.synthesis.mining.opaque import is_enumeration, is_machine_made

_ECHOES = 0.9
"""A path that repeats what was sent in this share of the responses is never a source."""
_FEWEST_TRACES, _FEWEST_VALUES = 2, 3
_LEAST_RATE = 0.15
"""Real links hold in at least this share of their chances."""
_UNNAMED_RATE = 0.4
"""The same where names do not agree."""
_COPIED, _CHANCE = 0.1, 2e-3
"""A path that holds a later argument in the first share of the responses by accident may look like
a link with the second probability, unless names agree. All arguments of one name count together."""
_CONTAINED, _ALL_CONTAINED = 1e-9, 2e-5
"""A path that holds some arguments by accident may hold so many of one slot's values, or
all of them, with these probabilities."""
_MOST, _NEARLY_ALL = 0.8, 0.9
_TRIED = 1
"""Chances after which a link that only another argument's name suggests is given up."""
_VOTES = 2
"""Arguments of its name that a source must feed to be given to an argument that has values, but
hardly any of the source's."""
_TEXT = "string"
_SURPRISING = 4.0
"""Bits of surprise of a value of a link that only the cache shows, and of a strong link."""
_ELEMENTS = 1.2
"""Elements of one response that hold the same id, on average."""
_HALF = 0.5
_CONTRADICTING = 5
"""Chances after which a link that never, or hardly ever, holds is given up."""
_NAMED = 2
"""Names agree: equal, or one ends with the other."""


def accept_links(observed: Observed, followed: Followed) -> dict[tuple[Slot, Source], Candidate]:
    """The candidates that are links, aliases included, sorted by slot and source."""
    slots = sorted({*observed.values, *unsent(observed)})
    candidates = candidates_of(slots, observed, followed)
    machine = {
        slot
        for slot in slots
        if slot not in observed.values or is_machine_made(slot, observed, followed)
    }
    accepted = {at: c for at, c in candidates.items() if _accepted(c, observed, machine)}
    for at in _transfers(accepted, candidates, machine, observed):
        candidate = candidates.get(at) or candidate_of(at, observed, followed)
        candidate.transferred = True
        tried = not candidate.tally.traces and candidate.chances >= _TRIED
        if at not in accepted and not tried and not _contradicted(candidate):
            accepted[at] = candidate
    return dict(sorted(accepted.items()))


def _accepted(candidate: Candidate, observed: Observed, machine: Collection[Slot]) -> bool:
    if observed.echo_share(candidate.source) >= _ECHOES or _contradicted(candidate):
        return False
    if candidate.documented:
        return True
    return _shown_by_traces(candidate) or _shown_by_cache(candidate, observed, machine)


def _contradicted(candidate: Candidate) -> bool:
    return candidate.chances >= _CONTRADICTING and candidate.rate < _LEAST_RATE


def _shown_by_traces(candidate: Candidate) -> bool:
    tally, (hits, chances) = candidate.tally, candidate.pooled
    if not tally.strong or candidate.rate < _LEAST_RATE:
        return False
    if candidate.named >= _NAMED:
        return hits >= _FEWEST_TRACES or len(candidate.cached) >= _FEWEST_VALUES
    often = hits >= _FEWEST_TRACES and hits >= _UNNAMED_RATE * chances
    return often and bool(bdtrc(hits - 1, chances, _COPIED) <= _CHANCE)


def _shown_by_cache(candidate: Candidate, observed: Observed, machine: Collection[Slot]) -> bool:
    slot = candidate.slot
    values = observed.values.get(slot, {})
    if len(candidate.cached) < _FEWEST_VALUES:
        return False
    if len(candidate.cached) >= _MOST * len(values) and candidate.qualified:
        return True
    strong = [key for key in candidate.cached if bits(values[key]) >= MEMORABLE_BITS]
    if len(strong) < _FEWEST_VALUES or candidate.surprise < _SURPRISING:
        return False
    if candidate.named >= _NAMED:
        return not is_enumeration(slot, observed)
    share = len(candidate.cached) / len(values)
    if slot not in machine or share < _HALF:
        return False
    if share >= _MOST and _is_about(candidate, observed):
        return True
    held = _share_held(candidate, observed)
    if held >= _NEARLY_ALL:
        return share >= _NEARLY_ALL
    accident = bdtrc(len(candidate.cached) - 1, len(values), held)
    return bool(accident <= (_ALL_CONTAINED if share == 1.0 else _CONTAINED))


def _is_about(candidate: Candidate, observed: Observed) -> bool:
    """Whether most arguments that the source holds are arguments of this name."""
    name = key_parts(candidate.slot[1])
    same = [values for slot, values in observed.values.items() if key_parts(slot[1]) == name]
    held = observed.holders[candidate.source]
    return sum(any(key in values for values in same) for key in held) >= _MOST * len(held)


def _share_held(candidate: Candidate, observed: Observed) -> float:
    """Of all texts, or all numbers, that some argument has, the share that the source holds."""
    texts = sum(kind == _TEXT for kind, _ in candidate.cached) > len(candidate.cached) / 2
    held = sum((kind == _TEXT) == texts for kind, _ in observed.holders[candidate.source])
    return held / sum((kind == _TEXT) == texts for kind, _ in observed.wanted)


def _transfers(
    accepted: Mapping[tuple[Slot, Source], Candidate],
    candidates: Mapping[tuple[Slot, Source], Candidate],
    machine: Collection[Slot],
    observed: Observed,
) -> set[tuple[Slot, Source]]:
    """Accepted sources, for other arguments of the same name that hold ids and the like.

    A name alone may mean different things: where an argument has values, some source must feed it
    and the other argument too.
    """
    sources: dict[Slot, set[Source]] = defaultdict(set)
    for (slot, source), candidate in accepted.items():
        if slot in machine and (not candidate.chances or candidate.rate >= _HALF):
            sources[slot].add(source)
    named: dict[tuple[str, ...], list[Slot]] = defaultdict(list)
    for slot in sorted(sources):
        named[key_parts(slot[1])].append(slot)
    votes = Counter(
        (slot, source)
        for slot in sorted(machine)
        for other in named.get(key_parts(slot[1]), ())
        if other != slot and (slot not in observed.values or sources[slot] & sources[other])
        for source in sources[other]
        if source[0] != slot[0]
    )
    return {
        at
        for at, count in votes.items()
        if at[0] not in observed.values
        or count >= _VOTES
        or (at in candidates and len(candidates[at].cached) >= _FEWEST_VALUES)
    }


def without_aliases(candidates: Iterable[Candidate]) -> list[Candidate]:
    """One path for each value of a slot and tool: of paths with the same values the best one."""
    groups: dict[tuple[Slot, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.slot, candidate.source[0]].append(candidate)
    kept: list[Candidate] = []
    for _, group in sorted(groups.items()):
        best, *others = sorted(group, key=_preference)
        kept.append(best)
        covered = set(best.values)
        for candidate in others:
            new = candidate.values - covered
            if len(new) >= max(2, _LEAST_RATE * len(candidate.values)):
                kept.append(candidate)
                covered |= candidate.values
    return kept


def _preference(candidate: Candidate) -> tuple[float | int | str, ...]:
    """Sorts the best path first."""
    traces = candidate.tally.traces
    return (
        -len(traces),
        0 if traces else -len(candidate.cached),
        -candidate.documented,
        -candidate.named,
        candidate.source[1].count("/"),
        candidate.source[1],
    )


def as_links(candidate: Candidate, observed: Observed) -> list[Link]:
    """The links of a candidate: one for whole values, one for pieces of comma-joined texts."""
    tally = candidate.tally
    evidence = tuple(
        name
        for name, holds in (
            ("traces", bool(tally.traces)),
            ("cache", len(candidate.cached) >= _FEWEST_VALUES),
            ("name", candidate.named >= _NAMED or candidate.transferred),
            ("description", candidate.documented),
        )
        if holds
    )
    rate = candidate.rate
    if not candidate.chances:
        rate = len(candidate.cached) / max(len(observed.values.get(candidate.slot, ())), 1)
    kinds = {}
    if tally.hits > tally.joined or not tally.joined:
        typed = _is_typed(candidate, observed)
        kinds[LinkKind.TYPED if typed else LinkKind.VALUE] = tally.traces - tally.joined_in
    if tally.joined:
        kinds[LinkKind.COMPOSITE] = tally.joined_in
    (to_tool, to_path), (from_tool, from_path) = candidate.slot, candidate.source
    return [
        Link(
            from_tool,
            from_path,
            to_tool,
            to_path,
            kind,
            len(traces),
            len(candidate.values),
            round(rate, 4),
            _is_strong(candidate, observed),
            evidence,
        )
        for kind, traces in kinds.items()
    ]


def _is_strong(candidate: Candidate, observed: Observed) -> bool:
    """Whether its values identify what they name.

    A value that many responses hold, or many elements of one, does not; one list of everything is
    no evidence against an id.
    """
    if candidate.surprise >= _SURPRISING:
        return True
    rows = observed.rows_with[candidate.source]
    if not candidate.cached or not candidate.qualified:
        return False
    holders = observed.holders[candidate.source]
    held = [(key, row) for key in candidate.cached for row in holders[key]]
    elements = sum(
        place.pattern == candidate.source[1]
        for key, row in held
        for place in observed.held[row][key]
    )
    few = rows <= _FEWEST_VALUES or len(held) <= _HALF * rows * len(candidate.cached)
    return few and elements <= _ELEMENTS * len(held)


def _is_typed(candidate: Candidate, observed: Observed) -> bool:
    """Whether most of its values have another JSON type as an argument than in the output."""
    values = observed.values.get(candidate.slot, {})
    changed = 0
    for key in candidate.cached:
        row = observed.holders[candidate.source][key][0]
        (kind, *_) = (p.kind for p in observed.held[row][key] if p.pattern == candidate.source[1])
        changed += kind != json_kind(values[key])
    return 2 * changed > len(candidate.cached)
