"""What a batch reports while it is learned from: sums per micro-batch, metrics, warnings.

Micro-batches report sums and never means: a metric, like the gradient, does not depend on how a
batch was cut or on how many devices it was spread over. Sums stay on the device until the step is
done, because reading one would wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orch_train.learner.objective.losses import (
    ClipRange,
    LossInputs,
    PolicyLoss,
    clamped_difference,
)
from orch_train.learner.optimizer import StepReport

Sums = dict[str, Tensor]
"""Statistics of a part of the batch, float64 scalars: maxima end in ``_max``, the rest adds up."""


@torch.no_grad()
def loss_sums(inputs: LossInputs, loss: PolicyLoss, clip: ClipRange) -> Sums:
    """Statistics of one micro-batch.

    ``mismatch_kl`` sums the k3 estimate of KL(behaviour || current), ``ratio - 1 - log ratio``
    (Schulman 2020, "Approximating KL divergence"): never negative, unbiased under the behaviour
    policy. ``ratio`` is current over *recorded* probability whatever the loss is anchored to.
    ``clipped`` counts the tokens that the loss's trust region holds back.
    """
    log_ratio_N = clamped_difference(inputs.logprobs_N, inputs.behaviour_logprobs_N).double()
    ratio_N = log_ratio_N.exp()
    return {
        "tokens": torch.ones_like(ratio_N).sum(),
        "mismatch_kl": (ratio_N - 1.0 - log_ratio_N).sum(),
        "clipped": loss.clipped(inputs, clip).sum().double(),
        "ratio": ratio_N.sum(),
        "ratio_squared": ratio_N.square().sum(),
        "ratio_max": ratio_N.max() if ratio_N.numel() else ratio_N.sum(),
    }


def merge_sums(totals: Sums, more: Sums) -> None:
    """Add the statistics of another part of the batch to ``totals``, in place."""
    for key, value in more.items():
        if key not in totals:
            totals[key] = value
        elif key.endswith("_max"):
            totals[key] = torch.maximum(totals[key], value)
        else:
            totals[key] = totals[key] + value


def step_metrics(steps: Sequence[tuple[Mapping[str, float], StepReport]]) -> dict[str, float]:
    """Metrics of one batch.

    Args:
        steps: sums over the whole batch and what the optimizer said, for each optimizer step.
    """
    if not steps:
        names = ("policy_loss", "entropy", "mismatch_kl", "clip_frac", "grad_norm", "ratio_max")
        return {**dict.fromkeys(names, 0.0), "ratio_ess": 1.0, "num_optimizer_steps": 0}
    first = steps[0][0]
    tokens = max(first["tokens"], 1.0)
    norms = [report.grad_norm for _, report in steps if math.isfinite(report.grad_norm)]
    metrics = {
        "policy_loss": first["policy_loss"],
        "entropy": first["entropy"] / tokens,
        "mismatch_kl": first["mismatch_kl"] / tokens,
        "ratio_ess": first["ratio"] ** 2 / (tokens * max(first["ratio_squared"], 1e-300)),
        "clip_frac": sum(s["clipped"] for s, _ in steps) / (tokens * len(steps)),
        "ratio_max": max(s["ratio_max"] for s, _ in steps),
        "grad_norm": sum(norms) / len(norms) if norms else math.nan,
        "num_optimizer_steps": sum(report.applied for _, report in steps),
    }
    for sum_name, metric in _WHERE_SWITCHED_ON.items():
        if sum_name in first:
            metrics[metric] = first[sum_name] / tokens
    return metrics


_WHERE_SWITCHED_ON = {
    "reference_kl": "reference_kl",
    "correction_weight": "correction_weight_mean",
    "correction_truncated": "correction_truncated_frac",
    "correction_masked": "correction_masked_frac",
}

MISMATCH_KL = 0.05
"""KL(sampling || current policy) in nats per token that synchronous training never shows."""
LEAST_ESS = 0.5
"""Effective sample size, as a share of the tokens, below which a step is worth a warning."""


def alarms(learned: Mapping[str, float], *, synchronous: bool) -> list[str]:
    """Warnings for one step, at most one of them about the mismatch.

    The KL divergence is judged where sampling and learning should be the same policy: there even a
    little of it means a broken engine, temperature or weight sync. The effective sample size is
    judged always: a batch in which half of the weight is lost teaches half as much.

    Args:
        learned: metrics of ``Learner.update``.
        synchronous: whether every episode was sampled by the weights that learned from it.
    """
    if not learned["num_optimizer_steps"]:
        return ["nothing could be learned in this step: no group has a spread of rewards"]
    if synchronous and learned["mismatch_kl"] > MISMATCH_KL:
        return [
            f"engine and learner disagree about the policy: mismatch KL "
            f"{learned['mismatch_kl']:.3g} (above {MISMATCH_KL:g}); the recorded log-probabilities "
            "are not those of the weights that learn from them"
        ]
    if learned["ratio_ess"] < LEAST_ESS:
        return [
            f"the episodes were sampled far from the policy that learns from them: effective "
            f"sample size {learned['ratio_ess']:.2f} (below {LEAST_ESS:g}), largest ratio "
            f"{learned['ratio_max']:.3g}; lower training.max_staleness or training.lr, or set "
            "training.correction"
        ]
    return []
