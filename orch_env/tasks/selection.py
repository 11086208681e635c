"""Selects tasks: a file or a bundled data set, one split or some of it, one task of a set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from orch_env.tasks.files import bundled, load_tasks
from orch_env.types import OrchError, Task
from orch_env.types.text import nearest

_T = TypeVar("_T")


class TaskSet:
    """The tasks of an environment, found by id or index.

    Raises:
        OrchError: there are none.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            raise OrchError("an environment needs at least one task")
        self.tasks = tuple(tasks)
        self._index_of = {task.id: index for index, task in enumerate(self.tasks)}

    def __len__(self) -> int:
        return len(self.tasks)

    def named(self, options: Mapping[str, Any]) -> Task | None:
        """The task that reset options name, ``None`` if they leave it open.

        Raises:
            OrchError: an unknown option, an unknown id, or an index out of range.
        """
        if not options:
            return None
        if set(options) == {"task_id"}:
            wanted = options["task_id"]
            if not isinstance(wanted, str) or wanted not in self._index_of:
                near = nearest(str(wanted), self._index_of, most=3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise OrchError(f"there is no task {wanted!r} among {len(self)}{hint}")
            return self.tasks[self._index_of[wanted]]
        if set(options) == {"task_index"}:
            index = int(options["task_index"])
            if not 0 <= index < len(self):
                raise OrchError(f"task_index must be from 0 to {len(self) - 1}, got {index}")
            return self.tasks[index]
        raise OrchError(
            f"reset options are 'task_id' or 'task_index', one of them; got {sorted(options)}"
        )


def load_split(tasks: str | os.PathLike[str], split: str | None = None) -> tuple[Task, ...]:
    """Load a task file or bundled data set, or one split of it.

    A bundled data set may keep a split in a file of its own; elsewhere the tasks' ``split``
    metadata decides. Files are read once per process as long as they do not change.

    Raises:
        OrchError: the file is missing or damaged, or it has no such split (the message lists them).
    """
    name = os.fspath(tasks)
    if split is not None and not Path(name).exists():
        own_file = bundled(f"{name}/{split}", "tasks")
        if own_file is not None:
            return _load(str(own_file))
    loaded = _load(name)
    if split is None:
        return loaded
    kept = tuple(task for task in loaded if task.metadata.get("split") == split)
    if not kept:
        there = sorted({str(s) for t in loaded if (s := t.metadata.get("split")) is not None})
        raise OrchError(f"{name!r} has no split {split!r} (splits: {', '.join(there) or 'none'})")
    return kept


def spread(tasks: Sequence[_T], count: int | None) -> tuple[_T, ...]:
    """Some tasks of a set, as evenly over its domains as they allow; in their order.

    Files are often sorted by domain or size, so the first ones would be of one kind. Ids alone
    decide which tasks of a domain are taken: the choice is the same at every time and in every
    process, and a larger one holds every smaller one.

    Args:
        tasks: items with an ``id``; those without ``metadata["domain"]`` are one domain.
        count: how many, ``None`` for all.
    """
    if count is None or count >= len(tasks):
        return tuple(tasks)
    domains: dict[Any, list[int]] = {}
    for index in sorted(range(len(tasks)), key=lambda index: _drawn(tasks[index])):
        domains.setdefault(_domain(tasks[index]), []).append(index)
    # Everyone's first task, then everyone's second, ...
    turns = [
        (turn, domain, index)
        for domain, indices in enumerate(domains.values())
        for turn, index in enumerate(indices)
    ]
    return tuple(tasks[index] for index in sorted(index for *_, index in sorted(turns)[:count]))


def _drawn(task: Any) -> bytes:
    return hashlib.sha256(str(task.id).encode("utf-8", "surrogatepass")).digest()


def _domain(task: Any) -> str:
    metadata = getattr(task, "metadata", None)
    return str(metadata.get("domain")) if isinstance(metadata, Mapping) else ""


def _load(name: str) -> tuple[Task, ...]:
    path = Path(name)
    try:
        status = path.stat()
    except OSError:
        return tuple(load_tasks(name))
    return _load_file(str(path.resolve()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _load_file(path: str, _mtime_ns: int, _size: int) -> tuple[Task, ...]:
    """Tasks are frozen: the environments of one process share them."""
    return tuple(load_tasks(path))
