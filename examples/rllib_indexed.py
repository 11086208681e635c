"""PPO on the indexed view learns which of 8 candidate messages to send.

Needs `pip install 'orch-rl[rllib]'`. Run it with `python examples/rllib_indexed.py`.
"""

import argparse

import ray
from ray.rllib.algorithms.ppo import PPOConfig

from orch_env.adapters import rllib


def main() -> None:
    """Train, and print the mean return of each iteration."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--iterations", type=int, default=40)
    options.add_argument("--steps", type=int, default=4024, help="environment steps an iteration")
    given = options.parse_args()
    ray.init(num_cpus=2, include_dashboard=False)
    rllib.register("orch_env")
    config = (
        PPOConfig()
        .environment(
            "orch_env",
            env_config={
                "view": "indexed",
                "tasks": "harbour",
                "split": "train",
                "num_candidates": 8,
            },
        )
        .env_runners(num_env_runners=1, num_envs_per_env_runner=8)
        .training(
            train_batch_size_per_learner=given.steps,
            minibatch_size=256,
            num_epochs=12,
            lr=2e-3,
            gamma=1.0,
            entropy_coeff=0.003,
        )
        .debugging(seed=0)
    )
    algo = config.build_algo()
    try:
        for number in range(1, given.iterations + 1):
            result = algo.train()
            played = result["env_runners"]
            loss = float(result["learners"]["default_policy"]["total_loss"])
            print(
                f"{number} return {played['episode_return_mean']:.3f} "
                f"episodes {played['num_episodes']} loss {loss:.4f}",
                flush=True,
            )
    finally:
        algo.stop()
        ray.shutdown()


if __name__ == "__main__":
    main()
