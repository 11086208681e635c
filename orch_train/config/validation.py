"""Every check on a configuration, and one error that lists all that is wrong.

Order: unknown groups and keys, each field by itself, fields of one group against each other, groups
against each other, then the files that are named. The last three look only at groups whose fields
are sound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orch_env.tasks.files import BUNDLED, bundled
from orch_env.types import OrchError
from orch_env.types.text import did_you_mean, shortened
from orch_train.config.groups import GROUPS, LOSSES, OUR_ENV, Settings
from orch_train.config.model_folder import is_hub_id, model_folder
from orch_train.config.weight_route import obstacle


def resolve(given: Mapping[str, Any], *, files: bool) -> Settings:
    """Turn what was given into checked settings.

    Args:
        given: group name -> (key -> value); missing ones take their defaults.
        files: also check that the named files exist.

    Raises:
        OrchError: one message with every problem.
    """
    problems: list[str] = []
    groups: dict[str, Any] = {}
    for name, values in given.items():
        if name not in GROUPS:
            problems.append(f"unknown group {name!r}{_hint(name, GROUPS)}")
            continue
        if not isinstance(values, Mapping):
            problems.append(f"{name}: must be a mapping of keys, got {_shown(values)}")
            continue
        fields = GROUPS[name].model_fields
        for key in [key for key in values if key not in fields]:
            homes = [other for other in GROUPS if key in GROUPS[other].model_fields]
            hint = f" (it belongs to {homes[0]!r})" if homes else _hint(key, fields)
            problems.append(f"unknown key {name}.{key}{hint}")
        known = {key: value for key, value in values.items() if key in fields}
        try:
            groups[name] = GROUPS[name].model_validate(known, context=[])
        except ValidationError as error:
            problems += [_field_problem(name, item) for item in error.errors()]
    settings = Settings.model_validate(groups, context=problems)
    problems += _conflicts(settings)
    if files:
        problems += _file_problems(settings)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise OrchError(f"configuration: {count}: " + "; ".join(problems))
    return settings


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(str(name), known) or f" (there are: {', '.join(known)})"


def _field_problem(group: str, item: Any) -> str:
    where = ".".join(str(part) for part in (group, *item["loc"]))
    reason = re.sub(r"^Value error, ", "", re.sub(r"^Input should be", "must be", item["msg"]))
    return f"{where}: {reason[0].lower()}{reason[1:]} (got {_shown(item['input'])})"


def _shown(value: Any) -> str:
    return shortened(repr(value), 60)


def _conflicts(settings: Settings) -> Iterator[str]:
    """What is wrong between groups."""
    training, evaluation, sft = settings.training, settings.evaluation, settings.sft
    if settings.learners.num_learners and training.loss not in LOSSES:
        yield (
            f"training.loss: {training.loss!r} is registered in this process, learner actors do "
            "not know it: set learners.num_learners to 0"
        )
    if settings.model.reference is not None and training.kl_coeff == 0:
        yield "model.reference is only read with a training.kl_coeff above 0"
    if settings.env_runners.weight_sync == "collective" and (reason := obstacle(settings)):
        yield f"env_runners.weight_sync=collective: {reason}; or set it to host"
    measured = sft.eval_every > 0 or sft.eval_at_start
    if measured and evaluation.tasks is None and evaluation.split is None:
        yield "sft.eval_every needs evaluation.tasks (or evaluation.split)"


def _file_problems(settings: Settings) -> Iterator[str]:
    """The model, and for our own environment the task files and the cache, must be there."""
    yield from _model_problems(settings)
    if settings.environment.env == OUR_ENV:
        yield from _data_problems(settings)
    if settings.reporting.wandb_project is not None and find_spec("wandb") is None:
        yield (
            "reporting.wandb_project: the package wandb is not installed: pip install wandb, or "
            "set it to null"
        )


def _model_problems(settings: Settings) -> Iterator[str]:
    name, reference, here = settings.model.path, settings.model.reference, str(Path.cwd())
    if reference is not None and not (model_folder(reference) or is_hub_id(reference)):
        yield f"model.reference: {reference!r} is no folder with a model in {here!r}"
    if not name:
        yield "model.path: no model is given"
    elif folder := model_folder(name):
        yield from _context_problems(folder, settings)
    elif Path(name).is_dir():
        yield f"model.path: folder {name!r} holds no model (no config.json)"
    elif not is_hub_id(name):
        out = settings.sft.out
        warm = out is not None and Path(name).parent == Path(out)
        hint = "; `orch sft` with this configuration makes it" if warm else ""
        yield f"model.path: folder {name!r} does not exist in {here!r}{hint}"


def _context_problems(folder: Path, settings: Settings) -> Iterator[str]:
    """An episode must not grow beyond the positions that the model knows."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        positions = config.get("text_config", config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError) as problem:
        yield f"model.path: {folder / 'config.json'} cannot be read ({problem})"
        return
    if isinstance(positions, int) and settings.rollouts.max_context > positions:
        yield (
            f"rollouts.max_context ({settings.rollouts.max_context}) exceeds the model's "
            f"{positions} positions"
        )


def _data_problems(settings: Settings) -> Iterator[str]:
    """What our own environment reads; others check their arguments themselves."""
    env_config = settings.environment.env_config
    if "reward" in env_config:
        from orch_env.rewards import make_reward

        try:
            make_reward(env_config["reward"])
        except OrchError as problem:
            yield f"environment.env_config.reward: {problem}"
    if "tasks" not in env_config:
        yield "environment.env_config.tasks: a task file or bundled data set is needed"
    for where, name, kind in (
        ("environment.env_config.tasks", env_config.get("tasks"), "tasks"),
        ("environment.env_config.cache", env_config.get("cache"), "cache"),
        ("evaluation.tasks", settings.evaluation.tasks, "tasks"),
        ("sft.tasks", settings.sft.tasks, "tasks"),
    ):
        # A cache may also be a database URL, which only opening can check.
        if not isinstance(name, str) or "://" in name or Path(name).is_file():
            continue
        if bundled(name, kind) is None:
            names = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
            yield (
                f"{where}: file {name!r} does not exist in {str(Path.cwd())!r} "
                f"and is no bundled data set (bundled: {', '.join(names)})"
            )
