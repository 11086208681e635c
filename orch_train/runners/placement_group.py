"""A plan's bundles, reserved in Ray; and the options with which actors land in them."""

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


class Reservation:
    """The placement group of a run; its actors are made with `runner_options`, `learner_options`.

    Runners and learners are started by different parts of the code and share one group: the first
    that asks makes it, the other finds it by its name, which belongs to this driver.

    Args:
        layout: what to reserve; a plan without bundles reserves nothing.
        timeout_s: how long Ray may take to free the resources.

    Raises:
        OrchError: the resources do not become free in time.
    """

    def __init__(self, layout: Plan, timeout_s: float) -> None:
        self._plan = layout
        self._group: Any = _shared_group(layout) if layout.bundles else None
        if self._group is None:
            return
        try:
            ready = self._group.wait(timeout_seconds=timeout_s)
        except RayError as problem:
            self.close()
            raise OrchError(f"Ray refuses the placement group: {problem}") from problem
        if not ready:
            self.close()
            raise OrchError(
                f"Ray did not free the resources within {timeout_s:g} s ({layout.describe()}): "
                "something else holds them, see `ray status`"
            )

    @classmethod
    def of(cls, settings: Settings) -> Reservation:
        """The places of a configuration's runners and learners; Ray must be running.

        Raises:
            OrchError: they do not fit on the machines, or do not become free in time.
        """
        layout = plan(Demand.of(settings), settings.env_runners.placement, machines())
        return cls(layout, settings.fault_tolerance.env_runner_restore_timeout_s)

    def runner_options(self, index: int) -> dict[str, Any]:
        """Arguments of ``Actor.options`` for an env runner."""
        return self._options(self._plan.runner, self._plan.runner_bundles, index)

    def learner_options(self, rank: int) -> dict[str, Any]:
        """Arguments of ``Actor.options`` for a learner."""
        return self._options(self._plan.learner, self._plan.learner_bundles, rank)

    def close(self) -> None:
        """Give the resources back; actors that still hold them are killed by Ray."""
        if self._group is not None and ray.is_initialized():
            remove_placement_group(self._group)
        self._group = None

    def _options(self, takes: Resources, bundles: tuple[int, ...], index: int) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": takes.cpus, "num_gpus": takes.gpus}
        if self._group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self._group,
                placement_group_bundle_index=bundles[index],
                placement_group_capture_child_tasks=True,
            )
        return options


def _shared_group(layout: Plan) -> Any:
    name = f"orch-places-{ray.get_runtime_context().get_job_id()}"
    bundles = [bundle.to_ray() for bundle in layout.bundles]
    try:
        found = get_placement_group(name)
    except ValueError:
        return placement_group(bundles, strategy="PACK", name=name)
    if found.bundle_specs != bundles:
        raise OrchError("another run of this process holds a placement group: stop it first")
    return found


def machines() -> list[Resources]:
    """What the machines of the running cluster have in all."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Resources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in nodes
        if node["Alive"]
    ]
