"""Policy losses: pure tensor functions of one small input.

A loss maps a flat stream of N action tokens to one loss per token; the learner sums them over all
micro-batches and divides once by a number that is known before the first one. The hard decision:
that division is not part of the loss function, because any mean taken inside a micro-batch makes
the gradient depend on how the batch happened to be cut.

The ratio is to the *recorded* behaviour policy (what the engine said when it sampled the token),
never to a recomputed one: after a weight update in mid-sequence no single forward pass
reproduces it.

More losses plug in with :func:`register_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orch_env.types import OrchError

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
        sequence_N: index of the token's sequence within this micro-batch (sequences are never
            cut between micro-batches), for losses at sequence level.
    """

    logprobs_N: Tensor
    behaviour_logprobs_N: Tensor
    advantages_N: Tensor
    mask_N: Tensor
    sequence_N: Tensor


@dataclass(frozen=True)
class ClipRange:
    """The trust region of the ratio: ``[1 - low, 1 + high]``."""

    low: float = 0.2
    high: float = 0.2


@dataclass(frozen=True)
class BatchCounts:
    """What a loss may be divided by: counts over the whole optimizer step.

    Attributes:
        action_tokens: trained tokens.
        sequences: trained trajectories.
        length_constant: Dr.GRPO's constant number of tokens per trajectory.
    """

    action_tokens: int
    sequences: int
    length_constant: int


@dataclass(frozen=True)
class PolicyLoss:
    """A registered loss.

    Attributes:
        token_losses: ``(inputs, clip) -> losses_N``; zero where ``mask_N`` is False.
        denominator: what the sum over the whole optimizer step is divided by.
    """

    token_losses: Callable[[LossInputs, ClipRange], Tensor]
    denominator: Callable[[BatchCounts], float]


def log_ratio(inputs: LossInputs) -> Tensor:
    """Clamped ``log(pi / mu)`` per token, 0 where masked (so that NaN cannot leak through)."""
    difference_N = inputs.logprobs_N - inputs.behaviour_logprobs_N
    return torch.where(inputs.mask_N, difference_N, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_surrogate(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """``-min(ratio * A, clip(ratio, 1 - low, 1 + high) * A)`` per token.

    PPO's objective (Schulman et al. 2017, arXiv 1707.06347, equation 7), as GRPO uses it
    (arXiv 2402.03300, equation 3), with separate bounds (DAPO's clip-higher, arXiv 2503.14476).
    """
    ratio_N = log_ratio(inputs).exp()
    clipped_N = ratio_N.clamp(1.0 - clip.low, 1.0 + clip.high)
    losses_N = -torch.minimum(ratio_N * inputs.advantages_N, clipped_N * inputs.advantages_N)
    return torch.where(inputs.mask_N, losses_N, 0.0)


def _per_token(counts: BatchCounts) -> float:
    return float(max(counts.action_tokens, 1))


def _per_constant_length(counts: BatchCounts) -> float:
    return float(max(counts.sequences * counts.length_constant, 1))


LOSSES: dict[str, PolicyLoss] = {
    # Token level: every action token of the step weighs the same.
    "grpo": PolicyLoss(clipped_surrogate, _per_token),
    # Dr.GRPO: a constant length, so that long answers are neither favoured nor punished.
    "dr_grpo": PolicyLoss(clipped_surrogate, _per_constant_length),
}


def register_loss(name: str, loss: PolicyLoss) -> None:
    """Make a loss available as ``LearnerSettings(loss=name)``.

    Raises:
        OrchError: the name is taken.
    """
    if name in LOSSES:
        raise OrchError(f"a loss named {name!r} is registered already")
    LOSSES[name] = loss


def loss_named(name: str) -> PolicyLoss:
    """Look a loss up.

    Raises:
        OrchError: there is none of that name.
    """
    if name not in LOSSES:
        raise OrchError(f"loss {name!r} is unknown; use one of {', '.join(LOSSES)}")
    return LOSSES[name]


@torch.no_grad()
def loss_sums(inputs: LossInputs, clip: ClipRange) -> Mapping[str, float]:
    """Additive statistics of one micro-batch (``ratio_max`` is a maximum).

    ``mismatch_kl`` sums the k3 estimate of KL(behaviour || current), ``ratio - 1 - log ratio``
    (Schulman 2020, "Approximating KL divergence"): never negative, unbiased under the behaviour
    policy. ``clipped`` counts tokens whose gradient the clip removes: ratio above the range with
    a positive advantage, below it with a negative one.
    """
    log_ratio_N = log_ratio(inputs)[inputs.mask_N].double()
    ratio_N, advantages_N = log_ratio_N.exp(), inputs.advantages_N[inputs.mask_N]
    clipped_N = ((ratio_N > 1.0 + clip.high) & (advantages_N > 0)) | (
        (ratio_N < 1.0 - clip.low) & (advantages_N < 0)
    )
    return {
        "tokens": float(ratio_N.numel()),
        "mismatch_kl": float((ratio_N - 1.0 - log_ratio_N).sum()),
        "clipped": float(clipped_N.sum()),
        "ratio": float(ratio_N.sum()),
        "ratio_squared": float(ratio_N.square().sum()),
        "ratio_max": float(ratio_N.max()) if ratio_N.numel() else 0.0,
    }
