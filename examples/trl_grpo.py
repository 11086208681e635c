"""Train a model on the bundled world with TRL's GRPOTrainer.

    python -m examples.trl_grpo --model runs/quickstart-sft/model --steps 30 --curve curve.json

The model has to know how calls are written. `orch sft configs/quickstart.yaml` makes the tiny one
that the figures in docs/adapters/trl.md start from.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from orch_env import EpisodeSource
from orch_env.adapters.trl import OrchSpec, TranscriptReward


def main() -> None:
    """Train, and write what was measured on held-out tasks."""
    options = arguments()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    source = EpisodeSource("harbour", max_turns=8, max_errors=3)
    spec = OrchSpec(source, tokenizer)
    # A second reward of weight 0 measures: whether the task was done.
    done = TranscriptReward(replace(source, reward="binary"), spec.end, name="success")
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
        processing_class=tokenizer,
        environment_factory=spec.environment_factory,
        reward_funcs=[*spec.reward_funcs, done],
        train_dataset=spec.dataset("train"),
        eval_dataset=spec.dataset("heldout"),
        args=GRPOConfig(
            output_dir=options.out,
            max_steps=options.steps,
            per_device_train_batch_size=options.prompts * options.group,
            num_generations=options.group,
            max_completion_length=320,
            generation_kwargs={"max_new_tokens": 32},  # of one message
            max_tool_calling_iterations=source.max_turns,
            reward_weights=[1.0, 0.0],
            learning_rate=options.lr,
            lr_scheduler_type="constant",
            beta=0.0,
            temperature=1.0,
            eval_strategy="steps" if options.eval_every else "no",
            eval_steps=options.eval_every or None,
            eval_on_start=bool(options.eval_every),
            num_generations_eval=1,
            per_device_eval_batch_size=240,
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            seed=options.seed,
        ),
    )
    trainer.train()
    measured = curve(trainer.state.log_history)
    if options.curve:
        options.curve.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured))


def curve(log: list[dict[str, float]]) -> dict[str, list[dict[str, float]]]:
    """What TRL logged: of each training step, and of each evaluation."""
    trained = ("reward", "grad_norm", "tools/call_frequency", "step_time")
    held_out = ("eval_reward", "eval_rewards/success/mean")
    return {
        name: [{k: row[k] for k in ("step", *keys)} for row in log if keys[0] in row]
        for name, keys in (("trained", trained), ("held_out", held_out))
    }


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a model and its tokenizer")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--prompts", type=int, default=12, help="tasks of a step")
    parser.add_argument("--group", type=int, default=8, help="rollouts of a task")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--eval-every", type=int, default=15, help="steps; 0: never")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/trl", help="folder that TRL writes to")
    parser.add_argument("--curve", type=Path, help="a JSON file of what was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
