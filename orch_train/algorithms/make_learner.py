"""Build the learner that a configuration asks for: in this process, or as Ray actors.

The reference of a KL penalty is the model that the *run* started from, also when a checkpoint is
resumed, which brings a trained model of its own. With LoRA the reference is the base, which is part
of every checkpoint.
"""

from __future__ import annotations

from typing import TypeAlias

from orch_train.config import Settings
from orch_train.learner.group.learner_group import GroupShape, LearnerGroup
from orch_train.learner.group.learner_rank import load_learner
from orch_train.learner.learner import Learner

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
    count, limit = settings.learners.num_learners, settings.learners.learner_timeout_s
    if not count:
        return load_learner(settings.model.path, settings, reference)
    # Ray is imported for learners in processes of their own, and for nothing else.
    from orch_train.runners.reservation import Reservation

    places = Reservation.of(settings)
    try:
        shape = GroupShape([places.learner_options(rank) for rank in range(count)], limit, limit)
        return LearnerGroup(settings.model.path, settings, shape, reference, places.close)
    except BaseException:
        places.close()
        raise
