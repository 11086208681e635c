"""Small files in the layouts that the importers read, written by us."""

from __future__ import annotations

import json
from typing import Any

PLACE = {
    "name": "Find_Place",
    "description": "Find a place.",
    "parameters": {
        "type": "dict",
        "properties": {"query": {"type": "str", "description": "Name of the place."}},
        "required": ["query"],
    },
}
TIPS = {
    "name": "Get_Reviews(Tips)",
    "description": "Reviews of a place.",
    "parameters": {
        "type": "object",
        "properties": {
            "place_id": {"type": "string", "description": "`id` of **(Find Place)**."},
            "guests": {"type": "integer", "description": "Number of guests."},
        },
        "required": ["place_id"],
    },
}


def conversation(
    task_id: str = "Trips-0",
    city: str = "Zürich",
    place: Any = 81927364,
    guests: int = 2,
    closing: str | None = None,
) -> dict[str, Any]:
    """One task: find a place, then read its reviews twice."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": f"Today is October 13th, 2024. Reviews of {city}, please."},
        {"role": "assistant", "function_call": [call("Find_Place", query=city)]},
        {"role": "observation", "content": [{"data": [{"id": place, "name": city, "count": 2}]}]},
        {
            "role": "assistant",
            "function_call": [
                call("Get_Reviews(Tips)", place_id=str(place), guests=guests),
                call("Get_Reviews(Tips)", place_id=str(place)),
            ],
        },
        {"role": "observation", "content": [{"data": ["schön", 1.0]}, {"data": []}]},
    ]
    if closing is not None:
        messages.append({"role": "assistant", "content": closing})
    return {"id": task_id, "conversations": messages, "functions": [PLACE, TIPS]}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """A call in ComplexFuncBench's form."""
    return {"name": tool, "arguments": arguments}


def lines(*records: Any) -> str:
    """JSON Lines."""
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def reference_step(
    number: int, tool: str, arguments: dict[str, Any], response: Any, *candidates: str
) -> dict[str, Any]:
    """One step of a reference task; ``""`` stands for a response that was not kept."""
    return {
        "step": number,
        "ground_truth": {"function": tool, "arguments": arguments},
        "candidate_tools": list(candidates),
        "depends_on": [],
        "execution_result": {
            "step": number,
            "function": tool,
            "arguments": arguments,
            "execution_result": response,
            "success": True,
        },
    }


def reference_task(workflow: str, city: str, place: int, reviews: Any) -> dict[str, Any]:
    """One reference task of two steps."""
    found = {"data": [{"id": place, "name": city}]}
    return {
        "query": f"Reviews of {city}, please.",
        "workflow_id": workflow,
        "workflow_pattern": ["Find_Place", "Get_Reviews_Tips"],
        "steps": [
            reference_step(0, "Find_Place", {"query": city}, found, "Find_Place", "Other_Tool"),
            reference_step(1, "Get_Reviews_Tips", {"place_id": str(place)}, reviews, "Find_Place"),
        ],
        "overall_success": True,
        "metadata": {"model": "none"},
    }
