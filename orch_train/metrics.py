"""Results of training steps: how they are computed from groups, and how they are written down.

A result is a tree of dicts in RLlib's shape (``env_runners/episode_return_mean``, ...). The hard
decision: nothing is smoothed or averaged over steps here; each line of ``metrics.jsonl`` says
what one step saw, and a reader can smooth as it likes.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.types import OrchError
from orch_train.engine_metrics import engine_metrics, paused_seconds
from orch_train.token_trace import NO_VERSION
from orch_train.tool_metrics import parse_failures, quantile, tool_counts, tool_times
from orch_train.trajectory import Group, Trajectory
from orch_train.wandb_log import WandbLog

if TYPE_CHECKING:
    from orch_train.engines.protocol import Weights

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
    weights: Weights | None, seconds: float, groups: Sequence[Group]
) -> dict[str, float]:
    """``sync/*``: handing the step's weights to the runners.

    Args:
        weights: what was handed over; ``None`` if nothing was.
        seconds: wall clock until every runner served them.
        groups: of the step; their engines tell how long the sync *before* them kept them.
    """
    if weights is None:
        return paused_seconds(groups)
    # Tied tensors are one piece of memory.
    pieces = {t.data_ptr(): t.numel() * t.element_size() for t in weights.values()}
    return {"seconds": seconds, "bytes": sum(pieces.values()), **paused_seconds(groups)}


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


# -- writing ---------------------------------------------------------------------------------


def flatten(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a result under names with slashes; texts, lists and None are left out."""
    flat: dict[str, float] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}/"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + key] = value
    return flat


def plain(value: Any) -> Any:
    """A result as strict JSON: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class MetricsWriter:
    """``metrics.jsonl`` and, if wanted, TensorBoard files; every result is on disk at once.

    Args:
        folder: the run's folder.
        tensorboard: also write ``tensorboard/``.
        wandb: also log there; closed with the files.
    """

    def __init__(self, folder: Path, *, tensorboard: bool, wandb: WandbLog | None = None) -> None:
        self._wandb = wandb
        self._folder = folder
        self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=_next_step(folder))

    def write(self, result: Result) -> None:
        """Append one result.

        Raises:
            OrchError: it cannot be written.
        """
        try:
            self._write(result)
        except OSError as problem:
            raise OrchError(f"{self._folder} cannot be written: {problem}") from problem

    def _write(self, result: Result) -> None:
        self._file.write(json.dumps(plain(result), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            step = int(result["training_iteration"])
            for name, value in flatten(result).items():
                if math.isfinite(value):
                    self._board.add_scalar(name, value, step)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.write({k: v for k, v in flatten(result).items() if math.isfinite(v)})

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.close()


def read_metrics(folder: Path) -> list[Result]:
    """All results of a run; a last line that was cut off by a crash is left out.

    Raises:
        OrchError: a line in the middle is no JSON.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    results: list[Result] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            results.append(json.loads(line))
        except ValueError as problem:
            if number >= len(lines) - 1:
                break
            raise OrchError(f"{path}: line {number} is not JSON ({problem})") from problem
    return results


def truncate_metrics(folder: Path, iteration: int) -> None:
    """Drop the results after an iteration: a run that resumes there writes them again."""
    kept = [r for r in read_metrics(folder) if int(r["training_iteration"]) <= iteration]
    path = folder / "metrics.jsonl"
    partial = path.with_name(".metrics.jsonl.partial")
    text = "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in kept)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _next_step(folder: Path) -> int | None:
    """TensorBoard drops what an earlier life of the run wrote from this step on."""
    results = read_metrics(folder)
    return int(results[-1]["training_iteration"]) + 1 if results else None
