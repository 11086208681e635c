"""Checks a call's arguments against the tool's JSON Schema and says how to repair them.

What equals a valid value by :mod:`orch_env.values` is valid (:mod:`orch_env.backends.validator`):
such a call is "not recorded", never "invalid". Everything else is checked as the schema says, and
an argument that the schema does not know is unknown unless it allows others in so many words
(:mod:`orch_env.values.argument_names`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from orch_env.backends.schemas import usable_schema
from orch_env.backends.validator import validator_of
from orch_env.tasks.resolved import OfferedTool
from orch_env.types import ErrorType, ToolResult, ToolSpec
from orch_env.types.json import Json, JsonObject, escape
from orch_env.types.text import nearest
from orch_env.values.argument_names import ArgumentNames
from orch_env.values.canonical import normal, with_normal_names
from orch_env.values.patterns import matches
from orch_env.values.schema_places import every_schema

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_MOST_PROBLEMS = 20
_SHOWN_CHARS = 80


_checkers: WeakKeyDictionary[OfferedTool, ArgumentChecker] = WeakKeyDictionary()


def checker_of(tool: OfferedTool) -> ArgumentChecker:
    """The checker of a tool, compiled once while any task offers it.

    Raises:
        OrchError: the tool's ``parameters`` are no usable JSON Schema.
    """
    found = _checkers.get(tool)
    if found is None:
        found = _checkers[tool] = ArgumentChecker(tool.spec)
    return found


class ArgumentChecker:
    """The compiled schema of one tool.

    Args:
        spec: the tool.

    Raises:
        OrchError: the tool's ``parameters`` are no usable JSON Schema.
    """

    def __init__(self, spec: ToolSpec) -> None:
        self._spec = spec
        self._schema = usable_schema(spec)
        self._names = ArgumentNames(self._schema)
        listed = (s["properties"] for s in every_schema(self._schema) if "properties" in s)
        self._spelt = {normal(name): name for names in listed for name in names}

    @cached_property
    def _validator(self) -> Validator:
        return validator_of(self._schema)

    def problem(self, arguments: JsonObject) -> ToolResult | None:
        """An ``invalid_arguments`` observation, ``None`` if the arguments are valid."""
        try:
            details = self._details(self._with_names(arguments))
        except RecursionError:
            details = {"other": ["the arguments are nested too deeply"]}
        except Exception as problem:  # a foreign validator, on whatever a model wrote
            said = f"{type(problem).__name__}: {problem}"[:_SHOWN_CHARS]
            details = {"other": [f"the arguments cannot be checked against the schema ({said})"]}
        if not details:
            return None
        wanted = ", ".join(self._names.known) or "none"
        message = (
            f"{self._spec.name}: {'; '.join(_sentences(details))}. "
            f"Its arguments are: {wanted}. Correct the call and try again."
        )
        return ToolResult.failure(ErrorType.INVALID_ARGUMENTS, message, **details)

    def _with_names(self, value: Json) -> Json:
        """The value with its members' names as the schema spells them (Unicode's normal forms)."""
        if isinstance(value, list):
            return [self._with_names(item) for item in value]
        if not isinstance(value, dict):
            return value
        inside = {name: self._with_names(item) for name, item in value.items()}
        named = {self._spelt.get(name, name): i for name, i in with_normal_names(inside).items()}
        return named if len(named) == len(inside) else inside

    def _details(self, arguments: JsonObject) -> JsonObject:
        known = dict.fromkeys(self._names.known)
        unknown = [name for name in arguments if not self._names.allows(name)]
        found: dict[str, list[Json]] = {}
        found["unknown"] = [_unknown(n, known) for n in unknown[:_MOST_PROBLEMS]]
        errors = sorted(
            self._validator.iter_errors(arguments),
            key=lambda e: (_pointer(e.absolute_path), str(e.validator), e.message),
        )
        for error in errors[:_MOST_PROBLEMS]:
            for kind, entry in _entries(error, arguments, unknown):
                if entry not in found.setdefault(kind, []):
                    found[kind].append(entry)
        return {name: found[name] for name in sorted(found) if found[name]}


def _entries(error: Any, arguments: JsonObject, told: list[str]) -> Iterator[tuple[str, Json]]:
    """What one ``jsonschema.ValidationError`` says, as entries of the observation's details.

    Args:
        error: the error.
        arguments: as the model wrote them; the validator may have seen another spelling.
        told: the unknown arguments that are told already.
    """
    at, wanted = _pointer(error.absolute_path), error.validator_value
    given = _written(error, arguments)
    if error.validator == "required":
        for name in wanted:
            if name not in given:
                yield "missing", f"{at}/{escape(name)}".removeprefix("/")
    elif error.validator == "type":
        yield "wrong_type", {"at": at, "expected": wanted, "got": _shown(given)}
    elif error.validator in ("enum", "const"):
        yield "not_allowed", {"at": at, "allowed": wanted, "got": _shown(given)}
    elif error.validator == "additionalProperties":
        known = error.schema.get("properties") or {}
        patterns = error.schema.get("patternProperties") or ()
        for name in given:
            listed = name in known or any(matches(pattern, name) for pattern in patterns)
            if not listed and (at or name not in told):
                yield "unknown", _unknown(name, known, at)
    elif error.validator != "unevaluatedProperties" or at or not told:
        yield "other", f"{at or '/'}: {error.message[:200]}"


def _written(error: Any, arguments: JsonObject) -> Json:
    """The value that an error is about, as the model wrote it."""
    if not isinstance(error.instance, str | int | float):
        return error.instance
    value: Json = arguments
    for token in error.absolute_path:
        value = value[token]
    # The name of a member has the path of its object.
    return value if isinstance(value, str | int | float) else error.instance


def _unknown(name: str, known: Mapping[str, Json], at: str = "") -> Json:
    """An unknown argument and the nearest known one, whatever its case."""
    by_folded = {n.casefold(): n for n in known}
    near = nearest(name.casefold(), by_folded)
    shown = name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "..."
    path = f"{at}/{escape(shown)}".removeprefix("/") if at else shown
    return {"name": path, "did_you_mean": by_folded[near[0]] if near else None}


def _sentences(details: JsonObject) -> Iterator[str]:
    if missing := details.get("missing"):
        yield f"missing required {', '.join(missing)}"
    for entry in details.get("unknown", ()):
        hint = f" (did you mean {entry['did_you_mean']!r}?)" if entry["did_you_mean"] else ""
        yield f"unknown argument {entry['name']!r}{hint}"
    for entry in details.get("wrong_type", ()):
        yield f"{entry['at'] or '/'} must be {_types(entry['expected'])}, got {entry['got']}"
    for entry in details.get("not_allowed", ()):
        allowed = json.dumps(entry["allowed"], ensure_ascii=True)[:300]
        yield f"{entry['at'] or '/'} must be one of {allowed}, got {entry['got']}"
    yield from details.get("other", ())


def _types(expected: Json) -> str:
    return " or ".join(map(str, expected)) if isinstance(expected, list) else str(expected)


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def _pointer(path: Any) -> str:
    return "".join(f"/{escape(str(token))}" for token in path)
