"""Per-token surrogates of the policy-gradient losses, and which tokens each of them clips.

Every function maps :class:`LossInputs` to N numbers, 0 where masked; what they are summed with
and divided by is said in `objective.loss`. Notation: ``r`` is the ratio of the
current policy to its anchor at a token, ``A`` the token's advantage.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orch_train.learner.objective.loss_inputs import ClipRange, LossInputs, log_ratio, sequence_mean


def clipped_surrogate(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """``-min(r A, clip(r, 1 - low, 1 + high) A)`` per token.

    PPO's objective (Schulman et al. 2017, arXiv 1707.06347, equation 7), as GRPO uses it
    (arXiv 2402.03300, equation 3), with separate bounds (DAPO's clip-higher, arXiv 2503.14476,
    equation 10).
    """
    return _clipped(log_ratio(inputs).exp(), inputs, clip)


def sequence_surrogate(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """GSPO: ``-min(s A, clip(s, 1 - low, 1 + high) A)`` with one ratio for a whole sequence.

    ``s = exp(mean over the sequence of log r)``, the geometric mean (Zheng et al. 2025, arXiv
    2507.18071, equations 5 and 7). Its spread is far smaller than a token's ratio: the paper
    clips at 3e-4 below and 4e-4 above.
    """
    return _clipped(sequence_mean(log_ratio(inputs), inputs).exp(), inputs, clip)


def weighted_logprob(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """CISPO: ``-stop_gradient(min(r, 1 + high)) A log pi``: the weight is clipped, no token is.

    MiniMax-M1 (arXiv 2506.13585, equations 4 and 5). As in the paper's experiments there is no
    lower bound (its ``epsilon_low`` is set so large that it never acts); ``low`` is not read.
    Useful values of ``high`` are larger than for a clipped surrogate, 1 to 4 say.
    """
    weights_N = log_ratio(inputs).exp().clamp(max=1.0 + clip.high).detach()
    logprobs_N = torch.where(inputs.mask_N, inputs.logprobs_N, 0.0)
    return torch.where(inputs.mask_N, -weights_N * inputs.advantages_N * logprobs_N, 0.0)


def clipped_tokens(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Tokens whose gradient :func:`clipped_surrogate` removes, shape (N,), bool."""
    return _outside(log_ratio(inputs).exp(), inputs, clip)


def clipped_sequences(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Tokens whose gradient :func:`sequence_surrogate` removes, shape (N,), bool."""
    return _outside(sequence_mean(log_ratio(inputs), inputs).exp(), inputs, clip)


def clipped_weights(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Tokens whose weight :func:`weighted_logprob` cuts down, shape (N,), bool."""
    return (log_ratio(inputs).exp() > 1.0 + clip.high) & inputs.mask_N


def _clipped(ratio_N: Tensor, inputs: LossInputs, clip: ClipRange) -> Tensor:
    clipped_N = ratio_N.clamp(1.0 - clip.low, 1.0 + clip.high)
    losses_N = -torch.minimum(ratio_N * inputs.advantages_N, clipped_N * inputs.advantages_N)
    return torch.where(inputs.mask_N, losses_N, 0.0)


def _outside(ratio_N: Tensor, inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Above the range with a positive advantage, or below it with a negative one."""
    above_N = (ratio_N > 1.0 + clip.high) & (inputs.advantages_N > 0)
    below_N = (ratio_N < 1.0 - clip.low) & (inputs.advantages_N < 0)
    return (above_N | below_N) & inputs.mask_N
