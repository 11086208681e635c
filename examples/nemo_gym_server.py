"""The resources server for NeMo Gym over HTTP in one process, with gold in a model's place.

Needs Python 3.13 and `pip install 'orch-rl[nemo-gym]'`. Run it with
`python examples/nemo_gym_server.py`.
"""

import json
from unittest.mock import MagicMock

from fastapi.testclient import TestClient
from nemo_gym.server_utils import ServerClient

from orch_env import EpisodeSource, load_tasks
from orch_env.adapters.nemo_gym import OrchServer, OrchServerConfig
from orch_env.tasks.framework_rows import framework_rows

SOURCE = {"tasks": "harbour", "split": "heldout"}


def response(*output: dict) -> dict:
    """A model's response in the shape of the Responses API."""
    return {
        "id": "r",
        "created_at": 0.0,
        "model": "gold",
        "object": "response",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def call(number: str, name: str, arguments: dict) -> dict:
    """A call in that shape."""
    written = json.dumps(arguments)
    return {"type": "function_call", "call_id": number, "name": name, "arguments": written}


def said(text: str) -> dict:
    """A message in that shape."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def main() -> None:
    """Play two rows and print what NeMo's agent would get."""
    config = OrchServerConfig(host="", port=0, entrypoint="app.py", name="orch_env", source=SOURCE)
    server = OrchServer(config=config, server_client=MagicMock(spec=ServerClient))
    app = server.setup_webserver()
    tasks = {task.id: task for task in load_tasks("harbour")}
    for row in list(framework_rows("nemo_gym", EpisodeSource(**SOURCE).rows()))[:2]:
        task = tasks[row["verifier_metadata"]["task_id"]]
        http = TestClient(app)  # its cookie is the session
        http.post("/reset", json=row)
        print(f"user: {row['responses_create_params']['input'][-1]['content']}")
        for number, step in enumerate(task.gold):
            calls = [call(f"{number}-{n}", c.name, c.arguments) for n, c in enumerate(step)]
            got = http.post("/step", json={**row, "response": response(*calls)}).json()
            for one, read in zip(calls, got["info"]["tool_outputs"], strict=True):
                print(f"{one['name']}({one['arguments']}) -> {read['output']}")
        got = http.post("/step", json={**row, "response": response(said("Done."))}).json()
        print(f"reward {got['reward']}, terminated {got['terminated']}, {got['info']}\n")


if __name__ == "__main__":
    main()
