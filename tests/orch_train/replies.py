"""Replies of rollout workers, made up for tests.

Light: runner actors of the tests import it, each in a process of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from orch_env.types import Episode
from orch_train.trajectory.requests import EpisodeRecord, SampleReply, SampleRequest
from orch_train.trajectory.sample import Group, TrainingSample

if TYPE_CHECKING:
    from orch_train import GRPO
    from orch_train.trajectory.store import RolloutStore


class Stored(NamedTuple):
    """A stored sample, and where it belongs."""

    step: int
    group: str
    sample: TrainingSample


def groups_of(algo: GRPO) -> list[Group]:
    """What the last step learned from."""
    assert algo.last_batch
    return [reply.group for reply in algo.last_batch]


def answer(request: SampleRequest, *members: tuple[TrainingSample, Episode]) -> SampleReply:
    """A reply to a request; without members a group of nothing."""
    return reply_of(request.id, request.task_id, request.env_seed, *members)


def reply_of(
    name: str, task: str, seed: int, *members: tuple[TrainingSample, Episode], **telemetry: Any
) -> SampleReply:
    """A group with the episodes of its members, numbered in order."""
    for number, (sample, _) in enumerate(members):
        sample.member = number
    group = Group(name, task, seed, [sample for sample, _ in members])
    return SampleReply(group, [EpisodeRecord(episode) for _, episode in members], **telemetry)


def stored_samples(store: RolloutStore, step: int | None = None) -> list[Stored]:
    """Every stored episode, one by one."""
    return [
        Stored(number, reply.group.id, sample)
        for number, reply in store.replies(step)
        for sample in reply.group.samples
    ]
