"""How long sampling stands still when the only runner, or the node under it, is killed (C13).

    runner  SIGKILL to the runner's process -> the first group sampled by its replacement
    node    SIGKILL to the node that it runs on -> the same, on the other node

A group is one episode of one short message, so its return stands for the first new token. Both are
compared with the start of an engine on an idle cluster, measured in the same run: the process, its
imports, the model, the weights, and the first group. `small_cluster` says when a dead node is
noticed.

    python -m benchmarks.recovery
    python -m benchmarks.recovery --repeats 1 --check      # small, with slack
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import machine, write_report
from benchmarks.small_cluster import SmallCluster
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.models.load import load_model
from orch_train.runners.ray_runner_group import RayRunnerGroup
from orch_train.trajectory.requests import SampleRequest
from orch_train.weight_sync.buckets import Weights

SLACK_S = 5.0


def settings() -> Settings:
    """One runner of half a CPU, on whichever node has it; no delay before a restart."""
    return (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour", "split": "train", "max_turns": 1})
        .model("tiny")
        .rollouts(max_tokens_per_turn=4, max_context=320)
        .env_runners(num_env_runners=1, num_envs_per_env_runner=2, num_cpus_per_env_runner=0.5)
        .training(group_size=2)
        .fault_tolerance(
            delay_between_env_runner_restarts_s=0.0, max_num_env_runner_restarts=10_000
        )
        .settings
    )


class Clock:
    """Samples one episode after the other and measures until one is back."""

    def __init__(self, task: str) -> None:
        self._task, self._number = task, 0

    def next_group(self, runners: RayRunnerGroup) -> None:
        """Wait for one more group."""
        self._number += 1
        name = f"g{self._number}"
        runners.sample([SampleRequest(name, self._task, 0, self._number)])

    def seconds(self, runners: RayRunnerGroup, blow: Callable[[], None]) -> float:
        """From the blow to the first group after it."""
        (dead,) = runners.pids()
        started = time.perf_counter()
        blow()
        self.next_group(runners)
        while runners.pids() in ([], [dead]):  # a process may outlive its node for a moment
            self.next_group(runners)
        return time.perf_counter() - started


def node_of(runners: RayRunnerGroup, cluster: SmallCluster) -> int:
    """Number of the node that the runner runs on."""
    (pid,) = runners.pids()
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return cluster.raylets().index(parent)


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat, by what was done."""
    from orch_train.rollouts.environments import EnvFactory

    configured = settings()
    weights: Weights = load_model("tiny", "float32").state_dict()
    clock = Clock(EnvFactory(configured, held_out=False)().unwrapped.tasks[0].id)
    found: dict[str, list[float]] = {"start": [], "runner": [], "node": []}
    with SmallCluster(nodes=2, cpus=1) as cluster:
        RayRunnerGroup(configured, weights, 0).stop()  # not counted: files come from a cold disk
        for _ in range(repeats):
            started = time.perf_counter()
            runners = RayRunnerGroup(configured, weights, 0)
            try:
                clock.next_group(runners)
                found["start"].append(time.perf_counter() - started)
                (pid,) = runners.pids()
                found["runner"].append(
                    clock.seconds(runners, lambda pid=pid: os.kill(pid, signal.SIGKILL))  # type: ignore[misc]
                )
                home = node_of(runners, cluster)
                found["node"].append(
                    clock.seconds(runners, lambda home=home: cluster.kill(home))  # type: ignore[misc]
                )
            finally:
                runners.stop()
            cluster.refill()
    return found


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="kills of each kind")
    parser.add_argument("--out", type=Path, default=None, help="write the report here, as JSON")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a kill costs 20 s more than a start"
    )
    options = parser.parse_args()
    found = measure(options.repeats)
    start = statistics.median(found["start"])
    low, high = min(found["start"]), max(found["start"])
    print(f"start of an engine   {start:6.2f} s  [{low:.2f}, {high:.2f}]")
    extra = {}
    for kind in ("runner", "node"):
        seconds = found[kind]
        extra[kind] = statistics.median(seconds) - start
        verdict = "holds" if extra[kind] <= SLACK_S else "MISSED"
        print(
            f"{kind + ' killed':<20} {statistics.median(seconds):6.2f} s  [{min(seconds):.2f}, "
            f"{max(seconds):.2f}]  start {extra[kind]:+.2f} s  <= +{SLACK_S:g}  {verdict}"
        )
    if options.out is not None:
        report = {"seconds": found, "over_start": extra, "hold_s": SLACK_S}
        config = {"repeats": options.repeats, "model": "tiny"}
        write_report(options.out, {"config": config, "machine": machine(), "results": report})
    if options.check and max(extra.values()) > 4 * SLACK_S:
        sys.exit(1)


if __name__ == "__main__":
    main()
