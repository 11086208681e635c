"""Words for one API, written by its users: a small YAML file that the grammar reads.

Everything in it is optional. Without a file the grammar takes its words from the tools' names,
descriptions and schemas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orch_env.types import OrchError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolHints(_Strict):
    """Words for one tool.

    Attributes:
        say: what its result is, as a noun phrase with ``{argument}`` where a fed argument stands:
            ``hotels in {dest_id}``. Variants are separated by ``|``.
        do: an order instead of a noun phrase: ``book {room_id}``.
        thing: what one element of its result is called: ``hotel``.
        lookup: its text argument is a name that the request says by itself; the call is silent.
        implied: the call is never said; what is chosen of its result is said by name.
        label: pointer below an element of its lists to what names it.
        called: how an element with a name is mentioned, where the name alone is too little:
            ``the {} car``.
        same: ``say`` for a call whose slots all name the same: ``a car at {from_id}``.
        labels: words for particular labels: ``CHEAPEST: the cheapest flight``.
        domain: what it belongs to, for counting domains.
        each: the argument list whose items ``say_each`` puts into words.
        say_each: one item of that list: ``from {fromId} to {toId} {date}``.
    """

    say: str | None = None
    do: str | None = None
    thing: str | None = None
    lookup: bool | None = None
    implied: bool = False
    label: str | None = None
    called: str | None = None
    same: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    domain: str | None = None
    each: str | None = None
    say_each: str | None = None


class Hints(_Strict):
    """Words for one API.

    Attributes:
        arguments: argument name -> phrase with ``{}`` for the value; for every tool that has it.
            Phrases stand in the order of this mapping; one may begin with a comma.
            Variants are separated by ``|``. ``{on}`` is a date with its preposition.
        ranges: pairs of argument names, first and last, that are said together, with a phrase:
            ``arrival_date, departure_date: from {} to {}``. A time of day that belongs to a date by
            its name is said with it.
        words: argument name -> value -> words that say it.
        omit: argument name -> value that goes without saying.
        tools: tool name -> its words.
    """

    arguments: dict[str, str] = Field(default_factory=dict)
    ranges: dict[str, str] = Field(default_factory=dict)
    words: dict[str, dict[str, str]] = Field(default_factory=dict)
    omit: dict[str, str | int | float | bool] = Field(default_factory=dict)
    tools: dict[str, ToolHints] = Field(default_factory=dict)

    def domains(self) -> dict[str, str]:
        """Tool -> domain, for the tools that name one."""
        return {name: tool.domain for name, tool in self.tools.items() if tool.domain}

    def label_paths(self) -> dict[str, str]:
        """Tool -> what names an element of its lists, for the tools that say so."""
        return {name: tool.label for name, tool in self.tools.items() if tool.label}


def load_hints(path: str | Path) -> Hints:
    """Read a hints file.

    Raises:
        OrchError: it is missing, no YAML, or has a key or a value that is not understood.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data: Any = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise OrchError(f"hints {str(path)!r} cannot be read: {problem}") from problem
    except YAMLError as problem:
        said = " ".join(str(problem).split())
        raise OrchError(f"hints {str(path)!r} are no YAML: {said}") from problem
    try:
        return Hints.model_validate(data or {})
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        said = first["msg"].lower()
        if first["type"] == "extra_forbidden":
            owner = ToolHints if "tools" in first["loc"] else Hints
            said = f"there is no such key; known are {', '.join(owner.model_fields)}"
        raise OrchError(f"hints {str(path)!r}: {where}: {said}") from problem
