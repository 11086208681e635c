"""How well sampling and learning overlap: the production queues around simulated work.

What is real: the admission book, the sampling thread, the ledger, the runner group and its event
loop. What is simulated: an engine that generates ``groups * size`` messages at the same time, each
for so many seconds, and a learner that sleeps. Seconds are simulated ones; the clock runs
``--scale`` times faster. All figures are ratios to an ideal that is computed, or to our own
synchronous mode (``max_staleness`` 0) measured in the same run:

    C1  wall clock in step / ahead (S = 1), over (Tg + Tt) / max(Tg, Tt); constant and lognormal;
        and, since our own mode in step has overhead too, the least wall clock of any schedule
    C2  share of the time that the learner waits after its first batch, at Tg = 0.9 Tt
    C3  wall clock in step / ahead with four tool calls an episode, p50 50 ms, p99 1 s
    C5  microseconds of our own code per turn: an engine and an environment that answer at once;
        and of a training step of 100 ms, the share that the queues take

A tool call waits without holding a place in the engine, and beside all others. C3 is shown for
S = 1 and S = 2: where the slowest episode of a batch takes longer than an update, a sampler that
waits for it is at most S + 1 times as fast as in step, since no more batches are under way. The
last row lets such stragglers come `STRAGGLER_STEPS` batch later (`straggler_steps`), with
no more groups under way than S = 1 allows.

    python -m benchmarks.overlap
    python -m benchmarks.overlap --steps 12 --repeats 1 --check     # small, with slack
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.control_overhead import Overhead, control_overhead, queue_seconds
from benchmarks.report import machine, write_report
from orch_env.types import Episode, StopReason
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.runners.runner_group import LocalRunnerGroup
from orch_train.sampling.ahead import StreamedSampling
from orch_train.sampling.observer import SilentObserver
from orch_train.sampling.synchronous import Sampling, SynchronousSampling
from orch_train.sampling.task_order import TaskOrder
from orch_train.trajectory.requests import EpisodeRecord, SampleReply, SampleRequest
from orch_train.trajectory.sample import Group, TrainingSample
from orch_train.weight_sync.buckets import Weights

_TOOL_SIGMA = math.log(1.0 / 0.05) / 2.326  # of a lognormal with p50 50 ms and p99 1 s


STRAGGLER_STEPS = 1


@dataclass(frozen=True)
class Load:
    """What a step costs, in simulated seconds.

    Attributes:
        generation: mean seconds that an episode generates.
        learning: seconds of an update.
        sigma: of the lognormal generation time; 0 is constant.
        tool_calls: calls per episode, between equal parts of the generation.
    """

    generation: float = 2.0
    learning: float = 1.6
    sigma: float = 0.0
    tool_calls: int = 0


@dataclass(frozen=True)
class Shape:
    """How much is sampled: groups in a batch, episodes in a group, steps, and how fast it runs."""

    groups: int = 16
    size: int = 8
    steps: int = 50
    scale: float = 20.0
    seed: int = 0


@dataclass(frozen=True)
class Timing:
    """One run, in simulated seconds; ``bubble`` is the learner's idle share after batch one.

    Staleness is that of an episode's oldest token, in steps.
    """

    wall: float
    bubble: float
    max_staleness: int
    mean_staleness: float


class SimulatedRunner:
    """Stands in for `EnvRunner`: same calls; episodes that only take time."""

    def __init__(self, shape: Shape, load: Load) -> None:
        self._shape, self._load = shape, load
        self._engine = asyncio.Semaphore(shape.groups * shape.size)
        self._version = -1

    async def sample(self, request: SampleRequest) -> SampleReply:
        """Play one group."""
        samples = [TrainingSample(m, reward=float(m)) for m in range(request.size)]
        records = await asyncio.gather(*(self._episode(request.id, s) for s in samples))
        group = Group(request.id, request.task_id, request.env_seed, samples)
        return SampleReply(group, list(records))

    async def serve(self, weights: Weights, version: int) -> int:
        """Label what is sampled from now on."""
        self._version = version
        return version

    def stop(self) -> None:
        """Nothing is held."""

    async def _episode(self, group: str, sample: TrainingSample) -> EpisodeRecord:
        # Seeded by the episode: in step and ahead of the learner, the same work is done.
        rng = random.Random(f"{self._shape.seed}/{group}/{sample.member}")
        load = self._load
        spread = math.exp(rng.gauss(0.0, load.sigma) - load.sigma**2 / 2) if load.sigma else 1.0
        part = load.generation * spread / (load.tool_calls + 1)
        started = time.perf_counter()
        for turn in range(load.tool_calls + 1):
            sample.append_context([1])
            async with self._engine:
                sample.append_action([2], [-0.5], [self._version])
                await asyncio.sleep(part / self._shape.scale)
            if turn < load.tool_calls:
                latency = 0.05 * math.exp(rng.gauss(0.0, _TOOL_SIGMA))
                await asyncio.sleep(latency / self._shape.scale)
        episode = Episode(group, 0, stop_reason=StopReason.ANSWERED)
        seconds = {"generate": time.perf_counter() - started}
        return EpisodeRecord(episode, seconds)


def settings_of(shape: Shape, ahead: int, late: int = 0) -> Settings:
    """One runner that may hold every group that is admitted."""
    return (
        GRPOConfig()
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=(ahead + 1) * shape.groups * shape.size,
        )
        .training(
            groups_per_batch=shape.groups,
            group_size=shape.size,
            iterations=shape.steps,
            max_staleness=ahead,
            straggler_steps=late,
        )
        .debugging(seed=shape.seed)
        .settings
    )


def train(shape: Shape, load: Load, ahead: int, late: int = 0) -> Timing:
    """One run of the algorithm's loop around simulated work."""
    settings = settings_of(shape, ahead, late)
    runner: Any = SimulatedRunner(shape, load)
    runners = LocalRunnerGroup(runner, settings, {}, 0)
    order = TaskOrder([f"t{i}" for i in range(shape.groups * shape.steps)], shape.seed)
    watch: Any = {"step": 0, "observer": SilentObserver(), "should_stop": lambda: False}
    sampling: Sampling = (
        StreamedSampling(settings, runners, order, version=0, **watch)
        if ahead
        else SynchronousSampling(settings, runners, order, **watch)
    )
    started = first = time.perf_counter()
    waited, ages = 0.0, list[int]()
    try:
        for step in range(shape.steps):
            asked = time.perf_counter()
            batch = sampling.next_batch()
            taken = time.perf_counter()
            if step == 0:
                first = taken
            else:
                waited += taken - asked
            versions = [s.oldest_version for reply in batch for s in reply.group.samples]
            ages += [step - version for version in versions]
            time.sleep(load.learning / shape.scale)
            sampling.step_done({}, step + 1)
        ended = time.perf_counter()
    finally:
        sampling.stop()
        runners.stop()
    wall, idle = (ended - started) * shape.scale, waited / (ended - first)
    return Timing(wall, idle, max(ages), statistics.mean(ages))


@dataclass(frozen=True)
class Row:
    """A figure: median and range over the repeats, and what is asked for."""

    id: str
    what: str
    median: float
    lowest: float
    highest: float
    hold: float
    at_least: bool
    values: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether the median is as asked."""
        return self.median >= self.hold if self.at_least else self.median <= self.hold


def measure(repeats: int, what: Callable[[], tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """Median, range, and the last repeat's details."""
    found = [what() for _ in range(repeats)]
    figures = [figure for figure, _ in found]
    return {
        "median": statistics.median(figures),
        "lowest": min(figures),
        "highest": max(figures),
        "values": found[-1][1],
    }


def speed_up(
    shape: Shape, load: Load, ideal: float, staleness: int = 1, late: int = 0
) -> tuple[float, dict[str, Any]]:
    """Wall clock in step over that ahead of the learner, over an ideal.

    Raises:
        AssertionError: a token was older than allowed.
    """
    in_step, ahead = train(shape, load, 0), train(shape, load, staleness, late)
    assert in_step.max_staleness == 0 and ahead.max_staleness <= staleness + late
    ratio = in_step.wall / ahead.wall
    return ratio / ideal, {"in_step": asdict(in_step), "ahead": asdict(ahead), "speed_up": ratio}


def least_share(shape: Shape, load: Load) -> tuple[float, dict[str, Any]]:
    """The least wall clock that any schedule needs for even work, over ours."""
    timing = train(shape, load, 1)
    each, once = max(load.generation, load.learning), min(load.generation, load.learning)
    least = shape.steps * each + once
    return least / timing.wall, {"least_wall": least, **asdict(timing)}


def rows(shape: Shape, repeats: int) -> list[Row]:
    """All figures."""
    even = Load()
    ideal = (even.generation + even.learning) / max(even.generation, even.learning)
    spread, tools = replace(even, sigma=1.0), replace(even, tool_calls=4)
    fast = replace(even, generation=0.9 * even.learning)

    def bubble() -> tuple[float, dict[str, Any]]:
        timing = train(shape, fast, 1)
        return timing.bubble, asdict(timing)

    def overhead() -> tuple[float, dict[str, Any]]:
        found: Overhead = control_overhead()
        return found.per_turn_us, asdict(found)

    def queues() -> tuple[float, dict[str, Any]]:
        seconds = queue_seconds(shape.groups, shape.size)
        return seconds / 0.1, {"ms_per_step": 1e3 * seconds}

    constant = measure(repeats, lambda: speed_up(shape, even, ideal))
    least = measure(repeats, lambda: least_share(shape, even))
    lognormal = measure(repeats, lambda: speed_up(shape, spread, ideal))
    calls = measure(repeats, lambda: speed_up(shape, tools, 1.0))
    later = measure(repeats, lambda: speed_up(shape, tools, 1.0, late=STRAGGLER_STEPS))
    more_calls = measure(repeats, lambda: speed_up(shape, tools, 1.0, staleness=2))
    return [
        Row("C1", "speed-up / ideal, constant", hold=0.90, at_least=True, **constant),
        Row("C1", "ideal wall clock / ours, constant", hold=0.90, at_least=True, **least),
        Row("C1", "speed-up / ideal, lognormal", hold=0.85, at_least=True, **lognormal),
        Row(
            "C2", "learner idle, Tg = 0.9 Tt", hold=0.10, at_least=False, **measure(repeats, bubble)
        ),
        Row("C3", "in step / ahead, 4 calls, S = 1", hold=2.0, at_least=True, **calls),
        Row("C3", "in step / ahead, 4 calls, S = 2", hold=2.0, at_least=True, **more_calls),
        Row("C3", "S = 1, stragglers come later", hold=2.0, at_least=True, **later),
        Row(
            "C5", "own code per turn, us", hold=150.0, at_least=False, **measure(repeats, overhead)
        ),
        Row("C5", "queues / step of 100 ms", hold=0.02, at_least=False, **measure(repeats, queues)),
    ]


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50, help="training steps of a run")
    parser.add_argument("--scale", type=float, default=20.0, help="simulated seconds per second")
    parser.add_argument("--repeats", type=int, default=5, help="runs; the median counts")
    parser.add_argument("--out", type=Path, default=None, help="write the report here, as JSON")
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 below 0.7, or above 2.5 times a hold",
    )
    options = parser.parse_args()
    shape = Shape(steps=options.steps, scale=options.scale)
    found = rows(shape, options.repeats)
    for row in found:
        sign, verdict = ">=" if row.at_least else "<=", "holds" if row.holds else "MISSED"
        print(
            f"{row.id}  {row.what:<32} {row.median:8.3f}  [{row.lowest:.3f}, {row.highest:.3f}]"
            f"  {sign} {row.hold:g}  {verdict}"
        )
    if options.out is not None:
        config = {**asdict(shape), "repeats": options.repeats}
        results = [{**asdict(row), "holds": row.holds} for row in found]
        write_report(options.out, {"config": config, "machine": machine(), "results": results})
    if options.check and any(not within_slack(row) for row in found):
        sys.exit(1)


def within_slack(row: Row) -> bool:
    """Whether a figure is near enough to what is asked for, on a machine that does other things.

    Near enough is still more than a sampler reaches that never overlaps with the learner.
    """
    return row.median >= 0.7 * row.hold if row.at_least else row.median <= 2.5 * row.hold


if __name__ == "__main__":
    main()
