"""``rollouts.db``: every trained episode with its tokens, in SQLite.

One row per episode. What people query is in columns; the episode is JSON as everywhere else, and
the token streams are MessagePack arrays. The hard decision: streams are stored and not text
alone, since only ids, log-probabilities and versions say what was really trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
from sqlalchemy import (
    JSON,
    Boolean,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    create_engine,
    delete,
    event,
    func,
    select,
)
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from orch_env.types import Episode, OrchError
from orch_train.trajectory.token_trace import TokenTrace
from orch_train.trajectory.trajectory import Group, Trajectory

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
        tokens: MessagePack of the token streams; see `pack_trace`.
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
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _configure)
        try:
            _Base.metadata.create_all(self._engine)
        except DatabaseError as problem:
            raise OrchError(f"{path} is not a rollout store: {problem.orig}") from problem

    def add(self, iteration: int, groups: Sequence[Group]) -> None:
        """Store all episodes of one training step, all or none.

        Raises:
            OrchError: they cannot be written; nothing was.
        """
        rows = [_row(iteration, g, t) for g in groups for t in g.trajectories]
        try:
            with Session(self._engine) as session, session.begin():
                session.add_all(rows)
        except OperationalError as problem:
            raise OrchError(f"{self._path} cannot be written: {problem.orig}") from problem

    def truncate(self, iteration: int) -> None:
        """Drop the rows after an iteration: a run that resumes there writes them again."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(Rollout).where(Rollout.iteration > iteration))

    def count(self) -> int:
        """Number of stored episodes."""
        with Session(self._engine) as session:
            return int(session.scalar(select(func.count()).select_from(Rollout)) or 0)

    def trajectories(self, iteration: int | None = None) -> Iterator[tuple[int, Trajectory]]:
        """Stored episodes as (iteration, trajectory), ordered by step, group and member.

        Raises:
            OrchError: a stored episode was changed after it was written.
        """
        query = select(Rollout).order_by(Rollout.iteration, Rollout.group, Rollout.member)
        if iteration is not None:
            query = query.where(Rollout.iteration == iteration)
        with Session(self._engine) as session:
            for row in session.scalars(query):
                yield row.iteration, _trajectory(row)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()


def pack_trace(trace: TokenTrace) -> bytes:
    """The streams as MessagePack: ids and turns whole, the rest for action tokens only.

    Mask, NaN log-probabilities and versions of context tokens follow from ``turns``.
    """
    acted = [i for i, action in enumerate(trace.action_mask) if action]
    return bytes(
        msgpack.packb(
            {
                "ids": trace.ids,
                "turns": [list(turn) for turn in trace.turns],
                "logprobs": [trace.logprobs[i] for i in acted],
                "versions": [trace.versions[i] for i in acted],
            }
        )
    )


def unpack_trace(data: bytes) -> TokenTrace:
    """Undo `pack_trace`.

    Raises:
        OrchError: the bytes are no packed trace.
    """
    try:
        packed = msgpack.unpackb(data, strict_map_key=False)
        ids, turns = packed["ids"], packed["turns"]
        logprobs, versions = iter(packed["logprobs"]), iter(packed["versions"])
        trace, at = TokenTrace(), 0
        for start, end in turns:
            trace.append_context(ids[at:start])
            span = range(end - start)
            trace.append_action(
                ids[start:end], [next(logprobs) for _ in span], [next(versions) for _ in span]
            )
            at = end
        trace.append_context(ids[at:])
    except (ValueError, TypeError, KeyError, StopIteration, RuntimeError) as problem:
        raise OrchError(f"stored token streams are damaged: {problem}") from problem
    return trace


def _row(iteration: int, group: Group, trajectory: Trajectory) -> Rollout:
    episode = trajectory.episode
    if not math.isfinite(trajectory.reward):
        raise OrchError(f"group {group.id!r}: reward {trajectory.reward} is not finite")
    return Rollout(
        iteration=iteration,
        group=group.id,
        member=trajectory.member,
        task_id=trajectory.task_id,
        seed=str(group.seed),  # 63 bits: text survives every reader
        reward=trajectory.reward,
        success=trajectory.success,
        stop_reason=episode.stop_reason.value if episode.stop_reason is not None else None,
        turns=len(episode.turns),
        action_tokens=trajectory.trace.num_actions,
        components=dict(episode.reward.components) if episode.reward is not None else {},
        episode=episode.to_dict(),
        tokens=pack_trace(trajectory.trace),
        timings=dict(trajectory.timings),
    )


def _trajectory(row: Rollout) -> Trajectory:
    return Trajectory(
        group=row.group,
        member=row.member,
        task_id=row.task_id,
        episode=Episode.from_dict(row.episode),
        trace=unpack_trace(row.tokens),
        reward=row.reward,
        success=row.success,
        timings=dict(row.timings),
    )


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    cursor.close()


__all__ = ["Rollout", "RolloutStore", "pack_trace", "unpack_trace"]
