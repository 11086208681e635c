"""Start Ray quietly on this machine, or join a cluster; and say clearly what it lacks.

No process may be forked after this (threads and sockets do not survive it); workers start by exec.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError
from orch_train.config import EnvRunnerSettings

_OBJECT_STORE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class RayHandle:
    """Whether this process started (or joined) Ray and so has to leave it."""

    ours: bool

    def close(self) -> None:
        """Leave Ray, if it was entered here."""
        if self.ours:
            import ray

            ray.shutdown()


def start_ray(settings: EnvRunnerSettings) -> RayHandle:
    """Make Ray ready for the configured runners; one that already runs is used as it is.

    Raises:
        OrchError: no cluster at the address, or it has too few CPUs or GPUs for the runners.
    """
    # Read when the first ray process starts; a user's own choice wins.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    handle = RayHandle(ours=not ray.is_initialized())
    if handle.ours:
        _init(settings.ray_address)
    try:
        _check_resources(settings)
    except OrchError:
        handle.close()
        raise
    return handle


def _init(address: str) -> None:
    import ray

    quiet: dict[str, Any] = {
        "include_dashboard": False,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
    }
    try:
        if address == "local":
            ray.init(
                address="local",
                _node_ip_address="127.0.0.1",
                object_store_memory=_object_store_bytes(),
                **quiet,
            )
        else:
            quiet.pop("include_dashboard")  # the cluster's own business
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise OrchError(
            f"Ray cannot be started or reached at env_runners.ray_address={address!r}: {first}"
        ) from problem


def _object_store_bytes() -> int:
    """A bounded share of shared memory: weights are the only large thing that is stored."""
    try:
        stat = os.statvfs("/dev/shm")
        free = stat.f_bavail * stat.f_frsize
    except OSError:
        free = _OBJECT_STORE_BYTES
    return max(100 << 20, min(_OBJECT_STORE_BYTES, int(free * 0.5)))


def _check_resources(settings: EnvRunnerSettings) -> None:
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    count = settings.num_env_runners
    for resource, each, key in (
        ("CPU", settings.num_cpus_per_env_runner, "num_cpus_per_env_runner"),
        ("GPU", settings.num_gpus_per_env_runner, "num_gpus_per_env_runner"),
    ):
        there = total.get(resource, 0.0)
        if count * each > there:
            raise OrchError(
                f"{count} env runners with {each:g} {resource} each need {count * each:g} "
                f"{resource}, Ray has {there:g}: lower env_runners.num_env_runners or "
                f"env_runners.{key}"
            )
