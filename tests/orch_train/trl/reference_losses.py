"""TRL's own loss code on given tensors; runs in TRL's environment, JSON in, JSON out.

    .venv-adapters/bin/python tests/orch_train/trl/reference_losses.py < cases.json

Only the forward pass is replaced: `GRPOTrainer._compute_loss` reads its log-probabilities from the
case and not from a model. Everything after that is TRL's.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer


def value_and_gradient(case: dict[str, Any]) -> dict[str, Any]:
    """The loss of one case and its gradient by the current log-probabilities, shape (B, T)."""
    current = torch.tensor(case["current"], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor(case["mask"])
    rows = len(case["current"])
    config = SimpleNamespace(
        delta=None, use_bias_correction_kl=False, steps_per_generation=1, sapo_temperature_pos=1.0
    )
    accelerator = SimpleNamespace(
        num_processes=1,
        sync_gradients=True,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        gather_for_metrics=lambda x: x,
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            current,
            torch.zeros(mask.shape),
            None,
        ),
        accelerator=accelerator,
        args=config,
        aux_loss_enabled=False,
        beta=case["kl_coeff"],
        current_gradient_accumulation_steps=1,
        epsilon_low=case["epsilon_low"],
        epsilon_high=case["epsilon_high"],
        importance_sampling_level=case["level"],
        loss_type=case["loss_type"],
        max_completion_length=case["length_constant"],
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    inputs = {
        "prompt_ids": torch.zeros(rows, 1, dtype=torch.long),
        "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": torch.tensor(case["advantages"], dtype=torch.float64),
        "old_per_token_logps": torch.tensor(case["behaviour"], dtype=torch.float64),
        "ref_per_token_logps": torch.tensor(case["reference"], dtype=torch.float64),
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return {"loss": loss.item(), "gradient": current.grad.tolist()}


if __name__ == "__main__":
    json.dump([value_and_gradient(case) for case in json.load(sys.stdin)], sys.stdout)
