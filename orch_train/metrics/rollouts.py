"""Results of training steps: how they are computed from groups, and how they are written down.

A result is a tree of dicts in RLlib's shape (``env_runners/episode_return_mean``, ...). The hard
decision: nothing is smoothed or averaged over steps here; each line of ``metrics.jsonl`` says
what one step saw, and a reader can smooth as it likes.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orch_train.metrics.engines import engine_metrics, paused_seconds
from orch_train.metrics.tools import parse_failures, quantile, tool_counts, tool_times
from orch_train.trajectory.token_trace import NO_VERSION
from orch_train.trajectory.trajectory import Group, Trajectory

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


def rollout_metrics(groups: Sequence[Group], sample_seconds: float) -> dict[str, Any]:
    """``env_runners/*`` of one batch.

    Args:
        groups: all groups that were sampled; at least one.
        sample_seconds: wall clock of the sampling, for the rates.
    """
    episodes = [t for group in groups for t in group.trajectories]
    rewards = [t.reward for t in episodes]
    actions = [t.trace.num_actions for t in episodes]
    turns = [len(t.episode.turns) for t in episodes]
    calls = [len(t.episode.calls) for t in episodes]
    return {
        "episode_return_mean": _mean(rewards),
        "episode_return_min": min(rewards),
        "episode_return_max": max(rewards),
        "episode_return_std": _std(rewards),
        "group_return_std_mean": _mean([_std(group.rewards) for group in groups]),
        "episode_len_mean": _mean(turns),
        "num_episodes": len(episodes),
        "num_groups": len(groups),
        "num_env_steps_sampled": sum(turns),
        "success": _mean([float(t.success) for t in episodes]),
        "tool_calls_mean": _mean(calls),
        "num_action_tokens": sum(actions),
        "action_tokens_mean": _mean(actions),
        "context_tokens_max": max(len(t.trace) for t in episodes),
        "tokens_per_s": sum(actions) / sample_seconds if sample_seconds > 0 else 0.0,
        "stop": _shares(Counter(_stop_reason(t) for t in episodes), len(episodes)),
        "errors_per_episode": _shares(_error_counts(episodes), len(episodes)),
        "tools": tool_times(groups, tool_counts([t.episode for t in episodes])),
        "parse": parse_failures([t.episode for t in episodes]),
        "reward": component_means(episodes),
        "groups": zero_variance_counts(groups),
        "time": _phase_seconds(episodes),
        "engine": engine_metrics(groups),
        **_environment_times(episodes),
    }


def sync_metrics(
    weights: Manifest | None, seconds: float, groups: Sequence[Group]
) -> dict[str, float]:
    """``sync/*``: handing the step's weights to the runners.

    Args:
        weights: what was handed over; ``None`` if nothing was.
        seconds: wall clock until every runner served them.
        groups: of the step; their engines tell how long the sync *before* them kept them.
    """
    if weights is None:
        return paused_seconds(groups)
    return {"seconds": seconds, "bytes": weights.num_bytes, **paused_seconds(groups)}


def staleness_metrics(groups: Sequence[Group], version: int) -> dict[str, float]:
    """``staleness/*``: how old the tokens are that are learned from, in weight versions.

    Args:
        groups: what is learned from.
        version: of the weights that learn.

    Returns:
        ``mean`` and ``max`` over episodes of the version's distance to that of the oldest token;
        ``spans_mean`` and ``spans_max``: versions that sampled one episode.
    """
    traces = [t.trace for group in groups for t in group.trajectories if t.trace.num_actions]
    ages = [version - trace.oldest_version() for trace in traces]
    spans = [len({v for v in trace.versions if v != NO_VERSION}) for trace in traces]
    return {
        "mean": _mean(ages),
        "max": max(ages, default=0),
        "spans_mean": _mean(spans),
        "spans_max": max(spans, default=0),
    }


def split_sampling(
    seconds: Mapping[str, float], groups: Sequence[Group], runners: int
) -> dict[str, float]:
    """``timers/*``: the phases of a step, with the sampling divided by what it waited for.

    Environments run one at a time on a runner's event loop, so the seconds of all episodes over
    the number of runners are its share of the wall clock; the rest is the engine's.

    Args:
        seconds: wall clock by phase; without ``sample``, where sampling runs beside all of them,
            nothing is divided.
        groups: what was sampled.
        runners: number of runner processes; 0 counts as one.
    """
    if "sample" not in seconds:
        return dict(seconds)
    env = sum(t.timings.get("env", 0.0) for group in groups for t in group.trajectories)
    env = min(seconds["sample"], env / max(1, runners))
    return {**seconds, "env": env, "generate": seconds["sample"] - env}


def component_means(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Mean of each reward component over the episodes that have it."""
    values: dict[str, list[float]] = {}
    for trajectory in episodes:
        if trajectory.episode.reward is not None:
            for name, value in trajectory.episode.reward.components.items():
                values.setdefault(name, []).append(value)
    return {name: _mean(found) for name, found in sorted(values.items())}


def zero_variance_counts(groups: Sequence[Group]) -> dict[str, int]:
    """Groups whose rewards are all equal, and how many of them all pass or all fail."""
    flat = [group for group in groups if is_flat(group)]
    return {
        "zero_variance": len(flat),
        "zero_variance_all_pass": sum(all(t.success for t in g.trajectories) for g in flat),
        "zero_variance_all_fail": sum(not any(t.success for t in g.trajectories) for g in flat),
    }


def is_flat(group: Group) -> bool:
    """Whether all rewards of a group are the same number, so that it teaches nothing."""
    return all(reward == group.rewards[0] for reward in group.rewards)


def _stop_reason(trajectory: Trajectory) -> str:
    reason = trajectory.episode.stop_reason
    return reason.value if reason is not None else "unfinished"


def _error_counts(episodes: Sequence[Trajectory]) -> Counter[str]:
    return Counter(
        call.error.value for t in episodes for call in t.episode.calls if call.error is not None
    )


def _shares(counts: Counter[str], total: int) -> dict[str, float]:
    return {name: count / total for name, count in sorted(counts.items())}


def _phase_seconds(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Mean seconds that an episode spent waiting for the engine and in the environment."""
    phases = sorted({phase for t in episodes for phase in t.timings})
    return {phase: _mean([t.timings.get(phase, 0.0) for t in episodes]) for phase in phases}


def _environment_times(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    """Seconds of one environment call (reset or step), and the share of an episode's time."""
    env = math.fsum(t.timings.get("env", 0.0) for t in episodes)
    generate = math.fsum(t.timings.get("generate", 0.0) for t in episodes)
    steps = sorted(s for t in episodes for name, _, s in t.spans if name == "env")
    share = {"env_latency_share": env / (env + generate)} if env + generate > 0 else {}
    if not steps:
        return share
    return {**share, "env_step_s": {"p50": quantile(steps, 0.5), "p99": quantile(steps, 0.99)}}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(_mean([(v - mean) ** 2 for v in values]))
