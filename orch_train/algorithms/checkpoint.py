"""Checkpoints of a run: ``RUN/checkpoints/step_N/``, whole or not at all, the newest kept.

    step_N/metadata.json    counters, weight version, the task frontier, what the run started from
           config.yaml      the resolved configuration
           sampled_ahead/   groups that were sampled ahead of the learner, if there are any
           learner/         optimizer, random state, and model/ (float32 weights and tokenizer)
           model            -> learner/model: what transformers, vLLM and `orch eval` load

Everything is JSON, YAML or safetensors: reading a checkpoint runs no code.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from orch_env.types import OrchError
from orch_train.algorithms.origin import ModelSource, Origin, kl_reference
from orch_train.config import RunConfig, Settings
from orch_train.config.model_folder import model_folder
from orch_train.config.reading import read_yaml
from orch_train.sampling.untrained_groups import UntrainedGroups
from orch_train.storage.atomic_folder import written_whole
from orch_train.storage.rescue import first_line
from orch_train.storage.runs import checkpoints as checkpoints

logger = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound=RunConfig)

CHECKPOINT_SCHEMA = 2
"""In schema 1 ``learners.num_learners: 1`` of ``config.yaml`` meant the driver process, now 0."""
_UNTRAINED = "sampled_ahead"


@dataclass(frozen=True, slots=True)
class CheckpointMetadata:
    """What a run needs beside the learner's state to go on as if it had not stopped.

    Attributes:
        training_iteration: training steps that are done.
        weights_seq_no: version of the weights.
        lifetime: counters over the whole run.
        task_order: the frontier; see `TaskOrder.state`.
        origin: what the run started from; ``None`` in checkpoints that are older than this.
        schema: of the checkpoint; 1 or `CHECKPOINT_SCHEMA`.
    """

    training_iteration: int
    weights_seq_no: int
    lifetime: Mapping[str, float]
    task_order: Mapping[str, Any]
    origin: Origin | None = None
    schema: int = CHECKPOINT_SCHEMA


def write_checkpoint(
    folder: Path,
    metadata: CheckpointMetadata,
    config_yaml: str,
    save_learner: Callable[[Path], None],
    untrained: UntrainedGroups | None = None,
) -> Path:
    """Write one checkpoint folder; an existing one of that name is replaced.

    Args:
        folder: the checkpoint's folder.
        metadata: see `CheckpointMetadata`.
        config_yaml: the resolved configuration.
        save_learner: writes the learner's state, model included, into the folder it is given.
        untrained: groups that were sampled ahead of the learner.

    Raises:
        OrchError: the folder cannot be written; an earlier one of that name is as it was.
    """
    from orch_env import __version__

    with _write_errors(folder), written_whole(folder) as partial:
        save_learner(partial / "learner")
        if untrained is not None and untrained.requests:
            untrained.write(partial / _UNTRAINED)
        (partial / "model").symlink_to(Path("learner") / "model", target_is_directory=True)
        (partial / "config.yaml").write_text(config_yaml, encoding="utf-8")
        record = {"schema": CHECKPOINT_SCHEMA, "algorithm": "GRPO", "orch_rl": __version__}
        text = json.dumps({**record, **asdict(metadata)}, indent=2)
        (partial / "metadata.json").write_text(text + "\n", encoding="utf-8")
    return folder


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """One error for all that goes wrong in writing: each library has its own for a full disk."""
    try:
        yield
    except Exception as problem:  # transformers, safetensors, peft, sqlalchemy: anything
        raise OrchError(
            f"checkpoint {str(folder)!r} cannot be written ({first_line(problem)}); earlier "
            "checkpoints are whole: make room, or mend what is wrong, and go on with --resume"
        ) from problem


def read_metadata(folder: Path) -> CheckpointMetadata:
    """Read a checkpoint's ``metadata.json``.

    Raises:
        OrchError: the folder is no checkpoint, or one of another schema.
    """
    path = folder / "metadata.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise OrchError(f"{str(folder)!r} is no checkpoint: it has no metadata.json") from problem
    except (OSError, ValueError, RecursionError) as problem:
        raise OrchError(f"{path} cannot be read: {problem}") from problem
    if not isinstance(data, dict) or data.get("schema") not in (1, CHECKPOINT_SCHEMA):
        raise OrchError(f"{path} is not of schema 1 or {CHECKPOINT_SCHEMA}, the ones that are read")
    try:
        return CheckpointMetadata(
            training_iteration=int(data["training_iteration"]),
            weights_seq_no=int(data["weights_seq_no"]),
            lifetime={name: float(count) for name, count in dict(data["lifetime"]).items()},
            task_order=dict(data["task_order"]),
            origin=Origin.from_dict(data["origin"]) if data.get("origin") else None,
            schema=data["schema"],
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise OrchError(f"{path} is incomplete ({type(problem).__name__}: {problem})") from problem


def read_untrained(folder: Path) -> UntrainedGroups | None:
    """The groups that a checkpoint's run had sampled ahead of its learner, if there are any.

    Raises:
        OrchError: a file is missing or damaged.
    """
    inner = folder / _UNTRAINED
    return UntrainedGroups.read(inner) if inner.is_dir() else None


def holds_untrained(folder: Path) -> bool:
    """Whether a checkpoint's run had sampled groups ahead of its learner."""
    return (folder / _UNTRAINED).is_dir()


def stored_values(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """The configuration that a checkpoint was written with, keys that came later at their default.

    Raises:
        OrchError: a file is missing or damaged.
    """
    stored = with_stored(RunConfig(), checkpoint, checkpoint)
    values: dict[str, dict[str, Any]] = Settings().model_dump(mode="json")
    for group, keys in stored.given.items():
        if not isinstance(keys, Mapping):
            raise OrchError(f"{checkpoint / 'config.yaml'}: {group}: must be a mapping of keys")
        values[group] = {**values.get(group, {}), **keys}
    return values


def with_stored(config: ConfigT, folder: Path, checkpoint: Path | None) -> ConfigT:
    """Lay the ``config.yaml`` of a run or a checkpoint over a configuration, as it was meant.

    Args:
        config: is changed and returned.
        folder: of the run or the checkpoint.
        checkpoint: the newest one that was written with it, if there is one.

    Raises:
        OrchError: a file is missing or damaged.
    """
    data = read_yaml(folder / "config.yaml")
    learners: Any = data.get("learners")
    one = isinstance(learners, dict) and learners.get("num_learners") == 1
    if one and checkpoint is not None and read_metadata(checkpoint).schema == 1:
        learners["num_learners"] = 0
        logger.warning(
            "%s: the driver process trained this run; its learners.num_learners of 1 is now called "
            "0 (override it with 1 for a learner actor)",
            folder,
        )
    return config.from_dict(data)


def settings_for(config: RunConfig, checkpoint: Path | None) -> Settings:
    """Checked settings; a checkpoint brings its own model, whatever became of the first one.

    Raises:
        OrchError: one message with every problem of the configuration and its files; or the first
            model is needed, as the reference of a KL penalty, and gone.
    """
    if checkpoint is None:
        return config.validate()
    origin = run_origin(checkpoint)
    try:
        own = config.copy().from_dict({"model": {"path": str(checkpoint / "model")}})
        settings = own.validate()
    except OrchError as problem:
        if origin.directory == str(Path.cwd()):
            raise
        hint = f"; the run was started in {origin.directory!r}, and its paths count from there"
        raise OrchError(problem.message + hint, problem.items) from problem
    kl_reference(settings, origin)
    return settings


def run_origin(checkpoint: Path) -> Origin:
    """What the run of a checkpoint started from.

    Raises:
        OrchError: it is no checkpoint.
    """
    origin = read_metadata(checkpoint).origin
    if origin is not None:
        return origin
    # Older than these facts: its configuration names the model.
    first = stored_values(checkpoint)["model"]["path"]
    folder = model_folder(first)
    model = ModelSource(first, None if folder is None else str(folder), None)
    return Origin(str(Path.cwd()), model, None, {})


def refuse_no_run(folder: Path) -> None:
    """Refuse a folder that holds no run.

    Raises:
        OrchError: it has no ``config.yaml``.
    """
    if not (folder / "config.yaml").is_file():
        raise OrchError(f"{str(folder)!r} is no run folder: it has no config.yaml")


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run, ``None`` if there is none yet.

    Raises:
        OrchError: it is damaged, or was given the name of another step: a resume deletes
            checkpoints by their names.
    """
    found = checkpoints(folder)
    if not found:
        return None
    step, newest = found[-1]
    true = read_metadata(newest).training_iteration
    if step != true:
        raise OrchError(
            f"checkpoint {str(newest)!r} is of step {true}: name it step_{true}, or move it "
            f"out of {str(newest.parent)!r}"
        )
    return newest


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return run / "checkpoints" / f"step_{step}"


def prune_checkpoints(run: Path, keep: int | None, spared: Path | None = None) -> None:
    """Delete all but the newest ``keep`` checkpoints and ``spared``; ``None`` deletes none."""
    if keep is not None:
        for _, folder in checkpoints(run)[:-keep]:
            if folder != spared:
                shutil.rmtree(folder)


def drop_checkpoints_after(run: Path, step: int) -> None:
    """Delete checkpoints beyond a step: a run that resumes there makes them again."""
    for number, folder in checkpoints(run):
        if number > step:
            shutil.rmtree(folder)
