"""A split of tasks that are there already, by workflow and entity."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from orch_env.synthesis.checking.separation import entities_of
from orch_env.types import OrchError, Task


def shares_of(text: str) -> dict[str, float]:
    """``train=0.8,test=0.2`` as a mapping.

    Raises:
        OrchError: it is no such text, or the shares do not add up to 1.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            found[name.strip()] = float(share)
        except ValueError as problem:
            raise OrchError(f"{part!r} is no share: write name=0.2") from problem
    if len(found) < 2 or min(found.values()) <= 0 or abs(sum(found.values()) - 1) > 1e-6:
        raise OrchError(f"the shares must be positive and add up to 1, got {text!r}")
    return found


def split_by_template_and_entity(
    tasks: Sequence[Task], shares: Mapping[str, float], seed: int = 0
) -> tuple[list[Task], int]:
    """Split tasks so that no workflow and no entity is in two splits.

    Entities go to splits by hash; a task belongs to a split if all of its entities do. Then each
    workflow goes to the split that would lose most without it, the small splits choosing first.

    Returns:
        The tasks that are left, ``metadata.split`` set, in their order; and how many are not.

    Raises:
        OrchError: a split would be empty.
    """
    names = list(shares)
    edges = [sum(list(shares.values())[: n + 1]) for n in range(len(names))]

    def home_of(entity: str) -> str:
        data = f"{seed}\0{entity}".encode("utf-8", "surrogatepass")
        drawn = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) / 2**64
        return next((n for n, edge in zip(names, edges, strict=True) if drawn < edge), names[-1])

    home: list[str | None] = []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for task in tasks:
        homes = {home_of(entity) for entity in entities_of(task)} or {home_of(task.id)}
        only = homes.pop() if len(homes) == 1 else None
        home.append(only)
        if only is not None:
            counts[str(task.metadata.get("template"))][only] += 1
    total = Counter[str]()
    for counted in counts.values():
        total.update(counted)
    owner: dict[str, str] = {}
    for name in sorted(names, key=lambda n: (shares[n], n))[:-1]:
        taken = 0
        order = sorted(
            (t for t in counts if t not in owner and counts[t][name]),
            key=lambda t: (-counts[t][name] / sum(counts[t].values()), t),
        )
        for template in order:
            if taken >= total[name] / 2 and taken:
                break
            owner[template] = name
            taken += counts[template][name]
    largest = max(names, key=lambda n: (shares[n], n))
    kept = [
        task.with_metadata(split=where)
        for task, where in zip(tasks, home, strict=True)
        if where is not None and owner.get(str(task.metadata.get("template")), largest) == where
    ]
    empty = [name for name in names if not any(t.metadata["split"] == name for t in kept)]
    if empty:
        raise OrchError(
            f"{len(tasks)} tasks share too many workflows and entities: {empty[0]!r} would be "
            "empty; make more tasks, or split the places first, as `orch synth run` does"
        )
    return kept, len(tasks) - len(kept)
