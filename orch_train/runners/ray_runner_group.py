"""Env runners on Ray: bounded queues, answers as they come, lost groups given out again.

One call per group, with a few in flight at each runner: a runner is never idle between groups, a
finished group leaves at once, and a dead runner loses at most those few.
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
from orch_train.runners.runner_group import RunnerGroup, episodes_in_flight, raise_user_error
from orch_train.runners.runner_pool import FETCH_TIMEOUT_S, RunnerPool, cause
from orch_train.runners.runner_slot import RunnerSlot, Sent
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from orch_train.weight_sync.protocol import NewWeights

WAKE_S = 0.02
"""Longest time until a `poll` notices that it was woken."""


class RayRunnerGroup(RunnerGroup):
    """`RunnerGroup` over Ray actors.

    Args:
        settings: the whole configuration.
        weights: served from the start.
        version: their version.
        actor_class: the actors' body.

    Attributes:
        pool: the actors.
        ledger: who samples which group.

    Raises:
        OrchError: Ray lacks resources, or a runner cannot start.
    """

    def __init__(
        self,
        settings: Settings,
        weights: NewWeights,
        version: int,
        *,
        actor_class: type[EnvRunnerActor] = EnvRunnerActor,
    ) -> None:
        attempts = settings.fault_tolerance.max_group_attempts
        self.ledger: GroupLedger[SampleRequest] = GroupLedger(max_attempts=attempts)
        self._woken = threading.Event()
        self.pool = RunnerPool(settings, weights, version, self._runner_lost, actor_class)

    def submit(self, requests: Sequence[SampleRequest], *, first: bool = False) -> None:
        self.ledger.add(requests, first=first)

    def poll(self, timeout: float) -> list[SampleReply]:
        until = time.monotonic() + timeout
        while True:
            self.pool.tend()
            self._hand_out()
            rest = until - time.monotonic()
            back = [
                reply
                for slot, ref in self.pool.wait(max(0.0, min(rest, WAKE_S)))
                if (reply := self._collect(slot, ref)) is not None
            ]
            if back:
                self._hand_out()  # a runner that has become free must not wait for the next poll
            if back or rest <= 0 or self._woken.is_set():
                self._woken.clear()
                return back

    def withdraw(self, groups: Iterable[str]) -> None:
        gone = set(groups)
        self.ledger.withdraw(gone)
        for slot in self.pool.slots:
            for ref in [r for r, sent in slot.tasks.items() if sent.ticket.group in gone]:
                del slot.tasks[ref]
                ray.cancel(ref)

    def wake(self) -> None:
        self._woken.set()

    @property
    def in_flight(self) -> int:
        return self.ledger.running

    def sync_weights(self, weights: NewWeights, version: int) -> None:
        self.pool.sync_weights(weights, version)

    def fault_counts(self) -> dict[str, int]:
        return {
            "num_env_runners": len(self.pool.slots),
            "num_healthy_env_runners": len(self.pool.healthy),
            "num_env_runner_restarts": self.pool.restarts,
            "num_groups_reissued": self.ledger.reissued,
        }

    def pids(self) -> list[int]:
        return [slot.pid for slot in self.pool.slots if slot.pid is not None]

    def stop(self) -> None:
        self.pool.stop()

    def _hand_out(self) -> None:
        """Fill the queues evenly: one group to each runner in turn."""
        while (request := self.ledger.next_request()) is not None:
            size = request.size
            most = episodes_in_flight(self.pool.settings, size)
            free = [slot for slot in self.pool.healthy if slot.load + size <= most]
            if not free:
                return
            slot = min(free, key=lambda s: (s.load, s.index))
            given = self.ledger.take(slot.index)
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
            self.ledger.lose(ticket, cause(problem))
            return None
        except (RayError, GetTimeoutError) as problem:
            self.pool.lose(slot, cause(problem))
            return None
        slot.heard_at = time.monotonic()
        if isinstance(reply, SampleReply):
            slot.failures = 0
            return reply if self.ledger.finish(ticket) else None
        raise_user_error(reply)
        if reply.engine_failed:
            self.pool.lose(slot, reply.reason)
        else:
            self.ledger.lose(ticket, reply.reason)
        return None

    def _runner_lost(self, index: int, why: str) -> None:
        self.ledger.lose_runner(index, why)
