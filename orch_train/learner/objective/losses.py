"""The losses, equation by equation: ratios, surrogates, KL penalty, and what sums are divided by.

A loss is a pure tensor function over the N sampled tokens of a micro-batch. Notation: ``pi`` is
the current policy, ``mu`` the behaviour policy that sampled, ``r`` the ratio of ``pi`` to its
anchor at a token, ``A`` the token's advantage. The learner sums a loss over all micro-batches and
divides once, by a number that is known before the first one: a mean taken inside a micro-batch
would make the gradient depend on how the batch happened to be cut. A mean inside a *sequence* is
safe (sequences are never cut), and a loss may ask for it.

| name      | surrogate          | mean over                                                    |
|-----------|--------------------|--------------------------------------------------------------|
| `grpo`    | clipped            | tokens of each trajectory, then trajectories                 |
| `dapo`    | clipped            | all action tokens of the optimizer step                      |
| `dr_grpo` | clipped            | trajectories; tokens are divided by a constant length        |
| `bnpo`    | clipped            | all action tokens of the "local batch": the optimizer step   |
| `gspo`    | sequence ratio     | tokens of each trajectory, then trajectories                 |
| `cispo`   | weighted log prob  | all action tokens of the optimizer step                      |

``mu`` is what the engine *recorded* when it sampled a token, never a recomputation: after a weight
update in mid-sequence no single forward pass reproduces it. More losses plug in with
:func:`register_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from orch_env.types import OrchError
from orch_env.types.user_code import defined_at, told
from orch_train.config.groups import registered_losses

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before ``exp``: e^20 is far outside any clip range and finite, so
that no token can make a sum over other tokens infinite."""


@dataclass(frozen=True)
class LossInputs:
    """N sampled tokens of whole sequences, in stream order: the forward pass and the recording.

    Attributes:
        logprobs_N: natural log-probability under the current policy at the sampling temperature,
            with gradient; float32.
        entropy_N: entropy in nats of the distribution it was drawn from, float32; with gradient
            only where a loss needs it.
        behaviour_logprobs_N: recorded when the token was sampled; no gradient, finite.
        advantages_N: advantage of each token; no gradient.
        sequence_N: index of the token's sequence within this micro-batch, below N (sequences are
            never cut between micro-batches), for losses at sequence level.
        proximal_logprobs_N: under the policy that the trust region is around, where that is not
            the behaviour policy (see `objective.correction_weights`); no gradient.
    """

    logprobs_N: Tensor
    entropy_N: Tensor
    behaviour_logprobs_N: Tensor
    advantages_N: Tensor
    sequence_N: Tensor
    proximal_logprobs_N: Tensor | None = None


@dataclass(frozen=True)
class ClipRange:
    """The trust region of the ratio: ``[1 - low, 1 + high]``."""

    low: float
    high: float


# -- ratios ----------------------------------------------------------------------------------


def log_ratio(inputs: LossInputs) -> Tensor:
    """``log r``: clamped ``log(pi / anchor)`` per token.

    The anchor is the proximal policy where there is one, else the behaviour policy.
    """
    anchor_N = inputs.proximal_logprobs_N
    if anchor_N is None:
        anchor_N = inputs.behaviour_logprobs_N
    return clamped_difference(inputs.logprobs_N, anchor_N)


def clamped_difference(above_N: Tensor, below_N: Tensor) -> Tensor:
    """``above - below`` within ``MAX_LOG_RATIO``."""
    return (above_N - below_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_sum(values_N: Tensor, inputs: LossInputs) -> Tensor:
    """For each token the sum over its own sequence, shape (N,)."""
    # There are at most as many sequences as tokens; counting them would wait for the device.
    totals_N = torch.zeros_like(values_N).index_add(0, inputs.sequence_N, values_N)
    return totals_N[inputs.sequence_N]


def sequence_mean(values_N: Tensor, inputs: LossInputs) -> Tensor:
    """For each token the mean over its own sequence, shape (N,)."""
    return sequence_sum(values_N, inputs) / sequence_sum(torch.ones_like(values_N), inputs)


# -- surrogates: one number per token, and the tokens that the trust region holds back -------


def clipped_surrogate(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """``-min(r A, clip(r, 1 - low, 1 + high) A)`` per token.

    PPO's objective (Schulman et al. 2017, arXiv 1707.06347, equation 7), as GRPO uses it
    (arXiv 2402.03300, equation 3), with separate bounds (DAPO's clip-higher, arXiv 2503.14476,
    equation 10).
    """
    return _clipped(log_ratio(inputs).exp(), inputs, clip)


def clipped_tokens(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Tokens whose gradient :func:`clipped_surrogate` removes, shape (N,), bool."""
    return _outside(log_ratio(inputs).exp(), inputs, clip)


def sequence_surrogate(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """GSPO: ``-min(s A, clip(s, 1 - low, 1 + high) A)`` with one ratio for a whole sequence.

    ``s = exp(mean over the sequence of log r)``, the geometric mean (Zheng et al. 2025, arXiv
    2507.18071, equations 5 and 7). Its spread is far smaller than a token's ratio: the paper
    clips at 3e-4 below and 4e-4 above.
    """
    return _clipped(sequence_mean(log_ratio(inputs), inputs).exp(), inputs, clip)


def clipped_sequences(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Tokens whose gradient :func:`sequence_surrogate` removes, shape (N,), bool."""
    return _outside(sequence_mean(log_ratio(inputs), inputs).exp(), inputs, clip)


def weighted_logprob(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """CISPO: ``-stop_gradient(min(r, 1 + high)) A log pi``: the weight is clipped, no token is.

    MiniMax-M1 (arXiv 2506.13585, equations 4 and 5). As in the paper's experiments there is no
    lower bound (its ``epsilon_low`` is set so large that it never acts); ``low`` is not read.
    Useful values of ``high`` are larger than for a clipped surrogate, 1 to 4 say.
    """
    weights_N = log_ratio(inputs).exp().clamp(max=1.0 + clip.high).detach()
    return -weights_N * inputs.advantages_N * inputs.logprobs_N


def clipped_weights(inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Tokens whose weight :func:`weighted_logprob` cuts down, shape (N,), bool."""
    return log_ratio(inputs).exp() > 1.0 + clip.high


def _clipped(ratio_N: Tensor, inputs: LossInputs, clip: ClipRange) -> Tensor:
    clipped_N = ratio_N.clamp(1.0 - clip.low, 1.0 + clip.high)
    return -torch.minimum(ratio_N * inputs.advantages_N, clipped_N * inputs.advantages_N)


def _outside(ratio_N: Tensor, inputs: LossInputs, clip: ClipRange) -> Tensor:
    """Above the range with a positive advantage, or below it with a negative one."""
    above_N = (ratio_N > 1.0 + clip.high) & (inputs.advantages_N > 0)
    below_N = (ratio_N < 1.0 - clip.low) & (inputs.advantages_N < 0)
    return above_N | below_N


# -- the KL penalty --------------------------------------------------------------------------


def kl_estimate(estimator: str, logprobs_N: Tensor, reference_logprobs_N: Tensor) -> Tensor:
    """Estimates of KL(pi || reference) in nats, one per token, shape (N,).

    With ``d = log pi - log reference`` at a token that was drawn from ``pi`` (Schulman 2020,
    "Approximating KL divergence"):

        k1 = d                          unbiased, may be negative, high variance
        k2 = d^2 / 2                    biased, never negative
        k3 = exp(-d) - 1 + d            unbiased, never negative; GRPO's (arXiv 2402.03300,
                                        equation 4)

    All three are added to the loss as they stand and differentiated. Value and gradient are
    different matters then (Tang and Munos 2025, arXiv 2506.09477): on policy the gradient of k2
    is that of the KL divergence; that of k3 points to the reference as well, but is that of the
    reversed divergence; that of k1 is zero on average, so that k1 measures but does not hold. The
    default is k3, the field's convention.

    Args:
        estimator: ``k1``, ``k2`` or ``k3``.
        logprobs_N: under the current policy, with gradient.
        reference_logprobs_N: under the reference, at the same temperature; no gradient.

    Raises:
        OrchError: there is no such estimator.
    """
    difference_N = clamped_difference(logprobs_N, reference_logprobs_N)
    if estimator == "k1":
        return difference_N
    if estimator == "k2":
        return difference_N.square() / 2
    if estimator == "k3":
        return (-difference_N).expm1() + difference_N
    raise OrchError(f"kl_estimator {estimator!r} is unknown; use k1, k2 or k3")


# -- what the sum is divided by --------------------------------------------------------------


@dataclass(frozen=True)
class BatchCounts:
    """What a loss may be divided by: counts over the whole optimizer step, on all devices.

    Attributes:
        action_tokens: trained tokens.
        sequences: trained trajectories.
        length_constant: Dr.GRPO's constant number of tokens per trajectory.
    """

    action_tokens: int
    sequences: int
    length_constant: int


def _tokens(counts: BatchCounts) -> float:
    return float(max(counts.action_tokens, 1))


def _sequences(counts: BatchCounts) -> float:
    return float(max(counts.sequences, 1))


def _constant_length(counts: BatchCounts) -> float:
    return float(max(counts.sequences * counts.length_constant, 1))


# -- the losses ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PolicyLoss:
    """A registered loss: how a token is scored, and what the sum over tokens is divided by.

    Attributes:
        token_losses: ``(inputs, clip) -> losses_N``.
        denominator: what the sum over the whole optimizer step is divided by.
        sequence_mean: also divide each token by the number of tokens of its sequence.
        clipped: ``(inputs, clip) -> bool_N``: tokens that the trust region holds back, for the
            metric ``clip_frac``.
    """

    token_losses: Callable[[LossInputs, ClipRange], Tensor]
    denominator: Callable[[BatchCounts], float]
    sequence_mean: bool = False
    clipped: Callable[[LossInputs, ClipRange], Tensor] = clipped_tokens

    def of_tokens(self, inputs: LossInputs, clip: ClipRange) -> Tensor:
        """A loss for each token, with gradient, shape (N,).

        Raises:
            OrchError: `token_losses` returned anything else, such as their mean.
        """
        losses_N = self.token_losses(inputs, clip)
        whole_N = inputs.logprobs_N
        shape = tuple(losses_N.shape) if isinstance(losses_N, Tensor) else None
        if shape != tuple(whole_N.shape) or losses_N.requires_grad < whole_N.requires_grad:
            got = f"a {type(losses_N).__name__}" if shape is None else f"shape {shape}"
            raise OrchError(
                f"training.loss must give a tensor with gradient, one number for each of "
                f"{len(whole_N)} tokens, not {got}{defined_at(self.token_losses)}"
            )
        return losses_N

    def total(self, losses_N: Tensor, inputs: LossInputs, counts: BatchCounts) -> Tensor:
        """This micro-batch's part of the loss: add these up, and divide by nothing more.

        Args:
            losses_N: per token; other penalties may have been added.
            inputs: the tokens.
            counts: of the whole optimizer step.
        """
        if self.sequence_mean:
            losses_N = losses_N / sequence_sum(torch.ones_like(losses_N), inputs)
        return losses_N.sum() / self.denominator(counts)


LOSSES: dict[str, PolicyLoss] = {
    # Shao et al. 2024, arXiv 2402.03300, equation 3 (its KL term is `kl_coeff`): every trajectory
    # weighs the same, so a token of a long one weighs less.
    "grpo": PolicyLoss(clipped_surrogate, _sequences, sequence_mean=True),
    # Yu et al. 2025, arXiv 2503.14476, equation 12: token level, every action token weighs the
    # same. The equation's mean is within a group; here, as in the authors' code, it is over the
    # batch. Clip-higher and dynamic sampling are `clip_high` and `zero_variance: resample`.
    "dapo": PolicyLoss(clipped_surrogate, _tokens),
    # Liu et al. 2025, arXiv 2503.20783, section 3.2: a constant length, so that long answers are
    # neither favoured nor punished.
    "dr_grpo": PolicyLoss(clipped_surrogate, _constant_length),
    # "Batch-normalised": divided by the active tokens of the *local batch*. Elsewhere that is one
    # micro-batch, so the gradient changes with the micro-batch size. The only normaliser that
    # does not is the whole optimizer step's count, so here the local batch is the optimizer step,
    # and the value then equals `dapo`. (Not the Beta normalisation of arXiv 2506.02864, which is
    # about advantages.)
    "bnpo": PolicyLoss(clipped_surrogate, _tokens),
    # Zheng et al. 2025, arXiv 2507.18071, equation 5.
    "gspo": PolicyLoss(
        sequence_surrogate, _sequences, sequence_mean=True, clipped=clipped_sequences
    ),
    # MiniMax-M1, arXiv 2506.13585, equation 4.
    "cispo": PolicyLoss(weighted_logprob, _tokens, clipped=clipped_weights),
}


def register_loss(name: str, loss: PolicyLoss) -> None:
    """Make a loss available as ``training.loss``.

    Raises:
        OrchError: the name is taken, or this is no `PolicyLoss`.
    """
    if not isinstance(loss, PolicyLoss):
        raise OrchError(f"loss {name!r} must be a PolicyLoss, got {type(loss).__name__}")
    if name in LOSSES:
        raise OrchError(f"a loss named {name!r} is registered already")
    LOSSES[name] = loss
    registered_losses.add(name)


@contextmanager
def told_by_name(name: str) -> Iterator[None]:
    """What a registered loss raises is told with its name, file and line.

    Raises:
        OrchError: it failed.
    """
    try:
        yield
    except Exception as problem:  # whatever a user's loss raises
        if isinstance(problem, OrchError) or name not in registered_losses:
            raise
        raise OrchError(f"training.loss: {name!r} failed with {told(problem)}") from problem


def loss_named(name: str) -> PolicyLoss:
    """Look a loss up.

    Raises:
        OrchError: there is none of that name.
    """
    if name not in LOSSES:
        raise OrchError(f"loss {name!r} is unknown; use one of {', '.join(LOSSES)}")
    return LOSSES[name]
