"""What the subcommands of ``orch reward`` share: the rewards that the user names, and the tasks.

Tool specs come from where the calls were answered: the servers of the task, or the catalogue that
the user names (``--cache``, or the one bundled with ``--tasks``), never from a file that a scored
line names. Without either, rewards see what the line holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.types import OrchError, Task
from orch_env.types.json import parse_whole

if TYPE_CHECKING:
    from orch_env.backends.protocol import ToolBackend
    from orch_env.episodes import StoredEpisode
    from orch_env.rewards.protocol import Reward
    from orch_env.types import Episode

ALL = "all"


def reward_spec(text: str, weights: str | None = None) -> dict[str, Any]:
    """A reward's configuration from the command line.

    Args:
        text: a name, or a JSON object ``{name, options}``.
        weights: JSON object of weights, ``None`` if the user gave none.

    Raises:
        OrchError: what looks like JSON cannot be read.
    """
    spec: dict[str, Any] = {"name": text}
    if text.lstrip().startswith("{"):
        spec = json_object(text, "--reward")
    if weights is not None:
        spec["weights"] = json_object(weights, "--weights")
    return spec


def json_object(text: str, option: str) -> dict[str, Any]:
    """Read a JSON object from the command line.

    Raises:
        OrchError: the text is no JSON object.
    """
    try:
        value = parse_whole(text)
    except ValueError as problem:
        raise OrchError(f"{option} is not JSON ({problem}): {text!r:.200}") from problem
    if not isinstance(value, dict):
        raise OrchError(f"{option} must be a JSON object, got {text!r:.200}")
    return value


def named_rewards(words: Iterable[str]) -> dict[str, Reward]:
    """Label -> reward, for every ``--reward`` in order; ``all`` means every preset.

    A reward that is written as JSON is labelled with its name and its edition, and with a number
    after them where the label was used before.

    Raises:
        OrchError: an unknown reward or a bad option, or the same reward twice.
    """
    from orch_env.rewards import PRESETS, make_reward

    rewards: dict[str, Reward] = {}
    seen: set[str] = set()
    for word in words:
        for text in PRESETS if word == ALL else (word,):
            if text in seen:
                raise OrchError(f"--reward {text} is given twice")
            seen.add(text)
            spec = reward_spec(text)
            made = make_reward(spec)
            name = str(spec["name"])
            if "edition" in spec:
                name += f" edition {spec['edition']}"
            label, number = name, 2
            while label in rewards:
                label, number = f"{name} {number}", number + 1
            rewards[label] = made
    return rewards


class TaskFinder:
    """Finds the task of a stored episode, with whole tool specs where servers or a cache have them.

    Args:
        tasks: a task file or bundled data set to use instead of the lines' own tasks.
        cache: the response cache whose catalogue has the tools; a bundled data set has its own.

    Raises:
        OrchError: a file is missing or damaged.
    """

    def __init__(self, tasks: str | None, cache: str | None) -> None:
        from orch_env.backends.local import LocalBackend
        from orch_env.tasks.files import load_tasks

        self._tasks: Mapping[str, Task] | None = (
            None if tasks is None else {task.id: task for task in load_tasks(tasks)}
        )
        self._catalogue = _catalogue(tasks, cache)
        self._servers = LocalBackend()
        self._names_only = False

    @property
    def note(self) -> str | None:
        """A warning about the tasks found so far, one line; ``None`` if there is none."""
        if not self._names_only:
            return None
        return (
            "the tasks name their tools without schemas, so rewards see none and may score "
            "otherwise than the environment did: give --cache DB, or --tasks with bundled data"
        )

    def task_of(self, stored: StoredEpisode) -> Task:
        """The task from ``--tasks``, or from the line itself without ``--tasks``.

        Raises:
            OrchError: the task is not there, or the catalogue or its servers lack one of its tools.
        """
        task = self._task_of(stored)
        # As in the environment, a recording wins over a server; it leaves no state.
        if task.servers and (self._catalogue is None or stored.episode.state is not None):
            return self._servers.resolve(task)
        if not any(isinstance(tool, str) for tool in task.tools):
            return task
        if self._catalogue is None:
            self._names_only = True
            return task
        return self._catalogue.resolve(task)

    def _task_of(self, stored: StoredEpisode) -> Task:
        task_id = stored.episode.task_id
        if self._tasks is None:
            if stored.task is None:
                raise OrchError("this episode does not hold its task: name it with --tasks FILE")
            return stored.task
        task = self._tasks.get(task_id)
        if task is None:
            raise OrchError(f"task {task_id!r} is not among the {len(self._tasks)} tasks")
        return task


def _catalogue(tasks: str | None, cache: str | None) -> ToolBackend | None:
    from orch_env.tasks.files import bundled, exists

    source: str | Path | None = cache
    if source is None and tasks is not None and not exists(tasks):
        source = bundled(tasks, "cache")
    if source is None:
        return None
    from orch_env.backends.replay import ReplayBackend
    from orch_env.cache import open_cache

    return ReplayBackend(open_cache(source))


def read_played(file: Path, finder: TaskFinder) -> list[tuple[Task, Episode]]:
    """Read the episodes of a file, each with its task.

    Raises:
        OrchError: the file is missing, a line is no episode, or its task is not known; the message
            has the line.
    """
    from orch_env.episodes import StoredEpisode
    from orch_env.tasks.files import read_records

    played: list[tuple[Task, Episode]] = []
    for number, data in read_records(file):
        try:
            if "turns" not in data:
                raise OrchError("this is no stored episode {task_id, turns, ...}")
            stored = StoredEpisode.from_dict(data, check=True)
            played.append((finder.task_of(stored), stored.episode))
        except OrchError as problem:
            raise OrchError(f"{file}: line {number}: {problem}") from problem
    return played
