"""Which reward teaches where success is sparse? Long synthesised tasks, a warm start that fails.

Tasks of five to nine calls are synthesised from the bundled harbour cache; held-out tasks have
other workflows, ships and pilots. Per seed one warm start on imperfect demonstrations, which
succeeds in at most a tenth of its samples; from its model one GRPO run per reward, all else equal.
What is compared is measured without any of the rewards, as in ``benchmarks.reward_ablation``.

    python -m benchmarks.reward_sparse
    python -m benchmarks.reward_sparse --seeds 0 --rewards graduated binary

A run that is finished is not run again. Several processes can share the work: give each its own
``--seeds``, then report on all of them with a last call that finds nothing left to do. Rewards that
were not asked for stand in the report where their runs are there, and under ``not_run`` where not.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.reward_ablation import ablate, arguments
from benchmarks.synthesised_tasks import synthesised

CONFIG = Path("configs/reward_sparse.yaml")
JOB = Path("examples/synthesis/harbour_long.yaml")
REWARDS = ["graduated", "atomic only", "orchestration only", "binary"]
ITERATIONS = 16
QUICK_JOB = (
    "shape.calls=5",
    "splits={train: 8, heldout: 4}",
    "sampling.growth_tries=60",
)
QUICK = (
    "sft.max_steps=2",
    "sft.batch_size=2",
    "training.groups_per_batch=2",
    "training.group_size=2",
)
"""What ``--quick`` changes: a test of the script, not of learning."""


def main() -> int:
    """Make the tasks, run what is missing, then report on everything in the folder."""
    parser = arguments(__doc__, CONFIG, "reward_sparse", REWARDS, ITERATIONS)
    parser.add_argument("--job", type=Path, default=JOB, help="what tasks are made")
    parser.add_argument("--job-set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="test the script in a minute")
    options = parser.parse_args()
    job = [*options.job_set, *(QUICK_JOB if options.quick else ())]
    data, files = synthesised(options.job, options.runs / "tasks", job)
    options.set = [*options.set, *(QUICK if options.quick else ()), *files]
    if options.quick:
        options.iterations = 1
    return ablate(options, "reward_sparse", {"quick": options.quick, "data": data})


if __name__ == "__main__":
    sys.exit(main())
