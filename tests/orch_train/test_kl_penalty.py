"""KL estimators: by hand, and what they are on average under the policy that sampled."""

from __future__ import annotations

import math

import pytest
import torch

from orch_env.types import OrchError
from orch_train.learner.objective.losses import kl_estimate

POLICY = torch.tensor([0.5, 0.3, 0.2])
REFERENCE = torch.tensor([0.7, 0.2, 0.1])


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        # pi = 0.5, reference = 0.25: d = log 2
        ("k1", math.log(2)),
        ("k2", math.log(2) ** 2 / 2),
        ("k3", 0.5 - 1 + math.log(2)),
    ],
)
def test_each_estimator_by_hand(estimator: str, expected: float) -> None:
    got = kl_estimate(estimator, torch.tensor([0.5]).log(), torch.tensor([0.25]).log())
    assert got.tolist() == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator: str) -> None:
    each = kl_estimate(estimator, POLICY.log(), REFERENCE.log())
    exact = (POLICY * (POLICY / REFERENCE).log()).sum()
    assert float((POLICY * each).sum()) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_k2_and_k3_are_never_negative(estimator: str) -> None:
    gaps = torch.arange(-150, 151) / 10.0
    got = kl_estimate(estimator, gaps, torch.zeros(301))
    assert (got >= 0).all() and got[150] == 0


def _mean_gradient(estimator: str) -> torch.Tensor:
    """The expected gradient, by logits, of the estimate as a loss under the policy itself."""
    logits = POLICY.log().clone().requires_grad_()
    each = kl_estimate(estimator, logits.log_softmax(-1), REFERENCE.log())
    (POLICY * each).sum().backward()
    assert logits.grad is not None
    return logits.grad


def test_the_gradients_are_what_the_docstring_says() -> None:
    logits = POLICY.log().clone().requires_grad_()
    logprobs = logits.log_softmax(-1)
    (logprobs.exp() * (logprobs - REFERENCE.log())).sum().backward()
    torch.testing.assert_close(_mean_gradient("k1"), torch.zeros(3), atol=1e-7, rtol=0)
    torch.testing.assert_close(_mean_gradient("k2"), logits.grad)
    # KL(reference || policy) has the gradient policy - reference, by logits.
    torch.testing.assert_close(_mean_gradient("k3"), POLICY - REFERENCE)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_huge_gaps_stay_finite(estimator: str) -> None:
    logprobs = torch.tensor([-200.0, -1.0, -1.0], requires_grad=True)
    got = kl_estimate(estimator, logprobs, torch.tensor([-1.0, -200.0, -2.0]))
    got.sum().backward()
    assert torch.isfinite(got).all()
    assert logprobs.grad is not None and torch.isfinite(logprobs.grad).all()


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(OrchError, match="k1, k2 or k3"):
        kl_estimate("k4", POLICY, REFERENCE)
