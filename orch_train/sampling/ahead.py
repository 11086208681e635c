"""Sampling ahead of the learner, in a thread of its own, by at most ``training.max_staleness``.

The thread owns the runners: it admits groups as the `AdmissionBook` allows, feeds the runners,
collects what comes back, and does what the learner's thread asks for between two polls (new
weights, evaluation). New weights are taken in flight: running episodes go on, and each token
carries the version that sampled it. The hard decision: the learner's step counts as done only
once every runner serves its weights, so that what is admitted afterwards is that fresh.

`zero_variance: resample`: a finished group without a spread of rewards gives its place to another
task as soon as it is back, at most ``max_resample_rounds * groups_per_batch`` times per batch. It
is handed over with the next batch for the books, and the learner drops it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.metrics.rollouts import is_flat, staleness_metrics
from orch_train.rollouts.env_runner import SampleRequest
from orch_train.runners.runner_group import OnGroup, RunnerGroup, SamplingStopped, ShouldStop
from orch_train.sampling.admission import AdmissionBook
from orch_train.sampling.batch_sampler import SampledBatch, sample_request
from orch_train.sampling.bias import BiasAudit
from orch_train.sampling.observer import Observer
from orch_train.sampling.task_order import TaskOrder
from orch_train.sampling.untrained_groups import SampledAhead
from orch_train.trajectory.trajectory import Group
from orch_train.weight_sync.protocol import NewWeights

_POLL_S = 0.5
"""Longest wait for a group; commands and new places end it at once."""
_LOOK_S = 0.1
"""How often a waiting learner looks whether it should stop."""
_STOP_S = 30.0


@dataclass(slots=True)
class _Ahead:
    """An admitted group that is not trained; times are readings of a monotonic clock."""

    request: SampleRequest
    admitted_at: float
    group: Group | None = None
    back_at: float = 0.0


class StreamedSampling:
    """`Sampling` that goes on while the learner learns.

    Args:
        settings: the whole configuration.
        runners: from the first batch (or evaluation) on, this object's thread is their only user.
        order: the tasks; it is advanced.
        step: training steps that are done.
        version: version of the weights that the runners serve.
        ahead: groups that an earlier process had sampled ahead.

    Raises:
        OrchError: those groups were sampled under another batch size or staleness.
    """

    wait_phase = "idle_learner"

    def __init__(
        self,
        settings: Settings,
        runners: RunnerGroup,
        order: TaskOrder,
        *,
        step: int,
        version: int,
        ahead: SampledAhead | None = None,
    ) -> None:
        training = settings.training
        resample = training.zero_variance == "resample"
        self._settings, self._runners, self._order = settings, runners, order
        self._version = version
        self._book = AdmissionBook(
            groups_per_batch=training.groups_per_batch,
            max_staleness=training.max_staleness,
            straggler_steps=training.straggler_steps,
            step=step,
            max_replaced=resample * training.max_resample_rounds * training.groups_per_batch,
        )
        self._ahead: dict[str, _Ahead] = {}
        self._replaced: list[Group] = []
        self._news: list[Group] = []
        self._audit = BiasAudit()
        self._idle_s = 0.0
        self._evaluation: dict[str, Group | None] = {}
        self._changed = threading.Condition()
        self._asked: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._problem: Exception | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        if ahead is not None:
            self._restore(ahead)

    # -- the learner's side -------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """See `Sampling.epoch`."""
        return self._order.epoch

    def next_batch(
        self, step: int, observer: Observer, should_stop: Callable[[], bool]
    ) -> SampledBatch:
        """See `Sampling.next_batch`."""
        self._start()
        observer.expect(self._settings.training.groups_per_batch)
        with self._changed:
            while (names := self._book.take()) is None:
                self._wait(should_stop)
                for group in self._heard():
                    if group.id not in self._evaluation:
                        observer.sampled(group)
            taken = [self._ahead.pop(name) for name in names]
            replaced, self._replaced = self._replaced, []
            groups = [entry.group for entry in taken if entry.group is not None]
            for group in [*groups, *replaced]:
                self._audit.trained(group)
            metrics = self._metrics(taken, groups)
        return SampledBatch([*groups, *replaced], len(replaced), bool(replaced), metrics)

    def step_done(self, weights: NewWeights | None, version: int) -> None:
        """See `Sampling.step_done`."""

        def serve() -> None:
            if weights is not None:
                self._runners.sync_weights(weights, version)
            with self._changed:
                self._version = version
                self._book.advance()

        self._ask(serve)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Group]:
        """See `GroupSource.sample`; these groups start before all that wait to be trained."""
        self._start()
        names = [request.id for request in requests]
        with self._changed:
            self._evaluation = dict.fromkeys(names)
        try:
            self._ask(lambda: self._runners.submit(requests, first=True))
            with self._changed:
                done = self._evaluation
                while None in done.values():
                    self._wait(should_stop)
                    for group in self._heard():
                        if on_group is not None and group.id in done:
                            on_group(group)
        except SamplingStopped:
            self._ask(lambda: self._runners.withdraw(names))
            raise
        finally:
            with self._changed:
                self._evaluation = {}
        return [found for name in names if (found := done[name]) is not None]

    def frontier(self) -> tuple[Mapping[str, Any], SampledAhead | None]:
        """See `Sampling.frontier`."""
        with self._changed:
            entries = self._ahead.values()
            ahead = SampledAhead(
                self._book.state(),
                [entry.request for entry in entries],
                [entry.group for entry in entries if entry.group is not None],
            )
            return self._order.state(), ahead

    def stop(self) -> None:
        """See `Sampling.stop`; what was sampled ahead is abandoned. May be called twice."""
        self._stopping = True
        self._runners.wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self._runners.withdraw([*self._ahead, *self._evaluation])

    # -- between the two ----------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _ask(self, do: Callable[[], None]) -> None:
        """Have the thread do something; returns when it is done, and raises what it raises."""
        self._start()
        answer: Future[None] = Future()
        with self._changed:
            self._check()
            self._asked.append((do, answer))
        self._runners.wake()
        answer.result()

    def _wait(self, should_stop: ShouldStop | None) -> None:
        """Wait for a change, the condition held."""
        self._check()
        if should_stop is not None and should_stop():
            raise SamplingStopped
        self._changed.wait(_LOOK_S)

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem
        if self._stopping:
            raise OrchError("sampling was stopped")

    def _heard(self) -> list[Group]:
        news, self._news = self._news, []
        return news

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._obey()
                self._admit()
                idle, since = self._runners.in_flight == 0, time.monotonic()
                for group in self._runners.poll(_POLL_S):
                    self._back(group)
                if idle:
                    self._idle_s += time.monotonic() - since
        except Exception as problem:  # raised again in the learner's thread
            self._problem = problem
        with self._changed:
            for _, answer in self._asked:
                answer.set_exception(self._problem or OrchError("sampling was stopped"))
            self._asked.clear()
            self._changed.notify_all()

    def _obey(self) -> None:
        while self._asked:
            do, answer = self._asked.popleft()
            try:
                do()
            except Exception as problem:  # raised again in the thread that asked
                answer.set_exception(problem)
            else:
                answer.set_result(None)

    def _admit(self) -> None:
        """Fill the places that are free."""
        with self._changed:
            room = self._book.room(self._settings.training.iterations)
            draws = self._order.draw(room) if room else []
            step = self._book.step
            requests = [sample_request(self._settings, self._order, d, step) for d in draws]
            for request in requests:
                self._book.admit(request.id)
                self._ahead[request.id] = _Ahead(request, time.monotonic())
        if requests:
            self._runners.submit(requests)

    def _back(self, group: Group) -> None:
        with self._changed:
            self._news.append(group)
            if group.id in self._evaluation:
                self._evaluation[group.id] = group
            elif group.id in self._ahead:
                entry = self._ahead[group.id]
                entry.group, entry.back_at = group, time.monotonic()
                self._book.finish(group.id)
                self._audit.sampled(group)
                if is_flat(group) and self._book.replace(group.id):
                    self._replaced.append(self._ahead.pop(group.id).group or group)
            self._changed.notify_all()

    # -- what a result says -------------------------------------------------------------------

    def _metrics(self, taken: Sequence[_Ahead], groups: Sequence[Group]) -> dict[str, Any]:
        now = time.monotonic()
        waits = [now - entry.back_at for entry in taken]
        ages = [entry.back_at - entry.admitted_at for entry in taken]
        idle, self._idle_s = self._idle_s, 0.0
        return {
            "staleness": staleness_metrics(groups, self._version),
            "learner_queue": {
                "size": len(self._book.finished),
                "num_groups_in_flight": len(self._book.running),
                "wait_s_mean": sum(waits) / len(waits),
                "wait_s_max": max(waits),
                "sampling_s_mean": sum(ages) / len(ages),
                "idle_env_runners_s": idle,
            },
            "sampling_bias": self._audit.distances(),
        }

    def _restore(self, ahead: SampledAhead) -> None:
        try:
            self._book.restore(ahead.book)
        except ValueError as problem:
            raise OrchError(
                f"the checkpoint has groups that were sampled ahead of the learner, and {problem}: "
                "resume with the same value"
            ) from problem
        now = time.monotonic()
        finished = {group.id: group for group in ahead.finished}
        for request in ahead.requests:
            self._ahead[request.id] = _Ahead(request, now, finished.get(request.id), now)
        for group in finished.values():
            self._audit.sampled(group)
        self._runners.submit([r for r in ahead.requests if r.id not in finished])
