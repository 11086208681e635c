"""TRL's side of the comparison: `GRPOTrainer.train()`, timed from outside.

.venv-adapters/bin/python -m benchmarks.trl_their_side JOB.json RESULT.json
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.trl_task import LETTERS, Job, prompt, reward, write_steps


class Clock(TrainerCallback):
    """Seconds of whole steps, and of the parts that it was told to watch."""

    def __init__(self) -> None:
        self.parts = {"generate": 0.0, "sampled": 0.0}
        self.counts = {"tokens": 0, "prompt_tokens": 0}
        self.steps: list[dict[str, float]] = []
        self.rewards: list[float] = []
        self._started = 0.0

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Add the seconds of a method to a part."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            found = inner(*args, **options)
            self.parts[part] += time.perf_counter() - started
            if part == "generate":
                self.counts["prompt_tokens"] += sum(len(ids) for ids in args[0])
                self.counts["tokens"] += sum(len(ids) for ids in found[0])
            return found

        setattr(owner, method, timed)

    def on_train_begin(self, *args: Any, **options: Any) -> None:
        """The first step starts here."""
        self._started = time.perf_counter()

    def on_step_end(self, *args: Any, **options: Any) -> None:
        """The optimizer has stepped."""
        now = time.perf_counter()
        total = now - self._started
        self.steps.append(
            {
                "generate": self.parts["generate"],
                "learn": total - self.parts["sampled"],
                "total": total,
                "reward": sum(self.rewards) / len(self.rewards),
                **{name: float(count) for name, count in self.counts.items()},
                "trained_completions": float(len(self.rewards)),
            }
        )
        self.parts = dict.fromkeys(self.parts, 0.0)
        self.counts = dict.fromkeys(self.counts, 0)
        self.rewards.clear()
        self._started = now


def main(job: Job, result: Path) -> None:
    """Run the job's steps and write what they took."""
    torch.set_num_threads(job.threads)
    clock = Clock()

    def digits(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
        scores = [reward(messages[0]["content"]) for messages in completions]
        clock.rewards.extend(scores)
        return scores

    data = Dataset.from_dict({"prompt": [prompt(c) for c in LETTERS[: job.prompts]]})
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(job.model),
            reward_funcs=digits,
            train_dataset=data,
            args=_arguments(job, folder),
            callbacks=[clock],
        )
        clock.watch(trainer, "_generate_single_turn", "generate")
        clock.watch(trainer, "_generate_and_score_completions", "sampled")
        trainer.train()
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")}
    write_steps(result, clock.steps, versions)


def _arguments(job: Job, folder: str) -> GRPOConfig:
    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=job.prompts * job.group_size,
        gradient_accumulation_steps=1,
        num_generations=job.group_size,
        max_completion_length=job.new_tokens,
        max_steps=job.steps,
        learning_rate=job.lr,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        max_grad_norm=1.0,
        loss_type="dapo",
        scale_rewards="none",
        beta=0.0,
        temperature=1.0,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=job.steps,
        seed=job.seed,
    )


if __name__ == "__main__":
    main(Job.read(Path(sys.argv[1])), Path(sys.argv[2]))
