"""An OpenEnv server and a client of it, with a task's gold calls in a model's place.

Needs `pip install 'orch-rl[openenv]'`. Run it with `python examples/openenv_client.py`.
"""

import subprocess
import sys

from openenv import GenericEnvClient

from orch_env import load_tasks
from orch_env.replay.policies import make_policy

SERVER = [sys.executable, "-m", "orch_env.adapters.openenv", "--split", "heldout", "--port", "0"]


def main() -> None:
    """Serve the held-out tasks, and play two of them over a connection."""
    tasks = {task.id: task for task in load_tasks("harbour")}
    with subprocess.Popen(SERVER, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with GenericEnvClient(base_url=address).sync() as client:
            for index in range(2):
                play(client, index, tasks)
        server.terminate()


def play(client, index, tasks):
    """One episode: the model's messages as text; `tool_calls` in OpenAI's shape would do, too."""
    result = client.reset(index=index, seed=0)
    model = make_policy("gold")
    model.start(tasks[client.state()["task_id"]])
    print(f"{len(result.observation['new_tools'])} tools")
    print(f"user: {result.observation['messages'][-1]['content']}")
    while not result.done:
        action = model.act("", {})
        result = client.step({"message": action})
        print(f"assistant: {action}")
        for message in result.observation["messages"]:
            print(f"{message['role']}: {message['content']}")
    print(f"reward {result.reward}, {result.observation['stop_reason']}\n")


if __name__ == "__main__":
    main()
