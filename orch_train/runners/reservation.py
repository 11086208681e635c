"""Ray for one run: entered, with places reserved for the run's actors."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.runners.placement import Demand, Plan, Resources, plan
from orch_train.runners.ray_use import RayUse


class Reservation:
    """The placement group of a run; its actors are made with `runner_options`, `learner_options`.

    Runners and learners are started by different parts of the code and share one group: the first
    that asks makes it, the other finds it by its name, which belongs to this driver and this run.

    Args:
        layout: what to reserve; a plan without bundles reserves nothing.
        timeout_s: how long Ray may take to free the resources.
        run: tells this run from others of the process.
        use: of Ray, which is running otherwise; `close` ends it.

    Raises:
        OrchError: the resources do not become free in time.
    """

    def __init__(
        self, layout: Plan, timeout_s: float, *, run: str = "", use: RayUse | None = None
    ) -> None:
        self._plan, self._use = layout, use
        self._group: Any = _shared_group(layout, run) if layout.bundles else None
        if self._group is None:
            return
        try:
            ready = self._group.wait(timeout_seconds=timeout_s)
        except RayError as problem:
            remove_placement_group(self._group)
            raise OrchError(f"Ray refuses the placement group: {problem}") from problem
        if not ready:
            remove_placement_group(self._group)
            raise OrchError(
                f"Ray did not free the resources within {timeout_s:g} s ({layout.describe()}): "
                "something else holds them, see `ray status`"
            )

    @classmethod
    def of(cls, settings: Settings) -> Reservation:
        """The places of a configuration's runners and learners.

        Args:
            settings: the same object for runners and learners of one run.

        Raises:
            OrchError: no cluster at the address, or the actors do not fit on the machines, or
                their resources do not become free in time.
        """
        use = RayUse(settings.env_runners.ray_address)
        try:
            layout = plan(Demand.of(settings), settings.env_runners.placement, machines())
            timeout_s = settings.fault_tolerance.env_runner_restore_timeout_s
            return cls(layout, timeout_s, run=f"{id(settings):x}", use=use)
        except BaseException:
            use.leave()
            raise

    def runner_options(self, index: int) -> dict[str, Any]:
        """Arguments of ``Actor.options`` for an env runner."""
        return self._options(self._plan.runner, self._plan.runner_bundles, index)

    def learner_options(self, rank: int) -> dict[str, Any]:
        """Arguments of ``Actor.options`` for a learner."""
        return self._options(self._plan.learner, self._plan.learner_bundles, rank)

    def close(self) -> None:
        """Give the resources back and end the use of Ray; may be called twice.

        Actors that still hold resources of the placement group are killed by Ray.
        """
        if self._group is not None and self.alive:
            remove_placement_group(self._group)
        self._group = None
        if self._use is not None:
            self._use.leave()

    @property
    def alive(self) -> bool:
        """Whether Ray is still the one in which the places are."""
        return ray.is_initialized() if self._use is None else self._use.alive

    def check(self) -> None:
        """Raise a clear error in place of Ray's own.

        Raises:
            OrchError: Ray was shut down under this run, by other code of this process.
        """
        if not self.alive:
            raise OrchError(
                "Ray was shut down under this run, and its actors with it: build the algorithm "
                "again, from its newest checkpoint"
            )

    def _options(self, takes: Resources, bundles: tuple[int, ...], index: int) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": takes.cpus, "num_gpus": takes.gpus}
        if self._group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self._group,
                placement_group_bundle_index=bundles[index],
                placement_group_capture_child_tasks=True,
            )
        return options


def machines() -> list[Resources]:
    """What the machines of the running cluster have in all."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Resources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in nodes
        if node["Alive"]
    ]


def _shared_group(layout: Plan, run: str) -> Any:
    name = f"orch-places-{ray.get_runtime_context().get_job_id()}-{run}"
    bundles = [bundle.to_ray() for bundle in layout.bundles]
    try:
        found = get_placement_group(name)
    except ValueError:
        return placement_group(bundles, strategy="PACK", name=name)
    if found.bundle_specs != bundles:
        raise OrchError("a placement group of this run is held with other bundles: stop it first")
    return found
