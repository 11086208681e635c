"""The Ray actors behind the runner group: started, watched, replaced, kept on current weights.

Ray's own retries stay off: they are used up at once on a dead actor and know nothing of weights.
A runner that fails in any way (dead, silent, hung, broken engine) is killed and replaced; nothing
is repaired in place, so a healthy runner always serves the current weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.config.weight_route import weight_sync
from orch_train.rollouts.env_runner import EnvRunnerActor, ReceiveReply, StartReply
from orch_train.runners.collective_sync import CollectiveSync, LocalSource
from orch_train.runners.reservation import Reservation
from orch_train.runners.runner_slot import RunnerSlot, SlotState
from orch_train.weight_sync.collective import WeightSender
from orch_train.weight_sync.object_store import pack
from orch_train.weight_sync.protocol import NewWeights, WeightSource, tensors_of

POLL_S = 0.2
FETCH_TIMEOUT_S = 60.0
_FIRST_STARTS = 2
"""Times that a slot may fail while the pool first fills; later ones are bounded by the settings."""
_BLAMELESS_ROUNDS = 3
"""Collective transfers of one sync that may fail without a runner being lost."""
_HEALTH = "health"

OnLost = Callable[[int, str], None]
OnAnswer = Callable[[RunnerSlot, Any], None]


class RunnerPool:
    """All runners of a run.

    Args:
        settings: the whole configuration.
        weights: served from the start.
        version: their version.
        on_lost: called with a slot's index and the reason whenever its runner is given up.
        actor_class: the actors' body.

    Attributes:
        settings: read at every use, so limits in a replaced one hold from then on.
        on_lost: see above.
        collective: with ``env_runners.weight_sync: collective`` the way from the first sync on;
            ``None``: all weights go through Ray's object store.
        sender: sends weights that are in this process.
        slots: the runners.
        restarts: replacements so far.

    Raises:
        OrchError: Ray lacks resources, or a runner cannot start.
    """

    def __init__(
        self,
        settings: Settings,
        weights: NewWeights,
        version: int,
        on_lost: OnLost,
        actor_class: type[EnvRunnerActor] = EnvRunnerActor,
    ) -> None:
        self.settings, self.on_lost = settings, on_lost
        self.collective: CollectiveSync | None = None
        self.sender = WeightSender()
        self._weights, self._version = weights, version
        self._stored: Any = None
        self._actor_class = _as_actor(actor_class, settings)
        self.slots = [RunnerSlot(i) for i in range(settings.env_runners.num_env_runners)]
        self.restarts = 0
        self._filled = self._stopped = False
        self._places = Reservation.of(settings)
        try:
            if weight_sync(settings) != "host":
                self.collective = _make_collective(settings)
            while not all(slot.state is SlotState.HEALTHY for slot in self.slots):
                self.tend()
                self.wait()
            self._filled = True
        except BaseException:
            self.stop()
            raise

    @property
    def healthy(self) -> list[RunnerSlot]:
        """Slots whose runner serves the current weights."""
        return [slot for slot in self.slots if slot.state is SlotState.HEALTHY]

    def sync_weights(self, weights: NewWeights, version: int) -> None:
        """Serve these weights on every healthy runner; one that does not is replaced.

        Runners that are just starting get them before their first group.

        Raises:
            OrchError: no runner is left, or collective transfers fail and no runner is to blame.
        """
        self._places.check()
        self._weights, self._version, self._stored = weights, version, None
        if self.collective is not None:
            if not isinstance(weights, WeightSource):
                weights = LocalSource(weights, self.sender)
            self._broadcast(self.collective, weights, version)
            return
        calls = {
            slot.actor.set_weights.remote(self._object_ref, version): slot for slot in self.healthy
        }
        self._settle(calls, lambda slot, ref: self._finish_sync(slot, ref, version))

    def _broadcast(self, collective: CollectiveSync, source: WeightSource, version: int) -> None:
        """Transfers until every runner that was healthy has the version, or is replaced.

        A transfer fails for all when one runner is lost in it; healthy runners that do not have
        the version yet take part in the next.
        """
        missing = {slot.index: slot.actor for slot in self.healthy}
        blameless, reason = 0, ""

        def finish(slot: RunnerSlot, ref: Any) -> None:
            reply = self._finish_sync(slot, ref, version)
            if isinstance(reply, ReceiveReply) and reply.failure is None:
                del missing[slot.index]

        while slots := [s for s in self.healthy if missing.get(s.index) is s.actor]:
            if blameless == _BLAMELESS_ROUNDS:
                raise OrchError(
                    f"env_runners.weight_sync=collective: {blameless} transfers failed although "
                    f"every runner is alive, the last one because: {reason}; try host"
                )
            jobs = collective.begin([slot.actor for slot in slots], source)
            calls = {
                slot.actor.receive_weights.remote(job, version): slot
                for slot, job in zip(slots, jobs, strict=True)
            }
            self._settle(calls, finish)
            reason = collective.end() or "a runner's engine did not take part"
            blameless += all(slot.state is SlotState.HEALTHY for slot in slots)

    def _settle(self, waiting: dict[Any, RunnerSlot], finish: OnAnswer) -> None:
        """Wait for the answers of one sync; a runner that misses its deadline is replaced."""
        timeout = self.settings.fault_tolerance.env_runner_restore_timeout_s
        deadline = time.monotonic() + timeout
        while waiting:
            probes = {slot.probe[0]: slot for slot in waiting.values() if slot.probe}
            ready, _ = ray.wait([*waiting, *probes], num_returns=1, timeout=POLL_S)
            for ref in ready:
                if ref in waiting:
                    finish(waiting.pop(ref), ref)
                else:
                    self._finish_probe(probes[ref])
            now = time.monotonic()
            for ref, slot in list(waiting.items()):
                # The others must not wait that long for a hung or frozen runner.
                if slot.state is SlotState.HEALTHY:
                    self._watch(slot, now)
                if slot.state is SlotState.HEALTHY and now >= deadline:
                    self.lose(slot, f"no answer to new weights within {timeout:g} s")
                if slot.state is not SlotState.HEALTHY:
                    del waiting[ref]

    def _finish_sync(self, slot: RunnerSlot, ref: Any, version: int) -> Any:
        try:
            reply: ReceiveReply | int = ray.get(ref, timeout=FETCH_TIMEOUT_S)
        except (RayError, GetTimeoutError) as problem:
            self.lose(slot, f"new weights failed: {cause(problem)}")
            return None
        slot.heard_at = time.monotonic()
        if not isinstance(reply, ReceiveReply) or reply.failure is None:
            slot.sent_version = version
        return reply

    def tend(self) -> None:
        """Fill slots whose time has come; give up runners that are overdue.

        Raises:
            OrchError: Ray was shut down, or no runner is left.
        """
        self._places.check()
        now = time.monotonic()
        for slot in self.slots:
            if slot.state is SlotState.DOWN and now >= slot.restart_at:
                self._start(slot)
            elif slot.state is SlotState.STARTING and now >= slot.deadline:
                self.lose(slot, "not ready in time (fault_tolerance.env_runner_restore_timeout_s)")
            elif slot.state is SlotState.HEALTHY and slot.tasks:
                self._watch(slot, now)

    def wait(self, timeout: float = POLL_S) -> list[tuple[RunnerSlot, Any]]:
        """Wait a moment for answers; returns those to sample calls, and handles all others.

        Args:
            timeout: seconds; the first answer ends the wait.
        """
        refs: dict[Any, RunnerSlot] = {}
        for slot in self.slots:
            own = [slot.ready, slot.probe[0] if slot.probe else None, *slot.tasks]
            refs.update((ref, slot) for ref in own if ref is not None)
        if not refs:
            time.sleep(timeout)  # nothing runs, or every runner is down and waits for its restart
            return []
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        samples = []
        for ref in ready:
            slot = refs[ref]
            if ref == slot.ready:
                self._finish_start(slot)
            elif slot.probe is not None and ref == slot.probe[0]:
                self._finish_probe(slot)
            elif ref in slot.tasks:
                samples.append((slot, ref))
        return samples

    def lose(self, slot: RunnerSlot, why: str) -> None:
        """Kill a slot's runner, plan its replacement, and report what it had as lost.

        Raises:
            OrchError: no runner is left, or the first start failed for good.
        """
        if not self._filled and slot.failures + 1 >= _FIRST_STARTS:
            raise OrchError(f"env runner {slot.index} cannot start: {why}")
        faults = self.settings.fault_tolerance
        restarts_left = self.restarts < faults.max_num_env_runner_restarts
        again = faults.restart_failed_env_runners and restarts_left
        self.restarts += again
        delay = faults.delay_between_env_runner_restarts_s
        actor = slot.lost(time.monotonic(), delay, again=again)
        if actor is not None:
            ray.kill(actor)
        if self.collective is not None:
            self.collective.abort(f"runner {slot.index} was lost: {why}")
        self.on_lost(slot.index, f"runner {slot.index}: {why}")
        if all(s.state is SlotState.GONE for s in self.slots):
            raise OrchError(
                f"no env runner is left after {self.restarts} restarts; the last one was lost "
                f"because: {why}"
            )

    def stop(self) -> None:
        """End every runner, and Ray if it was started here; may be called twice."""
        if self._stopped:
            return
        self._stopped = True
        actors = [slot.actor for slot in self.slots if slot.actor is not None]
        self._stored, self._weights = None, {}
        try:
            if actors and self._places.alive:
                goodbyes = [actor.stop.remote() for actor in actors]
                ray.wait(goodbyes, num_returns=len(goodbyes), timeout=5.0)
                for actor in actors:
                    ray.kill(actor)
        finally:
            self._places.close()

    @property
    def _object_ref(self) -> Any:
        """The current weights in Ray's object store, put there when the first runner needs them."""
        if self._stored is None:
            self._stored = ray.put(pack(tensors_of(self._weights)))
            self._weights = {}
        return self._stored

    def _start(self, slot: RunnerSlot) -> None:
        place = self._actor_class.options(**self._places.runner_options(slot.index))
        actor = place.remote(self.settings, slot.index)
        ready = actor.start.remote(self._object_ref, self._version)
        deadline = time.monotonic() + self.settings.fault_tolerance.env_runner_restore_timeout_s
        slot.starting(actor, ready, self._version, deadline)

    def _finish_start(self, slot: RunnerSlot) -> None:
        try:
            reply: StartReply | int = ray.get(slot.ready, timeout=FETCH_TIMEOUT_S)
        except (RayError, GetTimeoutError) as problem:
            self.lose(slot, f"died while it started: {cause(problem)}")
            return
        if isinstance(reply, StartReply):
            if reply.user_error is not None:
                raise reply.user_error
            if reply.failure is not None:
                self.lose(slot, reply.failure)
                return
            slot.pid = reply.pid
        if slot.sent_version != self._version:
            # The weights changed while it was loading: it is not healthy on old ones.
            slot.ready = slot.actor.set_weights.remote(self._object_ref, self._version)
            slot.sent_version = self._version
            return
        slot.healthy(time.monotonic())

    def _watch(self, slot: RunnerSlot, now: float) -> None:
        """Lose a runner whose oldest group, or whose answer to a ping, is overdue."""
        patience = self.settings.fault_tolerance.env_runner_health_probe_timeout_s
        sample_timeout = self.settings.env_runners.sample_timeout_s
        oldest = min((sent.at for sent in slot.tasks.values()), default=now)
        if now - oldest > sample_timeout:
            self.lose(slot, f"a group took more than {sample_timeout:g} s")
        elif slot.probe is not None:
            if now - slot.probe[1] > patience:
                self.lose(slot, f"no answer to a ping for {patience:g} s")
        elif now - slot.heard_at > patience / 2:
            slot.probe = (slot.actor.ping.options(concurrency_group=_HEALTH).remote(), now)

    def _finish_probe(self, slot: RunnerSlot) -> None:
        assert slot.probe is not None
        ref, _ = slot.probe
        slot.probe = None
        try:
            ray.get(ref, timeout=FETCH_TIMEOUT_S)
        except (RayError, GetTimeoutError) as problem:
            self.lose(slot, cause(problem))
            return
        slot.heard_at = time.monotonic()


def _make_collective(settings: Settings) -> CollectiveSync:
    ranks = settings.env_runners.tensor_parallel_size if settings.rollouts.engine == "vllm" else 1
    # Half: when a transfer takes too long, silent runners are known before all are overdue.
    limit = settings.fault_tolerance.env_runner_restore_timeout_s / 2
    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return CollectiveSync(host, ranks, limit)


def cause(problem: Exception) -> str:
    """The first telling line of one of Ray's errors, which are paragraphs."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0] if lines else 'no details'}"


def _as_actor(body: type[EnvRunnerActor], settings: Settings) -> Any:
    runners = settings.env_runners
    remote: Any = ray.remote  # its overloads do not know concurrency_groups
    return remote(
        num_cpus=runners.num_cpus_per_env_runner,
        num_gpus=runners.num_gpus_per_env_runner,
        max_restarts=0,
        max_task_retries=0,
        # Pings get a thread of their own: a long forward pass must not look like death.
        concurrency_groups={_HEALTH: 1},
    )(body)
