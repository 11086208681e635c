"""A trajectory as one text: calls and responses in their tags, as the published reward reads it.

This reader is strict where the environment's call format is tolerant: the published numbers depend
on what it drops.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orch_env.rewards.options import Weights
from orch_env.types import Episode, ErrorType, OrchError, Task, ToolCall, Turn, error_of_text
from orch_env.types.json import Json, JsonObject, parse_json

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
# A call that could be read in these tags begins with its object or with a code fence. Other call
# formats have the same tags with something else in them.
_JSON_CALL = re.compile(r"<tool_call>\s*+[{`]")
_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
_UNREADABLE = object()


@dataclass(frozen=True, slots=True)
class TextCall:
    """A call found in a completion.

    Attributes:
        name: the tool's name, ``""`` if it has none.
        arguments: the arguments; a JSON string of an object is parsed, anything else is ``{}``.
        response: text of the response it takes, ``None`` if there is none left after it.
        turn: turn in whose text it begins.
        index: its position among the calls of that turn, those that are dropped included.
    """

    name: str
    arguments: JsonObject
    response: str | None
    turn: int = 0
    index: int = 0


def read_completion(text: str, starts: Sequence[int] = (0,)) -> list[TextCall]:
    """Read the calls of a completion; each takes the next unused response that stands after it.

    A call whose body is not JSON is dropped, after it has taken its response.

    Args:
        text: the completion.
        starts: offset at which each turn begins, ascending from 0; by default it is all one turn.
    """
    responses = list(_RESPONSE.finditer(text))
    calls: list[TextCall] = []
    unused = turn = index = 0
    for match in _CALL.finditer(text):
        while turn + 1 < len(starts) and starts[turn + 1] <= match.start():
            turn, index = turn + 1, 0
        while unused < len(responses) and responses[unused].start() < match.end():
            unused += 1
        response = responses[unused].group(1).strip() if unused < len(responses) else None
        unused += 1
        body = parse_json(match.group(1), _UNREADABLE)
        if body is not _UNREADABLE:
            calls.append(TextCall(*_name_and_arguments(body), response, turn, index))
        index += 1
    return calls


def _name_and_arguments(body: Json) -> tuple[str, JsonObject]:
    if not isinstance(body, dict):
        return "", {}
    name, arguments = body.get("name"), body.get("arguments")
    if isinstance(arguments, str):
        arguments = parse_json(arguments)
    return (
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, dict) else {},
    )


def turn_texts(episode: Episode) -> list[str]:
    """An episode as text, by turn: each action, followed by its results.

    Joined by newlines, the turns are the completion.
    """
    return ["\n".join(_turn_parts(turn)) for turn in episode.turns]


def _turn_parts(turn: Turn) -> list[str]:
    said, calls, results = turn.action, turn.calls, turn.results
    read = any(call.error is not ErrorType.MALFORMED_CALL for call in calls)
    if read and not _JSON_CALL.search(said):
        said = _CALL.sub("", said).replace("<tool_call>", "")
    parts = [said]
    if calls and "<tool_call>" not in said:
        # OpenAI messages and other call formats leave no such markup in the text.
        parts += [f"<tool_call>\n{_call_text(call)}\n</tool_call>" for call in calls]
    return [*parts, *(f"<tool_response>\n{result}\n</tool_response>" for result in results)]


def _call_text(call: ToolCall) -> str:
    try:
        return json.dumps({"name": call.name, "arguments": call.arguments})
    except (RecursionError, ValueError):
        return ""  # nested deeper, or longer a number, than any JSON reader takes: unreadable


def episode_of_completion(task: Task, text: str) -> Episode:
    """Read a completion as an episode, for rewards that score episodes.

    Calls that stand together before a response are one turn. Unreadable calls are malformed
    calls; a call without a response has not run.
    """
    marks: list[tuple[int, str, Any]] = [
        (m.start(), "call", m.group(1)) for m in _CALL.finditer(text)
    ]
    marks += [(m.start(), "response", m.group(1).strip()) for m in _RESPONSE.finditer(text)]
    groups: list[tuple[list[str], list[str]]] = []
    for _, kind, body in sorted(marks):
        if kind == "call":
            if not groups or groups[-1][1]:
                groups.append(([], []))
            groups[-1][0].append(body)
        elif groups:
            groups[-1][1].append(body)
    return Episode(task_id=task.id, turns=tuple(_turn(calls, results) for calls, results in groups))


def _turn(bodies: list[str], responses: list[str]) -> Turn:
    calls: list[ToolCall] = []
    for index, body in enumerate(bodies):
        name, arguments = _name_and_arguments(parse_json(body))
        error: ErrorType | None = None
        if not name:
            error = ErrorType.MALFORMED_CALL
        elif index >= len(responses):
            error = ErrorType.LIMIT
        else:
            error = error_of_text(responses[index])
        calls.append(ToolCall(name, arguments, error))
    results = [responses[i] if i < len(responses) else "" for i in range(len(bodies))]
    return Turn.of(
        action="\n".join(f"<tool_call>{body}</tool_call>" for body in bodies),
        calls=calls,
        results=results,
        observation="\n".join(f"<tool_response>\n{r}\n</tool_response>" for r in responses),
    )


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """One scored trajectory in the layout of the published reference.

    A record is ``{id, weights, task: {query, tools, steps: [{name, arguments, depends_on,
    candidate_tools}]}, completion}``; other keys (``expected``) are ignored.

    Attributes:
        id: its name.
        task: the task; each step is a gold step of one call.
        completion: what the model wrote and read, as one text.
        weights: the case's own weights, ``None`` if it has none.
    """

    id: str
    task: Task
    completion: str
    weights: Weights | None

    @staticmethod
    def is_one(data: Mapping[str, Any]) -> bool:
        """Whether a record has this layout (and not that of a stored episode)."""
        return "turns" not in data and ("completion" in data or "task" in data)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReferenceCase:
        """Read one case.

        Raises:
            OrchError: a field is missing or of a wrong type.
        """
        case_id, body, completion = data.get("id"), data.get("task"), data.get("completion")
        if not isinstance(case_id, str) or not case_id:
            raise OrchError(f"a case needs a non-empty string 'id', got {case_id!r}")
        if not isinstance(completion, str):
            raise OrchError(f"case {case_id!r}: 'completion' must be a string")
        if not isinstance(body, Mapping) or not isinstance(body.get("steps"), list):
            raise OrchError(f"case {case_id!r}: 'task' must be an object with a list 'steps'")
        steps = body["steps"]
        if not all(isinstance(s, Mapping) and isinstance(s.get("name"), str) for s in steps):
            raise OrchError(f"case {case_id!r}: every step needs a string 'name'")
        task = Task.from_dict(
            {
                "id": case_id,
                "messages": [{"role": "user", "content": str(body.get("query") or "")}],
                "tools": body.get("tools") or [],
                "gold": [[_gold_call(step)] for step in steps],
            }
        )
        weights = data.get("weights")
        return cls(
            id=case_id,
            task=task,
            completion=completion,
            weights=None if weights is None else Weights.from_dict(weights),
        )


def _gold_call(step: Mapping[str, Any]) -> dict[str, Any]:
    return {name: step[name] for name in ("name", "arguments", "depends_on") if name in step}
