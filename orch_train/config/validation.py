"""Every check on a configuration, and one error that lists all that is wrong.

Order: unknown groups and keys, each field by itself, fields of one group against each other, groups
against each other, then the files that are named. What the last three say of a setting that is
itself in question is left out: it would be said of the setting's default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from orch_env.tasks.files import BUNDLED, bundled
from orch_env.types import OrchError
from orch_env.types.text import did_you_mean, shortened
from orch_train.config.groups import GROUPS, OUR_ENV, Settings, registered_losses
from orch_train.config.model_folder import is_hub_id, model_folder
from orch_train.config.weight_route import obstacle

OTHER_NAMES = {
    # TRL, and Hugging Face's trainer under it
    "num_generations": "training.group_size",
    "learning_rate": "training.lr",
    "lr_scheduler_type": "training.lr_schedule",
    "warmup_steps": "training.lr_warmup_updates",
    "max_grad_norm": "training.grad_clip",
    "max_steps": "training.iterations",
    "num_iterations": "training.updates_per_batch",
    "beta": "training.kl_coeff",
    "epsilon": "training.clip_low",
    "epsilon_high": "training.clip_high",
    "loss_type": "training.loss",
    "scale_rewards": "training.advantage",
    "mask_truncated_completions": "training.mask_truncated",
    "max_completion_length": "rollouts.max_tokens_per_turn",
    "max_prompt_length": "rollouts.max_context",
    "per_device_train_batch_size": "learners.max_tokens_per_microbatch",
    "gradient_accumulation_steps": "learners.max_tokens_per_microbatch",
    "model_name_or_path": "model.path",
    "output_dir": "reporting.log_dir",
    "save_steps": "reporting.checkpoint_interval",
    "save_total_limit": "reporting.keep_checkpoints",
    "eval_steps": "evaluation.evaluation_interval",
    "num_train_epochs": "training.iterations",
    "bf16": "model.dtype",
    "report_to": "reporting.wandb_project",
    # PEFT
    "r": "model.lora_rank",
    "lora_r": "model.lora_rank",
    "target_modules": "model.lora_targets",
    # vLLM, and arguments of chat templates
    "gpu_memory_utilization": "rollouts.engine_config",
    "vllm_gpu_memory_utilization": "rollouts.engine_config",
    "enable_thinking": "rollouts.chat_template_kwargs",
    # verl
    "n": "training.group_size",
    "train_batch_size": "training.groups_per_batch",
    "ppo_epochs": "training.updates_per_batch",
    "ppo_max_token_len_per_gpu": "learners.max_tokens_per_microbatch",
    "clip_ratio": "training.clip_low",
    "clip_ratio_low": "training.clip_low",
    "clip_ratio_high": "training.clip_high",
    "kl_loss_coef": "training.kl_coeff",
    "use_kl_loss": "training.kl_coeff",
    "loss_agg_mode": "training.loss",
    "adv_estimator": "training.advantage",
    "norm_adv_by_std_in_grpo": "training.advantage",
    "total_training_steps": "training.iterations",
    "max_response_length": "rollouts.max_tokens_per_turn",
    "max_model_len": "rollouts.max_context",
    "tensor_model_parallel_size": "env_runners.tensor_parallel_size",
    "enable_gradient_checkpointing": "learners.gradient_checkpointing",
    "project_name": "reporting.wandb_project",
    "experiment_name": "reporting.run_name",
    "default_local_dir": "reporting.log_dir",
    "save_freq": "reporting.checkpoint_interval",
    "test_freq": "evaluation.evaluation_interval",
    # OpenRLHF
    "n_samples_per_prompt": "training.group_size",
    "rollout_batch_size": "training.groups_per_batch",
    "actor_learning_rate": "training.lr",
    "init_kl_coef": "training.kl_coeff",
    "eps_clip": "training.clip_low",
    "generate_max_len": "rollouts.max_tokens_per_turn",
    "pretrain": "model.path",
    "vllm_num_engines": "env_runners.num_env_runners",
    "save_path": "reporting.log_dir",
    # RLlib
    "clip_param": "training.clip_low",
    "kl_coef": "training.kl_coeff",
    "num_epochs": "training.updates_per_batch",
    "train_batch_size_per_learner": "training.groups_per_batch",
    "num_workers": "env_runners.num_env_runners",
    "num_rollout_workers": "env_runners.num_env_runners",
    "num_gpus": "learners.num_gpus_per_learner",
    "evaluation_duration": "evaluation.num_tasks",
}
"""What other trainers call a setting -> what it is called here."""


class FileProblem(NamedTuple):
    """What is wrong with a file that a configuration names, or with what is needed to read it.

    Attributes:
        setting: the setting, as ``group.key``.
        text: what is wrong, the setting included.
        missing: whether the file is not there.
    """

    setting: str
    text: str
    missing: bool = False


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
    in_question: set[str] = set()
    for name, values in given.items():
        if name not in GROUPS:
            hint = _group_hint(name)
            problems.append(f"unknown group {name!r}{hint}")
            for meant in _meant(hint, GROUPS):
                in_question |= {f"{meant}.{key}" for key in GROUPS[meant].model_fields}
            continue
        fields = GROUPS[name].model_fields
        if not isinstance(values, Mapping):
            problems.append(f"{name}: must be a mapping of keys, got {_shown(values)}")
            in_question |= {f"{name}.{key}" for key in fields}
            continue
        for key in [key for key in values if key not in fields]:
            hint = _key_hint(name, key)
            problems.append(f"unknown key {name}.{key}{hint}")
            in_question |= {f"{name}.{meant}" for meant in _meant(hint, fields)}
            in_question |= {f"{home}.{key}" for home in GROUPS}
        known = {key: value for key, value in values.items() if key in fields}
        try:
            groups[name] = GROUPS[name].model_validate(known, context=[])
        except ValidationError as error:
            problems += [_field_problem(name, item) for item in error.errors()]
            unsound = {item["loc"][0] for item in error.errors()}
            in_question |= {f"{name}.{key}" for key in unsound}
            sound = {key: value for key, value in known.items() if key not in unsound}
            groups[name] = GROUPS[name].model_validate(sound, context=[])
    conflicts: list[str] = []
    settings = Settings.model_validate(groups, context=conflicts)
    conflicts += _conflicts(settings)
    problems += [text for text in conflicts if not in_question & settings_in(text)]
    named = [
        problem
        for problem in (file_problems(settings) if files else ())
        if not in_question & settings_in(problem.text)
    ]
    if problems or named:
        raise configuration_error(problems, named)
    return settings


def settings_in(text: str) -> set[str]:
    """The settings that a text names, as ``group.key``."""
    return set(re.findall(r"\b[a-z_]+\.[a-z_]+", text))


def _meant(hint: str, names: Iterable[str]) -> list[str]:
    """Which of these names the hint for an unknown one is about; all, where it only lists them."""
    return [name for name in names if f"{name!r}" in hint] or [*names]


def configuration_error(problems: Iterable[str], named: Iterable[FileProblem]) -> OrchError:
    """One line for all; several missing files get a line each below it."""
    texts, named = [*problems], [*named]
    missing = [problem for problem in named if problem.missing]
    listed = missing if len(missing) > 1 else []
    texts += [problem.text for problem in named if problem not in listed]
    count = len(texts) + len(listed)
    if listed:
        settings = ", ".join(problem.setting for problem in listed)
        texts.append(f"{len(listed)} files are missing, seen from {str(Path.cwd())!r}: {settings}")
    counted = "1 problem" if count == 1 else f"{count} problems"
    said = f"configuration: {counted}: {'; '.join(texts)}"
    return OrchError(said, [problem.text for problem in listed])


def _group_hint(name: str) -> str:
    """For an unknown group, which may be a key that was given without its group."""
    homes = [f"{group}.{name}" for group in GROUPS if name in GROUPS[group].model_fields]
    meant = OTHER_NAMES.get(_spelt(name)) or " or ".join(homes)
    return f" (did you mean {meant!r}?)" if meant else _hint(name, GROUPS)


def _key_hint(group: str, key: str) -> str:
    fields = GROUPS[group].model_fields
    if (other := OTHER_NAMES.get(_spelt(key))) is not None:
        here = other.rpartition(".")[2]
        return f" (did you mean {here if here in fields else other!r}?)"
    if group == "environment":
        return " (its own arguments go into environment.env_config)"
    homes = [other for other in GROUPS if key in GROUPS[other].model_fields]
    if homes:
        return f" (it belongs to {' or '.join(map(repr, homes))})"
    return _hint(key, fields)


def _spelt(name: object) -> str:
    """A name as Python spells it; command lines have hyphens."""
    return str(name).lower().replace("-", "_")


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
    if settings.learners.num_learners and training.loss in registered_losses:
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


def file_problems(settings: Settings) -> Iterator[FileProblem]:
    """What is wrong with the model, with the task files and caches, and with a missing W&B."""
    yield from _model_problems(settings)
    yield from _data_problems(settings)
    if settings.reporting.wandb_project is not None and find_spec("wandb") is None:
        yield FileProblem(
            "reporting.wandb_project",
            "reporting.wandb_project: the package wandb is not installed: pip install wandb, or "
            "set it to null",
        )


def named_files(settings: Settings) -> Iterator[tuple[str, str, Path | None]]:
    """Task files and caches: the setting, the name in it, and the file; ``None``: not there.

    What names no file is left out: a database URL, and whatever is no file here if the environment
    is of another package, which reads its arguments as it likes.
    """
    env_config, ours = settings.environment.env_config, settings.environment.env == OUR_ENV
    for where, name, kind in (
        ("environment.env_config.tasks", env_config.get("tasks"), "tasks"),
        ("environment.env_config.cache", env_config.get("cache"), "cache"),
        ("evaluation.tasks", settings.evaluation.tasks, "tasks"),
        ("sft.tasks", settings.sft.tasks, "tasks"),
    ):
        if isinstance(name, str) and "://" not in name:
            file = Path(name) if Path(name).is_file() else bundled(name, kind) if ours else None
            if file is not None or ours:
                yield where, name, file


def _model_problems(settings: Settings) -> Iterator[FileProblem]:
    name, reference, here = settings.model.path, settings.model.reference, str(Path.cwd())
    if reference is not None and not (model_folder(reference) or is_hub_id(reference)):
        text = f"model.reference: {reference!r} is no folder with a model in {here!r}"
        yield FileProblem("model.reference", text, missing=True)
    if not name:
        yield FileProblem("model.path", "model.path: no model is given")
    elif folder := model_folder(name):
        yield from _context_problems(folder, settings)
    elif Path(name).is_dir():
        text = f"model.path: folder {name!r} holds no model (no config.json)"
        yield FileProblem("model.path", text, missing=True)
    else:
        out = settings.sft.out
        warm = out is not None and Path(name).parent == Path(out)
        if warm or not is_hub_id(name):
            hint = "; `orch sft` with this configuration makes it" if warm else ""
            text = f"model.path: folder {name!r} does not exist in {here!r}{hint}"
            yield FileProblem("model.path", text, missing=True)


def _context_problems(folder: Path, settings: Settings) -> Iterator[FileProblem]:
    """An episode must not grow beyond the positions that the model knows."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        positions = config.get("text_config", config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError, RecursionError) as problem:
        text = f"model.path: {folder / 'config.json'} cannot be read ({problem})"
        yield FileProblem("model.path", text)
        return
    if isinstance(positions, int) and settings.rollouts.max_context > positions:
        yield FileProblem(
            "rollouts.max_context",
            f"rollouts.max_context ({settings.rollouts.max_context}) exceeds the model's "
            f"{positions} positions",
        )


def _data_problems(settings: Settings) -> Iterator[FileProblem]:
    """What our own environment reads; others check their arguments themselves."""
    if settings.environment.env != OUR_ENV:
        return
    env_config = settings.environment.env_config
    if "reward" in env_config:
        from orch_env.rewards import make_reward

        where = "environment.env_config.reward"
        try:
            make_reward(env_config["reward"])
        except OrchError as problem:
            yield FileProblem(where, f"{where}: {problem}")
    where = "environment.env_config.tasks"
    if "tasks" not in env_config:
        yield FileProblem(where, f"{where}: a task file or bundled data set is needed")
    elif not isinstance(env_config["tasks"], str):
        got = _shown(env_config["tasks"])
        yield FileProblem(where, f"{where}: must name a task file or bundled data set, got {got}")
    where, cache = "environment.env_config.cache", env_config.get("cache")
    if not isinstance(cache, str | None):
        yield FileProblem(where, f"{where}: must name a cache, or be null, got {_shown(cache)}")
    for where, name, file in named_files(settings):
        if file is None:
            names = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
            text = (
                f"{where}: file {name!r} does not exist in {str(Path.cwd())!r} "
                f"and is no bundled data set (bundled: {', '.join(names)})"
            )
            yield FileProblem(where, text, missing=True)
