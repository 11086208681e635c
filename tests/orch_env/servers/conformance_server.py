"""The tools that MCP's conformance suite asks for, as far as a server of ours can offer them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orch_env.servers import Chance, Server, ToolRefusal, read


class Conformance(Server):
    """What the conformance suite calls."""

    name = "conformance"

    def populate(self, chance: Chance) -> None:
        """There is nothing."""

    @read
    def test_simple_text(self) -> str:
        """Return a text."""
        return "This is a simple text response for testing."

    @read
    def test_error_handling(self) -> Any:
        """Refuse every call."""
        raise ToolRefusal("This tool intentionally returns an error for testing", reason="always")

    @read
    def json_schema_2020_12_tool(self, name: str | None = None) -> Any:
        """Take arguments of the schema below.

        Args:
            name: Any name.
        """
        return {"name": name}


# Our framework makes small schemas; serving must pass on whatever a schema says.
_made = Conformance.tools["json_schema_2020_12_tool"]
_texts = {"type": "string"}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": _texts, "city": _texts}}},
    "properties": {"name": _texts, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}
Conformance.tools = {
    **Conformance.tools,
    _made.spec.name: replace(_made, spec=replace(_made.spec, parameters=SCHEMA)),
}
