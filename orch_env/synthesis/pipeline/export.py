"""Tasks in the forms that other trainers read: rows of a table, conversations to imitate."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

from orch_env.backends.protocol import ToolBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.formats import get_format
from orch_env.replay.play import turns_of_gold
from orch_env.replay.policies import GoldPolicy
from orch_env.tasks.files import write_lines, write_whole
from orch_env.types import OrchError, Task
from orch_env.types.json import JsonObject
from orch_env.types.text import message_text, readable_json

_COPIED = ("domain", "template", "calls", "depth", "width", "edges")


def task_row(task: Task) -> JsonObject:
    """A task as a row of a table: every column has one type, whatever the API is.

    Arguments differ from call to call, so a column of gold calls would mix their types: ``task``
    holds the whole task as JSON text, for ``Task.from_dict(json.loads(row["task"]))``.
    """
    return {
        "id": task.id,
        "split": _text_or_none(task.metadata.get("split")),
        "query": task.query,
        "messages": [
            {"role": str(m["role"]), "content": message_text(m.get("content"))}
            for m in task.messages
        ],
        "followups": list(task.followups),
        "tools": list(task.tool_names),
        "today": task.today,
        **{name: task.metadata.get(name) for name in _COPIED},
        "task": readable_json(task.to_dict(), allow_nan=True, separators=(",", ":")),
    }


def save_dataset(tasks: Sequence[Task], folder: Path) -> dict[str, int]:
    """Write a folder that ``datasets.load_dataset`` reads: JSON Lines for each split, and its card.

    Returns:
        Number of rows of each split; tasks without one are ``train``.

    Raises:
        OrchError: the folder holds something already, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise OrchError(f"{str(folder)!r} is not empty: name a new folder")
    splits: dict[str, list[JsonObject]] = {}
    for task in tasks:
        row = task_row(task)
        splits.setdefault(row["split"] or "train", []).append(row)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    files = ""
    for name, rows in splits.items():
        write_lines(map(readable_json, rows), folder / "data" / f"{name}.jsonl")
        files += f"  - split: {name}\n    path: data/{name}.jsonl\n"
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n{_CARD}"
    write_whole(card.encode(), folder / "README.md")
    return {name: len(rows) for name, rows in splits.items()}


_CARD = """# Tasks for tool orchestration

Each row has what a model is told, and in `task` the whole task as JSON text, gold included: read it
with `orch_env.Task.from_dict(json.loads(row["task"]))`. The cache that answers the calls is not
part of this folder. The licence of recorded values is that of their source: name it here.
"""


def conversations(
    tasks: Iterable[Task], backend: ToolBackend, *, max_observation_chars: int | None = None
) -> Iterator[JsonObject]:
    """Gold as chat data: one conversation a task, in OpenAI's shape.

    Gold is played in the environment, so each tool message is what a model would read there.

    Args:
        tasks: the tasks.
        backend: what answers their calls.
        max_observation_chars: cuts long results, as in the environment.

    Yields:
        ``{"messages", "tools", "task_id", "split"}``; arguments are JSON text. Where a task has no
        answer, the last message is a fixed closing sentence.

    Raises:
        OrchError: gold of a task does not succeed.
    """
    for task in tasks:
        limits = Limits(max_turns=turns_of_gold(task), max_observation_chars=max_observation_chars)
        env = ToolOrchestrationEnv.from_backend(
            [task], backend, call_format="openai", limits=limits
        )
        policy = GoldPolicy(get_format("openai"))
        policy.start(task)
        observation, info = env.reset(seed=task.seed or 0, options={"task_id": task.id})
        messages: list[JsonObject] = list(info["messages"])
        tools, numbers, ended = info["tools"], count(), False
        while not ended:
            said = _message(policy.act(observation, info), numbers)
            observation, _, terminated, truncated, info = env.step_message(said)
            messages += [said, *info["messages"]]
            tools = info.get("tools", tools)  # a follow-up may bring more
            ended = terminated or truncated
        if not info.get("success"):
            raise OrchError(
                f"task {task.id!r}: gold does not succeed ({info.get('stop_reason')}); see "
                "`orch synth validate`"
            )
        yield {
            "messages": messages,
            "tools": tools,
            "task_id": task.id,
            "split": _text_or_none(task.metadata.get("split")),
        }


def _message(text: str, numbers: Iterator[int]) -> JsonObject:
    """The policy's message, with ids of calls that no other message has."""
    if not text.startswith("{"):
        return {"role": "assistant", "content": text}
    message: JsonObject = json.loads(text)
    for call in message["tool_calls"]:
        call["id"] = f"call_{next(numbers)}"
    return message


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
