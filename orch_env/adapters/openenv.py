"""OpenEnv: a server for environments of a source, and what harnesses and clients need of it.

    python -m orch_env.adapters.openenv --tasks harbour --port 8000

The server is reached from its own machine only, unless told otherwise, and closes a session that
nobody uses. ``OrchResourceSessionFactory`` is for harnesses that need no server.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from orch_env.adapters.openenv_environment import every_tool, openenv
from orch_env.session import EpisodeSource
from orch_env.types import OrchError

_PARTS = {
    "OrchAction": "openenv_environment",
    "OrchEnvironment": "openenv_environment",
    "OrchObservation": "openenv_environment",
    "OrchResourceSession": "openenv_sessions",
    "OrchResourceSessionFactory": "openenv_sessions",
    "OrchState": "openenv_environment",
}

_OPTIONS: dict[str, tuple[Any, str]] = {
    "--tasks": ("harbour", "path of a task file, or the name of a bundled data set"),
    "--cache": (None, "path or URL of the response cache"),
    "--split": (None, "only the tasks of this split"),
    "--reward": ("graduated", "name of the reward"),
    "--host": ("127.0.0.1", "where to listen; 0.0.0.0 opens it to other machines"),
    "--port": (8000, "0 takes a free one"),
    "--max-sessions": (64, "sessions at the same time"),
    "--idle-seconds": (600.0, "a session that was not used for so long is closed"),
}


def make_app(source: EpisodeSource, *, max_sessions: int = 64, idle_seconds: float = 600) -> Any:
    """The server as an ASGI application.

    Args:
        source: which tasks, under which rules.
        max_sessions: sessions at the same time; one more is refused.
        idle_seconds: a session that was not used for so long is closed.

    Raises:
        ImportError: OpenEnv is missing.
        OrchError: a tool has a name that OpenEnv keeps for itself, or a file is missing.
    """
    made = openenv()
    from fastapi.responses import JSONResponse
    from openenv.core.env_server.http_server import create_fastapi_app
    from openenv.core.env_server.types import ConcurrencyConfig

    every_tool(source)
    app = create_fastapi_app(
        partial(made.OrchEnvironment, source),
        made.OrchAction,
        made.OrchObservation,
        concurrency_config=ConcurrencyConfig(
            max_concurrent_envs=max_sessions, session_timeout=idle_seconds
        ),
        env_name="OrchEnvironment",
        state_cls=made.OrchState,
    )
    app.add_exception_handler(
        OrchError, lambda _, problem: JSONResponse({"detail": str(problem)}, 400)
    )
    return app


def serve(
    source: EpisodeSource, *, host: str = "127.0.0.1", port: int = 8000, **settings: Any
) -> None:
    """Serve until interrupted.

    Args:
        source: which tasks, under which rules.
        host: where to listen; the default can be reached from this machine only.
        port: 0 takes a free one. The address is printed.
        settings: those of :func:`make_app`.

    Raises:
        ImportError: OpenEnv is missing.
        OrchError: as for :func:`make_app`, or the port is in use.
    """
    app = make_app(source, **settings)
    import uvicorn

    try:
        listener = socket.create_server((host, port))
    except OSError as problem:
        why = os.strerror(problem.errno or 0)
        raise OrchError(
            f"cannot listen on {host}:{port} ({why}): choose another host or port"
        ) from problem
    print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def main(argv: Sequence[str] | None = None) -> int:
    """Serve from the command line; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser("python -m orch_env.adapters.openenv", allow_abbrev=False)
    for flag, (default, meaning) in _OPTIONS.items():
        kind = str if default is None else type(default)
        parser.add_argument(flag, default=default, type=kind, help=meaning)
    given = vars(parser.parse_args(argv))
    source = {name: given.pop(name) for name in ("tasks", "cache", "split", "reward")}
    try:
        serve(EpisodeSource(**source), **given)
    except (OrchError, ImportError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return getattr(importlib.import_module(f"orch_env.adapters.{_PARTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
