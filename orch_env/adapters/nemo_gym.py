"""NeMo Gym: a resources server in its Gymnasium form, with one session per cookie.

``resources_servers/orch_env/app.py`` is then ``OrchServer.run_webserver()``, its configuration has
``source``, the arguments of `EpisodeSource`, and ``orch export-rows --for nemo_gym`` writes the
rows. ``OrchAgent`` is NeMo's ``gymnasium_agent`` that tells the server its ``max_steps`` and masks
what infrastructure ended; with the plain one such a rollout fails, and NeMo collects it again.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of routes, and their
# classes are known only inside a function.

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from orch_env.adapters import require
from orch_env.adapters.nemo_gym_rollouts import Rollouts
from orch_env.session import EpisodeSource
from orch_env.types import OrchError
from orch_env.types.json import JsonObject


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
