"""Our side of the TRL comparison: `GRPO.train()` in one process, as a user would run it.

python -m benchmarks.trl_our_side JOB.json RESULT.json
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.envs.registration import register, registry

from benchmarks.trl_task import LETTERS, Job, prompt, reward, write_steps
from orch_env.env.spaces import TextSpace
from orch_env.types import Episode, RewardBreakdown, StopReason, Turn
from orch_train.algorithms.grpo_config import GRPOConfig

ENV = "orch_bench/Letters-v0"


@dataclass(frozen=True)
class LetterTask:
    """One prompt."""

    id: str


class LettersEnv(gym.Env[str, str]):
    """One message per episode, scored by `trl_task.reward`."""

    def __init__(self, prompts: int) -> None:
        self.action_space = self.observation_space = TextSpace(1 << 16)
        self.tasks = tuple(LetterTask(letter) for letter in LETTERS[:prompts])
        self._letter, self._seed = "a", 0
        self.episode = Episode("a")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the task ``options["task_id"]``."""
        super().reset(seed=seed)
        self._letter, self._seed = (options or {}).get("task_id", "a"), seed or 0
        return "", {"messages": prompt(self._letter), "tools": []}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Score the message."""
        return self.stop(StopReason.ANSWERED, action)

    def stop(
        self, reason: StopReason, action: str = ""
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Score the message, which is usually cut off by its length."""
        score = reward(action)
        self.episode = Episode(
            self._letter,
            self._seed,
            (Turn.of(action=action),),
            stop_reason=reason,
            reward=RewardBreakdown(score, {"digits": score}),
        )
        return "", score, True, False, {"messages": [], "success": score == 1.0}


if ENV not in registry:
    register(id=ENV, entry_point=LettersEnv)


def main(job: Job, result: Path) -> None:
    """Run the job's steps and write what they took."""
    torch.set_num_threads(job.threads)
    episodes = job.prompts * job.group_size
    with tempfile.TemporaryDirectory() as folder:
        config = (
            GRPOConfig()
            .environment(ENV, env_config={"prompts": job.prompts})
            .model(job.model)
            .rollouts(max_tokens_per_turn=job.new_tokens, max_context=job.new_tokens + 128)
            .env_runners(num_env_runners=0, num_envs_per_env_runner=episodes)
            .learners(
                num_cpus_per_learner=job.threads,
                max_tokens_per_microbatch=episodes * (job.new_tokens + 128),
            )
            .training(
                iterations=job.steps,
                groups_per_batch=job.prompts,
                group_size=job.group_size,
                lr=job.lr,
                loss="dapo",
                advantage="group_mean",
            )
            .reporting(log_dir=folder, tensorboard=False, checkpoint_interval=0)
            .debugging(seed=job.seed)
        )
        steps = []
        with config.build_algo() as algo:
            for _ in range(job.steps):
                steps.append(_measures(algo.train(), algo.last_batch))
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    write_steps(result, steps, versions)


def _measures(result: dict[str, Any], batch: Any) -> dict[str, float]:
    timers = result["timers"]
    learner = result["learners"]["default_policy"]
    samples = [sample for reply in batch for sample in reply.group.samples]
    return {
        # The whole of sampling: environments, rewards and bookkeeping included.
        "generate": timers["sample"],
        "learn": timers["learner_update"] + timers["synch_weights"],
        "total": result["time_this_iter_s"],
        "reward": result["env_runners"]["episode_return_mean"],
        "tokens": float(sum(s.num_actions for s in samples)),
        "prompt_tokens": float(sum(int(s.turns[0, 0]) for s in samples)),
        "trained_completions": learner["num_trajectories_learnt"],
    }


if __name__ == "__main__":
    main(Job.read(Path(sys.argv[1])), Path(sys.argv[2]))
