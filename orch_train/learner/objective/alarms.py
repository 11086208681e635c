"""What a reader of the log must not miss about the data that a step learnt from.

The hard decision: two signals with two thresholds. The KL divergence is judged where sampling and
learning should be the same policy (synchronous training): there even a little of it means a
broken engine, temperature or weight sync. The effective sample size is judged always: however
stale the data may be, a batch in which half of the weight is lost teaches half as much.
"""

from __future__ import annotations

from collections.abc import Mapping

MISMATCH_KL = 0.05
"""KL(sampling || current policy) in nats per token that synchronous training never shows."""
LEAST_ESS = 0.5
"""Effective sample size, as a share of the tokens, below which a step is worth a warning."""


def alarms(learned: Mapping[str, float], *, synchronous: bool) -> list[str]:
    """Warnings for one step, at most one of them about the mismatch.

    Args:
        learned: metrics of ``Learner.update``.
        synchronous: whether every episode was sampled by the weights that learnt from it.
    """
    if not learned["num_optimizer_steps"]:
        return ["nothing could be learned in this step: no group has a spread of rewards"]
    if synchronous and learned["mismatch_kl"] > MISMATCH_KL:
        return [
            f"engine and learner disagree about the policy: mismatch KL "
            f"{learned['mismatch_kl']:.3g} (above {MISMATCH_KL:g}); the recorded log-probabilities "
            "are not those of the weights that learn from them"
        ]
    if learned["ratio_ess"] < LEAST_ESS:
        return [
            f"the episodes were sampled far from the policy that learns from them: effective "
            f"sample size {learned['ratio_ess']:.2f} (below {LEAST_ESS:g}), largest ratio "
            f"{learned['ratio_max']:.3g}; lower training.max_staleness or training.lr, or set "
            "training.correction"
        ]
    return []
