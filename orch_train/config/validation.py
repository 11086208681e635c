"""Every check on a configuration, and one error that lists all that is wrong.

Order: unknown groups and keys, then each field by itself, then fields against each other, then
the files that are named. The last two look only at groups that are sound so far.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orch_env.tasks.files import BUNDLED, bundled
from orch_env.types import OrchError
from orch_train.config.groups import Settings
from orch_train.config.reading import nearest
from orch_train.config.weight_route import obstacle

OUR_ENV = "orch_env/ToolOrchestration-v0"
LOSSES = ("grpo", "dapo", "dr_grpo", "bnpo", "gspo", "cispo")
ENGINES = ("torch", "vllm", "scripted")
BUNDLED_MODELS = Path(__file__).parent.parent / "data"
GROUPS = tuple(Settings.model_fields)


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
            problems.append(f"unknown group {name!r}{nearest(name, GROUPS)}")
            continue
        if not isinstance(values, Mapping):
            problems.append(f"{name}: must be a mapping of keys, got {_shown(values)}")
            continue
        model = type(getattr(Settings(), name))
        known = {k: v for k, v in values.items() if k in model.model_fields}
        for key in values:
            if key not in model.model_fields:
                hint = _elsewhere(key, name) or nearest(key, model.model_fields)
                problems.append(f"unknown key {name}.{key}{hint}")
        try:
            groups[name] = model.model_validate(known)
        except ValidationError as error:
            problems += [_field_problem(name, item) for item in error.errors()]
    sound = Settings(**groups)
    problems += _cross_problems(sound)
    if files:
        problems += _file_problems(sound)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise OrchError(f"configuration: {count}: " + "; ".join(problems))
    return sound


def _elsewhere(key: str, group: str) -> str:
    homes = [
        name
        for name in GROUPS
        if name != group and key in type(getattr(Settings(), name)).model_fields
    ]
    return f" (it belongs to {homes[0]!r})" if homes else ""


def _field_problem(group: str, item: Any) -> str:
    where = ".".join(str(part) for part in (group, *item["loc"]))
    reason = str(item["msg"])
    reason = re.sub(r"^Input should be", "must be", reason)
    reason = re.sub(r"^Value error, ", "", reason)
    return f"{where}: {reason[0].lower()}{reason[1:]} (got {_shown(item['input'])})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _cross_problems(settings: Settings) -> list[str]:
    """Fields against each other."""
    problems = []
    for where, value in (
        ("environment.env_config", settings.environment.env_config),
        ("rollouts.engine_config", settings.rollouts.engine_config),
    ):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as problem:
            problems.append(f"{where}: must be plain JSON data ({problem})")
    rollouts = settings.rollouts
    if rollouts.max_tokens_per_turn >= rollouts.max_context:
        problems.append(
            f"rollouts.max_tokens_per_turn ({rollouts.max_tokens_per_turn}) must be below "
            f"rollouts.max_context ({rollouts.max_context}): the prompt needs room too"
        )
    if rollouts.engine not in ENGINES and ":" not in rollouts.engine:
        problems.append(
            f"rollouts.engine: no engine {rollouts.engine!r} (there are: {', '.join(ENGINES)}, "
            "or package.module:factory)"
        )
    return (
        problems
        + _training_problems(settings)
        + _runner_problems(settings)
        + _evaluation_problems(settings)
        + _sft_problems(settings)
    )


def _training_problems(settings: Settings) -> list[str]:
    problems = []
    training = settings.training
    losses = _losses()
    if training.loss not in losses:
        problems.append(
            f"training.loss: no loss {training.loss!r} (there are: {', '.join(losses)})"
        )
    elif settings.learners.num_learners > 1 and training.loss not in LOSSES:
        problems.append(
            f"training.loss: {training.loss!r} is registered in this process, learner actors do "
            "not know it: set learners.num_learners to 0"
        )
    total_updates = training.iterations * training.updates_per_batch
    if training.lr_schedule != "constant" and training.lr_warmup_updates >= total_updates:
        problems.append(
            f"training.lr_warmup_updates ({training.lr_warmup_updates}) must be below the run's "
            f"{total_updates} optimizer steps"
        )
    if training.correction_mask is not None and training.correction == "none":
        problems.append("training.correction_mask needs training.correction to be switched on")
    if training.straggler_steps and not training.max_staleness:
        problems.append("training.straggler_steps needs a training.max_staleness above 0")
    if settings.model.reference is not None and training.kl_coeff == 0:
        problems.append("model.reference is only read with a training.kl_coeff above 0")
    if settings.model.lora_alpha is not None and not settings.model.lora_rank:
        problems.append("model.lora_alpha is only read with a model.lora_rank above 0")
    episodes = training.groups_per_batch * training.group_size
    if training.updates_per_batch > episodes:
        problems.append(
            f"training.updates_per_batch ({training.updates_per_batch}) exceeds the batch's "
            f"{episodes} episodes"
        )
    return problems


def _runner_problems(settings: Settings) -> list[str]:
    problems = []
    runners = settings.env_runners
    parallel, gpus = runners.tensor_parallel_size, runners.num_gpus_per_env_runner
    if parallel > 1 and gpus != parallel:
        problems.append(
            f"env_runners.tensor_parallel_size ({parallel}) needs as many GPUs per runner: set "
            f"env_runners.num_gpus_per_env_runner to {parallel} (got {gpus:g})"
        )
    if runners.weight_sync == "collective" and (reason := obstacle(settings)):
        problems.append(f"env_runners.weight_sync=collective: {reason}; or set it to host")
    return problems


def _evaluation_problems(settings: Settings) -> list[str]:
    problems = []
    evaluation = settings.evaluation
    measured = evaluation.evaluation_interval > 0 or evaluation.evaluation_at_start
    if measured and evaluation.tasks is None and evaluation.split is None:
        problems.append(
            "evaluation.tasks: held-out tasks (or evaluation.split) are needed, evaluation is on"
        )
    if max(evaluation.pass_at) > evaluation.samples_per_task:
        problems.append(
            f"evaluation.pass_at: pass@{max(evaluation.pass_at)} needs evaluation.samples_per_task "
            f"of at least as many, got {evaluation.samples_per_task}"
        )
    return problems


def _sft_problems(settings: Settings) -> list[str]:
    problems = []
    sft = settings.sft
    if sft.max_steps is None and sft.max_epochs is None and sft.max_seconds is None:
        problems.append("sft: a bound is needed: max_steps, max_epochs or max_seconds")
    if sft.target_success is not None:
        low, high = sft.target_success
        if low > high:
            problems.append(f"sft.target_success: [{low}, {high}] is no band: low first")
        if not sft.eval_every and not sft.eval_at_start:
            problems.append("sft.target_success needs sft.eval_every: success must be measured")
    evaluation = settings.evaluation
    measured = sft.eval_every > 0 or sft.eval_at_start
    if measured and evaluation.tasks is None and evaluation.split is None:
        problems.append("sft.eval_every needs evaluation.tasks (or evaluation.split)")
    return problems


def _losses() -> tuple[str, ...]:
    """Names of the losses, those registered by the user included, without importing torch."""
    module = sys.modules.get("orch_train.learner.objective.loss")
    return LOSSES if module is None else tuple(module.LOSSES)


def _file_problems(settings: Settings) -> list[str]:
    """The model folder, and for our own environment the task files and the cache, must be there."""
    problems = []
    if not settings.model.path:
        problems.append("model.path: no model is given")
    else:
        problems += _model_problems(settings)
        problems += _reference_problems(settings.model.reference)
    if settings.environment.env == OUR_ENV:
        problems += _data_problems(settings)
    if settings.reporting.wandb_project is not None and find_spec("wandb") is None:
        problems.append(
            "reporting.wandb_project: the package wandb is not installed: pip install wandb, or "
            "set it to null"
        )
    return problems


def _data_problems(settings: Settings) -> list[str]:
    """What our own environment reads; others check their arguments themselves."""
    problems = []
    env_config = settings.environment.env_config
    if "reward" in env_config:
        problems += _reward_problems(env_config["reward"])
    if "tasks" not in env_config:
        problems.append("environment.env_config.tasks: a task file or bundled data set is needed")
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
            problems.append(
                f"{where}: file {name!r} does not exist in {str(Path.cwd())!r} "
                f"and is no bundled data set (bundled: {', '.join(_bundled_names()) or 'none'})"
            )
    return problems


def _reward_problems(spec: Any) -> list[str]:
    """The reward is built once: a function of the user's is imported, schedules are checked."""
    from orch_env.rewards import make_reward

    try:
        make_reward(spec)
    except OrchError as problem:
        return [f"environment.env_config.reward: {problem}"]
    return []


def _bundled_names() -> list[str]:
    return sorted(p.name for p in BUNDLED.iterdir() if p.is_dir()) if BUNDLED.is_dir() else []


def _model_problems(settings: Settings) -> list[str]:
    name = settings.model.path
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return _context_problems(folder, settings)
        return [f"model.path: folder {name!r} holds no model (no config.json)"]
    if name.isidentifier() and (BUNDLED_MODELS / name / "config.json").is_file():
        return _context_problems(BUNDLED_MODELS / name, settings)
    if _is_hub_id(name):
        return []
    out = settings.sft.out
    warm = out is not None and Path(name).parent == Path(out)
    hint = "; `orch sft` with this configuration makes it" if warm else ""
    return [f"model.path: folder {name!r} does not exist in {str(Path.cwd())!r}{hint}"]


def _reference_problems(name: str | None) -> list[str]:
    if name is None or (Path(name) / "config.json").is_file() or _is_hub_id(name):
        return []
    if name.isidentifier() and (BUNDLED_MODELS / name / "config.json").is_file():
        return []
    return [f"model.reference: {name!r} is no folder with a model in {str(Path.cwd())!r}"]


def _is_hub_id(name: str) -> bool:
    """'models/tiny' with a folder 'models' here is a misspelt path and no hub id."""
    looks_like_one = re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) is not None
    return looks_like_one and not (Path.cwd() / name.partition("/")[0]).exists()


def _context_problems(folder: Path, settings: Settings) -> list[str]:
    """An episode must not grow beyond the positions that the model knows."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        positions = config.get("text_config", config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError) as problem:
        return [f"model.path: {folder / 'config.json'} cannot be read ({problem})"]
    if isinstance(positions, int) and settings.rollouts.max_context > positions:
        return [
            f"rollouts.max_context ({settings.rollouts.max_context}) exceeds the model's "
            f"{positions} positions"
        ]
    return []
