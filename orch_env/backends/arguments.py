"""Checks a call's arguments against the tool's JSON Schema and says how to repair them.

A number written as a plain decimal string (and the reverse) passes where the schema wants the
other, as in :mod:`orch_env.values`: the recorded services take both, so such a call is "not
recorded", never "invalid". Everything else is checked as the schema says, and an argument that the
schema does not name is unknown unless it allows additional ones in so many words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from orch_env.tasks.resolved import OfferedTool
from orch_env.types import ErrorType, OrchError, ToolResult, ToolSpec
from orch_env.types.json import Json, JsonObject, escape
from orch_env.types.text import nearest
from orch_env.values import canonical

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
        from jsonschema import Draft202012Validator, SchemaError

        _check_refs_and_patterns(spec)
        try:
            Draft202012Validator.check_schema(spec.parameters)
        except SchemaError as problem:
            raise OrchError(
                f"tool {spec.name!r}: its 'parameters' are no JSON Schema ({problem.message})"
            ) from problem
        self._spec = spec
        self._validator: Validator = _lenient()(spec.parameters)
        self._properties: dict[str, Any] = dict(spec.parameters.get("properties") or {})
        self._open = bool(spec.parameters.get("additionalProperties", False)) or (
            "patternProperties" in spec.parameters
        )

    def problem(self, arguments: JsonObject) -> ToolResult | None:
        """An ``invalid_arguments`` observation, ``None`` if the arguments are valid."""
        try:
            details = self._details(arguments)
        except RecursionError:
            details = {"other": ["the arguments are nested too deeply"]}
        if not details:
            return None
        wanted = ", ".join(self._properties) or "none"
        message = (
            f"{self._spec.name}: {'; '.join(_sentences(details))}. "
            f"Its arguments are: {wanted}. Correct the call and try again."
        )
        return ToolResult.failure(ErrorType.INVALID_ARGUMENTS, message, **details)

    def _details(self, arguments: JsonObject) -> JsonObject:
        found: dict[str, list[Json]] = {}
        if not self._open:
            unknown = [name for name in arguments if name not in self._properties]
            found["unknown"] = [_unknown(n, self._properties) for n in unknown[:_MOST_PROBLEMS]]
        errors = sorted(
            self._validator.iter_errors(arguments),
            key=lambda e: (_pointer(e.absolute_path), str(e.validator), e.message),
        )
        for error in errors[:_MOST_PROBLEMS]:
            for kind, entry in _entries(error):
                if entry not in found.setdefault(kind, []):
                    found[kind].append(entry)
        return {name: found[name] for name in sorted(found) if found[name]}


def _entries(error: Any) -> Iterator[tuple[str, Json]]:
    """What one ``jsonschema.ValidationError`` says, as entries of the observation's details."""
    at, given, wanted = _pointer(error.absolute_path), error.instance, error.validator_value
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
        for name in given if at else ():  # the outermost ones are known already
            if name not in known:
                yield "unknown", _unknown(name, known, at)
    else:
        yield "other", f"{at or '/'}: {error.message[:200]}"


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


def _lenient() -> Any:
    """Draft 2020-12 with numbers and plain decimal strings as one type, made once."""
    global _LENIENT
    if _LENIENT is None:
        from jsonschema import Draft202012Validator, validators

        standard = Draft202012Validator.TYPE_CHECKER

        def number(_checker: Any, value: Json) -> bool:
            seen = canonical(value) if isinstance(value, str) else value
            return bool(standard.is_type(seen, "number"))

        def integer(_checker: Any, value: Json) -> bool:
            seen = canonical(value) if isinstance(value, str) else value
            return bool(standard.is_type(seen, "integer"))

        def string(_checker: Any, value: Json) -> bool:
            return isinstance(value, str) or standard.is_type(value, "number")

        checker = standard.redefine_many({"number": number, "integer": integer, "string": string})
        extend: Any = validators.extend
        _LENIENT = extend(Draft202012Validator, type_checker=checker)
    return _LENIENT


_LENIENT: Any = None


def _check_refs_and_patterns(spec: ToolSpec) -> None:
    """Refuse what would only fail at validation time, when a model's call is answered."""
    stack: list[Json] = [spec.parameters]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            stack.extend(node.values())
            ref, pattern = node.get("$ref"), node.get("pattern")
            if isinstance(ref, str) and not ref.startswith("#"):
                raise OrchError(f"tool {spec.name!r}: its schema refers to {ref!r} outside itself")
            if isinstance(pattern, str):
                try:
                    re.compile(pattern)
                except re.error as problem:
                    raise OrchError(
                        f"tool {spec.name!r}: pattern {pattern!r} is no regular expression"
                    ) from problem
