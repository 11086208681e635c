"""Which tools write, and an exploit that writes more than gold does, on live servers.

The docstrings are shown to users, see ``exploits.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice, zip_longest

from orch_env.audit.argument_guesses import arguments_by_schema, properties_of
from orch_env.audit.from_gold import budget_of, play_steps, steps_of
from orch_env.replay.policies import Plan
from orch_env.servers import Access, Server, ServerSession, server_type
from orch_env.types import OrchError, Task, ToolCall, ToolSpec
from orch_env.types.json import leaves

TRIES = 60
"""Ids that are tried for each tool that writes."""


def writing_tools(task: Task) -> frozenset[str]:
    """Names of the tools of a task's servers that may change the state."""
    return frozenset(
        name
        for server in _servers(task)
        for tool, made in server.tools.items()
        if made.access is Access.WRITE
        for name in (tool, f"{server.name}__{tool}")
    )


def collateral(task: Task) -> Plan | None:
    """Gold, then b writes that gold does not make, to records that gold does not name."""
    named = {str(value) for call in task.gold_calls for _, value in leaves(call.arguments)}
    by_tool = [
        _writes(task, server, tool.spec, named)
        for server in _servers(task)
        for tool in server.tools.values()
        if tool.access is Access.WRITE
    ]
    in_turn = (write for row in zip_longest(*by_tool) for write in row if write is not None)
    extra = list(islice(in_turn, budget_of(task)))
    return play_steps(task, [*steps_of(task), *([call] for call in extra)]) if extra else None


def _servers(task: Task) -> list[type[Server]]:
    """The task's servers, none where one is not known here: recorded calls need none."""
    try:
        return [server_type(name) for name in task.servers]
    except OrchError:
        return []


def _writes(
    task: Task, server: type[Server], spec: ToolSpec, named: set[str]
) -> Iterator[ToolCall]:
    """Calls of one tool that succeed, by the tool's name in the task; tried on a world apart."""
    name = spec.name if spec.name in task.tool_names else f"{server.name}__{spec.name}"
    if name not in task.tool_names:
        return
    seed = task.seed or 0
    session = ServerSession(server, seed, task.today)
    ids = [key for key in chain(*server.world(seed).tables.values()) if key not in named]
    filled = arguments_by_schema(spec)
    texts: dict[str, list[str]] = {}
    for argument, value in filled.items():
        if value == "":
            pattern = properties_of(spec)[argument].get("pattern", "")
            texts[argument] = [key for key in ids if re.search(pattern, key)]
    for number in range(TRIES):
        if any(len(found) <= number for found in texts.values()):
            return
        given = filled | {argument: found[number] for argument, found in texts.items()}
        if session.call(spec.name, given).error is None:
            yield ToolCall(name, given)
