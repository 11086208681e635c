"""What a batch is trained on: policy loss, correction, KL penalty and entropy bonus, put together.

    sum over tokens t [ w_t * surrogate_t + kl_coeff * k_t ] / (the loss's denominator)
        - entropy_coeff * sum over tokens of H_t / (number of action tokens)

The KL penalty is weighted like the loss's own tokens (GRPO, arXiv 2402.03300, equation 3); the
entropy bonus is a mean over action tokens whatever the loss.

**The correction.** Between the engine that sampled a token (behaviour policy ``mu``) and the
learner stand stale weights, updates in mid-sequence, and different kernels. Without a correction
the loss's ratio is to ``mu`` and its clip bounds what that mismatch can do. With one the two roles
of the ratio are separated (Hilton et al. 2022, arXiv 2110.00641, section 3; for language models
AReaL, arXiv 2505.24298, equation 5): the clipped ratio is to the *proximal* policy ``prox``, the
learner's own before the batch's first update, and the token's loss is multiplied by a constant

    token_tis      w_t = min(prox_t / mu_t, cap)
    sequence_tis   w_t = min(product over the sequence of prox / mu, cap), the same for all t

Truncated importance sampling (Ionides 2008): biased where it truncates, with bounded variance.
The sequence form is unbiased below the cap, and its product leaves any cap soon for long ones.
The mask drops a sequence whose geometric mean of ``prox / mu`` is outside a band: such data comes
from too far away (or from a broken engine) to be weighted. A dropped sequence still counts in the
loss's denominator: counts stay known before the first forward pass.

The proximal policy costs no forward pass of its own. Every update of a batch sees the whole batch,
so the first update's forward passes *are* the policy before the first update; they are kept for
the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orch_env.types import OrchError
from orch_train.config import TrainingSettings
from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.objective.losses import (
    MAX_LOG_RATIO,
    BatchCounts,
    ClipRange,
    LossInputs,
    clamped_difference,
    kl_estimate,
    loss_named,
    sequence_mean,
    sequence_sum,
    told_by_name,
)
from orch_train.learner.objective.statistics import Sums, loss_sums
from orch_train.learner.reference import ReferencePolicy


@dataclass(frozen=True)
class CorrectionWeights:
    """What a correction says about N tokens; no gradient.

    Attributes:
        weights_N: multiplies each token's loss; 0 where dropped, in ``[0, cap]``.
        truncated_N: True where the cap acted.
        dropped_N: True where the sequence mask dropped a token.
    """

    weights_N: Tensor
    truncated_N: Tensor
    dropped_N: Tensor

    def sums(self) -> Sums:
        """Statistics of one micro-batch."""
        return {
            "correction_weight": self.weights_N.double().sum(),
            "correction_truncated": self.truncated_N.sum().double(),
            "correction_masked": self.dropped_N.sum().double(),
        }


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
    log_weights_N = clamped_difference(inputs.proximal_logprobs_N, inputs.behaviour_logprobs_N)
    dropped_N = torch.zeros_like(log_weights_N, dtype=torch.bool)
    if settings.correction_mask is not None:
        low, high = settings.correction_mask
        centre_N = sequence_mean(log_weights_N, inputs).exp()
        dropped_N = (centre_N < low) | (centre_N > high)
    if settings.correction == "sequence_tis":
        log_weights_N = sequence_sum(log_weights_N, inputs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio_N = log_weights_N.exp()
    return CorrectionWeights(
        weights_N=torch.where(dropped_N, 0.0, ratio_N.clamp(max=settings.correction_cap)),
        truncated_N=(ratio_N > settings.correction_cap) & ~dropped_N,
        dropped_N=dropped_N,
    )


class Objective:
    """The loss of micro-batches, with what stays fixed while one batch is learned from.

    Call :meth:`begin` once per batch; then, in each of its optimizer steps and for each
    micro-batch, :meth:`prepare` before the forward pass and :meth:`loss` after it.

    Args:
        settings: loss, clip, penalties and correction.
        temperature: the sampling temperature of the rollouts.
        reference: the reference policy; needed where ``settings.kl_coeff`` is above 0.

    Raises:
        OrchError: a KL penalty without a reference.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        temperature: float,
        reference: ReferencePolicy | None = None,
    ) -> None:
        if settings.kl_coeff > 0 and reference is None:
            raise OrchError("kl_coeff above 0 needs a reference policy")
        self._settings = settings
        self._reference = reference
        self._temperature = temperature
        self._clip = ClipRange(settings.clip_low, settings.clip_high)
        self.policy_loss = loss_named(settings.loss)
        self._counts = BatchCounts(0, 0, settings.length_constant)
        self._proximal: dict[int, Tensor] = {}
        self._reference_logprobs: dict[int, Tensor] = {}

    def begin(self, counts: BatchCounts) -> None:
        """Start a batch.

        Args:
            counts: of one optimizer step, over all devices that share it.
        """
        self._counts = counts
        self._proximal.clear()
        self._reference_logprobs.clear()

    def prepare(self, index: int, microbatch: Microbatch) -> None:
        """Run the reference where it is needed, before the policy's activations take memory.

        Args:
            index: number of the micro-batch, the same in each optimizer step of the batch.
            microbatch: the micro-batch.
        """
        if self._settings.kl_coeff > 0 and index not in self._reference_logprobs:
            assert self._reference is not None
            self._reference_logprobs[index] = self._reference.logprobs(
                microbatch, self._temperature
            )

    def loss(self, index: int, inputs: LossInputs) -> tuple[Tensor, Sums]:
        """A micro-batch's part of the loss (to be added up), and its statistics.

        Args:
            index: as in :meth:`prepare`.
            inputs: the micro-batch after the policy's forward pass.

        Raises:
            OrchError: a registered loss failed.
        """
        settings = self._settings
        if settings.correction != "none":
            proximal_N = self._proximal.setdefault(index, inputs.logprobs_N.detach())
            inputs = replace(inputs, proximal_logprobs_N=proximal_N)
        with told_by_name(settings.loss):
            losses_N = self.policy_loss.of_tokens(inputs, self._clip)
            sums = loss_sums(inputs, self.policy_loss, self._clip)
        if settings.correction != "none":
            weights = correction_weights(inputs, settings)
            losses_N = losses_N * weights.weights_N
            sums.update(weights.sums())
        if settings.kl_coeff > 0:
            reference_N = self._reference_logprobs[index]
            kl_N = kl_estimate(settings.kl_estimator, inputs.logprobs_N, reference_N)
            losses_N = losses_N + settings.kl_coeff * kl_N
            sums["reference_kl"] = kl_N.detach().double().sum()
        with told_by_name(settings.loss):
            loss = self.policy_loss.total(losses_N, inputs, self._counts)
        if settings.entropy_coeff > 0:
            tokens = max(self._counts.action_tokens, 1)
            loss = loss - settings.entropy_coeff * inputs.entropy_N.sum() / tokens
        sums["policy_loss"] = loss.detach().double()
        sums["entropy"] = inputs.entropy_N.detach().double().sum()
        return loss, sums
