"""Rollouts as SkyRL's generator drives them, with a task's gold calls in a model's place.

Needs `pip install 'orch-rl[skyrl]'`. Run it with `python examples/skyrl_rollouts.py`.
"""

import skyrl_gym

from orch_env import EpisodeSource, load_tasks
from orch_env.adapters import skyrl
from orch_env.replay.policies import make_policy


def main() -> None:
    """Play two tasks and print the conversations."""
    skyrl.register(tasks="harbour", split="heldout")
    tasks = {task.id: task for task in load_tasks("harbour")}
    for row in list(EpisodeSource(tasks="harbour", split="heldout").rows())[:2]:
        # SkyRL hands over the row's other columns as extras, and adds max_turns.
        extras = {"task_id": row["task_id"], "seed": row["seed"], "max_turns": 10}
        env = skyrl_gym.make("orch_env", env_config={}, extras=extras)
        prompt, _ = env.init(row["messages"])
        print(f"system: {len(prompt[0]['content'])} characters that offer the tools")
        print(f"user: {prompt[-1]['content']}")
        model = make_policy("gold")
        model.start(tasks[row["task_id"]])
        done = False
        while not done:
            action = model.act("", {})
            out = env.step(action)
            print(f"assistant: {action}")
            for message in out["observations"]:
                print(f"{message['role']}: {message['content']}")
            done = out["done"]
        print(f"reward {out['reward']}, {env.get_metrics()}\n")
        env.close()


if __name__ == "__main__":
    main()
