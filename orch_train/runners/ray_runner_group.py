"""Env runners on Ray: bounded queues, answers as they come, lost groups given out again.

The hard decision: groups and not episodes are dispatched, one call per group with a few in flight
at each runner, so that a runner is never idle between groups, a finished group leaves at once,
and what a dead runner takes with it is at most those few.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from orch_train.config import Settings
from orch_train.rollouts.env_runner import EnvRunnerActor
from orch_train.runners.ledger import GroupLedger
from orch_train.runners.runner_group import (
    OnGroup,
    ShouldStop,
    episodes_in_flight,
    raise_user_error,
    sample_all,
)
from orch_train.runners.runner_pool import FETCH_TIMEOUT_S, RunnerPool, cause
from orch_train.runners.runner_slot import RunnerSlot, Sent
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from orch_train.weight_sync.buckets import Weights
from orch_train.weight_sync.protocol import WeightSender

WAKE_S = 0.02
"""Longest time until a `poll` notices that it was woken."""


class RayRunnerGroup:
    """`RunnerGroup` over Ray actors.

    Args:
        settings: the whole configuration.
        weights: served from the start.
        version: their version.
        actor_class: the actors' body.
        sender: see `RunnerPool`.

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
        sender: WeightSender | None = None,
    ) -> None:
        self._settings = settings
        attempts = settings.fault_tolerance.max_group_attempts
        self._ledger: GroupLedger[SampleRequest] = GroupLedger(max_attempts=attempts)
        self._woken = threading.Event()
        self._pool = RunnerPool(settings, weights, version, self._runner_lost, actor_class, sender)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[SampleReply]:
        """See `GroupSource.sample`."""
        return sample_all(self, requests, on_group, should_stop)

    def submit(self, requests: Sequence[SampleRequest], *, first: bool = False) -> None:
        """See `RunnerGroup.submit`."""
        self._ledger.add(requests, first=first)

    def poll(self, timeout: float) -> list[SampleReply]:
        """See `RunnerGroup.poll`."""
        until = time.monotonic() + timeout
        while True:
            self._pool.tend()
            self._hand_out()
            rest = until - time.monotonic()
            back = [
                reply
                for slot, ref in self._pool.wait(max(0.0, min(rest, WAKE_S)))
                if (reply := self._collect(slot, ref)) is not None
            ]
            if back:
                self._hand_out()  # a runner that has become free must not wait for the next poll
            if back or rest <= 0 or self._woken.is_set():
                self._woken.clear()
                return back

    def withdraw(self, groups: Iterable[str]) -> None:
        """See `RunnerGroup.withdraw`."""
        gone = set(groups)
        self._ledger.withdraw(gone)
        for slot in self._pool.slots:
            for ref in [r for r, sent in slot.tasks.items() if sent.ticket.group in gone]:
                del slot.tasks[ref]
                ray.cancel(ref)

    def wake(self) -> None:
        """See `RunnerGroup.wake`."""
        self._woken.set()

    @property
    def in_flight(self) -> int:
        """See `RunnerGroup.in_flight`."""
        return self._ledger.running

    def sync_weights(self, weights: Weights, version: int) -> None:
        """See `RunnerGroup.sync_weights`."""
        self._pool.sync_weights(weights, version)

    def fault_counts(self) -> dict[str, int]:
        """See `RunnerGroup.fault_counts`."""
        return {
            "num_env_runners": len(self._pool.slots),
            "num_healthy_env_runners": len(self._pool.healthy),
            "num_env_runner_restarts": self._pool.restarts,
            "num_groups_reissued": self._ledger.reissued,
        }

    def pids(self) -> list[int]:
        """See `RunnerGroup.pids`."""
        return [slot.pid for slot in self._pool.slots if slot.pid is not None]

    def stop(self) -> None:
        """See `RunnerGroup.stop`."""
        self._pool.stop()

    def _hand_out(self) -> None:
        """Fill the queues evenly: one group to each runner in turn."""
        while (request := self._ledger.next_request()) is not None:
            size = request.size
            most = episodes_in_flight(self._settings, size)
            free = [slot for slot in self._pool.healthy if slot.load + size <= most]
            if not free:
                return
            slot = min(free, key=lambda s: (s.load, s.index))
            given = self._ledger.take(slot.index)
            assert given is not None
            slot.tasks[slot.actor.sample.remote(request)] = Sent(given[0], time.monotonic(), size)

    def _collect(self, slot: RunnerSlot, ref: Any) -> SampleReply | None:
        """The group of an answered call, if it is there and still waited for."""
        if ref not in slot.tasks:
            return None  # the runner was lost while an earlier answer of this round was read
        ticket = slot.tasks.pop(ref).ticket
        try:
            reply: SampleReply | SampleFailure = ray.get(ref, timeout=FETCH_TIMEOUT_S)
        except RayTaskError as problem:
            self._ledger.lose(ticket, cause(problem))
            return None
        except (RayError, GetTimeoutError) as problem:
            self._pool.lose(slot, cause(problem))
            return None
        slot.heard_at = time.monotonic()
        if isinstance(reply, SampleReply):
            slot.failures = 0
            return reply if self._ledger.finish(ticket) else None
        raise_user_error(reply)
        if reply.engine_failed:
            self._pool.lose(slot, reply.reason)
        else:
            self._ledger.lose(ticket, reply.reason)
        return None

    def _runner_lost(self, index: int, why: str) -> None:
        self._ledger.lose_runner(index, why)
