"""Whether a model call matches a golden call: the published rules, one after the other.

1. *rule*: same tool, same argument names, equal values (``categories_filter`` as a set) -> yes;
2. *exact_values*: an argument that must match exactly does not -> no;
3. *responses*: the two calls' recorded responses are equal -> yes;
4. *judge*: a judge is asked, where there is one; else *undecided* -> no.

Values are equal as ``values.py`` says. Every decision is counted, so that a report can say which
rules decided how often. Without the benchmark's own table, rule 2 asks for every argument to match
exactly unless it is free wording, that is, text that the model itself had to put into words (a
query such as "Paris city centre"): a string with a letter and no digit, whose gold value was taken
from or reasoned out of the query, where the tool's schema has no list of allowed values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from orch_env.tasks.files import read_json
from orch_env.types import GoldCall, OrchError, Provenance, Task, ToolCall, ToolSpec
from orch_env.types.json import Json, JsonObject, escape
from orch_env.values import values_equal

SET_ARGUMENT = "categories_filter"

Judge: TypeAlias = Callable[[Task, ToolCall, GoldCall], bool]
"""Says whether a call does what a golden call does. Off unless one is given."""

Responses: TypeAlias = Callable[[ToolCall], Sequence[str]]
"""The texts with which a call could be answered: all its recorded variants."""


class Decision(StrEnum):
    """What decided about one call."""

    EXACT = "exact"
    """Equal to an expected call: matched."""
    FREE = "free"
    """Equal to a free call of the task: matched, whenever it is made."""
    RULE = "rule"
    """Equal by the pair's rule: matched."""
    EXACT_VALUES = "exact_values"
    """An argument that must be exact differs: not matched."""
    RESPONSES = "responses"
    """The recorded responses are equal: matched."""
    JUDGE = "judge"
    """The judge said yes or no."""
    UNDECIDED = "undecided"
    """Nothing above decided and there is no judge: not matched."""
    OTHER_TOOL = "other_tool"
    """No expected call of this tool is open: not matched."""
    FORMAT = "format"
    """The call's form is wrong: not matched, and the episode goes on."""


@dataclass(frozen=True, slots=True)
class ExactValues:
    """Which arguments must match exactly, by tool.

    Attributes:
        table: tool (or an alias of it) -> argument names; ``None``: our own rule, see the module.
    """

    table: Mapping[str, frozenset[str]] | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExactValues:
        """Read ``{tool: [argument, ...]}``, the layout of the benchmark's table.

        Raises:
            OrchError: the file is missing or is not of that layout.
        """
        data = read_json(Path(path))
        if not isinstance(data, dict) or not all(
            isinstance(names, list) and all(isinstance(n, str) for n in names)
            for names in data.values()
        ):
            raise OrchError(f"file {str(path)!r} must hold {{tool: [argument, ...], ...}}")
        return cls({tool: frozenset(names) for tool, names in data.items()})

    def names(self, gold: GoldCall, made: ToolCall, spec: ToolSpec | None) -> frozenset[str]:
        """The arguments of this pair that must be equal, or be missing in both."""
        if self.table is None:
            wording = {n for n in gold.arguments if _is_free_wording(gold, n, spec)}
            return frozenset({*gold.arguments, *made.arguments} - wording)
        for name in (gold.name, *(spec.aliases if spec is not None else ())):
            if name in self.table:
                return self.table[name]
        return frozenset()


def _is_free_wording(gold: GoldCall, argument: str, spec: ToolSpec | None) -> bool:
    value = gold.arguments[argument]
    if not isinstance(value, str) or not any(c.isalpha() for c in value):
        return False
    if any(c.isdigit() for c in value):
        return False
    source = gold.provenance.get("/" + escape(argument))
    if source is not None and source.kind not in (Provenance.QUERY, Provenance.REASONED):
        return False
    properties = (spec.parameters.get("properties") or {}) if spec is not None else {}
    schema = properties.get(argument) if isinstance(properties, Mapping) else None
    return not (isinstance(schema, Mapping) and "enum" in schema)


def decide(
    task: Task,
    made: ToolCall,
    gold: GoldCall,
    golden_response: str,
    *,
    spec: ToolSpec | None,
    exact_values: ExactValues,
    responses: Responses,
    judge: Judge | None,
) -> tuple[bool, Decision]:
    """Whether ``made`` matches ``gold``, and by which rule.

    Args:
        task: the task.
        made: the model's call, of a form that passed the format check.
        gold: the golden call it was paired with.
        golden_response: the golden call's recorded response.
        spec: the golden call's tool, as the task offers it.
        exact_values: which arguments must be exact.
        responses: what the model's call would be answered with.
        judge: decides last, if there is one.
    """
    if made.name != gold.name:
        return False, Decision.OTHER_TOOL
    if equal_by_rule(made.arguments, gold.arguments):
        return True, Decision.RULE
    for name in exact_values.names(gold, made, spec):
        if (name in made.arguments) != (name in gold.arguments) or not _same(
            name, made.arguments.get(name), gold.arguments.get(name)
        ):
            return False, Decision.EXACT_VALUES
    if any(_same_response(text, golden_response) for text in responses(made)):
        return True, Decision.RESPONSES
    if judge is not None:
        return bool(judge(task, made, gold)), Decision.JUDGE
    return False, Decision.UNDECIDED


def equal_by_rule(made: JsonObject, gold: JsonObject) -> bool:
    """Same argument names and equal values, ``categories_filter`` compared as a set."""
    return set(made) == set(gold) and all(_same(n, made[n], gold[n]) for n in gold)


def _same(name: str, made: Json, gold: Json) -> bool:
    if name == SET_ARGUMENT and isinstance(made, str) and isinstance(gold, str):
        return _pieces(made) == _pieces(gold)
    return values_equal(made, gold)


def _pieces(text: str) -> set[str]:
    return {piece.strip() for piece in text.split(",")}


def _same_response(text: str, golden: str) -> bool:
    if text == golden:
        return True
    try:
        one, other = json.loads(text), json.loads(golden)
    except (ValueError, RecursionError):
        return False
    return values_equal(one, other)
