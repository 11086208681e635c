"""NeMo Gym's own server and agent classes over HTTP in one process, with a written model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock

from fastapi.testclient import TestClient
from nemo_gym.base_resources_server import ResourcesSeedSessionRequest
from nemo_gym.config_types import ModelServerRef, ResourcesServerRef
from nemo_gym.episode_types import EpisodeId, TaskId
from nemo_gym.server_utils import ServerClient
from nemo_gym.testing.session_conformance import check_resources_session_contract
from responses_api_agents.gymnasium_agent import app as gymnasium_agent

from orch_env.adapters.nemo_gym import OrchAgent, OrchServer, OrchServerConfig
from orch_env.adapters.nemo_gym_rollouts import Rollouts
from orch_env.tasks.framework_rows import framework_rows
from tests.adapters.conformance import SOURCE, Played, Script, expected, report_of, table

ROWS = {
    row["verifier_metadata"]["task_id"]: row for row in framework_rows("nemo_gym", SOURCE.rows())
}


def server(**settings: Any) -> Any:
    """The server as NeMo makes it from its configuration."""
    config = OrchServerConfig(
        host="", port=0, entrypoint="app.py", name="orch_env", source={"tasks": SOURCE.tasks}
    ).model_copy(update=settings)
    return OrchServer(config=config, server_client=MagicMock(spec=ServerClient))


def response_to(message: Mapping[str, Any] | None) -> dict[str, Any]:
    """An assistant message as the Responses API gives it; ``None`` is one that was cut."""
    output: list[dict[str, Any]] = []
    if message is not None and message["content"]:
        text = {"type": "output_text", "text": message["content"], "annotations": []}
        output.append(
            {
                "type": "message",
                "id": "m",
                "role": "assistant",
                "status": "completed",
                "content": [text],
            }
        )
    for call in (message or {}).get("tool_calls", ()):
        output.append({"type": "function_call", "call_id": call["id"], **call["function"]})
    return {
        "id": "r",
        "created_at": 0.0,
        "model": "written",
        "object": "response",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "incomplete_details": None if message else {"reason": "max_output_tokens"},
    }


class Client:
    """One cookie jar: a rollout."""

    def __init__(self, app: Any, script: Script) -> None:
        self.script, self.http = script, TestClient(app)
        self.row = {
            **ROWS[script.task_id],
            "verifier_metadata": {"task_id": script.task_id, "seed": script.seed},
        }
        self.messages = script.messages()
        self.reward, self.results, self.taken, self.over = 0.0, [], 0, None
        assert self.http.post("/reset", json=self.row).status_code == 200

    def step(self, message: Mapping[str, Any] | None) -> None:
        """Send a message, and sum as NeMo's agent does."""
        body = {**self.row, "response": response_to(message)}
        sent = self.http.post("/step", json=body)
        assert sent.status_code == 200, sent.text
        read = sent.json()
        self.reward += read["reward"]
        self.results += [one["output"] for one in read["info"]["tool_outputs"]]
        if self.over is None:
            self.taken += 1
            if read["terminated"] or read["truncated"]:
                self.over = read["info"]["stop_reason"]


APP = server()
WEB = APP.setup_webserver()


def perform(scripts: Sequence[Script]) -> list[Played]:
    """Play scripts in turns, each with its own cookie, also after the end."""
    clients = [Client(WEB, script) for script in scripts]
    for turn in range(max(len(script.actions) for script in scripts)):
        for client in clients:
            if turn < len(client.messages):
                client.step(client.messages[turn])
    for client in clients:
        taken = client.taken
        if client.over is None:
            client.step(None)
        client.taken = taken
    assert not any(rollout.session for rollout in APP._rollouts.known.values())
    return [Played(c.reward, tuple(c.results), c.taken, c.over) for c in clients]


class WrittenWorld:
    """NeMo's client between servers: the resources server over HTTP, and a written model."""

    global_config_dict: ClassVar[dict[str, Any]] = {"observability_enabled": False}

    def __init__(self, web: Any, script: Script) -> None:
        self.http, self.messages = TestClient(web), script.messages()
        self.paths: list[str] = []

    async def post(self, server_name: str, url_path: str, json: Any = None, **_: Any) -> Any:
        """Answer as aiohttp does."""
        self.paths.append(url_path)
        if server_name == "policy":
            return _answer(200, response_to(self.messages.pop(0)))
        sent = await asyncio.to_thread(self.http.post, url_path, json=json)
        return _answer(sent.status_code, sent.json())


def _answer(status: int, body: Any) -> Any:
    async def read() -> bytes:
        return json.dumps(body).encode()

    def raise_for_status() -> None:
        raise ConnectionError(f"{status}: {body}")

    return SimpleNamespace(
        ok=status < 400,
        cookies={},
        read=read,
        content=SimpleNamespace(read=read),
        raise_for_status=raise_for_status,
    )


def run_agent(kind: Any, script: Script, *, max_steps: int = 10, lost: bool = False) -> Any:
    """A whole rollout by NeMo's agent; with `lost`, the server forgets it after the reset."""
    served = server()
    world = WrittenWorld(served.setup_webserver(), script)
    if lost:
        served._rollouts.step = lambda *_: _lost()
    config = gymnasium_agent.GymnasiumAgentConfig(
        host="",
        port=0,
        entrypoint="app.py",
        name="agent",
        resources_server=ResourcesServerRef(type="resources_servers", name="orch_env"),
        model_server=ModelServerRef(type="responses_api_models", name="policy"),
        max_steps=max_steps,
    )
    agent = kind.model_construct(config=config, server_client=world)
    row = ROWS[script.task_id]
    body = gymnasium_agent.GymnasiumAgentRunRequest.model_validate(row)
    try:
        return asyncio.run(agent.run(SimpleNamespace(cookies={}), body))
    finally:
        assert world.paths[-1] == "/close"
        assert not any(rollout.session for rollout in served._rollouts.known.values())


async def _lost() -> Any:
    return await Rollouts(SOURCE, 60.0).step("nobody", "", (), None, False)


def check_agents() -> None:
    """NeMo's own agent plays gold; ours also pays what `max_steps` cuts, and masks what is lost."""
    gold = table()[0]
    for kind in (gymnasium_agent.GymnasiumAgent, OrchAgent):
        result = run_agent(kind, gold)
        assert (result.reward, result.terminated, result.mask_sample) == (1.0, True, False), result
        outputs = [one for one in result.response.output if one.type == "function_call_output"]
        assert [one.output for one in outputs] == list(expected(gold).results)
    cut = run_agent(OrchAgent, gold, max_steps=1)
    assert cut.truncated and cut.info["stop_reason"] == "max_turns"
    assert (
        cut.reward
        == SOURCE.score(
            gold.task_id, [gold.messages()[0], *tool_messages(gold)], stop_reason="max_turns"
        ).total
    )
    masked = run_agent(OrchAgent, gold, lost=True)
    assert masked.mask_sample and masked.failure_kind == "session_lost" and masked.reward == 0.0
    try:
        run_agent(gymnasium_agent.GymnasiumAgent, gold, lost=True)
    except ConnectionError as problem:
        assert "503" in str(problem) and "mask_sample" in str(problem)
    else:
        raise AssertionError("a lost session was paid")


def tool_messages(script: Script) -> list[dict[str, Any]]:
    """The results of a script's first message, as messages."""
    calls = script.messages()[0]["tool_calls"]
    results = expected(script).results[: len(calls)]
    return [
        {"role": "tool", "tool_call_id": call["id"], "content": result}
        for call, result in zip(calls, results, strict=True)
    ]


def check_sessions() -> None:
    """NeMo's own check, and what it does not ask: a step in a seeded session, other episodes."""
    gold = table()[0]
    seed = ResourcesSeedSessionRequest(
        resources_session_id="s-1",
        episode_id=EpisodeId(rollout_id="r1"),
        task_id=TaskId(taskset="orch_env:train", task_id=gold.task_id),
        task_data={"task_id": gold.task_id},
    )
    check_resources_session_contract(server().setup_webserver(), seed, keeps_state=True)
    http = TestClient(server().setup_webserver())
    asked = seed.model_dump(mode="json")
    assert http.post("/seed_session", json=asked).status_code == 200
    body = {**ROWS[gold.task_id], "response": response_to(gold.messages()[0])}
    played = http.post("/step", json=body)
    assert played.json()["info"]["tool_outputs"][0]["output"] == expected(gold).results[0]
    other = http.post("/seed_session", json={**asked, "episode_id": {"rollout_id": "r2"}})
    assert other.status_code == 409 and "another episode's" in other.json()["detail"]
    unknown = http.post("/reset", json={**body, "verifier_metadata": {"task_id": "nobody"}})
    assert unknown.status_code == 400 and "there is no task 'nobody'" in unknown.json()["detail"]


if __name__ == "__main__":
    check_sessions()
    check_agents()
    print(json.dumps(report_of(perform)))
