"""A small API of guided tours, recorded: four tools, one workflow of three calls and two of two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from orch_env import ToolSpec, open_cache
from orch_env.synthesis.pipeline.config import SynthesisConfig, checked
from orch_env.types.json import Json, JsonObject

TEXT = {"type": "string"}
TOOLS = {
    "find_town": ("Finds a town by its name.", "name"),
    "list_tours": ("Lists the tours of a town.", "town_id"),
    "tour_details": ("Tells the details of a tour.", "tour_id"),
    "tour_guide": ("Tells who leads a tour.", "tour_id"),
}
TOWNS = 30


def town_name(number: int) -> str:
    """A name that no other town has."""
    parts = ("bdfgklmnpr"[number % 10], "aeiou"[number % 5], "stvz"[number // 10], "arumel")
    return "".join(parts).title()


def answers() -> list[tuple[str, JsonObject, Json]]:
    """All recorded calls."""
    found: list[tuple[str, JsonObject, Json]] = []
    for n in range(TOWNS):
        name, town = town_name(n), f"T-{4000 + 37 * n}"
        tours = [{"tour_id": f"R-{70000 + 101 * n + m}", "title": f"{name} {m}"} for m in (1, 2)]
        found.append(("find_town", {"name": name}, {"town_id": town, "name": name}))
        found.append(("list_tours", {"town_id": town}, {"tours": tours}))
        for tour in tours:
            code = {"tour_id": tour["tour_id"]}
            found.append(("tour_details", code, {"hours": 1 + n % 4, "start": f"gate {n}"}))
            found.append(("tour_guide", code, {"guide": f"G{n}"}))
    return found


def tours_cache(
    path: Path,
    recorded: list[tuple[str, JsonObject, Json]] | None = None,
    tools: Mapping[str, tuple[str, str]] = TOOLS,
) -> Path:
    """Write a cache of these calls."""
    with open_cache(path, write=True) as cache:
        for tool, (description, argument) in tools.items():
            schema = {"type": "object", "properties": {argument: TEXT}, "required": [argument]}
            cache.put_tool(ToolSpec(tool, description, schema))
        for tool, arguments, response in answers() if recorded is None else recorded:
            cache.put(tool, arguments, json.dumps(response))
        cache.commit()
    return path


def tours_config(cache: Path, out: Path, **settings: Json) -> SynthesisConfig:
    """A job of 24 tasks in four pieces of growing and two of making."""
    data = {
        "source": {"cache": str(cache)},
        "shape": {"calls": [2, 3]},
        "sampling": {"growth_rounds": 2, "growth_tries": 30, "entity_limit": 1.0},
        "splits": {"train": 16, "test": 8},
        "chunk": 10,
        "out": str(out),
        "processes": 1,
    }
    return checked({**data, **settings}, "a test")
