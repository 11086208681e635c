"""Every setting as a page: ``python -m orch_train.config.reference`` writes docs/configuration.md.

The hard decision: what a setting means is written once, in its group's docstring, and the page is
made from that; a test compares them.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orch_train.config.groups import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
_HEAD = """# Configuration

Every setting by group, with its default. A YAML file is `{group: {key: value}}`, the command line
takes `group.key=value`, and in Python each group is a method of `GRPOConfig`. Unknown keys are
errors. [training.md](training.md) explains what belongs together.

*Made by `python -m orch_train.config.reference` from the code; edit `orch_train/config/groups.py`.*
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        group = field.annotation
        assert isinstance(group, type) and issubclass(group, BaseModel)
        parts.append(_section(name, group))
    return "\n".join(parts)


def descriptions(group: type[BaseModel]) -> dict[str, str]:
    """Field name -> its text in the group's docstring, on one line."""
    text = inspect.getdoc(group) or ""
    _, _, attributes = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    current = ""
    for line in attributes.splitlines():
        start = re.match(r"    (\w+): (.*)$", line)
        if start:
            current = start[1]
            found[current] = start[2]
        elif line.startswith("        ") and current:
            found[current] += " " + line.strip()
        elif line.strip():
            break
    return found


def _section(name: str, group: type[BaseModel]) -> str:
    summary = (inspect.getdoc(group) or "").partition("\n")[0]
    texts = descriptions(group)
    rows = [f"## `{name}`", "", summary, "", "| key | default | what |", "|---|---|---|"]
    for key, field in group.model_fields.items():
        text = texts[key].replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{key}` | {_default(field)} | {text}{_choices(field, text)} |")
    return "\n".join([*rows, ""])


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{json.dumps(value)}`"


def _choices(field: FieldInfo, text: str) -> str:
    """The words that a setting takes, where its text does not name them all."""
    words = [word for word in _literals(field.annotation) if f"`{word}`" not in text]
    return f" Takes {', '.join(f'`{word}`' for word in words)}." if words else ""


def _literals(kind: Any) -> list[str]:
    if typing.get_origin(kind) is typing.Literal:
        return [str(word) for word in typing.get_args(kind)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated):
        return [word for inner in typing.get_args(kind) for word in _literals(inner)]
    return []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
