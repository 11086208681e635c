"""Our losses have the value and the gradient of TRL's on the same tensors.

TRL lives in an environment of its own (`make adapters`); without it these tests are skipped. Its
code runs there in a subprocess, see `reference_losses`.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_train.learner.objective.losses import (
    LOSSES,
    BatchCounts,
    ClipRange,
    LossInputs,
    kl_estimate,
)

PYTHON = Path(".venv-adapters/bin/python")
SCRIPT = Path(__file__).with_name("reference_losses.py")
CLIP = ClipRange(0.2, 0.3)
LENGTH_CONSTANT = 11

pytestmark = [
    pytest.mark.adapters,
    pytest.mark.skipif(not PYTHON.exists(), reason="TRL is not installed: run `make adapters`"),
]

# Our name -> TRL's loss type, level of the ratio, upper bound. TRL's cispo bound is the ratio's
# own, and bnpo's local batch is here the whole one.
THEIRS = {
    "grpo": ("grpo", "token", CLIP.high),
    "dapo": ("dapo", "token", CLIP.high),
    "dr_grpo": ("dr_grpo", "token", CLIP.high),
    "bnpo": ("bnpo", "token", CLIP.high),
    "gspo": ("grpo", "sequence", CLIP.high),
    "cispo": ("cispo", "token", 1 + CLIP.high),
}
KL_COEFFS = (0.0, 0.05)


def _case(name: str, kl_coeff: float, seed: int) -> dict[str, Any]:
    """Four completions of one to seven tokens; ratios fall on both sides of the clip range."""
    rng = random.Random(f"{name}/{kl_coeff}/{seed}")
    lengths = [7, *(rng.randint(1, 7) for _ in range(3))]

    def table(low: float, high: float) -> list[list[float]]:
        return [[rng.uniform(low, high) for _ in range(7)] for _ in lengths]

    behaviour = table(-3.0, -0.1)
    moved = table(-0.5, 0.5)
    loss_type, level, epsilon_high = THEIRS[name]
    return {
        "name": name,
        "behaviour": behaviour,
        "current": [
            [a + b for a, b in zip(*rows, strict=True)]
            for rows in zip(behaviour, moved, strict=True)
        ],
        "reference": table(-3.0, -0.1),
        "advantages": [rng.uniform(-2.0, 2.0) for _ in lengths],
        "mask": [[t < length for t in range(7)] for length in lengths],
        "loss_type": loss_type,
        "level": level,
        "epsilon_low": CLIP.low,
        "epsilon_high": epsilon_high,
        "kl_coeff": kl_coeff,
        "length_constant": LENGTH_CONSTANT,
    }


CASES = [_case(name, kl, seed) for name in THEIRS for kl in KL_COEFFS for seed in range(5)]


@pytest.fixture(scope="module")
def theirs() -> list[dict[str, Any]]:
    done = subprocess.run(
        [PYTHON, SCRIPT],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _ours(case: dict[str, Any]) -> tuple[float, list[float]]:
    mask = torch.tensor(case["mask"])
    current_N = torch.tensor(case["current"], dtype=torch.float64)[mask].requires_grad_()
    rows, columns = mask.shape
    advantages = torch.tensor(case["advantages"], dtype=torch.float64)[:, None].expand(
        rows, columns
    )
    inputs = LossInputs(
        logprobs_N=current_N,
        entropy_N=torch.zeros_like(current_N),
        behaviour_logprobs_N=torch.tensor(case["behaviour"], dtype=torch.float64)[mask],
        advantages_N=advantages[mask],
        sequence_N=torch.arange(rows)[:, None].expand(rows, columns)[mask],
    )
    loss = LOSSES[case["name"]]
    losses_N = loss.token_losses(inputs, CLIP)
    if case["kl_coeff"]:
        reference_N = torch.tensor(case["reference"], dtype=torch.float64)[mask]
        losses_N = losses_N + case["kl_coeff"] * kl_estimate("k3", current_N, reference_N)
    counts = BatchCounts(int(mask.sum()), rows, LENGTH_CONSTANT)
    total = loss.total(losses_N, inputs, counts)
    total.backward()
    assert current_N.grad is not None
    return total.item(), current_N.grad.tolist()


@pytest.mark.parametrize("number", range(len(CASES)), ids=[c["name"] for c in CASES])
def test_value_and_gradient_are_those_of_trl(number: int, theirs: list[dict[str, Any]]) -> None:
    case, expected = CASES[number], theirs[number]
    value, gradient = _ours(case)
    assert value == pytest.approx(expected["loss"], rel=1e-9)
    mask = torch.tensor(case["mask"])
    wanted = torch.tensor(expected["gradient"], dtype=torch.float64)
    assert gradient == pytest.approx(wanted[mask].tolist(), rel=1e-9, abs=1e-12)
    assert not wanted[~mask].any()
    assert any(gradient)
