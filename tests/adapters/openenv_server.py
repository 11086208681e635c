"""OpenEnv's own validator and clients against a server, with what they may do wrong."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import time
from contextlib import ExitStack
from typing import Any

import httpx
from openenv import GenericEnvClient
from openenv.cli._validation import validate_running_environment
from openenv.core.mcp_client import MCPToolClient

from orch_env.adapters import openenv
from tests.adapters.conformance import Script, table
from tests.adapters.openenv_conformance import running


def port_in_use() -> list[Any]:
    """What the command says where another program listens."""
    said = io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as taken, contextlib.redirect_stderr(said):
        port = str(taken.getsockname()[1])
        code = openenv.main(["--port", port])
    return [code, said.getvalue().strip().replace(port, "PORT")]


def refusals(address: str, script: Script) -> tuple[dict[str, str], float]:
    """What a client is told of each mistake, and what its episode earns after them."""
    refused: dict[str, str] = {}
    with GenericEnvClient(base_url=address).sync() as client:

        def expect(name: str, call: Any, argument: Any) -> None:
            try:
                call(**argument)
            except RuntimeError as problem:
                refused[name] = str(problem)

        expect("step first", client.step, {"action": {"message": "x"}})
        client.reset(task_id=script.task_id, seed=script.seed)
        for key, value in {"task_id": "none", "index": 10**6, "tasks": "x"}.items():
            expect(key, client.reset, {key: value})
        for action in ({"message": 3}, {"text": "x"}, {"message": "x", "stop": "max_turns"}):
            expect(json.dumps(action), client.step, {"action": action})
        return refused, play(client, script)


def play(client: Any, script: Script) -> float:
    """Plays a script as texts and sums up what it is paid."""
    return sum(client.step({"message": action}).reward for action in script.actions)


def by_mcp(address: str, script: Script) -> dict[str, Any]:
    """An episode whose calls go to /mcp and whose answer is a step of the same session."""

    class Answer:
        def model_dump(self) -> dict[str, Any]:
            return {"message": script.actions[-1]}

    with MCPToolClient(base_url=address).sync() as client:
        before = len(client.list_tools())
        client.reset(task_id=script.task_id, seed=script.seed)
        session = client.async_client._production_session_id
        for message in script.messages()[:-1]:
            for call in message["tool_calls"]:
                asked = {
                    "name": call["function"]["name"],
                    "arguments": json.loads(call["function"]["arguments"]),
                    "session_id": session,
                }
                # `call_tool` has no room for an argument that is called `name`
                assert "result" in client._production_mcp_request("tools/call", asked)
        last = client.step(Answer())
    return {"before": before, "reward": last.reward, "done": last.done}


def after_idle(script: Script) -> dict[str, str]:
    """What two clients are told where there is room for one and the first does nothing."""
    told: dict[str, str] = {}
    with ExitStack() as stack:
        address = stack.enter_context(running(max_sessions=1, idle_seconds=1))
        idle = stack.enter_context(GenericEnvClient(base_url=address).sync())
        idle.reset(task_id=script.task_id)
        end = time.monotonic() + 60
        while "then" not in told and time.monotonic() < end:
            try:
                with GenericEnvClient(base_url=address).sync() as other:
                    other.reset(task_id=script.task_id)
                told["then"] = "there is room"
            except RuntimeError as problem:
                told["at first"] = str(problem)
        for name, call in {"step": lambda: play(idle, script), "reset": idle.reset}.items():
            try:
                call()
            except RuntimeError as problem:
                told[f"{name} after idle"] = str(problem)
    return told


def main() -> None:
    gold = table()[0]
    with running() as address:
        validator = validate_running_environment(address)
        refused, earned = refusals(address, gold)
        mcp = by_mcp(address, gold)
        splits = httpx.get(f"{address}/OrchEnvironment/splits").json()
    refused |= after_idle(gold)
    print(
        json.dumps(
            {
                "validator": validator,
                "in_use": port_in_use(),
                "refused": refused,
                "episode after refusals": earned,
                "mcp": mcp,
                "splits": [split["name"] for split in splits],
            }
        )
    )


if __name__ == "__main__":
    main()
