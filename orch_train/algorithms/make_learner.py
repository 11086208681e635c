"""Build the learner that a configuration asks for: in this process, or a group of Ray actors.

The hard decision: the reference of a KL penalty is the model that the *run* started from, also
when a checkpoint is resumed, which brings a trained model of its own. With LoRA nothing of this
matters: the base is part of every checkpoint.
"""

from __future__ import annotations

from typing import TypeAlias

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.group.learner_group import GroupShape, LearnerGroup
from orch_train.learner.learner import Learner
from orch_train.learner.reference import FrozenReference
from orch_train.models.load import load_model

AnyLearner: TypeAlias = Learner | LearnerGroup


def make_learner(settings: Settings, first_model: str) -> AnyLearner:
    """Load the model and start what trains it.

    Args:
        settings: the whole configuration; ``model.path`` is what training goes on from.
        first_model: what the run started from.

    Raises:
        OrchError: the model does not suit, or the machines have no room for the learners.
    """
    reference = settings.model.reference
    if reference is None and settings.training.kl_coeff > 0 and not settings.model.lora_rank:
        reference = first_model
    if settings.learners.num_learners > 1:
        return _group(settings, reference)
    frozen = None
    if reference is not None:
        folder, dtype, device = reference, settings.model.dtype, settings.learners.device
        frozen = FrozenReference(lambda: load_model(folder, dtype, device))
    return Learner(load_model(settings.model.path), settings, frozen)


def _group(settings: Settings, reference: str | None) -> LearnerGroup:
    from orch_train.runners.placement_group import Reservation
    from orch_train.runners.ray_start import start_ray

    handle = start_ray(settings.env_runners)
    try:
        _check_room(settings)
        places = Reservation.of(settings)
        size = settings.learners.num_learners
        limit = settings.learners.learner_timeout_s
        shape = GroupShape(size, [places.learner_options(r) for r in range(size)], limit, limit)
        return LearnerGroup(settings.model.path, settings, shape, reference, handle.close)
    except BaseException:
        handle.close()
        raise


def _check_room(settings: Settings) -> None:
    """Ray would wait for ever for a CPU that no machine has."""
    import ray

    learners, runners = settings.learners, settings.env_runners
    wanted = learners.num_learners * (learners.num_cpus_per_learner or 1)
    wanted_in_all = wanted + runners.num_env_runners * runners.num_cpus_per_env_runner
    there: float = ray.cluster_resources().get("CPU", 0.0)  # type: ignore[no-untyped-call]
    if wanted_in_all > there:
        raise OrchError(
            f"{learners.num_learners} learners and {runners.num_env_runners} env runners need "
            f"{wanted_in_all:g} CPU, Ray has {there:g}: lower learners.num_learners, "
            "env_runners.num_env_runners or the CPUs of each"
        )
