"""Importance weights for data that the current policy did not sample.

Between the engine that sampled a token (behaviour policy ``mu``) and the learner stand stale
weights, updates in mid-sequence, and different kernels. Without a correction the loss's ratio is
to ``mu`` and its clip bounds what that mismatch can do. With one the two roles of the ratio are
separated (Hilton et al. 2022, arXiv 2110.00641, section 3; for language models AReaL, arXiv
2505.24298, equation 5): the clipped ratio is to the *proximal* policy ``prox``, the learner's own
before the batch's first update, and the token's loss is multiplied by a constant

    token_tis      w_t = min(prox_t / mu_t, cap)
    sequence_tis   w_t = min(product over the sequence of prox / mu, cap), the same for all t

Truncated importance sampling (Ionides 2008): biased where it truncates, with bounded variance.
The sequence form is unbiased below the cap, and its product leaves any cap soon for long ones.
The mask drops a sequence whose geometric mean of ``prox / mu`` is outside a band: such data comes
from too far away (or from a broken engine) to be weighted.

The hard decision: a masked sequence still counts in the loss's denominator. The weights are part
of a batch's data, and counts stay known before the first forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orch_env.types import OrchError
from orch_train.config import TrainingSettings
from orch_train.learner.objective.loss_inputs import (
    MAX_LOG_RATIO,
    LossInputs,
    clamped_difference,
    sequence_mean,
    sequence_sum,
)


@dataclass(frozen=True)
class CorrectionWeights:
    """What a correction says about N tokens; no gradient.

    Attributes:
        weights_N: multiplies each token's loss; 0 where masked out, in ``[0, cap]``.
        truncated_N: True where the cap acted.
        dropped_N: True where the sequence mask dropped a trained token.
    """

    weights_N: Tensor
    truncated_N: Tensor
    dropped_N: Tensor


@torch.no_grad()
def correction_weights(inputs: LossInputs, settings: TrainingSettings) -> CorrectionWeights:
    """Weights of one micro-batch.

    Args:
        inputs: with ``proximal_logprobs_N``.
        settings: its ``correction`` (not ``none``), ``correction_cap`` and ``correction_mask``.

    Raises:
        OrchError: the correction is ``none``, or there is no proximal policy.
    """
    if settings.correction == "none" or inputs.proximal_logprobs_N is None:
        raise OrchError("importance weights need a correction and the proximal log-probabilities")
    log_weights_N = clamped_difference(
        inputs.proximal_logprobs_N, inputs.behaviour_logprobs_N, inputs.mask_N
    )
    dropped_N = torch.zeros_like(inputs.mask_N)
    if settings.correction_mask is not None:
        low, high = settings.correction_mask
        centre_N = sequence_mean(log_weights_N, inputs).exp()
        dropped_N = inputs.mask_N & ((centre_N < low) | (centre_N > high))
    if settings.correction == "sequence_tis":
        log_weights_N = sequence_sum(log_weights_N, inputs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio_N = log_weights_N.exp()
    trained_N = inputs.mask_N & ~dropped_N
    return CorrectionWeights(
        weights_N=torch.where(trained_N, ratio_N.clamp(max=settings.correction_cap), 0.0),
        truncated_N=(ratio_N > settings.correction_cap) & trained_N,
        dropped_N=dropped_N,
    )
