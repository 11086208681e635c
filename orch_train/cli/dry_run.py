"""``--dry-run``: everything about a run that can be known without loading a model, then stop.

The hard decision: what would stop the run stops the dry run with the same error; what only this
machine lacks (its GPUs, a cluster that is not joined) is said and no error, so that a
configuration for a large machine can be checked on a small one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from orch_env.cli.installation import may_have_gpus
from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.rollouts.environments import TaskIds
from orch_train.runners.placement import Demand, Resources, plan


def dry_run(config: GRPOConfig, settings: Settings, tasks: TaskIds, *, as_json: bool) -> None:
    """Print the resolved configuration and what follows from it.

    On stdout stands one YAML document (the rest as comments), or one JSON object.

    Raises:
        OrchError: the model's files or its template are not usable.
    """
    template = check_template(settings)
    from orch_train.models.files import resolve_model
    from orch_train.models.memory import estimate_memory

    folder = resolve_model(settings.model.path)
    memory = estimate_memory(settings, folder) if Path(folder).is_dir() else None
    batch, data = describe_batch(settings, len(tasks.training)), describe_data(settings, tasks)
    placement = describe_placement(settings, this_machine())
    if as_json:
        record = {
            "config": config.to_dict(),
            "memory": memory.to_dict() if memory is not None else None,
            "template": template,
            "batch": batch,
            "data": data,
            "placement": placement,
        }
        click.echo(json.dumps(record, ensure_ascii=False, allow_nan=False))
        return
    click.echo(config.to_yaml(), nl=False)
    shown = memory.describe() if memory is not None else "unknown before the model is downloaded"
    for name, value in (
        ("batch", batch["words"]),
        ("data", ", ".join(f"{key} {value}" for key, value in data.items())),
        ("placement", placement["words"]),
        ("memory", shown),
        ("template", ", ".join(f"{key} {value}" for key, value in template.items())),
    ):
        click.echo(f"# {name}: {value}")


def check_template(settings: Settings) -> dict[str, Any]:
    """Render the first prompts as the rollouts will; building the renderer checks the template.

    Raises:
        OrchError: the template does not only append, or no prompt leaves room for an answer.
    """
    from orch_train.chat.renderer import make_chat
    from orch_train.models.files import load_tokenizer
    from orch_train.rollouts.environments import prompt_lengths

    chat = make_chat(settings)
    lengths = prompt_lengths(settings, chat)
    stops = list(chat.stop_token_ids)
    return {
        # It would have been refused otherwise.
        "prefix_preserving": True,
        "tools_in_system": chat.tools_in_system,
        "native_tool_role": chat.native_tool_role,
        "stop_token_ids": stops,
        "stop_tokens": load_tokenizer(settings.model.path).convert_ids_to_tokens(stops),
        "prompts": len(lengths),
        "longest_prompt": max(lengths),
        "mean_prompt": round(sum(lengths) / len(lengths)),
    }


def describe_batch(settings: Settings, tasks: int) -> dict[str, Any]:
    """The three batch numbers and what they come to, all in episodes."""
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


def describe_data(settings: Settings, tasks: TaskIds) -> dict[str, Any]:
    """How many tasks there are; `check_data` has opened them and played a reset."""
    held_out = tasks.held_out or ()
    evaluation = settings.evaluation
    passes = sum(evaluation.samples_per_task if t > 0 else 1 for t in evaluation.temperatures)
    return {
        "training_tasks": len(tasks.training),
        "held_out_tasks": len(held_out),
        "held_out_also_trained_on": len(set(held_out) & set(tasks.training)),
        "episodes_per_evaluation": passes * len(held_out),
    }


def describe_placement(settings: Settings, machine: Resources) -> dict[str, Any]:
    """Where runners and learners go, and whether this machine has that much.

    Args:
        settings: the whole configuration.
        machine: what this machine has; a cluster's machines are not known before it is joined.
    """
    runners, demand = settings.env_runners, Demand.of(settings)
    envs = runners.num_envs_per_env_runner
    if demand.runners:
        sampled = f"{_count(demand.runners, 'env runner')} of {demand.runner}, {envs} episodes each"
    else:
        sampled = f"sampling in this process, {envs} episodes at a time"
        if runners.env_step_timeout_s is None:
            sampled += (
                " (a tool that never returns would stop the run: there is no runner to replace; "
                "set env_runners.env_step_timeout_s)"
            )
    if demand.learners:
        learned = f"{_count(demand.learners, 'learner')} of {demand.learner}"
        learned += ", the model is sharded over them" * (demand.learners > 1)
    else:
        on = (
            "its GPU, which Ray does not count" if settings.learners.num_gpus_per_learner else "CPU"
        )
        learned = f"one learner in the driver process on {on}"
    shown: dict[str, Any] = {"layout": None, "bundles": [], "fits_here": None}
    if runners.ray_address != "local":
        fits = f"checked on the cluster at {runners.ray_address}"
    elif not demand.runners and not demand.learners:
        fits = "no Ray"
    else:
        try:
            layout = plan(demand, runners.placement, [machine])
        except OrchError as problem:
            fits, shown["fits_here"] = f"not here: {problem}", False
        else:
            shown |= {
                "layout": layout.layout,
                "bundles": [bundle.to_ray() for bundle in layout.bundles],
                "fits_here": True,
            }
            fits = layout.describe()
    return {**shown, "words": f"{sampled}; {learned}; {fits}"}


def this_machine() -> Resources:
    """Cores and CUDA devices of this machine; torch is loaded only where there may be some."""
    gpus = 0
    if may_have_gpus():
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Resources(float(os.cpu_count() or 1), float(gpus))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"
