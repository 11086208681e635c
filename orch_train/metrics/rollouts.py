"""What one training step saw, computed from the replies of its rollout workers.

A result is a tree of dicts in RLlib's shape (``env_runners/episode_return_mean``, ...). Nothing is
smoothed or averaged over steps: each line of ``metrics.jsonl`` says what one step saw.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orch_env.types import Episode
from orch_train.metrics.engines import engine_metrics, paused_seconds
from orch_train.metrics.tools import parse_failures, quantile, tool_counts, tool_times
from orch_train.trajectory.requests import EpisodeRecord, SampleReply
from orch_train.trajectory.sample import Group

if TYPE_CHECKING:
    from orch_train.weight_sync.buckets import Manifest

Result = dict[str, Any]


class Timers:
    """Seconds per phase of one step; phases that run twice add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time under a name."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def rollout_metrics(replies: Sequence[SampleReply], sample_seconds: float) -> dict[str, Any]:
    """``env_runners/*`` of one batch.

    Args:
        replies: all that was sampled; at least one episode.
        sample_seconds: wall clock of the sampling, for the rates.
    """
    groups = [reply.group for reply in replies]
    samples = [sample for group in groups for sample in group.samples]
    records = [record for reply in replies for record in reply.records]
    episodes = [record.episode for record in records]
    rewards = [sample.reward for sample in samples]
    actions = [sample.num_actions for sample in samples]
    turns = [len(episode.turns) for episode in episodes]
    calls = [len(episode.calls) for episode in episodes]
    errors = Counter(c.error.value for e in episodes for c in e.calls if c.error is not None)
    return {
        "episode_return_mean": _mean(rewards),
        "episode_return_min": min(rewards),
        "episode_return_max": max(rewards),
        "episode_return_std": _std(rewards),
        "group_return_std_mean": _mean([_std(group.rewards) for group in groups]),
        "episode_len_mean": _mean(turns),
        "num_episodes": len(samples),
        "num_groups": len(groups),
        "num_env_steps_sampled": sum(turns),
        "success": _mean([float(sample.success) for sample in samples]),
        "tool_calls_mean": _mean(calls),
        "num_action_tokens": sum(actions),
        "action_tokens_mean": _mean(actions),
        "context_tokens_max": max(map(len, samples)),
        "tokens_per_s": sum(actions) / sample_seconds if sample_seconds > 0 else 0.0,
        "stop": _shares(Counter(map(_stop_reason, episodes)), len(episodes)),
        "errors_per_episode": _shares(errors, len(episodes)),
        "tools": tool_times(replies, tool_counts(episodes)),
        "parse": parse_failures(episodes),
        "reward": component_means(episodes),
        "groups": zero_variance_counts(groups),
        "time": _phase_seconds(records),
        "engine": engine_metrics(replies),
        **_environment_times(records),
    }


def sync_metrics(
    weights: Manifest | None, seconds: float, replies: Sequence[SampleReply]
) -> dict[str, float]:
    """``sync/*``: handing the step's weights to the runners.

    Args:
        weights: what was handed over; ``None`` if nothing was.
        seconds: wall clock until every runner served them.
        replies: of the step; their engines say how long the sync *before* them kept them.
    """
    if weights is None:
        return paused_seconds(replies)
    return {"seconds": seconds, "bytes": weights.num_bytes, **paused_seconds(replies)}


def staleness_metrics(groups: Sequence[Group], version: int) -> dict[str, float]:
    """``staleness/*``: how old the tokens are that are learned from, in weight versions.

    Args:
        groups: what is learned from.
        version: of the weights that learn.

    Returns:
        ``mean`` and ``max`` over episodes of the version's distance to that of the oldest token;
        ``spans_mean`` and ``spans_max``: versions that sampled one episode.
    """
    sampled = [s.versions_N for group in groups for s in group.samples if s.num_actions]
    ages = [version - int(versions_N.min()) for versions_N in sampled]
    spans = [len(set(versions_N.tolist())) for versions_N in sampled]
    return {
        "mean": _mean(ages),
        "max": max(ages, default=0),
        "spans_mean": _mean(spans),
        "spans_max": max(spans, default=0),
    }


def split_sampling(
    seconds: Mapping[str, float], replies: Sequence[SampleReply], runners: int
) -> dict[str, float]:
    """``timers/*``: the phases of a step, with the sampling divided by what it waited for.

    Environments run one at a time on a runner's event loop, so the seconds of all episodes over
    the number of runners are its share of the wall clock; the rest is the engine's.

    Args:
        seconds: wall clock by phase; without ``sample``, where sampling runs beside all of them,
            nothing is divided.
        replies: what was sampled.
        runners: number of runner processes; 0 counts as one.
    """
    if "sample" not in seconds:
        return dict(seconds)
    env = sum(r.timings.get("env", 0.0) for reply in replies for r in reply.records)
    env = min(seconds["sample"], env / max(1, runners))
    return {**seconds, "env": env, "generate": seconds["sample"] - env}


def component_means(episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean of each reward component over the episodes that have it."""
    values: dict[str, list[float]] = {}
    for episode in episodes:
        if episode.reward is not None:
            for name, value in episode.reward.components.items():
                values.setdefault(name, []).append(value)
    return {name: _mean(found) for name, found in sorted(values.items())}


def zero_variance_counts(groups: Sequence[Group]) -> dict[str, int]:
    """Groups whose rewards are all equal, and how many of them all pass or all fail."""
    flat = [group for group in groups if group.is_uniform]
    return {
        "zero_variance": len(flat),
        "zero_variance_all_pass": sum(all(s.success for s in g.samples) for g in flat),
        "zero_variance_all_fail": sum(not any(s.success for s in g.samples) for g in flat),
    }


def _stop_reason(episode: Episode) -> str:
    return "unfinished" if episode.stop_reason is None else episode.stop_reason.value


def _shares(counts: Counter[str], total: int) -> dict[str, float]:
    return {name: count / total for name, count in sorted(counts.items())}


def _phase_seconds(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Mean seconds that an episode spent waiting for the engine and in the environment."""
    phases = sorted({phase for record in records for phase in record.timings})
    return {phase: _mean([r.timings.get(phase, 0.0) for r in records]) for phase in phases}


def _environment_times(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Seconds of one environment call (reset or step), and the share of an episode's time."""
    env = math.fsum(record.timings.get("env", 0.0) for record in records)
    generate = math.fsum(record.timings.get("generate", 0.0) for record in records)
    steps = sorted(s for record in records for name, _, s in record.spans if name == "env")
    share = {"env_latency_share": env / (env + generate)} if env + generate > 0 else {}
    if not steps:
        return share
    return {**share, "env_step_s": {"p50": quantile(steps, 0.5), "p99": quantile(steps, 0.99)}}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(_mean([(v - mean) ** 2 for v in values]))
