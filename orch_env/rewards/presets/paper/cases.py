"""Scored trajectories in the layout of the published reference: task, completion, weights.

One record is ``{id, weights, task: {query, tools, steps: [{name, arguments, depends_on,
candidate_tools}]}, completion}``; other keys (``expected``) are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.rewards.options import Weights
from orch_env.types import OrchError, Task


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """One case.

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
