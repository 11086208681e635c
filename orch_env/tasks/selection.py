"""Selects tasks: a file or a bundled data set, one split or some of it, one task of a set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

from orch_env.tasks.files import bundled, exists, load_tasks, refuse_pipe
from orch_env.types import OrchError, Task
from orch_env.types.fields import got
from orch_env.types.text import nearest

_T = TypeVar("_T")


class TaskSet:
    """The tasks of an environment, found by id or index.

    Raises:
        OrchError: there are none, or two of them have the same id.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            raise OrchError("an environment needs at least one task")
        self.tasks = tuple(tasks)
        self._index_of = {task.id: number for number, task in enumerate(self.tasks)}
        if len(self._index_of) < len(self.tasks):
            twice = next(t.id for n, t in enumerate(self.tasks) if self._index_of[t.id] != n)
            raise OrchError(f"two tasks have the id {twice!r}")

    def __len__(self) -> int:
        return len(self.tasks)

    def named(self, options: Mapping[str, Any] | None) -> Task | None:
        """The task that reset options name, ``None`` if they leave it open.

        Raises:
            OrchError: an unknown option or id, or an index that is no whole number or out of range.
        """
        if options is None or options == {}:
            return None
        if not isinstance(options, Mapping) or len(options) > 1:
            raise OrchError(
                "reset options are 'task_id' or 'task_index', one of them, such as "
                f"{{'task_index': 0}}; got {got(options)}"
            )
        ((option, wanted),) = options.items()
        if option == "task_id":
            if not isinstance(wanted, str) or wanted not in self._index_of:
                near = nearest(str(wanted), self._index_of, most=3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise OrchError(f"there is no task {got(wanted)} among {len(self)}{hint}")
            return self.tasks[self._index_of[wanted]]
        if option != "task_index":
            raise OrchError(
                f"reset options are 'task_id' or 'task_index', one of them; got {option!r}"
            )
        # NumPy's integers, which a random generator gives, are whole numbers too.
        if isinstance(wanted, bool) or not isinstance(wanted, SupportsIndex):
            raise OrchError(f"task_index must be a whole number, got {got(wanted)}")
        if not 0 <= index(wanted) < len(self):
            raise OrchError(f"task_index must be from 0 to {len(self) - 1}, got {wanted!r}")
        return self.tasks[index(wanted)]


def load_split(tasks: str | os.PathLike[str], split: str | None = None) -> tuple[Task, ...]:
    """Load a task file or bundled data set, or one split of it.

    A bundled data set may keep a split in a file of its own; elsewhere the tasks' ``split``
    metadata decides. Files are read once per process as long as they do not change.

    Raises:
        OrchError: the file is missing or damaged, or it has no such split (the message lists them).
    """
    name = os.fspath(tasks)
    if split is not None and not exists(name):
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
    domains: dict[str, list[int]] = {}
    for place in sorted(range(len(tasks)), key=lambda place: _drawn(tasks[place])):
        domains.setdefault(_domain(tasks[place]), []).append(place)
    # Everyone's first task, then everyone's second, ...
    turns = sorted(
        (turn, domain, place)
        for domain, places in enumerate(domains.values())
        for turn, place in enumerate(places)
    )
    return tuple(tasks[place] for place in sorted(place for *_, place in turns[:count]))


def _drawn(task: Any) -> bytes:
    return hashlib.sha256(str(task.id).encode("utf-8", "surrogatepass")).digest()


def _domain(task: Any) -> str:
    metadata = getattr(task, "metadata", None)
    return str(metadata.get("domain")) if isinstance(metadata, Mapping) else ""


def _load(name: str) -> tuple[Task, ...]:
    refuse_pipe(name)
    path = Path(name) if exists(name) else bundled(name, "tasks")
    try:
        status = os.stat(path or "")
    except OSError:
        return tuple(load_tasks(name))
    assert path is not None
    return _load_file(str(path.resolve()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _load_file(path: str, _mtime_ns: int, _size: int) -> tuple[Task, ...]:
    """Tasks are frozen: the environments of one process share them."""
    return tuple(load_tasks(path))
