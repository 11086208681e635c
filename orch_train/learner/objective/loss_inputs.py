"""What a policy loss reads: a flat stream of action tokens, and ratios of probabilities in it.

The hard decision: masked tokens are replaced before any arithmetic and not multiplied by zero
afterwards (0 * NaN is NaN), and log-ratios are clamped before ``exp``, so that no token can make
a sum over other tokens infinite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before ``exp``: e^20 is far outside any clip range and finite."""


@dataclass(frozen=True)
class LossInputs:
    """N action tokens of whole sequences, in stream order.

    Attributes:
        logprobs_N: under the current policy, with gradient; float32.
        behaviour_logprobs_N: recorded when the token was sampled; no gradient, finite.
        advantages_N: advantage of each token; no gradient.
        mask_N: True where the token is trained; the rest must not reach any reduction.
        sequence_N: index of the token's sequence within this micro-batch, below N (sequences are
            never cut between micro-batches), for losses at sequence level.
        proximal_logprobs_N: under the policy that the trust region is around, where that is not
            the behaviour policy (see :mod:`orch_train.learner.objective.corrections`); no gradient.
    """

    logprobs_N: Tensor
    behaviour_logprobs_N: Tensor
    advantages_N: Tensor
    mask_N: Tensor
    sequence_N: Tensor
    proximal_logprobs_N: Tensor | None = None


@dataclass(frozen=True)
class ClipRange:
    """The trust region of the ratio: ``[1 - low, 1 + high]``."""

    low: float = 0.2
    high: float = 0.2


def log_ratio(inputs: LossInputs) -> Tensor:
    """Clamped ``log(pi / anchor)`` per token, 0 where masked (so that NaN cannot leak through).

    The anchor is the proximal policy where there is one, else the behaviour policy.
    """
    anchor_N = inputs.proximal_logprobs_N
    if anchor_N is None:
        anchor_N = inputs.behaviour_logprobs_N
    return clamped_difference(inputs.logprobs_N, anchor_N, inputs.mask_N)


def clamped_difference(above_N: Tensor, below_N: Tensor, mask_N: Tensor) -> Tensor:
    """``above - below`` within ``MAX_LOG_RATIO``, 0 where masked."""
    return torch.where(mask_N, above_N - below_N, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_sum(values_N: Tensor, inputs: LossInputs) -> Tensor:
    """For each token the sum over its own sequence, shape (N,).

    Args:
        values_N: already 0 where masked.
        inputs: says which token belongs to which sequence.
    """
    # There are at most as many sequences as tokens; counting them would wait for the device.
    totals_N = torch.zeros_like(values_N).index_add(0, inputs.sequence_N, values_N)
    return totals_N[inputs.sequence_N]


def sequence_mean(values_N: Tensor, inputs: LossInputs) -> Tensor:
    """For each token the mean over the trained tokens of its own sequence, shape (N,)."""
    return sequence_sum(values_N, inputs) / sequence_lengths(inputs, values_N.dtype)


def sequence_lengths(inputs: LossInputs, dtype: torch.dtype = torch.float32) -> Tensor:
    """For each token the number of trained tokens of its own sequence, at least 1, shape (N,)."""
    return sequence_sum(inputs.mask_N.to(dtype), inputs).clamp(min=1.0)
