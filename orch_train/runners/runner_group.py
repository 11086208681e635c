"""The rollout workers as one thing: give it groups to sample, get each of them back once.

Two forms behind one protocol: Ray actors (`ray_runner_group`), and a single runner in this
process for small machines and for debugging. The hard decision: the unit of dispatch, of loss and
of re-issue is the whole group; its members are only meaningful together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from orch_train.config import Settings
from orch_train.engines.protocol import Weights
from orch_train.runners.env_runner import EnvRunner, SampleReply, SampleRequest
from orch_train.runners.ledger import GroupLedger
from orch_train.trajectory import Group
from orch_train.weight_sync.object_store import InProcessTransport

OnGroup = Callable[[Group], None]
ShouldStop = Callable[[], bool]
_STOP_POLL_S = 0.1


class SamplingStopped(Exception):
    """Sampling was abandoned on request; what had come back is dropped with the rest."""


class RunnerGroup(Protocol):
    """Any number of env runners that serve one policy."""

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Group]:
        """Sample all groups and return them in the order of the requests.

        Args:
            requests: ids must be unique.
            on_group: called with each group as it comes back, for progress.
            should_stop: looked at several times a second; True abandons the whole call.

        Raises:
            SamplingStopped: ``should_stop`` said so.
            OrchError: a group failed too often, or no runner is left.
        """
        ...

    def sync_weights(self, weights: Weights, version: int) -> None:
        """Serve these weights on every runner before this returns."""
        ...

    def fault_counts(self) -> Mapping[str, int]:
        """Counters over the whole run, for ``fault_tolerance/*``."""
        ...

    def pids(self) -> list[int]:
        """Process ids of the healthy runners."""
        ...

    def stop(self) -> None:
        """End everything; may be called twice."""
        ...


def make_runner_group(settings: Settings, weights: Weights, version: int) -> RunnerGroup:
    """Start the runners of a configuration with these weights.

    Raises:
        OrchError: a runner cannot start.
    """
    if settings.env_runners.num_env_runners == 0:
        return LocalRunnerGroup(EnvRunner(settings), settings, weights, version)
    from orch_train.runners.ray_runner_group import RayRunnerGroup

    return RayRunnerGroup(settings, weights, version)


def groups_in_flight(settings: Settings, requests: Sequence[SampleRequest]) -> int:
    """Groups that may be queued at one runner: enough to fill its environments, one to spare.

    Evaluation asks for groups of one, so what is bounded is the number of episodes.
    """
    size = max((request.group.size for request in requests), default=1)
    given = settings.env_runners.max_requests_in_flight_per_env_runner
    if given is not None:
        return max(1, given * settings.training.group_size // size)
    return settings.env_runners.num_envs_per_env_runner // size + 1


class LocalRunnerGroup:
    """One runner, in this process, without Ray; bit for bit reproducible.

    Args:
        runner: the runner.
        settings: attempts per group and episodes in flight are read from here.
        weights: served from the start.
        version: their version.
    """

    def __init__(
        self, runner: EnvRunner, settings: Settings, weights: Weights, version: int
    ) -> None:
        self._runner = runner
        self._attempts = settings.fault_tolerance.max_group_attempts
        self._settings = settings
        self._transport = InProcessTransport()
        self._loop = asyncio.new_event_loop()
        self._reissued = 0
        self.sync_weights(weights, version)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Group]:
        """See `RunnerGroup.sample`."""
        ledger = GroupLedger(requests, max_attempts=self._attempts)
        lanes = min(len(requests), groups_in_flight(self._settings, requests))
        done: dict[str, Group] = {}
        try:
            self._loop.run_until_complete(
                self._sample(ledger, lanes, done, on_group or _ignore, should_stop)
            )
        finally:
            self._reissued += ledger.reissued
        return [done[request.id] for request in requests]

    def sync_weights(self, weights: Weights, version: int) -> None:
        """See `RunnerGroup.sync_weights`."""
        serving = self._runner.serve(self._transport.publish(weights), version)
        self._loop.run_until_complete(serving)

    def fault_counts(self) -> dict[str, int]:
        """See `RunnerGroup.fault_counts`."""
        return {
            "num_env_runners": 0,
            "num_healthy_env_runners": 0,
            "num_env_runner_restarts": 0,
            "num_groups_reissued": self._reissued,
        }

    def pids(self) -> list[int]:
        """There is no process of its own."""
        return []

    def stop(self) -> None:
        """See `RunnerGroup.stop`."""
        if not self._loop.is_closed():
            self._runner.stop()
            self._loop.close()

    async def _sample(
        self,
        ledger: GroupLedger[SampleRequest],
        count: int,
        done: dict[str, Group],
        on_group: OnGroup,
        should_stop: ShouldStop | None,
    ) -> None:
        lanes = [asyncio.ensure_future(self._lane(ledger, done, on_group)) for _ in range(count)]
        pending = set(lanes)
        try:
            while pending:
                if should_stop is not None and should_stop():
                    raise SamplingStopped
                finished, pending = await asyncio.wait(
                    pending, timeout=_STOP_POLL_S, return_when=asyncio.FIRST_EXCEPTION
                )
                for lane in finished:
                    lane.result()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _lane(
        self, ledger: GroupLedger[SampleRequest], done: dict[str, Group], on_group: OnGroup
    ) -> None:
        while (given := ledger.take(0)) is not None:
            ticket, request = given
            group = checked(await self._runner.sample(request))
            if isinstance(group, str):
                ledger.lose(ticket, group)
            elif ledger.finish(ticket):
                done[request.id] = group
                on_group(group)


def checked(reply: SampleReply) -> Group | str:
    """The group, or why there is none.

    Raises:
        OrchError: the user's data or configuration is at fault, so that trying again is futile.
    """
    if reply.user_error is not None:
        raise reply.user_error
    if reply.group is not None:
        return reply.group
    return reply.failure or "unknown failure"


def _ignore(group: Group) -> None:
    del group


__all__ = [
    "LocalRunnerGroup",
    "OnGroup",
    "RunnerGroup",
    "SamplingStopped",
    "checked",
    "groups_in_flight",
    "make_runner_group",
]
