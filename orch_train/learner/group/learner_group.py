"""Several learner processes that share one model: the methods of `Learner`, over Ray actors.

Every call goes to all ranks at once, because sharded tensors can only be used together. The hard
decision: a rank that dies or hangs ends the group. What it held of parameters and optimizer state
is nowhere else, so nothing could go on from there but a checkpoint; the error says so at once,
instead of letting the other ranks wait for it until their time is up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.group.learner_rank import LearnerRank
from orch_train.learner.learner import Progress
from orch_train.trajectory.sample import Group
from orch_train.weight_sync.buckets import Manifest, Weights
from orch_train.weight_sync.collective import Meeting
from orch_train.weight_sync.object_store import unpack

_LOOK_S = 0.5
"""How often progress is asked for."""
_GRACE_S = 5.0
"""After one rank failed, how long the others may take to come back by themselves."""


@dataclass(frozen=True)
class GroupShape:
    """How many ranks, where, and how long they may take.

    Attributes:
        size: number of ranks, at least 2.
        options: Ray's actor options of each rank: CPUs, GPUs, placement.
        start_timeout_s: bound on starting all ranks and loading the model.
        call_timeout_s: bound on every other call: an update, a checkpoint, fetching weights.
    """

    size: int
    options: Sequence[Mapping[str, Any]]
    start_timeout_s: float = 600.0
    call_timeout_s: float = 1800.0


class LearnerGroup:
    """N learner ranks with the methods of :class:`~.learner.Learner`; Ray must be running.

    Args:
        model: folder or id of the model, readable by every rank; the first loads it and sends
            the others their shards.
        settings: of every rank; ``max_tokens_per_microbatch`` is per rank.
        shape: see :class:`GroupShape`.
        reference: folder or id of the KL penalty's reference, held whole by every rank.
        on_stop: called when the group has ended, at whatever end.

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

        self._shape, self._on_stop = shape, on_stop
        self._device = settings.learners.device
        self._num_updates = 0
        self._lost = ""
        self._gathered: Weights = {}
        check_resources(shape)
        # Progress is asked for while an update runs, so it has a thread of its own; a transfer of
        # weights must not keep the rank from its next update.
        threads: Any = {"concurrency_groups": {"watch": 1, "transfer": 1}}
        actor: Any = ray.remote(**threads)(LearnerRank)
        model, reference = _seen_by_all(model), reference and _seen_by_all(reference)
        self._ranks = [
            actor.options(**options).remote(rank, shape.size, settings, model, reference)
            for rank, options in enumerate(shape.options)
        ]
        timeout = shape.start_timeout_s
        first = [self._ranks[0].open_store.remote()]
        host, port = self._results(first, "start", timeout)[0]
        joining = [r.join.remote(host, port, shape.call_timeout_s) for r in self._ranks]
        self._results(joining, "start", timeout)

    @property
    def device(self) -> str:
        """Where its ranks compute: ``cpu`` or ``cuda``."""
        return self._device

    @property
    def gathered(self) -> Weights:
        """What `get_weights` gave last."""
        return self._gathered

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
        packed, again = self._everywhere("get_weights")[0]
        weights = unpack(packed)
        gathered = {**weights, **{name: weights[known] for name, known in again.items()}}
        self._gathered = gathered
        return gathered

    def sender(self) -> RankSender:
        """Rank 0, as the sender of collective transfers; from now on it keeps what it gathers."""
        self._check_alive()
        self._results([self._ranks[0].keep_gathered.remote()], "keep_gathered")
        return RankSender(self)

    def send(self, manifest: Manifest, meeting: Meeting, serial: int) -> Future[str | None]:
        """Have rank 0 send what it gathered last."""
        self._check_alive()
        call = self._ranks[0].send_gathered.options(concurrency_group="transfer")
        sending: Future[str | None] = call.remote(manifest, meeting, serial).future()
        return sending

    def save(
        self, folder: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """See `Learner.save`; the first rank writes, on a file system that it shares with us."""
        self._everywhere("save", _absolute(folder), tokenizer)

    def save_model(
        self, folder: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """See `Learner.save_model`; the first rank writes."""
        self._everywhere("save_model", _absolute(folder), tokenizer)

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

        for rank in self._ranks:
            ray.kill(rank)
        self._ranks = []
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

        timeout = self._shape.call_timeout_s if timeout_s is None else timeout_s
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

        rank = f"rank {calls.index(failed)} of {self._shape.size}"
        cause = getattr(problem, "cause", None)
        if waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_GRACE_S)
        if isinstance(cause, OrchError) and not waiting and what != "start":
            # All ranks came back: they agree about what went wrong, and about their state.
            return OrchError(str(cause))
        first = str(cause or problem).strip().splitlines() or [type(problem).__name__]
        return self._given_up(f"{rank} failed in {what!r}: {first[0]}")

    def _given_up(self, reason: str) -> OrchError:
        # Ray itself stays until `stop`: runners may still need it.
        self._end(reason)
        if not self._num_updates:
            return OrchError(f"the learner group ended: {reason}")
        return OrchError(
            f"the learner group ended after {self._num_updates} updates: {reason}; "
            "go on from the newest checkpoint with --resume"
        )


class RankSender:
    """`WeightSender` on rank 0 of a learner group, which gathered the weights.

    What is gathered lies in host memory; on a GPU each bucket is copied there to be sent.
    """

    def __init__(self, group: LearnerGroup) -> None:
        self._group = group

    @property
    def backend(self) -> Literal["gloo", "nccl"]:
        """See `WeightSender.backend`."""
        return "nccl" if self._group.device == "cuda" else "gloo"

    def send(
        self, weights: Weights, manifest: Manifest, meeting: Meeting, serial: int
    ) -> Future[str | None]:
        """See `WeightSender.send`."""
        if weights is not self._group.gathered:
            raise OrchError(
                "env_runners.weight_sync=collective: only what LearnerGroup.get_weights gave last "
                "can be sent"
            )
        return self._group.send(manifest, meeting, serial)


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


def check_resources(shape: GroupShape) -> None:
    """Refuse a group that Ray could never place.

    Raises:
        OrchError: Ray has too few CPUs or GPUs for the ranks alone.
    """
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for resource, option in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        wanted = sum(float(options.get(option) or 0) for options in shape.options)
        if wanted > total.get(resource, 0.0):
            raise OrchError(
                f"{shape.size} learners need {wanted:g} {resource}, Ray has "
                f"{total.get(resource, 0.0):g}: lower learners.num_learners or "
                f"learners.{option}_per_learner"
            )


def _absolute(folder: str | os.PathLike[str]) -> str:
    """An actor's current directory is its own."""
    return str(Path(folder).absolute())


def _seen_by_all(model: str) -> str:
    """Model folders by their whole path; bundled names and hub ids as they are."""
    return _absolute(model) if Path(model).is_dir() else model
