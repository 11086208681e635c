"""Configuration text to plain data: a YAML without surprises, and dotted overrides.

PyYAML speaks YAML 1.1, where ``1e-6`` is a string, ``no`` is false, ``1:30`` is ninety and a key
written twice silently wins. Here numbers, booleans and null are those of JSON (plus ``1e-6`` and
``~``), everything else is text, and a repeated key, NaN or infinity is an error with its line.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from orch_env.types import OrchError


class _Loader(yaml.SafeLoader):
    """SafeLoader with JSON's idea of scalars and without repeated keys."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way of dropping inherited ones


def _resolver(tag: str, pattern: str, first: Iterable[str]) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolver("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolver("int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789")
_resolver(
    "float",
    r"^[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+0123456789.",
)
_resolver("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])
_resolver("merge", r"^(?:<<)$", "<")


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    own: set[str] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise OrchError(f"line {line}: keys must be text, got {key!r}")
        if key in own:
            raise OrchError(f"line {line}: key {key!r} is given twice")
        own.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""), 10)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = node.value.replace("_", "").lower()
    value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    if not math.isfinite(value):
        raise OrchError(f"line {node.start_mark.line + 1}: {node.value} is not a finite number")
    return value


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Raises:
        OrchError: it is not YAML, a key is repeated, or a number is not finite.
    """
    try:
        return yaml.load(text, _Loader)
    except OrchError as problem:
        raise OrchError(f"{where}: {problem}") from problem
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        reason = getattr(problem, "problem", None) or str(problem).replace("\n", " ")
        raise OrchError(f"{where}: {line}not valid YAML ({reason})") from problem
    except RecursionError as problem:
        raise OrchError(f"{where}: nested too deeply") from problem


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        OrchError: the file is missing or unreadable, or its text is refused by `parse_yaml`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise OrchError(f"configuration file {str(path)!r} does not exist") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise OrchError(f"configuration file {str(path)!r} cannot be read: {problem}") from problem
    data = parse_yaml(text, str(path))
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


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` or, with nothing near, the list of what there is."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else f" (there are: {', '.join(names)})"


def merged(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``new`` laid over it, mappings merged key by key.

    A mapping that has a ``name`` (a reward) is one value and replaces another one whole: the
    options of two rewards merged would be a third that nobody wrote.
    """
    out = dict(base)
    for key, value in new.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and "name" not in value
        out[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return out
