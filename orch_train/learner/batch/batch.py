"""From groups of trajectories to weighted sequences, and the counts that the loss is divided by.

The hard decision: trajectories whose advantage is exactly 0 are counted but not run. Their
gradient is 0 whatever the model says, and late in training most groups are uniform; the price is
that entropy and mismatch are measured on the trajectories that are learnt from.

With ``mask_truncated``, episodes that a token limit cut off are not run either (overlong filtering,
DAPO, arXiv 2503.14476, section 3.4): their reward says little about what they would have become.
They keep their place in the group's comparison and in the number of trajectories; their tokens are
in no sum and in no denominator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orch_env.types import OrchError, StopReason
from orch_train.config import TrainingSettings
from orch_train.learner.batch.packing import TrainingSequence
from orch_train.learner.objective.advantages import is_uniform
from orch_train.learner.objective.credit import token_advantages
from orch_train.learner.objective.loss import BatchCounts
from orch_train.trajectory.trajectory import Group, Trajectory

CUT_OFF = frozenset({StopReason.CONTEXT_OVERFLOW, StopReason.OUTPUT_TRUNCATED})
"""Ends that say nothing of the task: the tokens were up."""


@dataclass(frozen=True)
class LearnerBatch:
    """What one call of ``Learner.update`` works on.

    Attributes:
        sequences: trajectories with a non-zero advantage and at least one action, not masked.
        counts: what the loss is divided by.
        metrics: about the batch itself, before any forward pass.
    """

    sequences: list[TrainingSequence]
    counts: BatchCounts
    metrics: dict[str, float]


def make_batch(groups: Sequence[Group], settings: TrainingSettings) -> LearnerBatch:
    """Compute advantages and gather what is to be learnt from.

    Raises:
        OrchError: no groups, a group of fewer than 2, or a broken trajectory (named).
    """
    if not groups:
        raise OrchError("an update needs at least one group")
    sequences: list[TrainingSequence] = []
    magnitude: list[float] = []
    # With a penalty a trajectory of advantage 0 has a gradient too.
    penalised = settings.entropy_coeff > 0 or settings.kl_coeff > 0
    tokens = trajectories = masked = uniform = all_pass = all_fail = 0
    for group in groups:
        advantages = token_advantages(
            group, settings.advantage, settings.advantage_eps, settings.credit
        )
        if is_uniform(group.rewards):
            uniform += 1
            all_pass += all(t.success for t in group.trajectories)
            all_fail += not any(t.success for t in group.trajectories)
        if settings.zero_variance != "keep" and not any(map(np.any, advantages)):
            continue
        for trajectory, advantages_N in zip(group.trajectories, advantages, strict=True):
            if not len(advantages_N):
                continue
            _check_streams(group, trajectory)
            trajectories += 1
            if settings.mask_truncated and trajectory.episode.stop_reason in CUT_OFF:
                masked += 1
                continue
            magnitude.append(float(np.abs(advantages_N).mean()))
            tokens += len(advantages_N)
            if advantages_N.any() or penalised:
                sequences.append(TrainingSequence.from_trace(trajectory.trace, advantages_N))
    return LearnerBatch(
        sequences=sequences,
        counts=BatchCounts(tokens, trajectories, settings.length_constant),
        metrics={
            "num_groups": len(groups),
            "num_trajectories": sum(len(g.trajectories) for g in groups),
            "num_trajectories_learnt": len(sequences),
            "num_trajectories_masked": masked,
            "num_action_tokens": tokens,
            "num_tokens_learnt": sum(len(s) for s in sequences),
            "zero_variance_groups": uniform,
            "zero_variance_all_pass": all_pass,
            "zero_variance_all_fail": all_fail,
            "advantage_abs_mean": sum(magnitude) / len(magnitude) if magnitude else 0.0,
        },
    )


def _check_streams(group: Group, trajectory: Trajectory) -> None:
    try:
        trajectory.trace.check()
    except ValueError as problem:
        raise OrchError(f"group {group.id!r}, member {trajectory.member}: {problem}") from problem
