"""Which actors share a machine and a GPU: bundles of a Ray placement group, planned without Ray.

A bundle is a set of resources on one machine. `separate` gives every runner and every learner a
bundle of its own; `colocated` puts runner i and learner i into bundle i, where they share its GPU.
A plan is checked against the machines before Ray is asked, because Ray waits without a message for
resources that will never come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orch_env.types import OrchError
from orch_train.config import Settings

Layout = Literal["none", "separate", "colocated"]


@dataclass(frozen=True, slots=True)
class Resources:
    """CPUs and GPUs: of a machine, of a bundle, or of one actor."""

    cpus: float
    gpus: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpus + other.cpus, self.gpus + other.gpus)

    def to_ray(self) -> dict[str, float]:
        """As Ray names them; what is not asked for is left out."""
        named = {"CPU": self.cpus, "GPU": self.gpus}
        return {name: amount for name, amount in named.items() if amount}

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f" + {self.gpus:g} GPU" if self.gpus else "")


@dataclass(frozen=True, slots=True)
class Demand:
    """The actors of a run.

    Attributes:
        runners: number of env runner actors.
        runner: what each of them takes; with tensor parallelism all GPUs of its engine.
        learners: number of learner actors; 0: the driver process learns, outside the plan.
        learner: what each of them takes.
    """

    runners: int
    runner: Resources
    learners: int = 0
    learner: Resources = Resources(1.0)

    @classmethod
    def of(cls, settings: Settings) -> Demand:
        """The actors of a configuration."""
        runners, learners = settings.env_runners, settings.learners
        return cls(
            runners=runners.num_env_runners,
            runner=Resources(runners.num_cpus_per_env_runner, runners.num_gpus_per_env_runner),
            learners=learners.num_learners,
            learner=Resources(
                float(learners.num_cpus_per_learner or 1), float(learners.num_gpus_per_learner)
            ),
        )

    @property
    def total(self) -> Resources:
        """What all actors take together, if none share."""
        cpus = self.runners * self.runner.cpus + self.learners * self.learner.cpus
        return Resources(cpus, self.runners * self.runner.gpus + self.learners * self.learner.gpus)

    def __str__(self) -> str:
        runners = f"{self.runners} env runners of {self.runner}"
        return f"{runners} and {self.learners} learners of {self.learner}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Bundles, and who goes where.

    Attributes:
        layout: how it was planned; ``none`` has no bundles: Ray places each actor by itself.
        bundles: resources of each bundle.
        machines: for each bundle a machine on which it fits, as an index; Ray decides for itself,
            but some way exists.
        runner: what each runner takes of its bundle.
        learner: what each learner takes of its bundle.
        runner_bundles: bundle of each runner.
        learner_bundles: bundle of each learner.
    """

    layout: Layout
    bundles: tuple[Resources, ...]
    machines: tuple[int, ...]
    runner: Resources
    learner: Resources
    runner_bundles: tuple[int, ...]
    learner_bundles: tuple[int, ...]

    def describe(self) -> str:
        """One line for a person."""
        if self.layout == "none":
            return "Ray places each actor by itself"
        kinds: dict[Resources, int] = {}
        for bundle in self.bundles:
            kinds[bundle] = kinds.get(bundle, 0) + 1
        shown = ", ".join(f"{count} of {bundle}" for bundle, count in kinds.items())
        used = len(set(self.machines))
        plural = "s" * (used > 1)
        return f"{self.layout}: {len(self.bundles)} bundles ({shown}) on {used} machine{plural}"


def plan(demand: Demand, wanted: str, machines: Sequence[Resources]) -> Plan:
    """Lay out a run's actors.

    Args:
        demand: the actors.
        wanted: ``none``, ``separate``, ``colocated``, or ``auto``: ``none`` without GPUs;
            else ``separate`` where that fits, else ``colocated``.
        machines: what each machine has.

    Raises:
        OrchError: it does not fit, or runners and learners cannot be paired.
    """
    if wanted == "auto":
        if not demand.runner.gpus and not (demand.learners and demand.learner.gpus):
            return _unplaced(demand, machines)
        found = _fitted(demand, "separate", machines)
        if found is None and demand.learners == demand.runners and _can_share(demand):
            found = _fitted(demand, "colocated", machines)
    elif wanted == "none":
        return _unplaced(demand, machines)
    elif wanted == "colocated":
        if demand.learners != demand.runners:
            raise OrchError(
                f"env_runners.placement=colocated pairs each runner with a learner: "
                f"{demand.runners} env runners and {demand.learners} learner actors do not pair; "
                "set learners.num_learners to env_runners.num_env_runners"
            )
        if not _can_share(demand):
            raise OrchError(
                "env_runners.placement=colocated: runner and learner share a GPU, so a runner "
                "takes a fraction of one: set env_runners.num_gpus_per_env_runner below 1 "
                f"(got {demand.runner.gpus:g})"
            )
        found = _fitted(demand, "colocated", machines)
    else:
        found = _fitted(demand, "separate", machines)
    if found is None:
        there = ", ".join(str(machine) for machine in machines)
        raise OrchError(
            f"env_runners.placement={wanted}: {demand} do not fit on the machines ({there}): "
            "lower their number, give a runner a fraction of a GPU, or colocate them"
        )
    return found


def _unplaced(demand: Demand, machines: Sequence[Resources]) -> Plan:
    there, needed = sum(machines, Resources(0.0)), demand.total
    if needed.cpus > there.cpus or needed.gpus > there.gpus:
        raise OrchError(
            f"{demand} need {needed}, the machines have {there}: lower "
            "env_runners.num_env_runners, learners.num_learners or what each of them takes"
        )
    return Plan("none", (), (), demand.runner, demand.learner, (), ())


def _fitted(demand: Demand, layout: Layout, machines: Sequence[Resources]) -> Plan | None:
    runners, learners = tuple(range(demand.runners)), tuple(range(demand.learners))
    learner = demand.learner
    if layout == "colocated":
        learner = _sharing(demand)
        bundles = (demand.runner + learner,) * demand.runners
    else:
        # Learners first: they talk to each other most, so they are packed together.
        bundles = (learner,) * demand.learners + (demand.runner,) * demand.runners
        runners = tuple(demand.learners + i for i in runners)
    homes = _first_fit(bundles, machines)
    if homes is None:
        return None
    return Plan(layout, bundles, homes, demand.runner, learner, runners, learners)


def _can_share(demand: Demand) -> bool:
    """Whether runner and learner fit on one GPU, or need none."""
    return not demand.learner.gpus or 0 < demand.runner.gpus < 1 <= demand.learner.gpus


def _sharing(demand: Demand) -> Resources:
    """What a colocated learner takes: of a GPU that it shares, the part that the runner leaves."""
    gpus = demand.learner.gpus
    return Resources(demand.learner.cpus, gpus - demand.runner.gpus if gpus else 0.0)


def _first_fit(
    bundles: Sequence[Resources], machines: Sequence[Resources]
) -> tuple[int, ...] | None:
    """A machine for each bundle, largest bundles first; ``None`` if one finds no place."""
    free = [[machine.gpus, machine.cpus] for machine in machines]
    order = sorted(range(len(bundles)), key=lambda i: (-bundles[i].gpus, -bundles[i].cpus))
    homes = [0] * len(bundles)
    for number in order:
        need = bundles[number]
        for index, room in enumerate(free):
            if room[0] >= need.gpus - 1e-9 and room[1] >= need.cpus - 1e-9:
                room[0] -= need.gpus
                room[1] -= need.cpus
                homes[number] = index
                break
        else:
            return None
    return tuple(homes)
