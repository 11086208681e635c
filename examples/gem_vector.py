"""Eight episodes side by side in gem, with random calls of the offered tools.

Needs `pip install 'orch-rl[gem]'`. Run it with `python examples/gem_vector.py`.
"""

import gem

from orch_env.adapters import gem as orch_gem


def main() -> None:
    """Take a hundred steps, and print what the episodes that ended earned."""
    orch_gem.register(tasks="harbour", split="train")
    envs = gem.make_vec(["orch_env"] * 8, async_mode=True, seed=0)
    observations, _ = envs.reset()
    print(observations[0][-200:])
    earned = []
    for _ in range(100):
        actions = [env.sample_random_action() for env in envs.envs]
        observations, rewards, terminations, truncations, _ = envs.step(actions)
        earned += rewards[terminations | truncations].tolist()
    print(f"{len(earned)} episodes ended, with {sum(earned) / len(earned):.3f} on average")


if __name__ == "__main__":
    main()
