"""What a batch tells about itself while it is learnt from: sums per micro-batch, then metrics.

The hard decision: micro-batches report sums and never means, so that a metric, like the gradient,
does not depend on how a batch was cut or on how many devices it was spread over. Sums stay on the
device until the step is done: reading one would wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orch_train.learner.objective.corrections import CorrectionWeights
from orch_train.learner.objective.loss import PolicyLoss
from orch_train.learner.objective.loss_inputs import ClipRange, LossInputs, clamped_difference
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
    mask_N = inputs.mask_N
    log_ratio_N = clamped_difference(
        inputs.logprobs_N, inputs.behaviour_logprobs_N, mask_N
    ).double()
    ratio_N = torch.where(mask_N, log_ratio_N.exp(), 0.0)
    return {
        "tokens": mask_N.sum().double(),
        "mismatch_kl": torch.where(mask_N, ratio_N - 1.0 - log_ratio_N, 0.0).sum(),
        "clipped": loss.clipped(inputs, clip).sum().double(),
        "ratio": ratio_N.sum(),
        "ratio_squared": ratio_N.square().sum(),
        "ratio_max": ratio_N.max() if ratio_N.numel() else ratio_N.sum(),
    }


@torch.no_grad()
def correction_sums(weights: CorrectionWeights) -> Sums:
    """Statistics of a correction's weights in one micro-batch."""
    return {
        "correction_weight": weights.weights_N.double().sum(),
        "correction_truncated": weights.truncated_N.sum().double(),
        "correction_masked": weights.dropped_N.sum().double(),
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
