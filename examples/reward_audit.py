"""A reward and its audit: the code of docs/tutorials/reward_audit.md."""

from orch_env.cli.main import main

from orch_env import load_tasks, make_reward
from orch_env.audit import attack
from orch_env.backends.open import make_backend

tasks = load_tasks("harbour")[::300]
backend = make_backend("harbour", None, tasks)
names = ("my_rewards:tools_used", "my_rewards:mended", "graduated")
report = attack(tasks, backend, {name: make_reward(name) for name in names})
for policy in ("gold", "honest_half", "names_only", "one_message", "padded_beyond", "place_spam"):
    print(f"{policy:14}", *(f"{report.means[name, policy]:.2f}" for name in names))

for name in names:
    print(name, sorted({breach.exploit for breach in report.breaches if breach.reward == name}))
backend.close()

assert (
    main(
        [
            "reward",
            "attack",
            "--reward",
            "my_rewards:mended",
            "--tasks",
            "harbour/heldout",
            "--limit",
            "2",
        ]
    )
    == 0
)
