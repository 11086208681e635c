"""verifiers' side of the table: its MCP client and tool server in one process, scored by its task.

The loop is that of verifiers' `null` harness: it answers calls that it cannot read, and those of
tools that it does not know, by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

import verifiers.v1 as vf
from mcp import Client
from mcp.server.mcpserver import MCPServer
from verifiers.v1.graph import MessageNode
from verifiers.v1.trace import TraceTask

from orch_env.adapters.verifiers import OrchConfig, OrchState, OrchTask, OrchTaskset, OrchTools
from tests.adapters.conformance import SOURCE, Played, Script, report

EXEMPT = {
    "malformed call": "the harness answers it in its own words",
    "unknown tool": "the harness answers it in its own words",
    "call after the end": "the harness answers unknown tools, so that its session goes on",
}


@cache
def tasks() -> dict[str, OrchTask]:
    return {task.data.id: task for task in OrchTaskset(OrchConfig(tasks=SOURCE.tasks))}


class Rollout:
    """One rollout: the harness's loop by hand, a message at a time."""

    def __init__(self, script: Script, client: Client, offered: set[str]) -> None:
        self.task = tasks()[script.task_id]
        self.client = client
        self.offered = offered
        self.read: list[str] = []
        self.taken = 0
        self.done = False
        self.said: list[Any] = [vf.UserMessage(content=self.task.data.prompt)]

    async def take(self, message: dict[str, Any]) -> None:
        calls = [{"id": c["id"], **c["function"]} for c in message.get("tool_calls", ())]
        self.said.append(vf.AssistantMessage(content=message["content"], tool_calls=calls or None))
        self.taken += 1
        self.done = not calls
        for call in calls:
            text = await self._answer(call)
            self.read.append(text)
            self.said.append(vf.ToolMessage(tool_call_id=call["id"], content=text))

    async def _answer(self, call: dict[str, Any]) -> str:
        try:
            arguments = json.loads(call["arguments"])
        except ValueError as problem:
            return f"error: invalid JSON in tool arguments ({problem})"
        if call["name"] not in self.offered:
            return f"error: unknown tool {call['name']!r}"
        result = await self.client.call_tool(call["name"], arguments)
        return "\n".join(part.text for part in result.content)

    async def reward(self) -> float:
        trace = vf.Trace(
            task=TraceTask(type="OrchTask", data=self.task.data, key=self.task.key, hash=""),
            state=OrchState(),
            agent=vf.AgentInfo(config=vf.AgentConfig(), name="test", trainable=False),
        )
        for number, message in enumerate(self.said):
            parent = number - 1 if number else None
            sampled = isinstance(message, vf.AssistantMessage)
            trace.nodes.append(MessageNode(parent=parent, message=message, sampled=sampled))
        await self.task.score(trace)
        return trace.reward


async def play(scripts: Sequence[Script]) -> list[Played]:
    async with AsyncExitStack() as stack:
        rollouts = []
        for script in scripts:
            tools = OrchTools(vf.ToolsetConfig())
            await tools.setup_task(tasks()[script.task_id].data)
            server = MCPServer("orch")
            tools.register(server)
            client = await stack.enter_async_context(Client(server))
            offered = {tool.name for tool in (await client.list_tools()).tools}
            rollouts.append(Rollout(script, client, offered))
        for turn in range(max(len(script.actions) for script in scripts)):
            for rollout, script in zip(rollouts, scripts, strict=True):
                if turn < len(script.actions) and not rollout.done:
                    await rollout.take(script.messages()[turn])
        return [Played(await r.reward(), tuple(r.read), r.taken) for r in rollouts]


if __name__ == "__main__":
    report(lambda scripts: asyncio.run(play(scripts)), exempt=EXEMPT)
