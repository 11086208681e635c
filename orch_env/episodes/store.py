"""Episodes as JSON Lines, each with its task and the settings of its environment.

A line is INTERFACE's episode with two more keys: ``task`` (the whole task) and ``settings`` (how
the environment was set up). With them an episode can be verified against a cache, scored again or
viewed without another file. Both may be missing; readers say what they then cannot do. Lines are
ASCII, because a lone surrogate, which a model may write, has no UTF-8 bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orch_env.tasks.files import read_records, write_lines
from orch_env.types import Episode, OrchError, Task
from orch_env.types.fields import of_kind, value_of
from orch_env.types.json import JsonObject


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """An episode with its task and settings.

    Attributes:
        episode: what happened.
        task: the task, ``None`` where the line holds none.
        settings: how the environment was set up (``call_format``, limits); empty if unknown.
        digest: the digest as stored; differs from ``episode.digest`` if the line was changed.
    """

    episode: Episode
    task: Task | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digest: str | None = None

    @property
    def intact(self) -> bool:
        """Whether the stored digest, if there is one, fits the content."""
        return self.digest is None or self.digest == self.episode.digest

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, check: bool = False) -> StoredEpisode:
        """Read one line.

        Args:
            data: the line's JSON object.
            check: refuse a line whose digest does not fit its content; with False the caller
                looks at :attr:`intact`.

        Raises:
            OrchError: the line is no episode, its task is no task, or the digest does not fit.
        """
        of_kind(data, dict, "a stored episode")
        episode = Episode.from_dict({k: v for k, v in data.items() if k != "digest"})
        try:
            task = value_of(data, "task", dict, None)
            stored = cls(
                episode=episode,
                task=None if task is None else Task.from_dict(task),
                settings=dict(value_of(data, "settings", dict, {})),
                digest=value_of(data, "digest", str, None),
            )
        except OrchError as problem:
            raise OrchError(f"episode of task {episode.task_id!r}: {problem}") from problem
        if stored.task is not None and stored.task.id != episode.task_id:
            raise OrchError(
                f"episode of task {episode.task_id!r} is stored with task {stored.task.id!r}"
            )
        if check and not stored.intact:
            raise OrchError(f"episode of task {episode.task_id!r} was changed after it was stored")
        return stored

    def to_dict(self) -> JsonObject:
        """The line's JSON form."""
        out = self.episode.to_dict()
        if self.task is not None:
            out["task"] = self.task.to_dict()
        if self.settings:
            out["settings"] = dict(self.settings)
        return out


def write_episodes(
    episodes: Iterable[StoredEpisode | Episode], path: str | os.PathLike[str]
) -> None:
    """Write episodes as JSON Lines (gzipped if the name ends in ``.gz``), whole or not at all."""
    lines = (json.dumps(e.to_dict(), ensure_ascii=True, separators=(",", ":")) for e in episodes)
    write_lines(lines, Path(path))


def read_episodes(path: str | os.PathLike[str], *, check: bool = True) -> list[StoredEpisode]:
    """Read a file of episodes.

    Args:
        path: JSON Lines, plain or gzipped.
        check: see :meth:`StoredEpisode.from_dict`.

    Raises:
        OrchError: the file is missing, or a line is no episode; the message has the line.
    """
    stored: list[StoredEpisode] = []
    for number, data in read_records(Path(path)):
        try:
            stored.append(StoredEpisode.from_dict(data, check=check))
        except (ValueError, RecursionError, OrchError) as problem:
            raise OrchError(f"{os.fspath(path)}: line {number}: {problem}") from problem
    return stored


def digest_of(episodes: Iterable[Episode]) -> str:
    """Hex BLAKE2b-128 over the digests of episodes, in the order given."""
    digests = b"".join(bytes.fromhex(episode.digest) for episode in episodes)
    return hashlib.blake2b(digests, digest_size=16).hexdigest()
