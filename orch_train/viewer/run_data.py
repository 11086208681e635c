"""One run's folder as the viewer reads it: results, episodes, configuration, tasks, tokenizer.

The hard decision: only the folder itself must be there. Task files and the model are looked for
where the configuration says, and what is not found is shown as not found, never as an error: a
run is often read on another machine than the one that made it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from orch_env.tasks.files import bundled, load_tasks
from orch_env.types import OrchError, Task
from orch_train.config.model_folder import model_folder
from orch_train.config.reading import read_yaml
from orch_train.viewer.metrics_tail import STEP, MetricsTail
from orch_train.viewer.rollout_queries import RolloutReader, RolloutsUnreadable
from orch_train.viewer.token_text import TokenText, find_tokenizer


class RunData:
    """A run, finished or still going on.

    Args:
        folder: the run's folder.

    Raises:
        OrchError: it is no run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise OrchError(f"run folder {str(folder)!r} does not exist")
        if not any((folder / name).is_file() for name in ("config.yaml", "metrics.jsonl")):
            raise OrchError(
                f"{str(folder)!r} is no run folder: it has neither config.yaml nor metrics.jsonl"
            )
        self.metrics = MetricsTail(folder / "metrics.jsonl")
        self.rollouts = RolloutReader(folder / "rollouts.db")
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def overview(self) -> dict[str, Any]:
        """What the page needs to know of a run before anything else."""
        self.metrics.look()
        steps = [row[STEP] for row in self.metrics.rows]
        iterations = self.setting("training", "iterations")
        problems = [*self._config[1], *self.metrics.problems]
        facets = None
        try:
            facets = self.rollouts.facets() if self.rollouts.exists else None
        except RolloutsUnreadable as problem:
            problems.append(str(problem))
        return {
            "name": self.name,
            "path": str(self.folder),
            "step": int(steps[-1]) if steps else 0,
            "results": len(steps),
            "iterations": iterations if isinstance(iterations, int) else None,
            "seconds_since_result": self._age(),
            "finished": (self.folder / "summary.json").is_file(),
            "metrics": self.metrics.names,
            "episodes": facets,
            "advantage": self.setting("training", "advantage"),
            "credit": self.setting("training", "credit"),
            "config": _flat(self._config[0]),
            "problems": problems,
        }

    def setting(self, group: str, key: str) -> Any:
        """A value of the resolved configuration, ``None`` if it is not there."""
        values = self._config[0].get(group)
        return values.get(key) if isinstance(values, Mapping) else None

    def advantages(self, rewards: Sequence[float]) -> list[float] | None:
        """Advantages of a group by the run's own settings, ``None`` where they are not known."""
        from orch_train.learner.objective.advantages import group_advantages

        kind, eps = self.setting("training", "advantage"), self.setting("training", "advantage_eps")
        try:
            return group_advantages(rewards, str(kind), float(eps or 1e-4))
        except (OrchError, TypeError, ValueError):
            return None

    def task(self, name: str) -> Task | None:
        """The task of an episode, if the run's task file is here."""
        with self._lock:
            return self._tasks.get(name)

    @property
    def token_text(self) -> TokenText | None:
        """The run's tokenizer, if it is here."""
        with self._lock:
            return self._tokenizer

    @cached_property
    def _config(self) -> tuple[Mapping[str, Any], list[str]]:
        path = self.folder / "config.yaml"
        if not path.is_file():
            return {}, []
        try:
            return read_yaml(path), []
        except OrchError as problem:
            return {}, [f"config.yaml cannot be read: {problem}"]

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        config = self.setting("environment", "env_config")
        name = config.get("tasks") if isinstance(config, Mapping) else None
        if not isinstance(name, str):
            return {}
        path = bundled(name, "tasks") or self._beside(name)
        try:
            return {} if path is None else {task.id: task for task in load_tasks(path)}
        except OrchError:
            return {}

    @cached_property
    def _tokenizer(self) -> TokenText | None:
        name = self.setting("model", "path")
        model = None
        if isinstance(name, str) and name:
            model = model_folder(name) or self._beside(name)
        file = find_tokenizer(self.folder, model)
        try:
            return None if file is None else TokenText(file)
        except OrchError:
            return None

    def _beside(self, name: str) -> Path | None:
        """A path of the configuration: from here, or from a folder above the run (runs/NAME)."""
        for base in (Path(), *self.folder.resolve().parents):
            if (base / name).exists():
                return base / name
        return None

    def _age(self) -> float | None:
        path = self.folder / "metrics.jsonl"
        try:
            return max(0.0, time.time() - path.stat().st_mtime)
        except OSError:
            return None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as ``group.key`` -> text, for reading and comparing."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
