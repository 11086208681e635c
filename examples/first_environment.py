"""Your first environment: the code of docs/tutorials/first_environment.md."""

import json

import gymnasium as gym

import orch_env

env = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour")
obs, info = env.reset(seed=0, options={"task_id": "pilotage-train-000"})
print(obs)
print([tool["function"]["name"] for tool in info["tools"]])


def call(tool, /, **arguments):
    """One call as a model writes it."""
    return f"<tool_call>\n{json.dumps({'name': tool, 'arguments': arguments})}\n</tool_call>"


obs, reward, terminated, truncated, info = env.step(
    call("find_ship", name="Lotedo") + call("find_pilot", name="Rukune")
)
print(obs)
print(reward, terminated, truncated)

obs, *_ = env.step(call("book_pilot", ship="Lotedo"))
print(json.dumps(json.loads(obs.splitlines()[1]), indent=2))

obs, reward, terminated, truncated, info = env.step(
    call("book_pilot", pilot="P-4346", ship="S-3482")
)
print(obs)

obs, reward, terminated, truncated, info = env.step("The pilot is booked.")
print(reward, terminated, info["stop_reason"])
for account in info["reward"]["calls"]:
    print(account["turn"], account["gold"], account["why"])
