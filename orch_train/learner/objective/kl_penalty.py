"""Estimates of KL(current || reference) from sampled tokens, as a penalty in the loss.

With ``d = log pi - log reference`` at a token that was drawn from ``pi`` (Schulman 2020,
"Approximating KL divergence"):

    k1 = d                          unbiased, may be negative, high variance
    k2 = d^2 / 2                    biased, never negative
    k3 = exp(-d) - 1 + d            unbiased, never negative; GRPO's (arXiv 2402.03300, equation 4)

The hard decision: all three are added to the loss as they stand and differentiated. Value and
gradient are different matters then (Tang and Munos 2025, arXiv 2506.09477): on policy the
gradient of k2 is that of the KL divergence; that of k3 points to the reference as well, but is
that of the reversed divergence; that of k1 is zero on average, so that k1 measures but does not
hold. The default is k3, the field's convention.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from orch_env.types import OrchError
from orch_train.learner.objective.loss_inputs import clamped_difference

KLEstimator: TypeAlias = Literal["k1", "k2", "k3"]


def kl_estimate(
    estimator: str, logprobs_N: Tensor, reference_logprobs_N: Tensor, mask_N: Tensor
) -> Tensor:
    """One estimate per token in nats, 0 where masked, shape (N,).

    Args:
        estimator: ``k1``, ``k2`` or ``k3``.
        logprobs_N: under the current policy, with gradient.
        reference_logprobs_N: under the reference, at the same temperature; no gradient.
        mask_N: True where the token is trained.

    Raises:
        OrchError: there is no such estimator.
    """
    difference_N = clamped_difference(logprobs_N, reference_logprobs_N, mask_N)
    if estimator == "k1":
        return difference_N
    if estimator == "k2":
        return difference_N.square() / 2
    if estimator == "k3":
        return (-difference_N).expm1() + difference_N
    raise OrchError(f"kl_estimator {estimator!r} is unknown; use k1, k2 or k3")
