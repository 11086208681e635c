"""The taskset that `vf-eval orch-env-vf` loads: its rows, and whether gold does each task.

Needs `pip install 'orch-rl[verifiers]'`. Run it with `python examples/verifiers_taskset.py`.
"""

import asyncio

from orch_env.adapters.verifiers import OrchConfig, OrchTaskset


async def main() -> None:
    """Check three held-out tasks as `vf-validate` does."""
    taskset = OrchTaskset(OrchConfig(tasks="harbour", split="heldout"))
    for task in taskset.take(3):
        print(f"{task.data.id}: {task.data.prompt}")
        print(f"gold does it: {await task.validate(None)}")


if __name__ == "__main__":
    asyncio.run(main())
