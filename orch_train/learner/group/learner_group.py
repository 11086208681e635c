"""Learners in processes of their own: the methods of `Learner`, over one or more Ray actors.

Several share one model, and every call goes to all of them at once, because sharded tensors can
only be used together. A rank that dies or hangs ends the group: its parameters and optimizer state
are nowhere else, so a run can only go on from a checkpoint. The error says so at once, instead of
letting the other ranks wait for it until their time is up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.group.learner_rank import LearnerRank
from orch_train.learner.learner import Progress
from orch_train.trajectory.sample import Group
from orch_train.weight_sync.buckets import Manifest, Weights
from orch_train.weight_sync.collective import GroupAddress
from orch_train.weight_sync.object_store import unpack

Value = TypeVar("Value")
_LOOK_S = 0.5
"""How often progress is asked for."""
_GRACE_S = 5.0
"""After one rank failed, how long the others may take to come back by themselves."""


@dataclass(frozen=True)
class GroupShape:
    """How many ranks, where, and how long they may take.

    Attributes:
        options: Ray's actor options of each rank, at least one: CPUs, GPUs, placement.
        start_timeout_s: bound on starting all ranks and loading the model.
        call_timeout_s: bound on every other call: an update, a checkpoint, fetching weights.
    """

    options: Sequence[Mapping[str, Any]]
    start_timeout_s: float = 600.0
    call_timeout_s: float = 1800.0

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.options)


class LearnerGroup:
    """One or more ranks with the methods of :class:`~.learner.Learner`; Ray must be running.

    A rank that is alone holds the whole model and learns exactly as `Learner` in this process does.

    Args:
        model: folder or id of the model, readable by every rank; the first loads it and sends
            the others their shards.
        settings: of every rank; ``max_tokens_per_microbatch`` is per rank.
        shape: see :class:`GroupShape`.
        reference: folder or id of the KL penalty's reference, held whole by every rank.
        on_stop: called by the first `stop`.

    Attributes:
        shape: see above; a changed limit holds from the next call on.

    Raises:
        OrchError: the ranks cannot be started, or the model does not suit.
    """

    def __init__(
        self,
        model: str,
        settings: Settings,
        shape: GroupShape,
        reference: str | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        import ray

        self.shape, self._on_stop = shape, on_stop
        self._num_updates = self._num_held = 0
        self._lost = ""
        # Progress is asked for while an update runs, so it has a thread of its own; a transfer of
        # weights must not keep the rank from its next update.
        threads: Any = {"concurrency_groups": {"watch": 1, "transfer": 1}}
        actor: Any = ray.remote(**threads)(LearnerRank)
        self._ranks = [
            actor.options(**options).remote(rank, shape.size)
            for rank, options in enumerate(shape.options)
        ]
        if shape.size > 1:
            first = [self._ranks[0].open_store.remote()]
            host, port = self._results(first, "start", shape.start_timeout_s)[0]
            place = host, port, settings.learners.device, shape.call_timeout_s
            joining = [rank.join.remote(*place) for rank in self._ranks]
            self._results(joining, "start", shape.start_timeout_s)
        self.begin(model, settings, reference)

    def begin(self, model: str, settings: Settings, reference: str | None = None) -> None:
        """Load a model, in place of an earlier one if there is one; see the class.

        Raises:
            OrchError: the model cannot be loaded; the group has ended.
        """
        self._check_alive()
        self._device, self._num_updates = settings.learners.device, 0
        model, reference = _seen_by_all(model), reference and _seen_by_all(reference)
        calls = [rank.build.remote(model, settings, reference) for rank in self._ranks]
        self._results(calls, "start", self.shape.start_timeout_s)

    @property
    def device(self) -> str:
        """Where its ranks compute: ``cpu`` or ``cuda``."""
        return self._device

    @property
    def num_updates(self) -> int:
        """Optimizer steps taken so far."""
        return self._num_updates

    def update(self, groups: Sequence[Group], progress: Progress | None = None) -> dict[str, float]:
        """See `Learner.update`; counts and speeds are those of all ranks together.

        Raises:
            OrchError: a broken batch, gradients that stay non-finite, or a rank was lost.
        """
        import ray

        self._check_alive()
        batch = ray.put(list(groups))
        calls = [rank.update.remote(batch) for rank in self._ranks]
        look = None if progress is None else _Look(self._ranks[0], progress)
        metrics: dict[str, float] = self._results(calls, "update", look=look)[0]
        self._num_updates = int(metrics["num_updates_lifetime"])
        if progress is not None:
            progress(1000, 1000)
        return metrics

    def get_weights(self) -> dict[str, Tensor]:
        """See `Learner.get_weights`; the tensors are mapped memory and must only be read."""
        return unpack(self._everywhere("get_weights")[0])

    def hold_weights(self) -> HeldWeights:
        """Have the first rank keep a copy of the weights, from which it sends them to runners."""
        self._num_held += 1
        manifest = self._everywhere("hold_weights", self._num_held)[0]
        return HeldWeights(self, manifest, self._num_held)

    def call_first(self, method: str, *arguments: Any) -> Any:
        """Begin a transfer on the first rank, beside whatever it computes; returns a reference."""
        self._check_alive()
        call = getattr(self._ranks[0], method).options(concurrency_group="transfer")
        return call.remote(*arguments)

    def on_every_rank(self, function: Callable[[LearnerRank], Value]) -> list[Value]:
        """What a function returns in each rank's process: for tests, and to look into a group."""
        self._check_alive()
        calls = [rank.__ray_call__.remote(function) for rank in self._ranks]
        return self._results(calls, "on_every_rank")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """See `Learner.save`; the first rank writes, on a file system that it shares with us."""
        self._everywhere("save", _absolute(folder))

    def rescue(self, folder: str | os.PathLike[str]) -> str:
        """See `Learner.rescue`; the first rank writes."""
        told: str = self._everywhere("rescue", _absolute(folder))[0]
        return told

    def save_model(self, folder: str | os.PathLike[str]) -> None:
        """See `Learner.save_model`; the first rank writes."""
        self._everywhere("save_model", _absolute(folder))

    def load(self, folder: str | os.PathLike[str]) -> None:
        """See `Learner.load`; the state may come from any number of learners."""
        self._num_updates = self._everywhere("load", _absolute(folder))[0]

    def stop(self) -> None:
        """End all ranks; may be called twice."""
        self._end("it was stopped")
        closing, self._on_stop = self._on_stop, None
        if closing is not None:
            closing()

    def _end(self, reason: str) -> None:
        import ray

        ranks, self._ranks = self._ranks, []
        for rank in ranks:
            if ray.is_initialized():
                ray.kill(rank)
        self._lost = self._lost or reason

    def _everywhere(self, method: str, *arguments: Any) -> list[Any]:
        self._check_alive()
        calls = [getattr(rank, method).remote(*arguments) for rank in self._ranks]
        return self._results(calls, method)

    def _check_alive(self) -> None:
        if self._lost:
            raise OrchError(f"the learner group is gone: {self._lost}")

    def _results(
        self,
        calls: list[Any],
        what: str,
        timeout_s: float | None = None,
        look: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Wait for one call on every rank; the first failure is the group's."""
        import ray
        from ray.exceptions import RayError

        timeout = self.shape.call_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout
        waiting = list(calls)
        while waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                late = ", ".join(str(calls.index(call)) for call in waiting)
                raise self._given_up(f"rank {late} did not finish {what!r} within {timeout:g} s")
            pause = left if look is None else min(left, _LOOK_S)
            done, waiting = ray.wait(waiting, timeout=pause)
            for call in done:
                try:
                    ray.get(call)
                except RayError as problem:
                    raise self._failure(calls, call, waiting, what, problem) from problem
            if look is not None and waiting:
                look()
        return list(ray.get(calls))

    def _failure(
        self, calls: list[Any], failed: Any, waiting: list[Any], what: str, problem: Exception
    ) -> OrchError:
        import ray

        rank = f"rank {calls.index(failed)} of {self.shape.size}"
        cause = getattr(problem, "cause", None)
        if waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_GRACE_S)
        if isinstance(cause, OrchError) and not waiting and what != "start":
            # All ranks came back: they agree about what went wrong, and about their state.
            return OrchError(str(cause))
        return self._given_up(f"{rank} failed in {what!r}: {_first_line(problem)}")

    def _given_up(self, reason: str) -> OrchError:
        # Ray itself stays until `stop`: runners may still need it.
        self._end(reason)
        if not self._num_updates:
            return OrchError(f"the learner group ended: {reason}")
        return OrchError(
            f"the learner group ended after {self._num_updates} updates: {reason}; "
            "go on from the newest checkpoint with --resume"
        )


@dataclass(frozen=True)
class HeldWeights:
    """`WeightSource`: one version of the weights, of which a group's first rank holds a copy.

    It can be sent and fetched until a later one is.

    Attributes:
        group: the learners.
        manifest: what is sent.
        number: of the version among all that the group has held.
    """

    group: LearnerGroup
    manifest: Manifest
    number: int

    @property
    def backend(self) -> Literal["gloo", "nccl"]:
        """What moves the tensors; NCCL was never run."""
        return "nccl" if self.group.device == "cuda" else "gloo"

    def send(self, address: GroupAddress, transfer_id: int) -> Future[str | None]:
        reference = self.group.call_first("send_held", self.number, address, transfer_id)
        sending: Future[str | None] = reference.future()
        return sending

    def fetch(self) -> Weights:
        """The weights through Ray's object store; they must only be read.

        Raises:
            OrchError: the first rank was lost.
        """
        import ray
        from ray.exceptions import RayError

        try:
            reference = self.group.call_first("fetch_held", self.number)
            return unpack(ray.get(reference, timeout=self.group.shape.call_timeout_s))
        except RayError as problem:
            why = _first_line(problem)
            raise OrchError(f"the learner's weights cannot be fetched: {why}") from problem


class _Look:
    """Asks the first rank how far it is, without waiting for the answer."""

    def __init__(self, rank: Any, progress: Progress) -> None:
        self._rank, self._progress = rank, progress
        self._asked: Any = None

    def __call__(self) -> None:
        import ray
        from ray.exceptions import RayError

        if self._asked is None:
            self._asked = self._rank.progress.options(concurrency_group="watch").remote()
            return
        if ray.wait([self._asked], timeout=0)[0]:
            try:
                self._progress(int(1000 * ray.get(self._asked)), 1000)
            except RayError:
                return  # the update itself says what is wrong with the rank
            self._asked = None


def _first_line(problem: Exception) -> str:
    """Of one of Ray's errors, which are paragraphs, or of the error that a rank raised."""
    told = str(getattr(problem, "cause", None) or problem).strip().splitlines()
    return told[0] if told else type(problem).__name__


def _absolute(folder: str | os.PathLike[str]) -> str:
    """An actor's current directory is its own."""
    return str(Path(folder).absolute())


def _seen_by_all(model: str) -> str:
    """Model folders by their whole path; bundled names and hub ids as they are."""
    return _absolute(model) if Path(model).is_dir() else model
