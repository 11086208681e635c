"""Which way the weights take to the runners, and why not another."""

from __future__ import annotations

from typing import Literal

from orch_train.config.groups import Settings


def weight_sync(settings: Settings) -> Literal["host", "collective"]:
    """What ``env_runners.weight_sync`` comes to; ``auto`` is ``collective`` on GPUs only."""
    wanted = settings.env_runners.weight_sync
    if wanted != "auto":
        return wanted
    on_gpus = settings.env_runners.num_gpus_per_env_runner > 0
    placed = settings.env_runners.placement in ("auto", "separate")
    engine = settings.rollouts.engine in ("torch", "vllm")
    own = on_gpus and placed and engine and not obstacle(settings)
    return "collective" if own else "host"


def obstacle(settings: Settings) -> str:
    """Why the weights cannot go by ``collective``; empty if they can.

    Each process needs whole devices of its own: ranks that share a GPU cannot be in one NCCL group,
    and Ray does not keep runners off a GPU that a learner in the driver uses.
    """
    runners, learners = settings.env_runners, settings.learners
    gpus = runners.num_gpus_per_env_runner
    if runners.num_env_runners == 0:
        return "it needs runners in processes of their own: env_runners.num_env_runners is 0"
    if runners.placement == "colocated":
        return "runner and learner share a device under env_runners.placement=colocated"
    if gpus != int(gpus):
        return (
            "each runner needs whole GPUs of its own: env_runners.num_gpus_per_env_runner is "
            f"{gpus:g}"
        )
    if bool(gpus) != bool(learners.num_gpus_per_learner):
        return "learners and runners must both be on GPUs, or both on CPUs"
    if gpus and not learners.num_learners:
        return (
            "Ray reserves no GPU for a learner in the driver process: set learners.num_learners to "
            "1 or more"
        )
    return ""


def shares_weights(settings: Settings) -> bool:
    """Whether runner and learner are one process and take turns, so that one copy serves both.

    With adapters the engine needs merged weights, which the learner does not have.
    """
    alone = settings.env_runners.num_env_runners == 0 and settings.learners.num_learners == 0
    return alone and settings.training.max_staleness == 0 and settings.model.lora_rank == 0
