"""What can be known about a run before it starts: one list of facts, shown in two ways.

`orch doctor CONFIG` shows each fact as a check; `--dry-run` shows all of them above the settings
that are not at their default. What would stop the run raises here, with the run's own error: the
doctor reports it, a dry run ends with it. What only this machine lacks (its GPUs, a cluster that is
not joined) is a check that is not in order and no error, so that a configuration for a large
machine can be checked on a small one.

Loads no torch where no driver shows a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from orch_env.cli.installation import (
    Check,
    disk,
    gib,
    machine_memory,
    may_have_gpus,
    run_check,
    shared_memory,
)
from orch_env.cli.output import emit
from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.algorithms.resume import ResumeChanges
from orch_train.cli.run_arguments import read_config
from orch_train.config import Settings
from orch_train.config.model_folder import model_folder
from orch_train.config.published_rates import rate_note
from orch_train.config.reading import dump_yaml
from orch_train.config.validation import configuration_error, file_problems
from orch_train.rollouts.environments import TaskIds, check_data
from orch_train.runners.placement import Demand, Resources, plan
from orch_train.storage.folder_owner import refuse_owned
from orch_train.storage.run_folder import refuse_unwritable, refuse_used

_CHECKPOINT_BYTES = 16
"""Bytes of a checkpoint per parameter, at most: the model, master weights, two moments."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact.

    Attributes:
        check: the fact for a person.
        record: the fact for machines: keys of ``--dry-run --json``.
    """

    check: Check
    record: dict[str, Any] = field(default_factory=dict)


def dry_run(
    config: GRPOConfig,
    settings: Settings,
    folder: Fact,
    changes: ResumeChanges | None = None,
    *,
    as_json: bool,
) -> None:
    """Print all facts, then the settings that are not at their default; or one JSON object.

    Args:
        config: the configuration.
        settings: its checked form.
        folder: where the run would be.
        changes: what a resume changes.
        as_json: one object with the whole configuration instead.

    Raises:
        OrchError: something would stop the run.
    """
    facts = [look(settings) for name, look in LOOKS.items() if name != "run folder"]
    if as_json:
        record: dict[str, Any] = {"config": config.to_dict()}
        if changes is not None:
            record["resume"] = asdict(changes)
        for fact in facts:
            record |= fact.record
        emit(record, as_json=True)
        return
    for fact in [folder, *facts]:
        hint = f" ({fact.check.remedy})" if fact.check.remedy else ""
        click.echo(f"# {fact.check.name}: {fact.check.detail}{hint}")
    for line in changes.lines() if changes is not None else ():
        click.echo(f"# {line}")
    click.echo("# settings that are not at their default (--json shows all):")
    click.echo(dump_yaml(_not_default(config.to_dict())), nl=False)


def configuration_checks(config: str, overrides: Sequence[str], *, usable: bool) -> list[Check]:
    """Judge a configuration on this machine.

    Args:
        config: a YAML file.
        overrides: ``group.key=value`` texts laid over it.
        usable: whether what it requires is installed; what needs that is left out otherwise.
    """
    remedy = "correct the configuration, or the files that it names"
    try:
        built = read_config(config, overrides, None)
        try:
            settings = built.settings
        except OrchError:
            built.validate()  # tells of missing files as well
            raise
    except OrchError as problem:
        detail = "; ".join([problem.message, *problem.items])
        return [Check("configuration", False, True, detail, remedy)]
    wrong = list(file_problems(settings))
    missing = [problem for problem in wrong if problem.missing]
    if wrong:
        detail = configuration_error([], wrong).message
        checks = [Check("configuration", False, True, detail, remedy)]
        for setting, text, _ in missing if len(missing) > 1 else []:
            detail = text.removeprefix(f"{setting}: ")
            checks.append(Check(setting, False, True, detail, "bring it, or name another"))
    else:
        detail = f"{config}: every key is known and fits"
        checks = [Check("configuration", True, True, detail)]
    without = {problem.setting.partition(".")[0] for problem in wrong}
    return checks + [
        run_check(name, True, lambda look=look: look(settings).check, remedy=remedy)
        for name, look in LOOKS.items()
        if (usable or name not in _NEED_PACKAGES) and not without & _NEED_FILES.get(name, set())
    ]


def required_packages(config: str, overrides: Sequence[str]) -> list[str]:
    """Packages that this run cannot do without; those of any run if the file is not sound."""
    needed = ["torch", "transformers"]
    try:
        settings = read_config(config, overrides, None).settings
    except OrchError:
        return needed
    wanted = {
        "ray": settings.env_runners.num_env_runners > 0 or settings.learners.num_learners > 0,
        "peft": settings.model.lora_rank > 0,
        "vllm": settings.rollouts.engine == "vllm",
        "tensorboard": settings.reporting.tensorboard,
    }
    return needed + [name for name, needed_here in wanted.items() if needed_here]


def run_folder(settings: Settings, run: Path | None = None) -> Fact:
    """Where `orch train` writes: a new folder, or the one of a run that goes on.

    Args:
        settings: the whole configuration.
        run: the folder of a run that is to be resumed.

    Raises:
        OrchError: it is used already, or by a process at the moment, or cannot be written.
    """
    reporting = settings.reporting
    if run is not None:
        refuse_owned(run)
        return _writable(run, f"goes on in {run}")
    parent = Path(reporting.log_dir)
    if reporting.run_name is None:
        return _writable(parent, f"a new one in {parent}")
    folder = parent / reporting.run_name
    refuse_used(folder)
    return _writable(folder, f"{folder}, which is new")


def sft_folder(settings: Settings, name: str) -> Fact:
    """Where `orch sft` writes.

    Args:
        settings: the whole configuration.
        name: of the folder, unless ``sft.out`` names one.

    Raises:
        OrchError: it is used already, or by a process at the moment, or cannot be written.
    """
    if settings.sft.out is None:
        return _writable(
            Path(settings.reporting.log_dir), f"{name} in {settings.reporting.log_dir}"
        )
    folder = Path(settings.sft.out)
    refuse_used(folder, "choose another sft.out")
    return _writable(folder, f"{folder}, which is new")


def _writable(folder: Path, detail: str) -> Fact:
    refuse_unwritable(folder)
    return Fact(Check("run folder", True, True, detail))


def data(settings: Settings) -> Fact:
    """How many tasks there are (their files are opened, one reset is played), and the batches.

    Raises:
        OrchError: the data is not usable.
    """
    tasks = check_data(settings)
    counts, batch = describe_data(settings, tasks), describe_batch(settings, len(tasks.training))
    both = counts["held_out_also_trained_on"]
    detail = (
        f"{counts['training_tasks']} training tasks, {counts['held_out_tasks']} held out"
        f"{f' ({both} of them also trained on)' if both else ''}; an evaluation is "
        f"{counts['episodes_per_evaluation']} episodes; {batch['words']}"
    )
    return Fact(Check("data", True, True, detail), {"data": counts, "batch": batch})


def describe_data(settings: Settings, tasks: TaskIds) -> dict[str, Any]:
    """Numbers of tasks, and of episodes in one evaluation."""
    held_out = tasks.held_out or ()
    evaluation = settings.evaluation
    passes = sum(evaluation.samples_per_task if t > 0 else 1 for t in evaluation.temperatures)
    return {
        "training_tasks": len(tasks.training),
        "held_out_tasks": len(held_out),
        "held_out_also_trained_on": len(set(held_out) & set(tasks.training)),
        "episodes_per_evaluation": passes * len(held_out),
    }


def describe_batch(settings: Settings, tasks: int) -> dict[str, Any]:
    """What the three batch numbers come to, in episodes."""
    training = settings.training
    episodes = training.groups_per_batch * training.group_size
    updates = training.updates_per_batch
    total = episodes * training.iterations
    epochs = training.iterations * training.groups_per_batch / max(1, tasks)
    learned = f"{updates} optimizer steps on all of them" if updates > 1 else "one optimizer step"
    words = (
        f"a training step samples {training.groups_per_batch} tasks x {training.group_size} "
        f"episodes = {episodes} episodes and takes {learned}; {training.iterations} steps are "
        f"{total} episodes, {epochs:.3g} passes over {tasks} tasks"
    )
    return {
        "episodes_per_step": episodes,
        "optimizer_steps_per_step": updates,
        "episodes_in_all": total,
        "passes_over_the_tasks": epochs,
        "words": words,
    }


def model(settings: Settings) -> Fact:
    """The model's size, and what memory it is going to take.

    Raises:
        OrchError: the model's files cannot be read.
    """
    from orch_train.models.memory import estimate_memory, read_shape

    folder = model_folder(settings.model.path)
    if folder is None:
        detail = f"{settings.model.path!r} would be downloaded: its files and size are not here"
        remedy = "download it first and name the folder"
        return Fact(Check("model", False, False, detail, remedy), {"memory": None})
    estimate = estimate_memory(settings, str(folder))
    detail = f"{read_shape(folder).parameters / 1e6:.1f} M parameters; {estimate.describe()}"
    on_gpu = settings.learners.num_gpus_per_learner or settings.env_runners.num_gpus_per_env_runner
    here = machine_memory()
    remedy = ""
    if not on_gpu and here is not None and estimate.total > here:
        detail += f"; this machine has {gib(here)}"
        remedy = "lower learners.max_tokens_per_microbatch or num_envs_per_env_runner"
    check = Check("model", not remedy, not remedy, detail, remedy)
    return Fact(check, {"memory": estimate.to_dict()})


def chat_template(settings: Settings) -> Fact:
    """Render the first prompts as the rollouts will, and play one episode by a script.

    Building the renderer checks the template and the vocabulary.

    Raises:
        OrchError: the template does not only append, no prompt leaves room for an answer, or the
            environment or its reward fails.
    """
    from orch_train.chat.renderer import make_chat
    from orch_train.models.files import load_tokenizer
    from orch_train.rollouts.environments import prompt_lengths
    from orch_train.rollouts.rehearsal import rehearse

    chat = make_chat(settings)
    lengths = prompt_lengths(settings, chat)
    played = rehearse(settings, chat)
    stops = list(chat.stop_token_ids)
    names = load_tokenizer(settings.model.path).convert_ids_to_tokens(stops)
    role = "its own tool role" if chat.native_tool_role else "tool results as user messages"
    if chat.keeps_empty_thoughts:
        role += "; empty thoughts stay before earlier answers, where the template drops them"
    record = {
        # It would have been refused otherwise.
        "prefix_preserving": True,
        "call_format": chat.call_format,
        "tools_in_system": chat.tools_in_system,
        "native_tool_role": chat.native_tool_role,
        "stop_token_ids": stops,
        "stop_tokens": names,
        "prompts": len(lengths),
        "longest_prompt": max(lengths),
        "mean_prompt": round(sum(lengths) / len(lengths)),
    }
    detail = (
        f"only appends; calls as {chat.call_format}; {role}; ends messages with "
        f"{', '.join(names)}; {len(lengths)} opening prompts of {record['mean_prompt']} tokens "
        f"on average, {max(lengths)} at most; an episode of {played.messages} scripted messages "
        f"earns {played.reward:g}"
    )
    return Fact(Check("chat template", True, True, detail), {"template": record})


def learning_rate(settings: Settings) -> Fact:
    """The learning rate, beside the published one of a model that has one."""
    training, note = settings.training, rate_note(settings)
    detail = f"{training.lr:g}, {training.lr_schedule}{f'; {note}' if note else ''}"
    remedy = "start with the published one, and compare on held-out tasks" if note else ""
    return Fact(Check("learning rate", note is None, False, detail, remedy))


def saving(settings: Settings) -> Fact:
    """Write what lies beside the model's weights as a checkpoint will, and read it back.

    Raises:
        OrchError: the model could not be saved so that it loads again.
    """
    from orch_train.models.small_files import check_small_files

    if model_folder(settings.model.path) is None:
        return Fact(Check("saving", True, False, "is tried when the model is downloaded"))
    names = ", ".join(check_small_files(settings.model.path))
    return Fact(Check("saving", True, True, f"checkpoints take over {names}"))


def placement(settings: Settings, machine: Resources | None = None) -> Fact:
    """Where runners and learners go, and whether this machine has that much.

    Args:
        settings: the whole configuration.
        machine: what this machine has, by default what is found; of a cluster nothing is known
            before it is joined.
    """
    machine = machine or this_machine()
    demand = Demand.of(settings)
    record: dict[str, Any] = {"layout": None, "bundles": [], "fits_here": None}
    local, fits = settings.env_runners.ray_address == "local", "no Ray"
    if not local:
        fits = f"checked on the cluster at {settings.env_runners.ray_address}"
    elif demand.runners or demand.learners:
        try:
            layout = plan(demand, settings.env_runners.placement, [machine])
        except OrchError as problem:
            fits, record["fits_here"] = f"not here: {problem}", False
        else:
            bundles = [bundle.to_ray() for bundle in layout.bundles]
            record |= {"layout": layout.layout, "bundles": bundles, "fits_here": True}
            fits = layout.describe()
    remedy = ""
    lacks_gpus = local and settings.learners.num_gpus_per_learner > machine.gpus
    if lacks_gpus or record["fits_here"] is False:
        remedy = (
            "use another machine, or lower env_runners.num_env_runners, learners.num_learners or "
            "what each of them takes"
        )
    detail = record["words"] = (
        f"{_sampling(settings, demand)}; {_learning(settings, demand)}; {fits}"
    )
    if remedy:
        detail = f"this machine: {machine}; {detail}"
    return Fact(Check("placement", not remedy, True, detail, remedy), {"placement": record})


def this_machine() -> Resources:
    """Cores and CUDA devices of this machine."""
    gpus = 0
    if may_have_gpus():
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Resources(float(os.cpu_count() or 1), float(gpus))


def room_for_checkpoints(settings: Settings) -> Fact:
    """Room for the checkpoints that are kept, and one more while it is written."""
    kept = (settings.reporting.keep_checkpoints or 10) + 1
    needed = kept * _CHECKPOINT_BYTES * _parameters(settings)
    return Fact(disk(Path(settings.reporting.log_dir), needed, "room for checkpoints"))


def room_for_weights(settings: Settings) -> Fact:
    """Two versions of the weights lie in shared memory while runners change over."""
    each = 4 if settings.model.dtype == "float32" else 2
    runners = settings.env_runners.num_env_runners
    needed = 2 * each * _parameters(settings) if runners else 0
    return Fact(shared_memory(needed, "room for weights"))


def _not_default(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    default = Settings().model_dump(mode="json")
    found = {
        group: {key: value for key, value in keys.items() if value != default[group][key]}
        for group, keys in values.items()
    }
    return {group: keys for group, keys in found.items() if keys}


LOOKS: dict[str, Callable[[Settings], Fact]] = {
    "run folder": run_folder,
    "data": data,
    "model": model,
    "room for checkpoints": room_for_checkpoints,
    "room for weights": room_for_weights,
    "chat template": chat_template,
    "learning rate": learning_rate,
    "saving": saving,
    "placement": placement,
}
_NEED_PACKAGES = ("chat template", "saving", "placement")
_NEED_FILES = {
    "data": {"environment", "evaluation"},
    "model": {"model"},
    "room for checkpoints": {"model"},
    "room for weights": {"model"},
    "chat template": {"environment", "evaluation", "model"},
    "saving": {"model"},
}
"""Looks -> the groups of settings whose files they cannot do without."""


def _sampling(settings: Settings, demand: Demand) -> str:
    runners = settings.env_runners
    envs = runners.num_envs_per_env_runner
    if demand.runners:
        return f"{_count(demand.runners, 'env runner')} of {demand.runner}, {envs} episodes each"
    text = f"sampling in this process, {envs} episodes at a time"
    if runners.env_step_timeout_s is None:
        text += (
            " (a tool that never returns would stop the run: there is no runner to replace; "
            "set env_runners.env_step_timeout_s)"
        )
    return text


def _learning(settings: Settings, demand: Demand) -> str:
    if demand.learners:
        sharded = ", the model is sharded over them" * (demand.learners > 1)
        return f"{_count(demand.learners, 'learner')} of {demand.learner}{sharded}"
    gpu = settings.learners.num_gpus_per_learner
    where = "its GPU, which Ray does not count" if gpu else "CPU"
    return f"one learner in the driver process on {where}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _parameters(settings: Settings) -> int:
    from orch_train.models.memory import read_shape

    folder = model_folder(settings.model.path)
    return 0 if folder is None else read_shape(folder).parameters
