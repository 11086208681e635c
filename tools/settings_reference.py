"""What is made from the settings: `python -m tools.settings_reference` writes both files.

`docs/configuration.md` lists every setting, and `orch_train/algorithms/grpo_config.pyi` tells type
checkers and editors which keys each method of `GRPOConfig` takes. A test compares both with the
code.
"""

from __future__ import annotations

import inspect
import json
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config.groups import GROUPS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
STUB = ROOT / "orch_train" / "algorithms" / "grpo_config.pyi"

_PAGE_HEAD = """# Configuration

Every setting by group, with its default. A YAML file is `{group: {key: value}}`, the command line
takes `group.key=value`, and in Python each group is a method of `GRPOConfig`. Unknown keys are
errors. [training.md](training.md) explains what belongs together.

*Made by `python -m tools.settings_reference` from the code; edit `orch_train/config/groups.py`.*
"""
_STUB_HEAD = """# Made by `python -m tools.settings_reference`; edit orch_train/config/groups.py.

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from orch_train.algorithms.grpo import GRPO
from orch_train.config.run_config import RunConfig

class GRPOConfig(RunConfig):
"""
_STUB_TAIL = "    def build_algo(self) -> GRPO: ...\n"


def page() -> str:
    """The reference page, as Markdown."""
    return "\n".join([_PAGE_HEAD, *(_section(name, group) for name, group in GROUPS.items())])


def stub() -> str:
    """The types of `GRPOConfig`, as a stub file."""
    return "".join([_STUB_HEAD, *(_method(name, group) for name, group in GROUPS.items())]) + (
        _STUB_TAIL
    )


def _section(name: str, group: type[BaseModel]) -> str:
    rows = [f"## `{name}`", "", _summary(group), "", "| key | default | what |", "|---|---|---|"]
    for key, field in group.model_fields.items():
        text = _description(field).replace("|", "\\|")
        rows.append(f"| `{key}` | {_default(field)} | {text}{_choices(field, text)} |")
    return "\n".join([*rows, ""])


def _summary(group: type[BaseModel]) -> str:
    return _markdown((inspect.getdoc(group) or "").partition("\n")[0])


def _description(field: FieldInfo) -> str:
    return _markdown(" ".join((field.description or "").split()))


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
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
    return [word for inner in typing.get_args(kind) for word in _literals(inner)]


def _method(name: str, group: type[BaseModel]) -> str:
    """A method of the stub, its keys in its docstring."""
    positional: list[str] = []
    named: list[str] = []
    for key in list(inspect.signature(getattr(GRPOConfig, name)).parameters.values())[1:]:
        kind = _type(group.model_fields[key.name].annotation)
        line = f"        {key.name}: {kind} = ...,\n"
        if len(line) > 101:
            outer, _, inner = kind.removesuffix("]").partition("[")
            line = f"        {key.name}: {outer}[\n            {inner}\n        ] = ...,\n"
        (named if key.kind is key.KEYWORD_ONLY else positional).append(line)
    keys = [
        textwrap.fill(
            f"{key}: {_description(field)}",
            100,
            initial_indent=" " * 12,
            subsequent_indent=" " * 16,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for key, field in group.model_fields.items()
    ]
    return (
        f"    def {name}(\n        self,\n{''.join(positional)}        *,\n{''.join(named)}"
        f'    ) -> Self:\n        """{_summary(group)}\n\n        Args:\n'
        + "\n".join(keys)
        + '\n        """\n\n'
    )


def _type(kind: Any) -> str:
    """A field's type as a caller may give it: any sequence for a tuple, any mapping for a dict."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(one) for one in inner)
    if origin is typing.Literal:
        return f"Literal[{', '.join(json.dumps(word) for word in inner)}]"
    if origin is tuple:
        return f"Sequence[{_type(inner[0])}]"
    if origin is dict:
        return f"Mapping[{', '.join(_type(one) for one in inner)}]"
    if kind is type(None):
        return "None"
    return "Any" if kind is Any else str(kind.__name__)


if __name__ == "__main__":
    for path, text in ((PAGE, page()), (STUB, stub())):
        path.write_text(text, encoding="utf-8")
        print(path)
