"""Losses against values worked out by hand, on tensors alone."""

from __future__ import annotations

import math

import pytest
import torch

from orch_env.types import OrchError
from orch_train.learner.objective.losses import (
    LOSSES,
    BatchCounts,
    ClipRange,
    LossInputs,
    PolicyLoss,
    clipped_surrogate,
    loss_named,
    register_loss,
)
from orch_train.learner.objective.statistics import loss_sums

CLIP = ClipRange(0.2, 0.3)


def inputs(
    ratios: list[float],
    advantages: list[float],
    sequences: list[int] | None = None,
) -> LossInputs:
    """Tokens whose probability ratios are these."""
    behaviour = torch.full((len(ratios),), -1.0)
    current = (behaviour + torch.tensor(ratios).log()).requires_grad_()
    return LossInputs(
        logprobs_N=current,
        entropy_N=torch.zeros(len(ratios)),
        behaviour_logprobs_N=behaviour,
        advantages_N=torch.tensor(advantages),
        sequence_N=torch.tensor(sequences or [0] * len(ratios)),
    )


# Three tokens of one trajectory (advantage 1) and one of another (advantage -2).
RATIOS, ADVANTAGES, SEQUENCES = [1.1, 1.5, 0.5, 0.6], [1.0, 1.0, 1.0, -2.0], [0, 0, 0, 1]
COUNTS = BatchCounts(action_tokens=4, sequences=2, length_constant=10)
# Clipped surrogates: -min(1.1, 1.1) = -1.1; -min(1.5, 1.3) = -1.3; -min(0.5, 0.8) = -0.5;
# -min(0.6 * -2, 0.8 * -2) = -min(-1.2, -1.6) = 1.6.
# GSPO's first ratio: (1.1 * 1.5 * 0.5)^(1/3) = 0.825^(1/3) = 0.93789 (inside the range), its
# second 0.6. CISPO: r capped at 1.3, times the current logprob -1 + log r.
S = 0.825 ** (1 / 3)


def _cispo(ratio: float, advantage: float) -> float:
    return -min(ratio, 1.3) * advantage * (-1.0 + math.log(ratio))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo", ((-1.1 - 1.3 - 0.5) / 3 + 1.6) / 2),
        ("dapo", (-1.1 - 1.3 - 0.5 + 1.6) / 4),
        ("bnpo", (-1.1 - 1.3 - 0.5 + 1.6) / 4),
        ("dr_grpo", (-1.1 - 1.3 - 0.5 + 1.6) / (2 * 10)),
        ("gspo", ((-S - S - S) / 3 + 1.6) / 2),
        ("cispo", (_cispo(1.1, 1) + _cispo(1.5, 1) + _cispo(0.5, 1) + _cispo(0.6, -2)) / 4),
    ],
)
def test_each_loss_by_hand(name: str, expected: float) -> None:
    given = inputs(RATIOS, ADVANTAGES, sequences=SEQUENCES)
    loss = LOSSES[name]
    value = loss.total(loss.token_losses(given, CLIP), given, COUNTS)
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # d(-min(r A, ...))/d log pi = -r A where not clipped, else 0.
        ("grpo", [-1.1 / 6, 0.0, -0.5 / 6, 0.0]),
        ("dapo", [-1.1 / 4, 0.0, -0.5 / 4, 0.0]),
        # d s / d log pi_t = s / 3, for each of three equal terms: -3 * s / 3 / 3 / 2 = -s / 6.
        ("gspo", [-S / 6, -S / 6, -S / 6, 0.0]),
        # -min(r, 1.3) A: the clipped token keeps a gradient.
        ("cispo", [-1.1 / 4, -1.3 / 4, -0.5 / 4, 1.2 / 4]),
    ],
)
def test_the_gradient_of_each_kind_of_loss_by_hand(name: str, expected: list[float]) -> None:
    given = inputs(RATIOS, ADVANTAGES, sequences=SEQUENCES)
    loss = LOSSES[name]
    loss.total(loss.token_losses(given, CLIP), given, COUNTS).backward()
    assert given.logprobs_N.grad is not None
    assert given.logprobs_N.grad.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "clipped"),
    [
        ("dapo", [False, True, False, True]),
        ("gspo", [False, False, False, True]),
        ("cispo", [False, True, False, False]),
    ],
)
def test_clipped_counts_the_tokens_that_the_loss_holds_back(name: str, clipped: list[bool]) -> None:
    given = inputs(RATIOS, ADVANTAGES, sequences=SEQUENCES)
    assert LOSSES[name].clipped(given, CLIP).tolist() == clipped
    sums = loss_sums(given, LOSSES[name], CLIP)
    assert sums["clipped"] == sum(clipped)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_lets_a_sequence_into_the_loss_of_another(name: str) -> None:
    loss = LOSSES[name]
    alone = inputs(RATIOS[:3], ADVANTAGES[:3], [0, 0, 0])
    given = inputs(
        [RATIOS[0], 1.0, *RATIOS[1:3]], [ADVANTAGES[0], 0.0, *ADVANTAGES[1:3]], [0, 1, 0, 0]
    )
    given.behaviour_logprobs_N[1] = -400.0  # as far off as can be, with an advantage of 0
    values = []
    for tokens in (alone, given):
        value = loss.total(loss.token_losses(tokens, CLIP), tokens, COUNTS)
        value.backward()
        values.append(value.item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert alone.logprobs_N.grad is not None and given.logprobs_N.grad is not None
    torch.testing.assert_close(given.logprobs_N.grad[[0, 2, 3]], alone.logprobs_N.grad)
    assert given.logprobs_N.grad[1] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_on_policy_every_loss_has_the_gradient_of_the_plain_policy_gradient(name: str) -> None:
    """At ratio 1 they differ in how tokens are weighted, not in direction."""
    given = inputs([1.0] * 4, ADVANTAGES, sequences=SEQUENCES)
    loss = LOSSES[name]
    loss.total(loss.token_losses(given, CLIP), given, COUNTS).backward()
    weights = [1 / 3, 1 / 3, 1 / 3, 1.0] if loss.sequence_mean else [1.0] * 4
    expected = [-a * w / loss.denominator(COUNTS) for a, w in zip(ADVANTAGES, weights, strict=True)]
    assert given.logprobs_N.grad is not None
    assert given.logprobs_N.grad.tolist() == pytest.approx(expected, rel=1e-5)


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


def test_statistics_count_every_token() -> None:
    assert loss_sums(inputs([1.1, 1.0], [1.0, 5.0]), LOSSES["dapo"], CLIP)["tokens"] == 2


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
    monkeypatch.setattr("orch_train.learner.objective.losses.LOSSES", dict(LOSSES))
    monkeypatch.setattr("orch_train.learner.objective.losses.registered_losses", set())
    mine = PolicyLoss(lambda given, clip: -given.logprobs_N, lambda counts: 1.0)
    register_loss("mine", mine)
    assert loss_named("mine") is mine
    with pytest.raises(OrchError, match="registered already"):
        register_loss("grpo", mine)
    with pytest.raises(OrchError, match="grpo"):
        loss_named("ppo")
    with pytest.raises(OrchError, match="'short' must be a PolicyLoss, got function"):
        register_loss("short", lambda given, clip: -given.logprobs_N)  # type: ignore[arg-type]
