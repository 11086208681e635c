"""Mining: from recorded calls and traces to links, groups, agreements and opaque arguments."""

from __future__ import annotations

from collections.abc import Callable

from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.mining.accept import accept_links, as_links, without_aliases
from orch_env.synthesis.mining.agree import agreements
from orch_env.synthesis.mining.attach import Attaching
from orch_env.synthesis.mining.candidates import Candidate
from orch_env.synthesis.mining.followed import Followed, follow
from orch_env.synthesis.mining.mined import Mined, Slot
from orch_env.synthesis.mining.observed import Observed
from orch_env.synthesis.mining.opaque import is_machine_made, is_unsaid

_NEARLY_ALWAYS = 0.7
"""Share of a slot's uses that outputs must feed for the slot to be opaque by traces alone."""
_FEWEST_USES = 3


def mine(corpus: Corpus, *, progress: Callable[[int, int], None] | None = None) -> Mined:
    """Find which output feeds which argument.

    The same corpus always gives the same result.

    Args:
        corpus: the recorded calls; its traces may be empty.
        progress: called with the number of responses that were read, and of all.
    """
    observed = Observed(corpus, progress)
    followed = follow(observed)
    kept = without_aliases(accept_links(observed, followed).values())
    links = sorted(
        (link for candidate in kept for link in as_links(candidate, observed)),
        key=lambda link: (link.from_tool, link.from_path, link.to_tool, link.to_path, link.kind),
    )
    strong = {
        ((link.to_tool, link.to_path), (link.from_tool, link.from_path)): link.strong
        for link in links
    }
    named = {c.slot for c in kept if c.documented or (c.qualified and c.cached)}
    fed = _fed(kept, followed) | named
    opaque = frozenset(
        c.slot
        for c in kept
        if is_machine_made(c.slot, observed, followed)
        or (c.slot in fed and is_unsaid(c.slot, followed))
    )
    attachments = Attaching(observed, strong).attachments(followed)
    return Mined(tuple(links), attachments, agreements(observed, followed, links, opaque), opaque)


def _fed(kept: list[Candidate], followed: Followed) -> set[Slot]:
    """Slots that outputs feed nearly always in traces."""
    linked = {(candidate.slot, candidate.source) for candidate in kept}
    fed: dict[Slot, int] = {}
    for index, uses in enumerate(followed.uses):
        tools = followed.tools[index]
        for use in uses:
            slot = use.leaf.slot
            held = any(
                (slot, (tools[call], place.pattern)) in linked
                for call, places in use.found.items()
                for place in places
            )
            fed[slot] = fed.get(slot, 0) + held
    return {
        slot
        for slot, count in fed.items()
        if followed.total[slot] >= _FEWEST_USES and count >= _NEARLY_ALWAYS * followed.total[slot]
    }
