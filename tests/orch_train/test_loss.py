"""Losses against values worked out by hand, on tensors alone."""

from __future__ import annotations

import math

import pytest
import torch

from orch_env.types import OrchError
from orch_train.learner.loss import (
    LOSSES,
    BatchCounts,
    ClipRange,
    LossInputs,
    PolicyLoss,
    clipped_surrogate,
    loss_named,
    register_loss,
)
from orch_train.learner.statistics import loss_sums

CLIP = ClipRange(0.2, 0.3)


def inputs(
    ratios: list[float], advantages: list[float], mask: list[bool] | None = None
) -> LossInputs:
    """Tokens whose probability ratios are these."""
    behaviour = torch.full((len(ratios),), -1.0)
    current = (behaviour + torch.tensor(ratios).log()).requires_grad_()
    return LossInputs(
        logprobs_N=current,
        behaviour_logprobs_N=behaviour,
        advantages_N=torch.tensor(advantages),
        mask_N=torch.tensor(mask or [True] * len(ratios)),
        sequence_N=torch.zeros(len(ratios), dtype=torch.long),
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on policy: the gradient of the plain policy gradient
        (1.1, 2.0, -2.2, -2.2),  # inside the range
        (1.5, 2.0, -2.6, 0.0),  # too likely already: clipped at 1 + 0.3
        (1.5, -2.0, 3.0, 3.0),  # too likely and bad: pushed down with full force
        (0.5, 2.0, -1.0, -1.0),  # too unlikely and good: pushed up
        (0.5, -2.0, 1.6, 0.0),  # too unlikely already: clipped at 1 - 0.2
        (0.7, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_surrogate_by_hand(
    ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    given = inputs([ratio], [advantage])
    losses_N = clipped_surrogate(given, CLIP)
    losses_N.sum().backward()
    assert given.logprobs_N.grad is not None
    assert losses_N.item() == pytest.approx(loss, rel=1e-5)
    assert given.logprobs_N.grad.item() == pytest.approx(gradient, rel=1e-5)


@pytest.mark.parametrize("behaviour", [math.nan, -math.inf, 0.0])
def test_masked_tokens_reach_neither_loss_nor_gradient_nor_metrics(behaviour: float) -> None:
    given = inputs([1.1, 1.0], [1.0, 5.0], [True, False])
    given.behaviour_logprobs_N[1] = behaviour
    losses_N = clipped_surrogate(given, CLIP)
    losses_N.sum().backward()
    assert given.logprobs_N.grad is not None
    assert losses_N[1] == 0 and given.logprobs_N.grad[1] == 0
    assert torch.isfinite(losses_N).all() and torch.isfinite(given.logprobs_N.grad).all()
    assert loss_sums(given, LOSSES["dapo"], CLIP)["tokens"] == 1


def test_a_huge_log_ratio_stays_finite() -> None:
    given = inputs([1.0], [-1.0])
    given.behaviour_logprobs_N[0] = -200.0
    losses_N = clipped_surrogate(given, CLIP)
    losses_N.sum().backward()
    assert given.logprobs_N.grad is not None
    assert losses_N.item() == pytest.approx(math.exp(20), rel=1e-5)
    assert torch.isfinite(given.logprobs_N.grad).all()


def test_statistics_by_hand() -> None:
    given = inputs([1.5, 0.5, 1.5, 1.0], [1.0, -1.0, -1.0, 1.0])
    sums = loss_sums(given, LOSSES["dapo"], CLIP)
    k3 = 2 * (1.5 - 1 - math.log(1.5)) + (0.5 - 1 - math.log(0.5))
    assert sums["mismatch_kl"] == pytest.approx(k3, rel=1e-6)
    assert sums["clipped"] == 2  # not the third: too likely, but bad
    assert sums["ratio_max"] == pytest.approx(1.5)
    assert sums["ratio"] == pytest.approx(4.5) and sums["ratio_squared"] == pytest.approx(5.75)


def test_mismatch_is_the_kl_divergence_under_the_behaviour_policy() -> None:
    mu, pi = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    estimates = []
    for token in range(3):
        given = inputs([float(pi[token] / mu[token])], [0.0])
        estimates.append(loss_sums(given, LOSSES["dapo"], CLIP)["mismatch_kl"] * float(mu[token]))
    assert sum(estimates) == pytest.approx(float((mu * (mu / pi).log()).sum()), rel=1e-6)


def test_dapo_divides_by_tokens_and_dr_grpo_by_a_constant_length() -> None:
    counts = BatchCounts(action_tokens=30, sequences=4, length_constant=100)
    assert LOSSES["dapo"].denominator(counts) == 30
    assert LOSSES["dr_grpo"].denominator(counts) == 400


def test_a_registered_loss_can_be_used_and_names_are_unique(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orch_train.learner.loss.LOSSES", dict(LOSSES))
    mine = PolicyLoss(lambda given, clip: -given.logprobs_N, lambda counts: 1.0)
    register_loss("mine", mine)
    assert loss_named("mine") is mine
    with pytest.raises(OrchError, match="registered already"):
        register_loss("grpo", mine)
    with pytest.raises(OrchError, match="grpo"):
        loss_named("ppo")
