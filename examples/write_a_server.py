"""Write your own server: the code of docs/tutorials/write_a_server.md."""

from orch_env.cli.main import main

assert main(["servers", "check", "my_lockers:Lockers"]) == 0

import gymnasium as gym

from orch_env.servers import open_session

env = gym.make("orch_env:orch_env/ToolOrchestration-v0", servers=["my_lockers:Lockers"])
env.reset(seed=0)
step = env.unwrapped.step_message
name = next(iter(open_session("lockers").server.parcels.values())).to
found, *_ = step({"tool_calls": [{"function": {"name": "find_parcel", "arguments": {"to": name}}}]})
print(found)

from orch_env.backends.local import LocalBackend
from orch_env.importers.validation import validate_tasks
from tools.server_tasks.build import Choice, task_of
from tools.server_tasks.chains import Chain, call, out


def collect(lockers, chance):
    """Someone collects a parcel."""
    parcel = chance.pick(list(lockers.parcels.values()))
    return Chain(
        f"I am {parcel.to}. Open the locker with my parcel, please; my code is {parcel.code}.",
        call("find_parcel", to=parcel.to),
        call("open_locker", parcel=out(0, "/parcel"), code=parcel.code),
    )


def keep_longer(lockers, chance):
    """Someone is away for some days."""
    parcel, days = chance.pick(list(lockers.parcels.values())), chance.between(1, 3)
    return Chain(
        f"I am {parcel.to} and away this week. Keep my parcel {days} days longer, please.",
        call("find_parcel", to=parcel.to),
        call("extend", parcel=out(0, "/parcel"), days=days),
    )


tasks = [
    task_of("lockers", chain, Choice(), f"{chain.__name__}-{seed}", seed)
    for chain in (collect, keep_longer)
    for seed in range(3)
]
print(tasks[0].gold[1][0].provenance["/parcel"])
print(validate_tasks(tasks, LocalBackend()))
