"""What `orch doctor CONFIG` looks at: whether this machine could run a configuration.

Light to import; torch and transformers are loaded by the checks that need them, which run only
where the installation itself is in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orch_env.cli.installation import Check, disk, gib, machine_memory, run_check, shared_memory
from orch_env.types import OrchError
from orch_train.cli.run_arguments import read_config
from orch_train.config import Settings
from orch_train.config.model_folder import model_folder

_CHECKPOINT_BYTES = 16
"""Bytes of a checkpoint per parameter, at most: the model, master weights, two moments."""


def required_packages(config: str, overrides: Sequence[str]) -> list[str]:
    """Packages that this run cannot do without; those of any run if the file is not sound."""
    needed = ["torch", "transformers"]
    try:
        settings = read_config(config, overrides, None).settings
    except OrchError:
        return needed
    if settings.env_runners.num_env_runners > 0 or settings.learners.num_learners > 0:
        needed.append("ray")
    if settings.model.lora_rank > 0:
        needed.append("peft")
    if settings.rollouts.engine == "vllm":
        needed.append("vllm")
    if settings.reporting.tensorboard:
        needed.append("tensorboard")
    return needed


def configuration_checks(config: str, overrides: Sequence[str], *, usable: bool) -> list[Check]:
    """Judge a configuration on this machine.

    Args:
        config: a YAML file.
        overrides: ``group.key=value`` texts laid over it.
        usable: whether what it requires is installed; without that only text is checked.
    """
    try:
        built = read_config(config, overrides, None)
        settings = built.settings
    except OrchError as problem:
        return [Check("configuration", False, True, str(problem), "mend the file")]
    try:
        built.validate()
    except OrchError as problem:
        remedy = "put the files there, or set their paths"
        return [Check("configuration", False, True, str(problem), remedy)]
    checks = [Check("configuration", True, True, f"{config}: every key is known and fits")]
    steps: list[tuple[str, bool, Callable[[Settings], Check]]] = [
        ("data", True, _data),
        ("model", True, _model),
        ("room for checkpoints", False, _checkpoints),
        ("room for weights", False, _weights_in_transit),
    ]
    if usable:
        steps += [("chat template", True, _template), ("placement", True, _placement)]
    return checks + [run_check(name, must, check, settings) for name, must, check in steps]


def _data(settings: Settings) -> Check:
    from orch_train.rollouts.environments import check_data

    try:
        tasks = check_data(settings)
    except OrchError as problem:
        return Check("data", False, True, str(problem), "see environment.env_config")
    held_out = len(tasks.held_out or ())
    detail = f"{len(tasks.training)} training tasks, {held_out} held out; one reset was played"
    return Check("data", True, True, detail)


def _model(settings: Settings) -> Check:
    folder = model_folder(settings.model.path)
    if folder is None:
        detail = f"{settings.model.path!r} would be downloaded: its files are not here"
        return Check("model", False, False, detail, "download it first and name the folder")
    from orch_train.models.memory import estimate_memory, read_shape

    try:
        shape = read_shape(folder)
        estimate = estimate_memory(settings, str(folder))
    except OrchError as problem:
        return Check("model", False, True, str(problem), "save the model again, as safetensors")
    detail = f"{shape.parameters / 1e6:.1f} M parameters; {estimate.describe()}"
    on_gpu = settings.learners.num_gpus_per_learner or settings.env_runners.num_gpus_per_env_runner
    there = machine_memory()
    if not on_gpu and there is not None and estimate.total > there:
        remedy = "lower learners.max_tokens_per_microbatch or num_envs_per_env_runner"
        return Check("model", False, False, f"{detail}; this machine has {gib(there)}", remedy)
    return Check("model", True, True, detail)


def _template(settings: Settings) -> Check:
    from orch_train.cli.dry_run import check_template

    try:
        found = check_template(settings)
    except OrchError as problem:
        remedy = "use the model's training template, see docs/training.md"
        return Check("chat template", False, True, str(problem), remedy)
    role = "its own tool role" if found["native_tool_role"] else "tool results as user messages"
    detail = (
        f"only appends; {role}; ends messages with {', '.join(found['stop_tokens'])}; "
        f"longest opening prompt {found['longest_prompt']} tokens"
    )
    return Check("chat template", True, True, detail)


def _placement(settings: Settings) -> Check:
    from orch_train.cli.dry_run import describe_placement, this_machine

    machine = this_machine()
    found = describe_placement(settings, machine)
    learner_gpus = settings.learners.num_gpus_per_learner
    if settings.env_runners.ray_address != "local":
        return Check("placement", True, False, found["words"])
    if found["fits_here"] is False or learner_gpus > machine.gpus:
        remedy = (
            "use another machine, or lower env_runners.num_env_runners, learners.num_learners or "
            "what each of them takes"
        )
        return Check("placement", False, True, f"this machine: {machine}; {found['words']}", remedy)
    return Check("placement", True, True, found["words"])


def _checkpoints(settings: Settings) -> Check:
    """Room for the checkpoints that are kept, and one more while it is written."""
    kept = (settings.reporting.keep_checkpoints or 10) + 1
    needed = kept * _CHECKPOINT_BYTES * _parameters(settings)
    return disk(Path(settings.reporting.log_dir), needed, "room for checkpoints")


def _weights_in_transit(settings: Settings) -> Check:
    """Two versions of the weights lie in shared memory while runners change over."""
    each = 4 if settings.model.dtype == "float32" else 2
    runners = settings.env_runners.num_env_runners
    needed = 2 * each * _parameters(settings) if runners else 0
    return shared_memory(needed, "room for weights")


def _parameters(settings: Settings) -> int:
    from orch_train.models.memory import read_shape

    folder = model_folder(settings.model.path)
    return 0 if folder is None else read_shape(folder).parameters
