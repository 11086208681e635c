"""Build the learner that a configuration asks for: in this process, or as Ray actors."""

from __future__ import annotations

from typing import TypeAlias

from orch_train.config import Settings
from orch_train.learner.group.learner_group import GroupShape, LearnerGroup
from orch_train.learner.group.learner_rank import load_learner
from orch_train.learner.learner import Learner

AnyLearner: TypeAlias = Learner | LearnerGroup


def make_learner(settings: Settings, reference: str | None) -> AnyLearner:
    """Load the model and start what trains it.

    Args:
        settings: the whole configuration; ``model.path`` is what training goes on from.
        reference: the model of a KL penalty, see `kl_reference`.

    Raises:
        OrchError: the model does not suit, or the machines have no room for the learners.
    """
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
