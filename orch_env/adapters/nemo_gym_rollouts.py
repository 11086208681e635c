"""The episodes of a NeMo Gym server by session id, without NeMo Gym."""

from __future__ import annotations

from asyncio import Lock, to_thread
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from time import monotonic
from typing import Any

from orch_env.env.session import EpisodeSession
from orch_env.session import EpisodeSource
from orch_env.types import ErrorType, OrchError, ToolResult
from orch_env.types.json import JsonObject

OVER = ToolResult.failure(ErrorType.LIMIT, "The episode is over: this call was not run.").text
Reply = tuple[str | None, float, bool, bool, JsonObject]
"""Observation, reward, terminated, truncated, info."""

REMEMBERED = 100_000
"""Session ids that a server knows, most of them of ended rollouts."""


@dataclass
class _Rollout:
    """An episode; ``session`` is ``None`` before it is opened and once it is closed."""

    episode: Any = None
    session: EpisodeSession | None = None
    ended: bool = False
    last: tuple[str, Reply] | None = None
    used: float = field(default_factory=monotonic)
    lock: Lock = field(default_factory=Lock)


class Rollouts:
    """The episodes of a server by session id.

    Args:
        source: where they come from.
        idle_seconds: an episode that nobody steps for so long is closed.
    """

    def __init__(self, source: EpisodeSource, idle_seconds: float) -> None:
        self._source, self._idle = source, idle_seconds
        self.known: dict[str, _Rollout] = {}

    async def reset(self, key: str, row: Mapping[str, Any]) -> None:
        """Start the episode of a row, in place of any other."""
        await self.close(key)
        rollout = self.known[key] = _Rollout()
        rollout.session = await self._session(row)

    async def seed(self, key: str, row: Mapping[str, Any], episode: Any) -> None:
        """Start the episode of a row once; an id is used for one ``episode``, and never again.

        Raises:
            OrchError: the id was used before, or the row names no task of the source.
        """
        rollout = self.known.setdefault(key, _Rollout(episode))
        async with rollout.lock:
            if rollout.ended or rollout.episode != episode:
                raise OrchError(f"session {key!r} has ended, or is another episode's")
            rollout.session = rollout.session or await self._session(row)

    async def step(self, key: str, text: str, calls: Sequence[Any], request: Any, cut: bool) -> Any:
        """Take a response; a ``request`` that comes again gets the same reply."""
        rollout = self.known.get(key)
        if rollout is None:
            return _failed("session_lost", "this cookie has no episode: call /reset first")
        async with rollout.lock:
            if request and rollout.last and rollout.last[0] == request:
                return rollout.last[1]
            if rollout.session is None or rollout.session.done:
                return None, 0.0, False, True, {"tool_outputs": _outputs(calls, repeat(OVER))}
            reply = await to_thread(take, rollout.session, text, calls, cut)
            rollout.last, rollout.used = (request, reply), monotonic()
            return reply

    async def close(self, key: str, *, keep: bool = False) -> None:
        """Free an episode; with ``keep``, its last reply can still be asked for."""
        rollout = self.known.setdefault(key, _Rollout())
        async with rollout.lock:
            if rollout.session is not None:
                rollout.session.close()
            rollout.session, rollout.ended = None, True
            rollout.last = rollout.last if keep else None
        while len(self.known) > REMEMBERED:
            self.known.pop(next(iter(self.known)))

    async def _session(self, row: Mapping[str, Any]) -> EpisodeSession:
        """A session in the episode of a row.

        Raises:
            OrchError: the row names no task of the source.
        """
        now, data = monotonic(), row.get("verifier_metadata") or row
        for old in [k for k, r in self.known.items() if r.session and now - r.used > self._idle]:
            await self.close(old)
        if not isinstance(data.get("task_id"), str):
            raise OrchError(
                "a row needs verifier_metadata.task_id: `orch export-rows --for nemo_gym` has it"
            )
        turns = (row.get("orch_agent") or {}).get("max_steps", self._source.max_turns)
        source = replace(self._source, max_turns=min(turns, self._source.max_turns))
        session = await to_thread(source.session)
        await to_thread(session.reset, data["task_id"], seed=data.get("seed") or 0)
        return session


def take(session: EpisodeSession, text: str, calls: Sequence[Any], cut: bool = False) -> Reply:
    """Take one assistant message.

    Args:
        session: with a running episode.
        text: what it says.
        calls: its calls, with ``call_id``, ``name`` and ``arguments``.
        cut: whether the model was stopped in the middle of it.
    """
    made = [{"id": c.call_id, "name": c.name, "arguments": c.arguments} for c in calls]
    if cut:
        session.finish({"content": text, "tool_calls": made}, reason="output_truncated")
        read = []
    else:
        read = [message["content"] for message in session.message(text, made)]
    info: JsonObject = {"tool_outputs": _outputs(calls, read)}
    seen, reason = "\n\n".join(read[len(calls) :]) or None, session.stop_reason
    if reason is None:
        return seen, 0.0, False, False, info
    if session.reward is None:
        return _failed("provider_unavailable", "a tool could not be reached")
    info |= {"stop_reason": reason.value, "success": session.success}
    return seen, session.reward, reason.terminated, not reason.terminated, info


def _outputs(calls: Sequence[Any], texts: Iterable[str]) -> list[JsonObject]:
    return [{"call_id": c.call_id, "output": text} for c, text in zip(calls, texts, strict=False)]


def _failed(kind: str, why: str) -> Reply:
    info = {"mask_sample": True, "failure_kind": kind, "failure_reason": why}
    return None, 0.0, False, True, info
