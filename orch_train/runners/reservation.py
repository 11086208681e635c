"""Ray for one run: started quietly or joined, with places reserved for the run's actors.

No process may be forked after Ray has started (threads and sockets do not survive it); workers
start by exec.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
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

_OBJECT_STORE_BYTES = 2 << 30


class Reservation:
    """The placement group of a run; its actors are made with `runner_options`, `learner_options`.

    Runners and learners are started by different parts of the code and share one group: the first
    that asks makes it, the other finds it by its name, which belongs to this driver.

    Args:
        layout: what to reserve; a plan without bundles reserves nothing.
        timeout_s: how long Ray may take to free the resources.
        leaves_ray: whether `close` also leaves Ray.

    Raises:
        OrchError: the resources do not become free in time.
    """

    def __init__(self, layout: Plan, timeout_s: float, *, leaves_ray: bool = False) -> None:
        self._plan, self._leaves_ray = layout, leaves_ray
        self._group: Any = _shared_group(layout) if layout.bundles else None
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

        Ray is started or joined for them; one that this process has entered already is used.

        Raises:
            OrchError: no cluster at the address, or the actors do not fit on the machines, or
                their resources do not become free in time.
        """
        ours = not ray.is_initialized()
        if ours:
            _start_ray(settings.env_runners.ray_address)
        try:
            layout = plan(Demand.of(settings), settings.env_runners.placement, machines())
            timeout_s = settings.fault_tolerance.env_runner_restore_timeout_s
            return cls(layout, timeout_s, leaves_ray=ours)
        except BaseException:
            if ours:
                ray.shutdown()
            raise

    def runner_options(self, index: int) -> dict[str, Any]:
        """Arguments of ``Actor.options`` for an env runner."""
        return self._options(self._plan.runner, self._plan.runner_bundles, index)

    def learner_options(self, rank: int) -> dict[str, Any]:
        """Arguments of ``Actor.options`` for a learner."""
        return self._options(self._plan.learner, self._plan.learner_bundles, rank)

    def close(self) -> None:
        """Give the resources back, and leave Ray if it was entered for them; may be called twice.

        Actors that still hold resources of the placement group are killed by Ray.
        """
        if self._group is not None and ray.is_initialized():
            remove_placement_group(self._group)
        self._group = None
        if self._leaves_ray:
            self._leaves_ray = False
            ray.shutdown()

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


def _start_ray(address: str) -> None:
    # Read when the first ray process starts; a user's own choice wins.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "object_store_memory": _object_store_bytes(),
        }
    try:
        with _hangup_ignored():
            ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise OrchError(
            f"Ray cannot be started or reached at env_runners.ray_address={address!r}: {first}"
        ) from problem


@contextlib.contextmanager
def _hangup_ignored() -> Iterator[None]:
    """Processes that are started inside the block ignore SIGHUP.

    A terminal that closes sends it to every process of a command, and a driver can save its state
    only while its runners and learners live.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python changes no signals here
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _object_store_bytes() -> int:
    """A bounded share of shared memory: weights are the only large thing that is stored."""
    try:
        stat = os.statvfs("/dev/shm")
        free = stat.f_bavail * stat.f_frsize
    except OSError:
        free = _OBJECT_STORE_BYTES
    return max(100 << 20, min(_OBJECT_STORE_BYTES, int(free * 0.5)))
