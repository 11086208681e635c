"""Importance weights against values worked out by hand: truncated, detached, masked first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_train.config import TrainingSettings
from orch_train.learner.objective.losses import LossInputs
from orch_train.learner.objective.objective import correction_weights


def correction(
    kind: Any, cap: float = 2.0, mask: tuple[float, float] | None = None
) -> TrainingSettings:
    return TrainingSettings(correction=kind, correction_cap=cap, correction_mask=mask)


def inputs(ratios: list[float], sequences: list[int]) -> LossInputs:
    """Tokens whose proximal over behaviour probabilities are these."""
    behaviour = torch.full((len(ratios),), -2.0)
    proximal = behaviour + torch.tensor(ratios).log()
    return LossInputs(
        logprobs_N=proximal.clone().requires_grad_(),
        behaviour_logprobs_N=behaviour,
        advantages_N=torch.ones(len(ratios)),
        entropy_N=torch.zeros(len(ratios)),
        sequence_N=torch.tensor(sequences),
        proximal_logprobs_N=proximal,
    )


def test_token_weights_are_the_ratios_up_to_the_cap() -> None:
    got = correction_weights(inputs([0.5, 1.0, 3.0], [0, 0, 1]), correction("token_tis", cap=2.0))
    assert got.weights_N.tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert got.truncated_N.tolist() == [False, False, True]
    assert not got.dropped_N.any()


def test_sequence_weights_are_the_product_over_the_sequence_up_to_the_cap() -> None:
    # 0.5 * 1.2 = 0.6 for the first sequence, 3 * 1.5 = 4.5 (capped at 2) for the second.
    got = correction_weights(
        inputs([0.5, 3.0, 1.2, 1.5], [0, 1, 0, 1]), correction("sequence_tis", cap=2.0)
    )
    assert got.weights_N.tolist() == pytest.approx([0.6, 2.0, 0.6, 2.0])
    assert got.truncated_N.tolist() == [False, True, False, True]


def test_the_mask_drops_sequences_by_their_geometric_mean() -> None:
    # Geometric means: sqrt(0.5 * 2) = 1 stays although its tokens are far off; 1.5 and 0.4 go.
    chosen = correction("token_tis", cap=10.0, mask=(0.5, 1.4))
    got = correction_weights(inputs([0.5, 2.0, 1.5, 0.4], [0, 0, 1, 2]), chosen)
    assert got.weights_N.tolist() == pytest.approx([0.5, 2.0, 0.0, 0.0])
    assert got.dropped_N.tolist() == [False, False, True, True]


@pytest.mark.parametrize("kind", ["token_tis", "sequence_tis"])
def test_a_dropped_sequence_reaches_no_weight_of_another(kind: str) -> None:
    given_ = inputs([0.5, 7.0, 1.2], [0, 1, 0])
    given_.behaviour_logprobs_N[1] = -400.0
    got = correction_weights(given_, correction(kind, mask=(0.7, 1.1)))
    expected = [0.5, 0.0, 1.2] if kind == "token_tis" else [0.6, 0.0, 0.6]
    # The geometric mean of the first sequence, sqrt(0.6) = 0.77, is within the band.
    assert got.weights_N.tolist() == pytest.approx(expected)
    assert not got.truncated_N.any() and got.dropped_N.tolist() == [False, True, False]


def test_no_gradient_flows_through_a_weight() -> None:
    given_ = inputs([0.5, 3.0], [0, 0])
    weights_N = correction_weights(given_, correction("token_tis")).weights_N
    assert not weights_N.requires_grad


@settings(max_examples=50, deadline=None)
@given(
    logs=st.lists(st.floats(-500, 500), min_size=1, max_size=12),
    cap=st.floats(0.1, 100),
    kind=st.sampled_from(["token_tis", "sequence_tis"]),
)
def test_weights_stay_within_zero_and_the_cap_whatever_the_logs(
    logs: list[float], cap: float, kind: str
) -> None:
    behaviour = torch.zeros(len(logs))
    given_ = LossInputs(
        logprobs_N=behaviour,
        behaviour_logprobs_N=behaviour,
        advantages_N=behaviour,
        entropy_N=behaviour,
        sequence_N=torch.arange(len(logs)) % 3 % len(logs),
        proximal_logprobs_N=torch.tensor(logs),
    )
    weights_N = correction_weights(given_, correction(kind, cap=cap)).weights_N  # type: ignore[arg-type]
    assert torch.isfinite(weights_N).all()
    assert (weights_N >= 0).all() and (weights_N <= cap * (1 + 1e-6)).all()


def test_weights_are_unbiased_below_the_cap() -> None:
    """The mean of w f over tokens drawn from mu is the mean of f under prox."""
    mu, prox = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    values = torch.tensor([1.0, -2.0, 5.0])
    got = correction_weights(
        LossInputs(
            prox.log(),
            torch.zeros(3),
            mu.log(),
            values,
            torch.arange(3),
            prox.log(),
        ),
        correction("token_tis", cap=2.5),
    )
    assert float((mu * got.weights_N * values).sum()) == pytest.approx(float((prox * values).sum()))
