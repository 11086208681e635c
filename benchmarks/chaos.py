"""Training while runners, engines and whole nodes are killed at random; nothing may be lost.

The bundled model learns to write letters, sampled ahead of the learner (``max_staleness`` 1) by
Ray actors on several nodes of one machine. Kills are spread over the run, each at a random moment
of its step: SIGKILL to a runner, an engine that fails for good, SIGKILL to a node with all that
runs on it. At the end it is checked, and the exit status says it, that

- every step was done and there were as many kills as asked for;
- every group was trained exactly once, in whole, and none was left out;
- no token was older than allowed, and no episode that ended by infrastructure was scored.

    python -m benchmarks.chaos
    python -m benchmarks.chaos --steps 12 --kills 4
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import string
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from benchmarks.small_cluster import SmallCluster
from orch_env.types import StopReason
from orch_train import GRPO, GRPOConfig
from orch_train.engines.protocol import EngineError, SamplingParams, TokenOutput
from orch_train.engines.torch.engine import TorchEngine
from orch_train.models.load import load_model
from orch_train.sampling.task_order import TaskOrder

_KINDS = ("runner", "engine", "node")


class BreakableEngine(TorchEngine):
    """Fails for good as soon as the file ``break-PID`` stands in its folder."""

    def __init__(self, model: Any, folder: str, **options: Any) -> None:
        super().__init__(model, **options)
        self._switch = Path(folder) / f"break-{os.getpid()}"

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
    ) -> TokenOutput:
        """Sample one message, or fail."""
        if self._switch.exists():
            raise EngineError("broken on purpose")
        return await super().generate(prompt_ids, sampling, request_id)


def breakable_engine(model: str, folder: str) -> BreakableEngine:
    """The engine's factory, by the name ``benchmarks.chaos:breakable_engine``."""
    return BreakableEngine(load_model(model, "float32"), folder, num_threads=1)


def config(folder: Path, steps: int, runners: int, seed: int) -> GRPOConfig:
    """Small steps, patience with faults."""
    return (
        GRPOConfig()
        .environment(
            "tests.orch_train.toy_env:orch_test/Letters-v0",  # every step has a gradient
            env_config={"tasks": string.ascii_letters, "turns": 3},
        )
        .model("tiny")
        .rollouts(
            engine="benchmarks.chaos:breakable_engine",
            engine_config={"model": "tiny", "folder": str(folder)},
            max_tokens_per_turn=24,
            max_context=320,
        )
        .env_runners(
            num_env_runners=runners,
            num_envs_per_env_runner=8,
            num_cpus_per_env_runner=0.5,
            max_requests_in_flight_per_env_runner=2,
            sample_timeout_s=120.0,
        )
        .learners(num_cpus_per_learner=1, max_tokens_per_microbatch=2048)
        .training(iterations=steps, groups_per_batch=4, group_size=4, lr=1e-4, max_staleness=1)
        .fault_tolerance(
            max_num_env_runner_restarts=10_000,
            max_group_attempts=1000,
            delay_between_env_runner_restarts_s=0.0,
            env_runner_health_probe_timeout_s=60.0,
        )
        .debugging(seed=seed)
    )


class Killer:
    """Kills in a thread of its own, kill number i once step ``i * steps / kills`` is reached."""

    def __init__(
        self, algo: GRPO, cluster: SmallCluster, folder: Path, steps: int, kills: int, seed: int
    ) -> None:
        self._algo, self._cluster, self._folder = algo, cluster, folder
        self._due = [i * steps / (kills + 1) for i in range(1, kills + 1)]
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self.done: list[dict[str, Any]] = []
        self.problem: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def keep_up(self) -> None:
        """Wait until all kills of steps that are over were done: Ray may be slower than a step."""
        overdue = sum(due < self._algo.iteration for due in self._due)
        while len(self.done) < overdue and self._thread.is_alive():
            time.sleep(0.02)

    def stop(self) -> None:
        """End after the kill that is being done."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for number, due in enumerate(self._due):
                while self._algo.iteration < due:
                    if self._over.wait(0.05):
                        return
                if self._over.wait(self._rng.uniform(0.0, 1.0)):  # anywhere in the step
                    return
                self._kill(_KINDS[number % 3 if number < 3 else self._rng.randrange(3)])
        except Exception as problem:  # told at the end: a killer that died is no passed test
            self.problem = problem

    def _kill(self, kind: str) -> None:
        while not (pids := self._algo.runners.pids()):
            if self._over.wait(0.05):
                return
        if kind == "node" and len(self._cluster.nodes) < 2:
            kind = "runner"  # the last node stays until another has come
        victim: int = self._rng.choice(pids)
        if kind == "runner":
            os.kill(victim, signal.SIGKILL)
        elif kind == "engine":
            (self._folder / f"break-{victim}").touch()
        else:
            victim = self._rng.randrange(len(self._cluster.nodes))
            self._cluster.kill(victim)
        self.done.append({"kind": kind, "victim": victim, "step": self._algo.iteration})
        print(f"step {self._algo.iteration}: killed {kind} {victim}", file=sys.stderr)


def run(steps: int, kills: int, runners: int, nodes: int, seed: int) -> dict[str, Any]:
    """One chaos run; the report, with all that was found wrong under ``problems``."""
    started = time.perf_counter()
    seen: Counter[str] = Counter()
    problems: list[str] = []
    with (
        tempfile.TemporaryDirectory() as name,
        SmallCluster(nodes, cpus=1) as cluster,
        GRPO(config(Path(name), steps, runners, seed)) as algo,
    ):
        killer = Killer(algo, cluster, Path(name), steps, kills, seed)
        killer.start()
        try:
            for _ in range(steps):
                killer.keep_up()
                version = algo.weights_seq_no
                result = algo.train()
                problems += _check_step(algo, version, seen)
                cluster.refill()  # here, since Ray starts nodes in the main thread only
        finally:
            killer.stop()
        order = TaskOrder(algo._tasks.training, seed)
        size = algo.settings.training.groups_per_batch
        expected = {draw.group for draw in order.draw(steps * size)}
        if killer.problem is not None:
            problems.append(f"the killer failed: {killer.problem!r}")
    if set(seen) != expected:
        problems.append(f"{len(expected - set(seen))} groups were left out")
    problems += [f"group {name!r} was trained {n} times" for name, n in seen.items() if n > 1]
    if len(killer.done) < kills:
        problems.append(f"only {len(killer.done)} of {kills} kills were done")
    return {
        "steps": steps,
        "kills": dict(Counter(kill["kind"] for kill in killer.done)),
        "kill_log": killer.done,
        "groups_trained": len(seen),
        "weight_versions": result["weights_seq_no"],
        "fault_tolerance": result["fault_tolerance"],
        "seconds": time.perf_counter() - started,
        "problems": problems,
    }


def _check_step(algo: GRPO, version: int, seen: Counter[str]) -> list[str]:
    """What is wrong with the groups that the last step has learned from."""
    training, problems = algo.settings.training, []
    groups = [reply.group for reply in algo.last_batch]
    seen.update(group.id for group in groups)
    for group in groups:
        if len(group.samples) != training.group_size:
            problems.append(f"group {group.id!r} is not whole")
        for sample in group.samples:
            if sample.stop_reason in (None, StopReason.INFRASTRUCTURE):
                problems.append(f"group {group.id!r}: infrastructure was scored")
            age = version - sample.oldest_version
            if age > training.max_staleness:
                problems.append(f"group {group.id!r} is {age} versions old")
    return problems


def main() -> None:
    """Run, print, write the JSON; exit status 1 if something was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60, help="training steps")
    parser.add_argument("--kills", type=int, default=24, help="kills, spread over the steps")
    parser.add_argument("--runners", type=int, default=2, help="env runners")
    parser.add_argument("--nodes", type=int, default=2, help="nodes that they run on")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the kills")
    parser.add_argument("--out", type=Path, default=None, help="write the report here, as JSON")
    options = parser.parse_args()
    report = run(options.steps, options.kills, options.runners, options.nodes, options.seed)
    print(
        f"{report['steps']} steps, {sum(report['kills'].values())} kills {report['kills']}, "
        f"{report['groups_trained']} groups trained, {report['weight_versions']} weight versions, "
        f"{report['fault_tolerance']}, "
        f"{report['seconds']:.0f} s"
    )
    for problem in report["problems"]:
        print(f"WRONG: {problem}")
    if options.out is not None:
        settings = {key: value for key, value in vars(options).items() if key != "out"}
        write_report(options.out, {"config": settings, "machine": machine(), "results": report})
    sys.exit(1 if report["problems"] else 0)


if __name__ == "__main__":
    main()
