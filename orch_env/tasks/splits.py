"""Train and held-out splits that share no gold call.

Tasks that make an identical call (same tool, equal arguments) are kept on one side, and so are the
tasks linked to them through other shared calls: otherwise a held-out answer would have been seen
in training. A group of linked tasks is never cut. So the held-out share is met as nearly as the
groups allow, and a data set that is one single group is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from orch_env.types import OrchError, Task, ToolSpec
from orch_env.values import SchemaRules, call_key


def linked_groups(tasks: Sequence[Task]) -> list[list[int]]:
    """Indices of tasks, grouped so that no two groups share a gold call; in order of first task."""
    parent = list(range(len(tasks)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[bytes, int] = {}
    for index, task in enumerate(tasks):
        rules = {
            t.name: SchemaRules.of(t.parameters) for t in task.tools if isinstance(t, ToolSpec)
        }
        for call in task.gold_calls:
            key = call_key(call.name, call.arguments, rules.get(call.name))
            other = first_with.setdefault(key, index)
            # The smaller root wins, so a group is named after its first task.
            low, high = sorted((root(index), root(other)))
            parent[high] = low
    groups: dict[int, list[int]] = {}
    for index in range(len(tasks)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def split_tasks(
    tasks: Sequence[Task], *, heldout: float, seed: int = 0
) -> tuple[list[Task], list[Task]]:
    """Split tasks into (train, held-out) without a shared gold call.

    Args:
        tasks: all tasks.
        heldout: wanted share of held-out tasks, between 0 and 1, both excluded.
        seed: which groups are held out; the same seed gives the same split everywhere.

    Returns:
        Train and held-out tasks in their given order, ``metadata.split`` set.

    Raises:
        OrchError: the share is out of range, or the tasks are too closely linked to be split.
    """
    if not 0.0 < heldout < 1.0:
        raise OrchError(f"the held-out share must lie between 0 and 1, got {heldout}")
    wanted = heldout * len(tasks)

    def draw(group: list[int]) -> bytes:
        text = f"{seed}\0{tasks[group[0]].id}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()

    chosen: set[int] = set()
    for group in sorted(linked_groups(tasks), key=draw):
        if len(chosen) + len(group) <= wanted + 0.5:
            chosen.update(group)
    if not chosen or len(chosen) == len(tasks):
        raise OrchError(
            f"{len(tasks)} tasks are too closely linked by shared calls to hold out "
            f"{heldout:.0%} of them; use more tasks, or only one domain"
        )
    train = [t.with_metadata(split="train") for i, t in enumerate(tasks) if i not in chosen]
    held = [t.with_metadata(split="heldout") for i, t in enumerate(tasks) if i in chosen]
    return train, held
