"""The rollout workers as one thing: give it groups to sample, get each of them back once.

Two forms behind one protocol: Ray actors (`ray_runner_group`), and a single runner in this
process for small machines and for debugging. Groups go in with `submit` and come out of `poll`,
so that sampling can go on while something learns; `sample` is both in one call. What is dispatched,
lost and given out again is a whole group, because its members are only meaningful together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.rollouts.env_runner import EnvRunner
from orch_train.runners.ledger import GroupLedger, Ticket
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from orch_train.trajectory.sample import Group
from orch_train.weight_sync.protocol import NewWeights, tensors_of

OnGroup = Callable[[Group], None]
ShouldStop = Callable[[], bool]
_STOP_POLL_S = 0.1


class SamplingStopped(Exception):
    """Sampling was abandoned on request; what had come back is dropped with the rest."""


class GroupSource(Protocol):
    """Whatever samples groups on request."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[SampleReply]:
        """Sample all groups and return them in the order of the requests.

        Args:
            requests: ids must be unique.

        Raises:
            SamplingStopped: a stop was requested.
            OrchError: a group failed too often, or no runner is left.
        """
        ...


class RunnerGroup(GroupSource, Protocol):
    """Any number of env runners that serve one policy.

    All calls but `wake` come from one thread at a time.
    """

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[SampleReply]:
        """`GroupSource.sample` by `submit` and `poll`, for runners that have nothing else to do."""
        self.submit(requests)
        done: dict[str, SampleReply] = {}
        try:
            while len(done) < len(requests):
                if should_stop is not None and should_stop():
                    raise SamplingStopped
                for reply in self.poll(_STOP_POLL_S):
                    done[reply.group.id] = reply
                    if on_group is not None:
                        on_group(reply.group)
        finally:
            self.withdraw(request.id for request in requests if request.id not in done)
        return [done[request.id] for request in requests]

    def submit(self, requests: Sequence[SampleRequest], *, first: bool = False) -> None:
        """Take groups to sample; `poll` starts them when there is room.

        Args:
            requests: ids unique among all groups that are not back yet.
            first: they start before all that wait already.

        Raises:
            ValueError: an id is there already.
        """
        ...

    def poll(self, timeout: float) -> list[SampleReply]:
        """Groups that have come back, each once; the first one ends the wait.

        Args:
            timeout: longest wait, in seconds; then the list is empty.

        Raises:
            OrchError: a group failed too often, or no runner is left.
        """
        ...

    def withdraw(self, groups: Iterable[str]) -> None:
        """Abandon these groups, whether they wait or run; unknown ids are ignored."""
        ...

    def wake(self) -> None:
        """End a `poll` that waits in another thread (or the next one) soon; always safe."""
        ...

    @property
    def in_flight(self) -> int:
        """Groups that are being sampled now."""
        ...

    def sync_weights(self, weights: NewWeights, version: int) -> None:
        """Serve these weights on every runner before this returns; episodes in flight go on."""
        ...

    def fault_counts(self) -> Mapping[str, int]:
        """Counters over the whole run, for ``fault_tolerance/*``."""
        ...

    def pids(self) -> list[int]:
        """Process ids of the runners that are processes of their own."""
        ...

    def stop(self) -> None:
        """End everything; may be called twice."""
        ...


def episodes_in_flight(settings: Settings, size: int) -> int:
    """Episodes that may be queued at one runner, counted with one more group of this size.

    Enough to fill its environments, and one group to spare; evaluation asks for groups of one,
    so what is bounded is the number of episodes.
    """
    given = settings.env_runners.max_requests_in_flight_per_env_runner
    if given is not None:
        return max(1, given * settings.training.group_size // size) * size
    return (settings.env_runners.num_envs_per_env_runner // size + 1) * size


class LocalRunnerGroup(RunnerGroup):
    """One runner, in this process, without Ray; synchronous sampling is reproducible to the bit.

    Args:
        runner: the runner.
        settings: attempts per group and episodes in flight are read from here.
        weights: served from the start.
        version: their version.
    """

    def __init__(
        self, runner: EnvRunner, settings: Settings, weights: NewWeights, version: int
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        attempts = settings.fault_tolerance.max_group_attempts
        self._ledger: GroupLedger[SampleRequest] = GroupLedger(max_attempts=attempts)
        self._playing: dict[str, tuple[asyncio.Task[None], int]] = {}
        self._back: list[SampleReply] = []
        self._problem: Exception | None = None
        self._knock = asyncio.Event()
        self.sync_weights(weights, version)

    def submit(self, requests: Sequence[SampleRequest], *, first: bool = False) -> None:
        self._ledger.add(requests, first=first)

    def poll(self, timeout: float) -> list[SampleReply]:
        self._loop.run_until_complete(self._advance(timeout))
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
        back, self._back = self._back, []
        return back

    def withdraw(self, groups: Iterable[str]) -> None:
        gone = set(groups)
        self._ledger.withdraw(gone)
        self._back = [reply for reply in self._back if reply.group.id not in gone]
        found = [self._playing.pop(group) for group in gone & self._playing.keys()]
        if found:
            self._loop.run_until_complete(_cancelled([task for task, _ in found]))

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._knock.set)

    @property
    def in_flight(self) -> int:
        return self._ledger.running

    def sync_weights(self, weights: NewWeights, version: int) -> None:
        self._loop.run_until_complete(self._runner.serve(tensors_of(weights), version))

    def fault_counts(self) -> dict[str, int]:
        return {
            "num_env_runners": 0,
            "num_healthy_env_runners": 0,
            "num_env_runner_restarts": 0,
            "num_groups_reissued": self._ledger.reissued,
        }

    def pids(self) -> list[int]:
        """There is no process of its own."""
        return []

    def stop(self) -> None:
        if not self._loop.is_closed():
            self.withdraw(list(self._playing))
            self._runner.stop()
            self._loop.run_until_complete(_cancelled(asyncio.all_tasks(self._loop)))
            self._loop.close()

    async def _advance(self, timeout: float) -> None:
        """Run the loop until a group is back, something fails or calls, or time is up."""
        self._start()
        if not self._back and self._problem is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._knock.wait(), timeout)
        self._knock.clear()

    def _start(self) -> None:
        """Start waiting groups while there is room."""
        load = sum(episodes for _, episodes in self._playing.values())
        while (request := self._ledger.next_request()) is not None:
            size = request.size
            if load + size > episodes_in_flight(self._settings, size):
                return
            given = self._ledger.take(0)
            assert given is not None
            self._playing[request.id] = (self._loop.create_task(self._play(*given)), size)
            load += size

    async def _play(self, ticket: Ticket, request: SampleRequest) -> None:
        reply = await self._runner.sample(request)
        self._playing.pop(request.id, None)
        try:
            if isinstance(reply, SampleFailure):
                raise_user_error(reply)
                self._ledger.lose(ticket, reply.reason)
            elif self._ledger.finish(ticket):
                self._back.append(reply)
        except OrchError as problem:
            self._problem = problem
        self._start()
        if self._back or self._problem is not None:
            self._knock.set()


def raise_user_error(failure: SampleFailure) -> None:
    """Raise what is the fault of the user's data or configuration: trying again is futile."""
    if failure.user_error is not None:
        raise failure.user_error


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
