"""NeMo Gym: a resources server in its Gymnasium form, with one session per cookie.

``resources_servers/orch_env/app.py`` is then ``OrchServer.run_webserver()``, its configuration has
``source``, the arguments of `EpisodeSource`, and ``orch export-rows --for nemo_gym`` writes the
rows. ``OrchAgent`` is NeMo's ``gymnasium_agent`` that tells the server its ``max_steps`` and masks
what infrastructure ended; with the plain one such a rollout fails, and NeMo collects it again.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of routes, and their
# classes are known only inside a function.

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import repeat
from time import monotonic
from typing import Any

from orch_env.adapters import require
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
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


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
            reply = await asyncio.to_thread(take, rollout.session, text, calls, cut)
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
        session = await asyncio.to_thread(source.session)
        await asyncio.to_thread(session.reset, data["task_id"], seed=data.get("seed") or 0)
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


@lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    """The classes over NeMo's own, by name."""
    require("nemo_gym", extra="nemo-gym", package="nemo-gym", known=("0.7", "0.8"))
    from fastapi import FastAPI, HTTPException, Request
    from nemo_gym.base_resources_server import (
        BaseResourcesServerConfig,
        ResourcesCloseSessionRequest,
        ResourcesCloseSessionResponse,
        ResourcesSeedSessionRequest,
        ResourcesSeedSessionResponse,
    )
    from nemo_gym.server_utils import SESSION_ID_KEY
    from pydantic import PrivateAttr
    from resources_servers.gymnasium import GymnasiumServer, extract_text
    from responses_api_agents.gymnasium_agent import app as agents

    @contextmanager
    def refused(status: int) -> Iterator[None]:
        try:
            yield
        except OrchError as problem:
            raise HTTPException(status, str(problem)) from problem

    class OrchServerConfig(BaseResourcesServerConfig):
        source: dict[str, Any]
        idle_seconds: float = 3600.0

    class OrchServer(GymnasiumServer):
        ray_enabled = False
        config: OrchServerConfig
        _rollouts: Rollouts = PrivateAttr()

        def model_post_init(self, context: Any) -> None:
            super().model_post_init(context)
            self._rollouts = Rollouts(EpisodeSource(**self.config.source), self.config.idle_seconds)

        def setup_webserver(self) -> FastAPI:
            app = super().setup_webserver()
            app.post("/close")(self.close)
            app.post("/seed_session")(self.seed_session)
            app.post("/close_session")(self.close_resources_session)
            return app

        async def reset(self, metadata: JsonObject, session_id: str = "") -> Any:
            with refused(400):
                await self._rollouts.reset(session_id, metadata)
            return None, {"supports_explicit_close": True, "supports_step_idempotency": True}

        async def step(self, action: Any, metadata: JsonObject, session_id: str = "") -> Any:
            calls = [item for item in action.output if item.type == "function_call"]
            request, cut = metadata.get("_ng_step_request_id"), bool(action.incomplete_details)
            said = extract_text(action)
            reply = await self._rollouts.step(session_id, said, calls, request, cut)
            if reply[4].get("mask_sample") and "orch_agent" not in metadata:
                raise HTTPException(503, reply[4])
            return reply

        async def close_session(self, session_id: str) -> None:
            await self._rollouts.close(session_id, keep=True)

        async def close(self, request: Request) -> JsonObject:
            await self._rollouts.close(request.session[SESSION_ID_KEY])
            return {}

        async def seed_session(
            self, body: ResourcesSeedSessionRequest, request: Request
        ) -> ResourcesSeedSessionResponse:
            key = request.session[SESSION_ID_KEY] = body.resources_session_id
            with refused(409):
                await self._rollouts.seed(key, body.task_data, body.episode_id)
            return ResourcesSeedSessionResponse(resources_session_id=key)

        async def close_resources_session(
            self, body: ResourcesCloseSessionRequest
        ) -> ResourcesCloseSessionResponse:
            await self._rollouts.close(body.resources_session_id)
            return ResourcesCloseSessionResponse(resources_session_id=body.resources_session_id)

    class OrchAgent(agents.GymnasiumAgent):
        async def run(
            self, request: Request, body: agents.GymnasiumAgentRunRequest
        ) -> agents.GymnasiumRunResponse:
            steps = {"orch_agent": {"max_steps": self.config.max_steps}}
            result = await super().run(request, body.model_copy(update=steps))
            told = ("mask_sample", "failure_kind", "failure_reason")
            return result.model_copy(update={k: result.info[k] for k in told if k in result.info})

    made = {"OrchServer": OrchServer, "OrchServerConfig": OrchServerConfig, "OrchAgent": OrchAgent}
    for name, kind in made.items():
        kind.__qualname__ = name
    return made


def __getattr__(name: str) -> Any:
    """``OrchServer``, ``OrchServerConfig`` and ``OrchAgent``, made when first asked for."""
    if name in ("OrchServer", "OrchServerConfig", "OrchAgent"):
        return _classes()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
