"""``rollouts.db``: every trained episode with its tokens, in SQLite.

One row per episode. What people query is in columns; the episode is JSON as everywhere else, and
the token streams are MessagePack arrays: only ids, log-probabilities and versions say what was
really trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from sqlalchemy import (
    JSON,
    URL,
    Boolean,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    create_engine,
    delete,
    event,
    select,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from orch_env.types import Episode, OrchError
from orch_train.trajectory.requests import EpisodeRecord, SampleReply
from orch_train.trajectory.sample import Group, TrainingSample

_BUSY_MS = 10_000


class _Base(DeclarativeBase):
    pass


class Rollout(_Base):
    """One episode.

    Attributes:
        iteration: the training step that learned from it.
        group: the group's id.
        member: index within the group.
        task_id: the task.
        seed: the environment's seed.
        reward: the total that the learner used.
        success: the task's verdict.
        stop_reason: why it ended.
        turns: assistant messages.
        action_tokens: sampled tokens.
        components: reward components.
        episode: the episode in its JSON form.
        tokens: MessagePack of the token streams; see `pack_tokens`.
        timings: seconds by phase.
    """

    __tablename__ = "rollouts"

    iteration: Mapped[int] = mapped_column(Integer, primary_key=True)
    group: Mapped[str] = mapped_column("group_id", String, primary_key=True)
    member: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[str] = mapped_column(String, index=True)
    seed: Mapped[str] = mapped_column(String)
    reward: Mapped[float] = mapped_column(Float)
    success: Mapped[bool] = mapped_column(Boolean)
    stop_reason: Mapped[str | None] = mapped_column(String)
    turns: Mapped[int] = mapped_column(Integer)
    action_tokens: Mapped[int] = mapped_column(Integer)
    components: Mapped[dict[str, Any]] = mapped_column(JSON)
    episode: Mapped[dict[str, Any]] = mapped_column(JSON)
    tokens: Mapped[bytes] = mapped_column(LargeBinary)
    timings: Mapped[dict[str, Any]] = mapped_column(JSON)

    # All that a list of episodes shows, sorts or filters by: it never reads a transcript.
    __table_args__ = (
        Index(
            "ix_rollouts_list",
            "iteration",
            "group_id",
            "member",
            "task_id",
            "reward",
            "success",
            "stop_reason",
            "turns",
            "action_tokens",
        ),
    )


class RolloutStore:
    """Writes and reads the rollouts of a run.

    Args:
        path: the database file; made if it is missing.

    Raises:
        OrchError: the file is no such database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(URL.create("sqlite", database=str(path.absolute())))
        event.listen(self._engine, "connect", _configure)
        try:
            _Base.metadata.create_all(self._engine)
        except DatabaseError as problem:
            raise OrchError(f"{path} is not a rollout store: {problem.orig}") from problem

    def add(self, iteration: int, replies: Sequence[SampleReply]) -> None:
        """Store all episodes of one training step, all or none.

        Raises:
            OrchError: they cannot be written; nothing was.
        """
        rows = [
            _row(iteration, reply.group, *member) for reply in replies for member in reply.members
        ]
        with self._writing() as session:
            session.add_all(rows)

    def truncate(self, iteration: int) -> None:
        """Drop the rows after an iteration: a run that resumes there writes them again.

        Raises:
            OrchError: they cannot be dropped; none was.
        """
        with self._writing() as session:
            session.execute(delete(Rollout).where(Rollout.iteration > iteration))

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """One transaction."""
        try:
            with Session(self._engine) as session, session.begin():
                yield session
        except DatabaseError as problem:
            raise OrchError(f"{self._path} cannot be written: {problem.orig}") from problem

    def replies(self, iteration: int | None = None) -> Iterator[tuple[int, SampleReply]]:
        """Stored groups as (iteration, reply), ordered by step, group and member.

        Raises:
            OrchError: a stored episode was changed after it was written.
        """
        query = select(Rollout).order_by(Rollout.iteration, Rollout.group, Rollout.member)
        if iteration is not None:
            query = query.where(Rollout.iteration == iteration)
        with Session(self._engine) as session:
            by_group = groupby(session.scalars(query), key=lambda row: (row.iteration, row.group))
            for (step, _), rows in by_group:
                yield step, _reply(list(rows))

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()


def pack_tokens(sample: TrainingSample) -> bytes:
    """The streams as MessagePack: ids and turns whole, the rest for sampled tokens only."""
    streams = {
        "ids": sample.ids_T,
        "turns": sample.turns,
        "logprobs": sample.logprobs_N,
        "versions": sample.versions_N,
    }
    return bytes(msgpack.packb({name: stream.tolist() for name, stream in streams.items()}))


def unpack_tokens(data: bytes) -> TrainingSample:
    """Undo `pack_tokens`; the sample has no score.

    Raises:
        OrchError: the bytes are no packed streams, or these are not aligned.
    """
    try:
        packed = msgpack.unpackb(data, strict_map_key=False)
        sample = TrainingSample(
            ids_T=np.asarray(packed["ids"], np.int32),
            turns=np.asarray(packed["turns"], np.int32).reshape(-1, 2),
            logprobs_N=np.asarray(packed["logprobs"], np.float32),
            versions_N=np.asarray(packed["versions"], np.int32),
        )
        sample.check()
    except (ValueError, TypeError, KeyError, OverflowError) as problem:
        raise OrchError(f"stored token streams are damaged: {problem}") from problem
    return sample


def _row(iteration: int, group: Group, sample: TrainingSample, record: EpisodeRecord) -> Rollout:
    episode = record.episode
    if not math.isfinite(sample.reward):
        raise OrchError(f"group {group.id!r}: reward {sample.reward} is not finite")
    return Rollout(
        iteration=iteration,
        group=group.id,
        member=sample.member,
        task_id=group.task_id,
        seed=str(group.seed),  # 63 bits: text survives every reader
        reward=sample.reward,
        success=sample.success,
        stop_reason=episode.stop_reason.value if episode.stop_reason is not None else None,
        turns=len(episode.turns),
        action_tokens=sample.num_actions,
        components=dict(episode.reward.components) if episode.reward is not None else {},
        episode=episode.to_dict(),
        tokens=pack_tokens(sample),
        timings=dict(record.timings),
    )


def _reply(rows: Sequence[Rollout]) -> SampleReply:
    group = Group(rows[0].group, rows[0].task_id, int(rows[0].seed), [])
    reply = SampleReply(group, [])
    for row in rows:
        sample, episode = unpack_tokens(row.tokens), Episode.from_dict(row.episode)
        sample.member = row.member
        sample.score(episode, row.reward, success=row.success)
        group.samples.append(sample)
        reply.records.append(EpisodeRecord(episode, dict(row.timings)))
    return reply


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    cursor.close()
