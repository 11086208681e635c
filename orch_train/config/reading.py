"""Configuration text to plain data and back: YAML 1.2, and dotted overrides."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from orch_env.tasks.files import read_text
from orch_env.types import OrchError


class _Constructor(SafeConstructor):
    """What JSON can hold: keys are text, numbers finite; a date or ``0x10`` is text."""

    def check_mapping_key(
        self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any
    ) -> bool:
        if not isinstance(key, str):
            raise OrchError(f"line {_line(key_node)}: keys must be text, got {key!r}")
        if key in mapping:
            raise OrchError(f"line {_line(key_node)}: key {key!r} is given twice")
        return True

    def construct_yaml_int(self, node: ScalarNode) -> Any:
        try:
            return int(node.value, 10)
        except ValueError:
            return node.value

    def construct_yaml_float(self, node: ScalarNode) -> Any:
        try:
            value = super().construct_yaml_float(node)
        except ValueError:
            return node.value
        if not math.isfinite(value):
            raise OrchError(f"line {_line(node)}: {node.value} is not a finite number")
        return value


class _Representer(SafeRepresenter):
    def represent_float(self, data: float) -> ScalarNode:
        # YAML 1.1 readers, PyYAML among them, take 1e-06 for text and 1.0e-06 for a number.
        text = repr(data)
        text = text if "." in text else text.replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)

    def represent_str(self, data: str) -> ScalarNode:
        # The library would write U+0085 as it is, and read it as the end of a line.
        style = '"' if "\x85" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)
_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_yaml_float)
_Constructor.add_constructor("tag:yaml.org,2002:timestamp", _Constructor.construct_yaml_str)
_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_representer(str, _Representer.represent_str)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Raises:
        OrchError: it is not YAML, a key is repeated or no text, or a number is not finite.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        return yaml.load(text)
    except OrchError as problem:
        raise OrchError(f"{where}: {problem}") from problem
    # The library asserts that an `!!omap` repeats no key.
    except (YAMLError, ValueError, LookupError, AssertionError) as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        reason = (
            getattr(problem, "problem", None)
            or " ".join(str(problem).split())
            or "a key is given twice"
        )
        raise OrchError(f"{where}: {line}not valid YAML ({reason})") from problem
    except RecursionError as problem:
        raise OrchError(f"{where}: nested too deeply") from problem


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their order; `parse_yaml` reads it back."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 100
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        OrchError: the file is missing or unreadable, or its text is refused by `parse_yaml`.
    """
    data = parse_yaml(read_text(path), str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise OrchError(f"{path}: a configuration is a mapping of groups, such as 'training:'")
    return data


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Split ``group.key=value``; the value is read as YAML, so ``2e-6`` is a number.

    Raises:
        OrchError: there is no ``=``, no group, or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    keys = tuple(part.strip() for part in name.split("."))
    if not equals or len(keys) < 2 or not all(keys):
        raise OrchError(f"override {text!r} must look like group.key=value, as in training.lr=2e-6")
    return keys, parse_yaml(value, f"override {text!r}")


def set_path(data: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    """Set ``data[k0][k1]... = value``, making the mappings in between.

    Raises:
        OrchError: something in between is not a mapping.
    """
    for depth, key in enumerate(keys[:-1]):
        inner = data.setdefault(key, {})
        if inner is None:
            inner = data[key] = {}
        if not isinstance(inner, dict):
            raise OrchError(f"{'.'.join(keys[: depth + 1])} is a value, it has no {keys[-1]!r}")
        data = inner
    data[keys[-1]] = value


def merged(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``new`` laid over it, mappings merged key by key.

    A mapping that has a ``name`` (a reward) replaces the old one instead, because the options of
    two rewards do not mix.
    """
    out = dict(base)
    for key, value in new.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and "name" not in value
        out[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return out
