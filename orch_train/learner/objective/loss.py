"""The policy losses by name: a surrogate per token, and what its sum is divided by.

A loss is a pure tensor function over N action tokens; the learner sums it over all micro-batches
and divides once by a number that is known before the first one. The hard decision: that division
is not part of the surrogate, because any mean taken inside a micro-batch makes the gradient
depend on how the batch happened to be cut. A mean inside a *sequence* is safe (sequences are
never cut), and a loss may ask for it.

| name      | surrogate          | mean over                                                    |
|-----------|--------------------|--------------------------------------------------------------|
| `grpo`    | clipped            | tokens of each trajectory, then trajectories                 |
| `dapo`    | clipped            | all action tokens of the optimizer step                      |
| `dr_grpo` | clipped            | trajectories; tokens are divided by a constant length        |
| `bnpo`    | clipped            | all action tokens of the "local batch": the optimizer step   |
| `gspo`    | sequence ratio     | tokens of each trajectory, then trajectories                 |
| `cispo`   | weighted log prob  | all action tokens of the optimizer step                      |

The ratio is to the *recorded* behaviour policy (what the engine said when it sampled the token),
never silently to a recomputed one: after a weight update in mid-sequence no single forward pass
reproduces it. More losses plug in with :func:`register_loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from orch_env.types import OrchError
from orch_train.config.groups import registered_losses
from orch_train.learner.objective.loss_inputs import ClipRange, LossInputs, sequence_lengths
from orch_train.learner.objective.surrogates import (
    clipped_sequences,
    clipped_surrogate,
    clipped_tokens,
    clipped_weights,
    sequence_surrogate,
    weighted_logprob,
)

__all__ = [
    "LOSSES",
    "BatchCounts",
    "ClipRange",
    "LossInputs",
    "PolicyLoss",
    "clipped_surrogate",
    "loss_named",
    "register_loss",
]


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


@dataclass(frozen=True)
class PolicyLoss:
    """A registered loss: how a token is scored, and what the sum over tokens is divided by.

    Attributes:
        token_losses: ``(inputs, clip) -> losses_N``; zero where ``mask_N`` is False.
        denominator: what the sum over the whole optimizer step is divided by.
        sequence_mean: also divide each token by the number of trained tokens of its sequence.
        clipped: ``(inputs, clip) -> bool_N``: tokens that the trust region holds back, for the
            metric ``clip_frac``.
    """

    token_losses: Callable[[LossInputs, ClipRange], Tensor]
    denominator: Callable[[BatchCounts], float]
    sequence_mean: bool = False
    clipped: Callable[[LossInputs, ClipRange], Tensor] = clipped_tokens

    def total(self, losses_N: Tensor, inputs: LossInputs, counts: BatchCounts) -> Tensor:
        """This micro-batch's part of the loss: add these up, and divide by nothing more.

        Args:
            losses_N: per token, zero where masked; other penalties may have been added.
            inputs: the tokens.
            counts: of the whole optimizer step.
        """
        if self.sequence_mean:
            losses_N = losses_N / sequence_lengths(inputs, losses_N.dtype)
        return losses_N.sum() / self.denominator(counts)


def _tokens(counts: BatchCounts) -> float:
    return float(max(counts.action_tokens, 1))


def _sequences(counts: BatchCounts) -> float:
    return float(max(counts.sequences, 1))


def _constant_length(counts: BatchCounts) -> float:
    return float(max(counts.sequences * counts.length_constant, 1))


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
    """Make a loss available as ``training.loss: name``.

    Raises:
        OrchError: the name is taken.
    """
    if name in LOSSES:
        raise OrchError(f"a loss named {name!r} is registered already")
    LOSSES[name] = loss
    registered_losses.add(name)


def loss_named(name: str) -> PolicyLoss:
    """Look a loss up.

    Raises:
        OrchError: there is none of that name.
    """
    if name not in LOSSES:
        raise OrchError(f"loss {name!r} is unknown; use one of {', '.join(LOSSES)}")
    return LOSSES[name]
