"""Env runners on Ray: bounded queues, answers as they come, lost groups given out again.

The hard decision: groups and not episodes are dispatched, one call per group with a few in flight
at each runner, so that a runner is never idle between groups, a finished group leaves at once,
and what a dead runner takes with it is at most those few.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from orch_train.config import Settings
from orch_train.engines.protocol import Weights
from orch_train.runners.env_runner import EnvRunnerActor, SampleReply, SampleRequest
from orch_train.runners.ledger import GroupLedger
from orch_train.runners.runner_group import (
    OnGroup,
    SamplingStopped,
    ShouldStop,
    checked,
    groups_in_flight,
)
from orch_train.runners.runner_pool import FETCH_TIMEOUT_S, RunnerPool, cause
from orch_train.runners.runner_slot import RunnerSlot
from orch_train.trajectory import Group


class RayRunnerGroup:
    """`RunnerGroup` over Ray actors.

    Args:
        settings: the whole configuration.
        weights: served from the start.
        version: their version.
        actor_class: the actors' body.

    Raises:
        OrchError: Ray lacks resources, or a runner cannot start.
    """

    def __init__(
        self,
        settings: Settings,
        weights: Weights,
        version: int,
        *,
        actor_class: type[EnvRunnerActor] = EnvRunnerActor,
    ) -> None:
        self._settings = settings
        self._in_flight = 1
        self._attempts = settings.fault_tolerance.max_group_attempts
        self._reissued = 0
        self._ledger: GroupLedger[SampleRequest] = GroupLedger([], max_attempts=1)
        self._pool = RunnerPool(settings, weights, version, self._runner_lost, actor_class)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Group]:
        """See `RunnerGroup.sample`."""
        self._ledger = GroupLedger(requests, max_attempts=self._attempts)
        self._in_flight = groups_in_flight(self._settings, requests)
        done: dict[str, Group] = {}
        try:
            while not self._ledger.complete:
                if should_stop is not None and should_stop():
                    raise SamplingStopped
                self._pool.tend()
                self._hand_out()
                for slot, ref in self._pool.wait():
                    group = self._collect(slot, ref)
                    if group is not None:
                        done[group.id] = group
                        if on_group is not None:
                            on_group(group)
        finally:
            self._reissued += self._ledger.reissued
            self._forget()
        return [done[request.id] for request in requests]

    def sync_weights(self, weights: Weights, version: int) -> None:
        """See `RunnerGroup.sync_weights`."""
        self._pool.sync_weights(weights, version)

    def fault_counts(self) -> dict[str, int]:
        """See `RunnerGroup.fault_counts`."""
        return {
            "num_env_runners": len(self._pool.slots),
            "num_healthy_env_runners": len(self._pool.healthy),
            "num_env_runner_restarts": self._pool.restarts,
            "num_groups_reissued": self._reissued,
        }

    def pids(self) -> list[int]:
        """See `RunnerGroup.pids`."""
        return [slot.pid for slot in self._pool.slots if slot.pid is not None]

    def stop(self) -> None:
        """See `RunnerGroup.stop`."""
        self._pool.stop()

    def _hand_out(self) -> None:
        """Fill the queues evenly: one group to each runner in turn."""
        while self._ledger.waiting:
            free = [s for s in self._pool.healthy if len(s.tasks) < self._in_flight]
            if not free:
                return
            slot = min(free, key=lambda s: (len(s.tasks), s.index))
            given = self._ledger.take(slot.index)
            assert given is not None
            ticket, request = given
            slot.tasks[slot.actor.sample.remote(request)] = (ticket, time.monotonic())

    def _collect(self, slot: RunnerSlot, ref: Any) -> Group | None:
        """The group of an answered call, if it is there and still waited for."""
        if ref not in slot.tasks:
            return None  # the runner was lost while an earlier answer of this round was read
        ticket, _ = slot.tasks.pop(ref)
        try:
            reply: SampleReply = ray.get(ref, timeout=FETCH_TIMEOUT_S)
        except RayTaskError as problem:
            self._ledger.lose(ticket, cause(problem))
            return None
        except (RayError, GetTimeoutError) as problem:
            self._pool.lose(slot, cause(problem))
            return None
        slot.heard_at = time.monotonic()
        group = checked(reply)
        if not isinstance(group, str):
            slot.failures = 0
            return group if self._ledger.finish(ticket) else None
        if reply.engine_failed:
            self._pool.lose(slot, group)
        else:
            self._ledger.lose(ticket, group)
        return None

    def _runner_lost(self, index: int, why: str) -> None:
        self._ledger.lose_runner(index, why)

    def _forget(self) -> None:
        """Cancel what is still in flight (only after a failure or a stop)."""
        for slot in self._pool.slots:
            for ref in slot.tasks:
                ray.cancel(ref)
            slot.tasks.clear()
