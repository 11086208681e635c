"""Which samples of a batch are learned from, and the counts that the loss is divided by.

Samples whose advantage is exactly 0 are counted but not run. Their gradient is 0 whatever the model
says, and late in training most groups are uniform; the price is that entropy and mismatch are
measured on the samples that are learned from.

With ``mask_truncated``, episodes that a token limit cut off are not run either (overlong filtering,
DAPO, arXiv 2503.14476, section 3.4): their reward says little about what they would have become.
They keep their place in the group's comparison and in the number of trajectories; their tokens are
in no sum and in no denominator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orch_env.types import OrchError
from orch_train.config import TrainingSettings
from orch_train.learner.objective.advantages import token_advantages
from orch_train.learner.objective.losses import BatchCounts
from orch_train.trajectory.sample import Group, TrainingSample


def with_advantages(groups: Sequence[Group], settings: TrainingSettings) -> list[TrainingSample]:
    """The samples that count, each with its advantages.

    Left out are samples without a sampled token, and whole groups without a signal unless
    ``zero_variance`` is ``keep``.

    Raises:
        OrchError: no groups, a group of fewer than 2, or a reward that is not finite.
    """
    if not groups:
        raise OrchError("an update needs at least one group")
    samples: list[TrainingSample] = []
    for group in groups:
        advantages = token_advantages(
            group, settings.advantage, settings.advantage_eps, settings.credit
        )
        if settings.zero_variance == "keep" or any(map(np.any, advantages)):
            pairs = zip(group.samples, advantages, strict=True)
            samples += [sample.weighted(own_N) for sample, own_N in pairs if len(own_N)]
    return samples


def is_masked(sample: TrainingSample, settings: TrainingSettings) -> bool:
    """Whether ``mask_truncated`` keeps it from being learned from."""
    reason = sample.stop_reason
    return settings.mask_truncated and reason is not None and reason.cut_off


def samples_to_learn(
    samples: Sequence[TrainingSample], settings: TrainingSettings
) -> list[TrainingSample]:
    """Those that have a gradient; with a penalty one of advantage 0 has one too."""
    penalised = settings.entropy_coeff > 0 or settings.kl_coeff > 0
    return [
        sample
        for sample in samples
        if not is_masked(sample, settings) and (penalised or sample.advantages_N.any())
    ]


def batch_counts(samples: Sequence[TrainingSample], settings: TrainingSettings) -> BatchCounts:
    """What the loss is divided by.

    Args:
        samples: see `with_advantages`.
        settings: says which of them are masked.
    """
    tokens = sum(s.num_actions for s in samples if not is_masked(s, settings))
    return BatchCounts(tokens, len(samples), settings.length_constant)


def batch_metrics(
    groups: Sequence[Group],
    samples: Sequence[TrainingSample],
    learned: Sequence[TrainingSample],
    settings: TrainingSettings,
) -> dict[str, float]:
    """About the batch itself, before any forward pass.

    Args:
        groups: the batch.
        samples: see `with_advantages`.
        learned: see `samples_to_learn`.
        settings: says which of them are masked.
    """
    uniform = [group for group in groups if group.is_uniform]
    unmasked = [sample for sample in samples if not is_masked(sample, settings)]
    magnitude = [float(np.abs(sample.advantages_N).mean()) for sample in unmasked]
    return {
        "num_groups": len(groups),
        "num_trajectories": sum(len(group.samples) for group in groups),
        "num_trajectories_learnt": len(learned),
        "num_trajectories_masked": len(samples) - len(unmasked),
        "num_action_tokens": sum(sample.num_actions for sample in unmasked),
        "num_tokens_learnt": sum(sample.num_trained for sample in learned),
        "zero_variance_groups": len(uniform),
        "zero_variance_all_pass": sum(all(s.success for s in g.samples) for g in uniform),
        "zero_variance_all_fail": sum(not any(s.success for s in g.samples) for g in uniform),
        "advantage_abs_mean": sum(magnitude) / len(magnitude) if magnitude else 0.0,
    }
