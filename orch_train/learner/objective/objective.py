"""What a batch is trained on: policy loss, correction, KL penalty and entropy bonus, put together.

    sum over tokens t [ w_t * surrogate_t + kl_coeff * k_t ] / (the loss's denominator)
        - entropy_coeff * sum over tokens of H_t / (number of action tokens)

The KL penalty is weighted like the loss's own tokens (GRPO, arXiv 2402.03300, equation 3); the
entropy bonus is a mean over action tokens whatever the loss. The hard decision: the proximal
policy costs no forward pass of its own. Every update of a batch sees the whole batch, so the first
update's forward passes *are* the policy before the first update; they are kept for the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orch_env.types import OrchError
from orch_train.config import TrainingSettings
from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.logprobs import ActionLogprobs
from orch_train.learner.objective.corrections import correction_weights
from orch_train.learner.objective.kl_penalty import kl_estimate
from orch_train.learner.objective.loss import BatchCounts, ClipRange, loss_named
from orch_train.learner.objective.loss_inputs import LossInputs
from orch_train.learner.objective.statistics import Sums, correction_sums, loss_sums
from orch_train.learner.reference import ReferencePolicy


class Objective:
    """The loss of micro-batches, with what stays fixed while one batch is learnt from.

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
        self._corrects = settings.correction != "none"
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

    def loss(
        self, index: int, microbatch: Microbatch, current: ActionLogprobs
    ) -> tuple[Tensor, Sums]:
        """This micro-batch's part of the loss (to be added up), and its statistics.

        Args:
            index: as in :meth:`prepare`.
            microbatch: the micro-batch.
            current: the policy's word on it, with gradient.
        """
        settings = self._settings
        inputs = LossInputs(
            logprobs_N=current.logprobs_N,
            behaviour_logprobs_N=microbatch.behaviour_logprobs_N,
            advantages_N=microbatch.advantages_N,
            mask_N=torch.ones_like(microbatch.targets_N, dtype=torch.bool),
            sequence_N=microbatch.sequence_N,
            proximal_logprobs_N=self._proximal_of(index, current),
        )
        losses_N = self.policy_loss.token_losses(inputs, self._clip)
        sums = loss_sums(inputs, self.policy_loss, self._clip)
        if self._corrects:
            weights = correction_weights(inputs, settings)
            losses_N = losses_N * weights.weights_N
            sums.update(correction_sums(weights))
        if settings.kl_coeff > 0:
            kl_N = kl_estimate(
                settings.kl_estimator,
                inputs.logprobs_N,
                self._reference_logprobs[index],
                inputs.mask_N,
            )
            losses_N = losses_N + settings.kl_coeff * kl_N
            sums["reference_kl"] = kl_N.detach().double().sum()
        loss = self.policy_loss.total(losses_N, inputs, self._counts)
        entropy_N = torch.where(inputs.mask_N, current.entropy_N, 0.0)
        if settings.entropy_coeff > 0:
            tokens = max(self._counts.action_tokens, 1)
            loss = loss - settings.entropy_coeff * entropy_N.sum() / tokens
        sums["policy_loss"] = loss.detach().double()
        sums["entropy"] = entropy_N.detach().double().sum()
        return loss, sums

    def _proximal_of(self, index: int, current: ActionLogprobs) -> Tensor | None:
        if not self._corrects:
            return None
        return self._proximal.setdefault(index, current.logprobs_N.detach())
