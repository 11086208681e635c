"""OpenEnv's side of the table: over a real server, and through its white-box harness."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn
from openenv import GenericEnvClient
from openenv.core.harness import HarnessRunLimits, MCPHarnessAdapter, ModelStepResult
from openenv.core.llm_client import LLMResponse, ToolCall

from orch_env.adapters import openenv
from orch_env.session import EpisodeSource
from tests.adapters.conformance import SOURCE, Played, Script, report_of

HARNESS_EXEMPT = {
    "malformed call": "a message without a parsed call ends the rollout",
    "call after the end": "the rollout ends with the episode",
}


@contextmanager
def running(source: EpisodeSource = SOURCE, **settings: Any) -> Iterator[str]:
    """A server on a free port of this machine; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(openenv.make_app(source, **settings), log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def over_server(address: str, scripts: Sequence[Script]) -> list[Played]:
    """Each script over a connection of its own, in turns, also after the end."""
    with ExitStack() as stack:
        clients = [stack.enter_context(GenericEnvClient(base_url=address).sync()) for _ in scripts]
        read: list[list[str]] = [[] for _ in scripts]
        paid = [0.0] * len(scripts)
        last: list[Any] = [None] * len(scripts)
        for client, script in zip(clients, scripts, strict=True):
            client.reset(task_id=script.task_id, seed=script.seed)
        for turn in range(max(len(script.actions) for script in scripts)):
            for number, (client, script) in enumerate(zip(clients, scripts, strict=True)):
                if turn < len(script.actions):
                    said = script.messages()[turn]
                    action = {"message": said["content"], "tool_calls": said.get("tool_calls", [])}
                    last[number] = client.step(action)
                    paid[number] += last[number].reward
                    messages = last[number].observation["messages"]
                    read[number] += [m["content"] for m in messages if m["role"] == "tool"]
        for number, client in enumerate(clients):
            if not last[number].done:
                last[number] = client.step({"message": "", "stop": "output_truncated"})
                paid[number] += last[number].reward
        return [
            Played(paid[n], tuple(read[n]), len(s.actions), last[n].observation["stop_reason"])
            for n, s in enumerate(scripts)
        ]


def through_harness(
    factory: openenv.OrchResourceSessionFactory, scripts: Sequence[Script]
) -> list[Played]:
    """Each script in OpenEnv's white-box loop, those given together in step."""
    gate = threading.Barrier(len(scripts), timeout=30)
    played: dict[int, Played] = {}

    def play(number: int, script: Script) -> None:
        messages = iter(script.messages())
        taken = 0

        def model_step(history: Any, tools: Any, sampling: Any) -> ModelStepResult:
            nonlocal taken
            if taken < min(len(s.actions) for s in scripts):
                gate.wait()
            taken += 1
            said = next(messages)
            calls = [(call["id"], call["function"]) for call in said.get("tool_calls", ())]
            try:
                parsed = [ToolCall(i, f["name"], json.loads(f["arguments"])) for i, f in calls]
            except ValueError:  # what the model wrote stays text
                return ModelStepResult(LLMResponse(calls[0][1]["arguments"]))
            return ModelStepResult(LLMResponse(said["content"], parsed))

        session = factory.create({"task_id": script.task_id}, seed=script.seed)
        limits = HarnessRunLimits(max_turns=len(script.actions))
        result = MCPHarnessAdapter().run_white_box(model_step, session, limits)
        verdict = session.verify(result.messages)
        session.close()
        texts = tuple(entry.result.data for entry in result.tool_trace)
        played[number] = Played(verdict.env_reward, texts, taken)

    threads = [
        threading.Thread(target=play, args=(number, script))
        for number, script in enumerate(scripts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [played[number] for number in range(len(scripts))]


if __name__ == "__main__":
    factory = openenv.OrchResourceSessionFactory(SOURCE)
    with running() as address:
        server = report_of(lambda scripts: over_server(address, scripts))
    harness = report_of(lambda scripts: through_harness(factory, scripts), exempt=HARNESS_EXEMPT)
    print(json.dumps({"server": server, "harness": harness}))
