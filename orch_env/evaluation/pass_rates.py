"""pass@k and avg@k of sampled episodes, with intervals, also by domain and by number of gold calls.

Each task is played n times and c of its episodes succeed. avg@n is the mean of c/n over tasks.
pass@k, the chance that at least one of k episodes succeeds, is estimated without bias from all n
of them (Chen et al. 2021, arXiv 2107.03374, equation 1). Intervals count *tasks*: episodes of one
task resemble each other, so treating each as an independent draw would give intervals that are far
too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orch_env.types import OrchError, Task

NO_DOMAIN = "other"
MANY_CALLS = 10
"""Tasks with at least so many gold calls are counted together."""
_Z95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """What a task is counted under.

    Attributes:
        domain: the task's domain.
        gold_calls: calls of its gold solution; ``None`` if it has none.
    """

    domain: str = NO_DOMAIN
    gold_calls: int | None = None

    @classmethod
    def of(cls, task: Task) -> Stratum:
        """The stratum of one of our tasks."""
        calls = sum(len(step) for step in task.gold)
        return cls(str(task.metadata.get("domain") or NO_DOMAIN), calls or None)


@dataclass(frozen=True, slots=True)
class PassCount:
    """How often one task was solved.

    Attributes:
        samples: episodes, n >= 1.
        passed: those that succeeded, c in 0..n.
    """

    samples: int
    passed: int

    def __post_init__(self) -> None:
        if not 0 <= self.passed <= self.samples or self.samples < 1:
            raise OrchError(f"{self.passed} of {self.samples} episodes cannot have succeeded")


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Chance that at least one of ``k`` episodes succeeds: ``1 - C(n - c, k) / C(n, k)``.

    Chen et al. 2021, equation 1: unbiased for every k <= n, where ``1 - (1 - c/n)^k`` is not.

    Args:
        samples: episodes of the task, n.
        passed: those that succeeded, c in 0..n.
        k: 1..n.

    Raises:
        OrchError: k or c lies outside its range.
    """
    if not 0 <= passed <= samples:
        raise OrchError(f"{passed} of {samples} episodes cannot have succeeded")
    if not 1 <= k <= samples:
        raise OrchError(f"pass@{k} needs at least {max(k, 1)} episodes per task, got {samples}")
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def interval(values: Sequence[float], episodes: int) -> dict[str, float]:
    """The mean of per-task shares with its 95% interval.

    Wilson's score interval (1927) with an effective number of draws, as in surveys of clusters
    (Kish 1965): ``m p (1 - p) / Var(x)`` for m tasks with shares x, at most the number of
    episodes. One episode per task gives Wilson's interval over the m tasks exactly. A mean of 0
    or 1 has no variance to go by and counts as m draws.

    Args:
        values: m >= 1 shares, one per task, each 0..1.
        episodes: all episodes behind them.

    Returns:
        ``mean``, ``low`` and ``high``, ``0 <= low <= mean <= high <= 1``.
    """
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / count
    spread = mean * (1.0 - mean)
    draws = float(count)
    if spread > 1e-12:
        draws = (
            float(episodes) if variance <= 0 else min(float(episodes), count * spread / variance)
        )
    low, high = wilson(mean, draws)
    return {"mean": mean, "low": min(low, mean), "high": max(high, mean)}


def wilson(share: float, draws: float) -> tuple[float, float]:
    """Wilson's 95% score interval of a share (0..1) of ``draws`` > 0 independent draws."""
    square = _Z95**2
    centre = (share + square / (2 * draws)) / (1 + square / draws)
    half = math.sqrt(share * (1 - share) / draws + square / (4 * draws**2))
    half *= _Z95 / (1 + square / draws)
    return max(0.0, centre - half), min(1.0, centre + half)


def rates(counts: Sequence[PassCount], pass_at: Sequence[int] = (1,)) -> dict[str, object]:
    """avg@n and pass@k of some tasks.

    Args:
        counts: one per task, at least one; all with the same number of samples.
        pass_at: the k; those above the number of samples are left out.

    Returns:
        ``n`` (tasks), ``avg_at_N`` and one ``pass_at_K`` per k, each ``{mean, low, high}``.

    Raises:
        OrchError: there are no counts, or tasks have different numbers of samples.
    """
    sizes = {count.samples for count in counts}
    if len(sizes) != 1:
        raise OrchError(f"every task needs the same number of episodes, got {sorted(sizes)}")
    samples = sizes.pop()
    episodes = samples * len(counts)
    found: dict[str, object] = {"n": len(counts)}
    found[f"avg_at_{samples}"] = interval([c.passed / samples for c in counts], episodes)
    for k in sorted(set(pass_at)):
        if k <= samples:
            values = [pass_at_k(samples, c.passed, k) for c in counts]
            found[f"pass_at_{k}"] = interval(values, episodes)
    return found


def rates_by(
    counts: Mapping[str, PassCount],
    strata: Mapping[str, Stratum],
    key: Callable[[Stratum], str | None],
    pass_at: Sequence[int] = (1,),
) -> dict[str, dict[str, object]]:
    """`rates` of the tasks under each key, for tasks that have a stratum and a key.

    Args:
        counts: task id -> how often it was solved.
        strata: task id -> stratum.
        key: `by_domain` or `by_gold_calls`.
        pass_at: the k.
    """
    found: dict[str, list[PassCount]] = {}
    for task_id, count in counts.items():
        name = key(strata[task_id]) if task_id in strata else None
        if name is not None:
            found.setdefault(name, []).append(count)
    return {name: rates(found[name], pass_at) for name in sorted(found, key=_natural)}


def by_domain(stratum: Stratum) -> str:
    """Key of `rates_by`: the domain."""
    return stratum.domain


def by_gold_calls(stratum: Stratum) -> str | None:
    """Key of `rates_by`: the number of gold calls, ``10+`` from ten on."""
    if stratum.gold_calls is None:
        return None
    return f"{MANY_CALLS}+" if stratum.gold_calls >= MANY_CALLS else str(stratum.gold_calls)


def _natural(name: str) -> tuple[int, str]:
    digits = name.rstrip("+")
    return (int(digits), name) if digits.isdigit() else (0, name)
