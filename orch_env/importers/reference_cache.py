"""The reference's response cache: one JSON object ``{function: [{arguments, response}]}``.

A function may list the same arguments several times with different responses; each becomes a
variant, in the file's order.
"""

from __future__ import annotations

from collections.abc import Mapping

from orch_env.importers.recording import (
    RecordedResponse,
    Recordings,
    response_text,
)
from orch_env.importers.schemas import tool_name
from orch_env.types import OrchError
from orch_env.types.json import Json

FORMAT = "reference-cache"


def looks_like(whole: Json) -> bool:
    """Whether a JSON document has this layout."""
    if not isinstance(whole, Mapping) or not whole:
        return False
    first = next(iter(whole.values()))
    return isinstance(first, list) and all(
        isinstance(entry, Mapping) and {"arguments", "response"} <= set(entry)
        for entry in first[:3]
    )


def read(whole: Mapping[str, Json]) -> Recordings:
    """Read the parsed document.

    Raises:
        OrchError: an entry has another layout, or two functions would be stored under one name;
            the message says which.
    """
    found = Recordings(FORMAT)
    stored: dict[str, str] = {}
    for name, entries in whole.items():
        other = stored.setdefault(tool_name(name), name)
        if other != name:
            raise OrchError(
                f"functions {other!r} and {name!r} would both be stored as {tool_name(name)!r}"
            )
        if not isinstance(entries, list):
            raise OrchError(f"function {name!r}: expected a list of {{arguments, response}}")
        for number, entry in enumerate(entries):
            arguments = entry.get("arguments") if isinstance(entry, Mapping) else None
            if not isinstance(arguments, dict) or "response" not in entry:
                raise OrchError(
                    f"function {name!r}, entry {number}: expected an object with 'arguments' "
                    "(an object) and 'response'"
                )
            found.responses.append(
                RecordedResponse(tool_name(name), arguments, response_text(entry["response"]))
            )
    return found
