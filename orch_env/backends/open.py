"""From plain names and paths to a backend that answers the tasks' calls.

A recording wins over a server: where a cache is named (or bundled with the data set) calls are
answered from it; tasks that name servers run on those only when there is no cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from orch_env.backends.protocol import ToolBackend
from orch_env.tasks.files import bundled, exists
from orch_env.types import OrchError, Task


def make_backend(
    tasks: str | os.PathLike[str] | None,
    cache: str | os.PathLike[str] | None,
    loaded: Sequence[Task],
    *,
    memory_mb: int | None = None,
    servers: Sequence[str] = (),
    mcp: str | os.PathLike[str] | None = None,
) -> ToolBackend:
    """Open what answers the calls of these tasks.

    Args:
        tasks: the path or name that the tasks were loaded from, ``None`` for free play.
        cache: path or URL of a response cache, ``None`` for the bundled one or the tasks' servers.
        loaded: the tasks.
        memory_mb: megabytes of recorded responses kept in memory; ``None`` for the default.
        servers: stateful servers whose tools join those of the tasks.
        mcp: an ``mcpServers`` file whose servers answer.

    Raises:
        OrchError: a file is missing or damaged, there is no such server, or nothing could answer.
    """
    name = os.fspath(tasks or "")
    if mcp is not None:
        if cache is not None or servers:
            raise OrchError("the servers of an mcp file answer alone: leave out cache and servers")
        from orch_env.backends.mcp import McpBackend

        return McpBackend(mcp)
    source = cache
    if source is None and tasks is not None and not exists(name):
        source = bundled(name, "cache")
    if source is not None:
        if servers:
            raise OrchError(
                "recorded tasks take no tools of servers beside them: leave out servers or cache"
            )
        from orch_env.backends.replay import MEMORY_MB, ReplayBackend
        from orch_env.cache import open_cache

        memory = MEMORY_MB if memory_mb is None else memory_mb
        return ReplayBackend(open_cache(source), memory_mb=memory)
    if servers or (loaded and all(task.servers for task in loaded)):
        from orch_env.backends.local import LocalBackend

        return LocalBackend(servers)
    if tasks is None:
        raise OrchError("name tasks=..., servers=[...] or mcp=FILE: there is nothing to play")
    raise OrchError(
        f"nothing answers the tool calls of {name!r}: give a response cache (cache=...), an "
        "mcpServers file (mcp=...) or servers; only tasks that all name servers run without"
    )
