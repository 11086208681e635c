"""One run's folder as the viewer reads it: results, episodes, configuration, tasks, tokenizer.

Only the folder itself must be there. Task files and the model are looked for where the
configuration says, and what is not found is shown as not found, never as an error: a run is often
read on another machine than the one that made it. Without its own tokenizer a run is shown with
token ids alone; another model's tokenizer would show wrong text.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from orch_env.rewards import PRESETS
from orch_env.tasks.files import bundled, load_tasks
from orch_env.types import OrchError, Task
from orch_train.config.model_folder import model_folder
from orch_train.config.reading import read_yaml
from orch_train.run.metrics_file import flatten
from orch_train.storage.runs import RunKind, checkpoints, is_run, kind_of, one_run
from orch_train.viewer.rollout_queries import RolloutReader, RolloutsUnreadable

STEP = "training_iteration"
_REPLACEMENT = "�"
_WORD = "▁"  # how SentencePiece writes a leading space


class MetricsTail:
    """The results in ``metrics.jsonl``, read again only where the file grew.

    A reader of a run that is still being written never fails on what it finds: a line that is no
    JSON becomes a problem to show, a last line without its newline is left for the next look, and
    a file that was replaced (a resumed run cuts it back) is read from the start.

    Args:
        path: the file; it may be missing yet.

    Attributes:
        rows: one flat result a line, in the order of the file.
        problems: what could not be read, the first few lines of it.
    """

    rows: list[dict[str, float]]
    problems: list[str]

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._start_over(None)

    def look(self) -> None:
        """Take in what was written since the last look."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    found = (status.st_dev, status.st_ino)
                    if found != self._file_id or status.st_size < self._offset:
                        self._start_over(found)
                    file.seek(self._offset)
                    data = file.read()
            except FileNotFoundError:
                self._start_over(None)
                return
            except OSError as problem:
                self.problems = [f"{self._path.name} cannot be read: {problem}"]
                return
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.split(b"\n")[:-1]:
                self._line += 1
                self._take(line)

    @property
    def names(self) -> list[str]:
        """Every metric that was seen."""
        return sorted(self._names)

    def columns(self, names: Sequence[str]) -> dict[str, list[float | None]]:
        """Values by metric, ``None`` where a result lacks it; all lists as long as ``rows``."""
        rows = list(self.rows)
        return {name: [row.get(name) for row in rows] for name in names}

    def _start_over(self, file_id: tuple[int, int] | None) -> None:
        self._file_id = file_id
        self._offset = self._line = 0
        self.rows, self.problems = [], []
        self._names: set[str] = set()

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            result: Any = json.loads(line)
            if isinstance(result, dict) and STEP not in result and "step" in result:
                result = from_warm_start(result)
            if not isinstance(result, dict) or type(result.get(STEP)) is not int:
                raise ValueError(f"no object with a {STEP}")
        except (ValueError, RecursionError) as problem:
            if len(self.problems) < 5:
                self.problems.append(f"{self._path.name}: line {self._line}: {problem}")
            return
        flat = flatten(result)
        self.rows.append(flat)
        self._names.update(flat)


def from_warm_start(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result of a warm start under the names that results of GRPO have."""
    return {STEP: result["step"], "time_total_s": result.get("seconds"), **result}


class RunData:
    """A run, finished or still going on.

    Args:
        folder: the run's folder.

    Raises:
        OrchError: it is no run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not is_run(folder):
            one_run(folder)  # says what is wrong
            raise OrchError(f"{str(folder)!r} holds runs and is none itself")
        self.metrics = MetricsTail(folder / "metrics.jsonl")
        self.rollouts = RolloutReader(folder / "rollouts.db")
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def kind(self) -> RunKind:
        """What made the run."""
        return kind_of(self.folder)

    @property
    def status(self) -> str:
        """``finished``, ``interrupted`` or ``unfinished``: it goes on, or it was killed."""
        self.metrics.look()
        summary = self._summary()
        if self.kind is RunKind.WARM_START:
            stop = summary.get("stop", "unfinished")
            return stop if stop in ("unfinished", "interrupted") else "finished"
        steps, iterations = self.metrics.rows[-1:], self.setting("training", "iterations")
        if steps and isinstance(iterations, int) and steps[0][STEP] >= iterations:
            return "finished"
        # What is newer than the summary was written by a process that resumed the run.
        paths = (self.folder / "summary.json", self.folder / "metrics.jsonl")
        stale = all(p.is_file() for p in paths) and _changed(paths[0]) < _changed(paths[1])
        return "interrupted" if summary.get("interrupted") and not stale else "unfinished"

    @property
    def seconds_since_result(self) -> float:
        """How long ago the newest result was written; infinite without one."""
        age = self._age()
        return math.inf if age is None else age

    @property
    def warm_start(self) -> RunData | None:
        """The run of ``orch sft`` whose model this run started from, if it is here."""
        with self._lock:
            return self._warm_start

    def measured_last(self) -> list[dict[str, float]]:
        """What a finished warm start measured between its steps: at the start, at the end."""
        known = {row[STEP] for row in self.metrics.rows if "evaluation/success" in row}
        found = self._summary().get("evaluations")
        rows = [
            {STEP: one["step"], "time_total_s": one["seconds"]}
            | {f"evaluation/{key}": value for key, value in flatten(one).items()}
            for one in (found if isinstance(found, list) else [])
            if isinstance(one, dict) and {"step", "seconds"} <= one.keys()
        ]
        return [row for row in rows if row[STEP] not in known]

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
            "kind": self.kind,
            "status": self.status,
            "has_warm_start": self.warm_start is not None,
            "step": int(steps[-1]) if steps else 0,
            "results": len(steps),
            "iterations": iterations if isinstance(iterations, int) else None,
            "seconds_since_result": self._age(),
            "finished": (self.folder / "summary.json").is_file(),
            "metrics": self.metrics.names,
            "episodes": facets,
            "advantage": self.setting("training", "advantage"),
            "credit": self.setting("training", "credit"),
            "counts": self._counts,
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

    def _summary(self) -> Mapping[str, Any]:
        try:
            found = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def _warm_start(self) -> RunData | None:
        path = self.setting("model", "path")
        if self.kind is RunKind.WARM_START or not isinstance(path, str):
            return None
        model = Path(path)
        # Beside the run first: both may have been moved together.
        for folder in (
            self.folder.parent / model.parent.name,
            (self._beside(path) or model).parent,
        ):
            if model.name == "model" and is_run(folder) and kind_of(folder) is RunKind.WARM_START:
                return RunData(folder)
        return None

    @cached_property
    def _counts(self) -> list[str]:
        """Components of the run's reward that count something, so that 1 is not their most."""
        config = self.setting("environment", "env_config")
        reward = config.get("reward") if isinstance(config, Mapping) else None
        name = reward.get("name") if isinstance(reward, Mapping) else reward
        preset = PRESETS.get(name) if isinstance(name, str) else None
        return [] if preset is None else [p.name for p in preset.components if p.high > 1]

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


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as ``group.key`` -> text, for reading and comparing."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


class TokenText:
    """Decodes tokens one by one, and spans as a whole, by the run's own tokenizer.

    Only ``tokenizer.json`` is read (the fast tokenizers' format), so nothing of torch or
    transformers is imported.

    Args:
        file: a ``tokenizer.json``.

    Raises:
        OrchError: it is none.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as problem:  # the library raises nothing narrower
            raise OrchError(f"{file} is no tokenizer: {problem}") from problem
        self.token = cache(self._token)

    def text(self, ids: Sequence[int]) -> str:
        """The text of a span, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _token(self, number: int) -> str:
        """The text of one token; a part of a character is shown as the vocabulary writes it."""
        raw = self._tokenizer.id_to_token(number)
        if raw is None:
            return f"<{number}>"
        text = str(self._tokenizer.decode([number], skip_special_tokens=False))
        if not text or _REPLACEMENT in text:
            return str(raw)
        return f" {text}" if raw.startswith(_WORD) and not text.startswith(" ") else text


def find_tokenizer(run: Path, model: Path | None) -> Path | None:
    """The tokenizer of a run: its newest checkpoint's, else that of the model it started from.

    Args:
        run: the run's folder.
        model: folder of the starting model, if it is here.
    """
    for _, folder in reversed(checkpoints(run)):
        found = sorted(folder.rglob("tokenizer.json"))
        if found:
            return found[0]
    if model is not None and (model / "tokenizer.json").is_file():
        return model / "tokenizer.json"
    return None
