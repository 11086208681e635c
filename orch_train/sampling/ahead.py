"""Sampling ahead of the learner, in a thread of its own, by at most ``training.max_staleness``.

The thread owns the runners: it admits groups as `Admission` allows, feeds the runners, collects
what comes back, and between two polls runs what the learner's thread asks for (new weights,
evaluation). New weights are taken in flight: running episodes go on, and each token carries the
version that sampled it. A step counts as done only once every runner serves its weights, so that
what is admitted afterwards is that fresh.

`zero_variance: resample`: a finished group without a spread of rewards gives its place to another
task as soon as it is back, at most ``max_resample_rounds * groups_per_batch`` times per batch. It
is returned with the next batch so that metrics count it; the learner skips it because its
advantages are 0.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.metrics.rollouts import staleness_metrics
from orch_train.runners.runner_group import RunnerGroup, SamplingStopped, ShouldStop
from orch_train.sampling.admission import Admission
from orch_train.sampling.bias import BiasAudit
from orch_train.sampling.observer import Observer
from orch_train.sampling.task_order import TaskOrder
from orch_train.sampling.untrained_groups import UntrainedGroups
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.weight_sync.protocol import NewWeights

_POLL_S = 0.5
"""Longest wait for a group; commands and new places end it at once."""
_STOP_CHECK_S = 0.1
"""How often a waiting learner asks whether it should stop."""
_STOP_S = 30.0


@dataclass(slots=True)
class _AdmittedGroup:
    """A group that is not trained; times are readings of a monotonic clock."""

    request: SampleRequest
    admitted_at: float
    reply: SampleReply | None = None
    arrived_at: float = 0.0


class StreamedSampling:
    """`Sampling` that goes on while the learner learns.

    Args:
        settings: the whole configuration.
        runners: from the first batch (or evaluation) on, this object's thread is their only user.
        order: the tasks; it is advanced.
        step: training steps that are done.
        version: version of the weights that the runners serve.
        observer: its methods are called for every group.
        should_stop: looked at several times a second while the learner waits; True abandons that.
        untrained: groups that an earlier process had sampled ahead.

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
        observer: Observer,
        should_stop: ShouldStop,
        untrained: UntrainedGroups | None = None,
    ) -> None:
        training = settings.training
        resample = training.zero_variance == "resample"
        self._settings, self._runners, self._order = settings, runners, order
        self._observer, self._should_stop = observer, should_stop
        self._version = version
        self.resampled: Mapping[str, int] = {}
        self.metrics: Mapping[str, Any] = {}
        self._admission = Admission(
            groups_per_batch=training.groups_per_batch,
            max_staleness=training.max_staleness,
            straggler_steps=training.straggler_steps,
            step=step,
            max_replaced=resample * training.max_resample_rounds * training.groups_per_batch,
        )
        self._admitted: dict[str, _AdmittedGroup] = {}
        self._replaced: list[SampleReply] = []
        self._arrivals: list[SampleReply] = []
        self._audit = BiasAudit()
        self._idle_s = 0.0
        self._evaluation: dict[str, SampleReply | None] = {}
        self._changed = threading.Condition()
        self._commands: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._problem: Exception | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        if untrained is not None:
            self._restore(untrained)

    # -- the learner's side -------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._order.epoch

    def next_batch(self) -> list[SampleReply]:
        self._start()
        self._observer.expect(self._settings.training.groups_per_batch)
        with self._changed:
            while (names := self._admission.take()) is None:
                self._wait()
                self._show_arrivals()
            taken = [self._admitted.pop(name) for name in names]
            replaced, self._replaced = self._replaced, []
            batch = [entry.reply for entry in taken if entry.reply is not None]
            for reply in [*batch, *replaced]:
                self._audit.trained(reply)
            self.metrics = self._batch_metrics(taken, batch)
        self.resampled = {"resampled": len(replaced), "resample_rounds": int(bool(replaced))}
        return batch + replaced

    def step_done(self, weights: NewWeights | None, version: int) -> None:
        def serve() -> None:
            if weights is not None:
                self._runners.sync_weights(weights, version)
            with self._changed:
                self._version = version
                self._admission.advance()

        self._call_in_thread(serve)

    def sample(self, requests: Sequence[SampleRequest]) -> list[SampleReply]:
        """Sample groups that start before all that wait to be trained."""
        self._observer.expect(len(requests))
        names = [request.id for request in requests]
        with self._changed:
            self._evaluation = dict.fromkeys(names)
        try:
            self._call_in_thread(lambda: self._runners.submit(requests, first=True))
            with self._changed:
                done = self._evaluation
                while None in done.values():
                    self._wait()
                    self._show_arrivals(done)
        except SamplingStopped:
            self._call_in_thread(lambda: self._runners.withdraw(names))
            raise
        finally:
            with self._changed:
                self._evaluation = {}
        return [reply for name in names if (reply := done[name]) is not None]

    def frontier(self) -> tuple[Mapping[str, Any], UntrainedGroups | None]:
        with self._changed:
            entries = self._admitted.values()
            untrained = UntrainedGroups(
                self._admission.state(),
                [entry.request for entry in entries],
                [entry.reply for entry in entries if entry.reply is not None],
            )
            return self._order.state(), untrained

    def stop(self) -> None:
        """End the thread; what was sampled ahead is abandoned. May be called twice."""
        self._stopping = True
        self._runners.wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self._runners.withdraw([*self._admitted, *self._evaluation])

    # -- between the two ----------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _call_in_thread(self, command: Callable[[], None]) -> None:
        """Run a command in the thread; returns when it is done, and raises what it raises."""
        self._start()
        answer: Future[None] = Future()
        with self._changed:
            self._check()
            self._commands.append((command, answer))
        self._runners.wake()
        answer.result()

    def _wait(self) -> None:
        """Wait for a change, the condition held."""
        self._check()
        if self._should_stop():
            raise SamplingStopped
        self._changed.wait(_STOP_CHECK_S)

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem
        if self._stopping:
            raise OrchError("sampling was stopped")

    def _show_arrivals(self, wanted: Container[str] | None = None) -> None:
        """Report what has arrived since the last call, or of it only these groups."""
        arrivals, self._arrivals = self._arrivals, []
        for reply in arrivals:
            if wanted is None or reply.group.id in wanted:
                self._observer.sampled(reply.group)

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._run_commands()
                self._admit()
                idle, since = self._runners.in_flight == 0, time.monotonic()
                for reply in self._runners.poll(_POLL_S):
                    self._on_reply(reply)
                if idle:
                    self._idle_s += time.monotonic() - since
        except Exception as problem:  # raised again in the learner's thread
            self._problem = problem
        with self._changed:
            for _, answer in self._commands:
                answer.set_exception(self._problem or OrchError("sampling was stopped"))
            self._commands.clear()
            self._changed.notify_all()

    def _run_commands(self) -> None:
        while self._commands:
            command, answer = self._commands.popleft()
            try:
                command()
            except Exception as problem:  # raised again in the thread that asked
                answer.set_exception(problem)
            else:
                answer.set_result(None)

    def _admit(self) -> None:
        """Fill the places that are free."""
        with self._changed:
            room = self._admission.room(self._settings.training.iterations)
            requests = self._order.requests(room, self._settings, self._admission.step)
            for request in requests:
                self._admission.admit(request.id)
                self._admitted[request.id] = _AdmittedGroup(request, time.monotonic())
        if requests:
            self._runners.submit(requests)

    def _on_reply(self, reply: SampleReply) -> None:
        name = reply.group.id
        with self._changed:
            self._arrivals.append(reply)
            if name in self._evaluation:
                self._evaluation[name] = reply
            elif name in self._admitted:
                entry = self._admitted[name]
                entry.reply, entry.arrived_at = reply, time.monotonic()
                self._admission.finish(name)
                self._audit.sampled(reply)
                if reply.group.is_uniform and self._admission.replace(name):
                    del self._admitted[name]
                    self._replaced.append(reply)
            self._changed.notify_all()

    # -- what a result says -------------------------------------------------------------------

    def _batch_metrics(
        self, taken: Sequence[_AdmittedGroup], batch: Sequence[SampleReply]
    ) -> dict[str, Any]:
        now = time.monotonic()
        waits = [now - entry.arrived_at for entry in taken]
        ages = [entry.arrived_at - entry.admitted_at for entry in taken]
        idle, self._idle_s = self._idle_s, 0.0
        return {
            "staleness": staleness_metrics([reply.group for reply in batch], self._version),
            "learner_queue": {
                "size": len(self._admission.finished),
                "num_groups_in_flight": len(self._admission.running),
                "wait_s_mean": sum(waits) / len(waits),
                "wait_s_max": max(waits),
                "sampling_s_mean": sum(ages) / len(ages),
                "idle_env_runners_s": idle,
            },
            "sampling_bias": self._audit.distances(),
        }

    def _restore(self, untrained: UntrainedGroups) -> None:
        try:
            self._admission.restore(untrained.admission)
        except ValueError as problem:
            raise OrchError(
                f"the checkpoint has groups that were sampled ahead of the learner, and {problem}: "
                "resume with the same value"
            ) from problem
        now = time.monotonic()
        finished = {reply.group.id: reply for reply in untrained.finished}
        for request in untrained.requests:
            reply = finished.get(request.id)
            self._admitted[request.id] = _AdmittedGroup(request, now, reply, now)
        for reply in finished.values():
            self._audit.sampled(reply)
        self._runners.submit([r for r in untrained.requests if r.id not in finished])
