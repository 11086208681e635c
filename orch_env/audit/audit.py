"""What a reward's components say about a set of episodes, before it is used for training.

For each component and the total: mean, spread within groups, the share of groups in which it does
not vary, and its correlation with success (point-biserial). What is not defined is ``None``: a
component that never varies has no correlation, and 0 would say something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from orch_env.audit.exploits import GOLD, Kind
from orch_env.audit.report import AttackReport
from orch_env.audit.scoring import TOLERANCE, Floats, Scores, centred, correlation, groups_of
from orch_env.rewards import make_reward
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, Task
from orch_env.types.json import JsonObject

TOTAL = "total"
NOTHING = "nothing"
"""The exploit that does nothing: where movement is measured from."""
LOW = 0.2
"""A correlation with success below this is called low."""
WEAK = 0.02
"""There is no warning about a component with less influence on the total than this."""
MANY = 0.5
"""A share of groups without spread above this is worth a warning."""


@dataclass(frozen=True, slots=True)
class Part:
    """One component, or the total, over all episodes that have it.

    Attributes:
        episodes: how many have it.
        mean: their mean.
        std: population standard deviation over all of them.
        spread: mean over the groups of the standard deviation within, ``None`` without groups.
        flat_groups: share of the groups in which it does not vary, ``None`` without groups.
        correlation: point-biserial correlation with success, -1..1; ``None`` where the component
            or success does not vary.
        correlation_within: the same after each group's mean was subtracted, as GRPO does.
        influence: by how many standard deviations the total changes when the component changes by
            one, see :meth:`Scores.influences`; negative for a deduction, 1 for the total itself.
    """

    episodes: int
    mean: float
    std: float
    spread: float | None
    flat_groups: float | None
    correlation: float | None
    correlation_within: float | None
    influence: float


@dataclass(frozen=True, slots=True)
class Movement:
    """How far the exploit suite changes a component.

    Attributes:
        exploit: the knowledge-free exploit that changes it most.
        mean: its mean under that exploit.
        nothing: its mean when nothing is done.
        gold: its mean under gold.
        share: ``|mean - nothing|`` as a share of the range seen over the whole suite, 0..1.
    """

    exploit: str
    mean: float
    nothing: float
    gold: float
    share: float


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found about one reward on one set of episodes.

    Attributes:
        reward: the reward's label.
        episodes: number of episodes.
        groups: number of (task, seed) groups with at least two episodes; spreads are over these.
        success_rate: share of episodes with binary reward 1.
        parts: ``total`` and each component.
        movements: ``total`` or component -> how far exploits change it; without those that no
            exploit changes; ``None`` where no attack was made.
        warnings: sentences for a person.
    """

    reward: str
    episodes: int
    groups: int
    success_rate: float
    parts: dict[str, Part]
    movements: dict[str, Movement] | None
    warnings: tuple[str, ...]

    @property
    def moved_most(self) -> str | None:
        """The component that exploits change most, ``None`` if unknown."""
        shares = {n: m.share for n, m in (self.movements or {}).items() if n != TOTAL}
        return max(shares, key=shares.__getitem__) if shares else None

    def to_dict(self) -> JsonObject:
        """Plain data."""
        moved = self.movements
        return {
            "reward": self.reward,
            "episodes": self.episodes,
            "groups": self.groups,
            "success_rate": self.success_rate,
            "components": {name: asdict(part) for name, part in self.parts.items()},
            "exploits": None if moved is None else {n: asdict(m) for n, m in moved.items()},
            "moved_most": self.moved_most,
            "warnings": list(self.warnings),
        }


def audit(
    played: Sequence[tuple[Task, Episode]],
    reward: Reward,
    *,
    label: str | None = None,
    attacked: AttackReport | None = None,
) -> AuditReport:
    """Examine a reward on episodes.

    Args:
        played: tasks with their episodes, at least one; several of a task make groups.
        reward: the reward.
        label: what to call it, by default its name; also its label in ``attacked``.
        attacked: an attack that this reward was part of; ``None`` leaves movements out.

    Raises:
        OrchError: there are no episodes.
    """
    name = label or reward.name
    scores = Scores.of(name, reward, played)
    binary = make_reward("binary")
    success = np.array([binary(task, e).total == 1.0 for task, e in played], dtype=np.float64)
    groups = [members for members in groups_of(played) if len(members) > 1]
    influences = scores.influences()
    parts = {TOTAL: _part(scores.totals, success, groups, 1.0)}
    for component, values in scores.components.items():
        parts[component] = _part(values, success, groups, influences[component])
    movements = None if attacked is None else _movements(attacked, name)
    report = AuditReport(
        name, len(played), len(groups), float(success.mean()), parts, movements, ()
    )
    return replace(report, warnings=tuple(_warnings(report)))


def _part(
    values: Floats, success: Floats, groups: Sequence[Sequence[int]], influence: float
) -> Part:
    known = values[~np.isnan(values)]
    inside = [values[members] for members in groups]
    inside = [v[~np.isnan(v)] for v in inside]
    inside = [v for v in inside if len(v) > 1]
    return Part(
        episodes=len(known),
        mean=float(known.mean()),
        std=float(known.std()),
        spread=float(np.mean([v.std() for v in inside])) if inside else None,
        flat_groups=float(np.mean([np.ptp(v) <= TOLERANCE for v in inside])) if inside else None,
        correlation=correlation(values, success),
        correlation_within=correlation(centred(values, groups), centred(success, groups)),
        influence=influence,
    )


def _movements(attacked: AttackReport, reward: str) -> dict[str, Movement]:
    """For each component that knowledge-free exploits change, the one that changes it most."""
    exploits = [e.name for e in attacked.exploits if e.kind is Kind.KNOWLEDGE_FREE]
    totals = {name: mean for (label, name), mean in attacked.means.items() if label == reward}
    found: dict[str, Movement] = {}
    for component, means in {TOTAL: totals, **attacked.components[reward]}.items():
        nothing, gold = means.get(NOTHING), means.get(GOLD.name)
        if nothing is None or gold is None:
            continue
        most = max((n for n in exploits if n in means), key=lambda n: abs(means[n] - nothing))
        moved = abs(means[most] - nothing)
        if moved > TOLERANCE:
            widest = max(means.values()) - min(means.values())
            found[component] = Movement(most, means[most], nothing, gold, moved / widest)
    return found


def _warnings(report: AuditReport) -> Iterator[str]:
    total = report.parts[TOTAL]
    if report.groups == 0:
        yield (
            "No task has two episodes with one seed, so nothing can be said about spread within "
            "groups, which is all that GRPO learns from."
        )
    if report.success_rate in (0.0, 1.0):
        what = "Every" if report.success_rate else "No"
        yield f"{what} episode succeeded, so no correlation with success is defined."
    if total.flat_groups is not None and total.flat_groups > MANY:
        yield (
            f"In {total.flat_groups:.0%} of the groups all episodes earn the same total: GRPO "
            "learns nothing from those."
        )
    if total.correlation is not None and total.correlation < LOW:
        yield (
            f"The total hardly goes with success (r = {total.correlation:.2f}). Training on it is "
            "not training for success."
        )
    for name, part in report.parts.items():
        if name != TOTAL:
            yield from _part_warnings(name, part)
    most = report.moved_most
    if most is not None and report.movements is not None:
        moved, paid = report.movements[most], report.movements.get(TOTAL)
        yield (
            f"{most} is what exploits move most: {moved.exploit} takes it from "
            f"{moved.nothing:.2f} to {moved.mean:.2f} without knowing the task (gold: "
            f"{moved.gold:.2f}). The most that knowing nothing does to the total is "
            + (f"{paid.nothing:.2f} to {paid.mean:.2f} ({paid.exploit})." if paid else "nothing.")
        )


def _part_warnings(name: str, part: Part) -> Iterator[str]:
    if part.episodes > 1 and part.std <= TOLERANCE:
        yield f"{name} never varies (always {part.mean:.3g}): it tells no two episodes apart."
        return
    if part.correlation is None or abs(part.influence) < WEAK:
        return
    if abs(part.correlation) < LOW:
        yield (
            f"{name} hardly goes with success (r = {part.correlation:.2f}), yet the total hangs "
            "on it. Naive per-turn rewards of this kind have hurt training by up to 14 points."
        )
    elif part.correlation * part.influence < 0:
        yield (
            f"{name} pulls the total away from success (r = {part.correlation:.2f}): episodes that "
            "gain by it succeed less often."
        )
