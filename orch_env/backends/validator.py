"""A JSON Schema validator (draft 2020-12) for which equal values are equally valid.

`jsonschema` judges one spelling. A model may write another one of the same value: ``"3"`` for a
number, ``7`` for a text, ``economy`` for a listed ``Economy``. Before a keyword that looks inside
an object or a list runs, each text, number and boolean in it is replaced by its first spelling
(:mod:`orch_env.values.spellings`) that the schema of its place accepts.

A text that spells a number is a number for the keywords on numbers (``minimum``), and a number is
its text for those on texts (``pattern``), unless the schema names types that exclude it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from orch_env.types.json import Json, JsonObject
from orch_env.values import SchemaRules, canonical_text_by_schema, values_equal
from orch_env.values.argument_names import ArgumentNames
from orch_env.values.patterns import compiled
from orch_env.values.spellings import reads_as_date, spellings

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_Keyword = Callable[[Any, Any, Any, Any], Iterable[Any] | None]
_VALUES = (str, int, float)
_SEE_INSIDE = {
    "additionalProperties": dict,
    "properties": dict,
    "unevaluatedProperties": dict,
    "contains": list,
    "items": list,
    "prefixItems": list,
    "unevaluatedItems": list,
}
"""Keywords with schemas of what is inside an object or a list."""
_OF_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_ONLY_TYPE = frozenset({"default", "description", "examples", "format", "title", "type"})
"""Keywords of most arguments, for which the validator need not be asked."""


def validator_of(schema: JsonObject) -> Validator:
    """A validator of one tool's arguments.

    Args:
        schema: a usable one, see :func:`orch_env.backends.schemas.usable_schema`.
    """
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    extend: Any = validators.extend
    kind = extend(Draft202012Validator, _Keywords(schema, Draft202012Validator.VALIDATORS).made())
    # Without a registry of our own it would ask the network for what a reference names.
    made: Validator = kind(schema, registry=Registry())
    return made


class _Keywords:
    """The keywords of one document that differ from the standard ones.

    Args:
        root: the document.
        standard: keyword -> the standard's function.
    """

    def __init__(self, root: JsonObject, standard: Mapping[str, _Keyword]) -> None:
        self._root = root
        self._standard = standard
        self._kept: dict[int, SchemaRules] = {}
        self._named: dict[int, frozenset[str]] = {}

    def made(self) -> dict[str, _Keyword]:
        """Keyword -> its function."""
        made = {word: self._with_spellings(word) for word in _SEE_INSIDE}
        made |= {word: self._of_number(word) for word in _OF_NUMBERS}
        made |= {word: self._of_text(word) for word in ("minLength", "maxLength")}
        made |= {word: self._listed(word) for word in ("enum", "const")}
        return made | {
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "uniqueItems": self._unique_items,
        }

    def _rules(self, schema: Json) -> SchemaRules:
        found = self._kept.get(id(schema))
        if found is None:
            found = self._kept[id(schema)] = SchemaRules((schema,), self._root)
        return found

    def _with_spellings(self, word: str) -> _Keyword:
        """A keyword of objects or lists that sees each value in the spelling that fits."""

        def check(validator: Any, said: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
            if isinstance(instance, _SEE_INSIDE[word]):
                if word == "unevaluatedItems" and "contains" in schema:
                    # What ``contains`` accepts counts as evaluated.
                    instance = self._respelt(validator, "contains", schema["contains"], instance)
                instance = self._respelt(validator, word, said, instance)
            return self._standard[word](validator, said, instance, schema)

        return check

    def _respelt(self, validator: Any, word: str, said: Any, instance: Any) -> Json:
        if word == "properties":
            return {n: self._fitting(validator, said.get(n), v) for n, v in instance.items()}
        if word == "prefixItems":
            first = map(partial(self._fitting, validator), said, instance)
            return [*first, *instance[len(said) :]]
        if isinstance(instance, dict):
            return {n: self._fitting(validator, said, v) for n, v in instance.items()}
        fitting = [self._fitting(validator, said, v) for v in instance]
        if word != "contains":
            return fitting
        # Items that it does not accept stay as they were written: the message shows the list.
        accepts = validator.evolve(schema=said).is_valid
        return [new if accepts(new) else v for new, v in zip(fitting, instance, strict=True)]

    def _fitting(self, validator: Any, schema: Json, value: Json) -> Json:
        """The first spelling of a value that a schema accepts.

        If it accepts none: the first one whose type is right, because that says best what to
        repair, or else the value as it is.
        """
        if not isinstance(value, _VALUES) or not isinstance(schema, Mapping) or not schema:
            return value
        if schema.keys() <= _ONLY_TYPE:
            kinds = schema.get("type", [])
            kinds = kinds if isinstance(kinds, list) else (kinds,)
            if not kinds or any(validator.is_type(value, kind) for kind in kinds):
                return value
            tried = spellings(value, self._rules(schema))
            fitting = (v for v in tried if any(validator.is_type(v, kind) for kind in kinds))
            return next(fitting, value)
        problems = list(validator.descend(value, schema))
        if not problems:
            return value
        best = value if all(p.validator != "type" for p in problems) else None
        for spelling in spellings(value, self._rules(schema)):
            problems = list(validator.descend(spelling, schema))
            if not problems:
                return spelling
            if best is None and all(p.validator != "type" for p in problems):
                best = spelling
        return value if best is None else best

    def _types(self, schema: Any) -> frozenset[str]:
        """The types that a schema or its branches name; none if it says nothing of types."""
        found = self._named.get(id(schema))
        if found is None:
            parts = ArgumentNames(schema, self._root).parts
            kinds = [part["type"] for part in parts if "type" in part]
            each = (kind if isinstance(kind, list) else [kind] for kind in kinds)
            found = self._named[id(schema)] = frozenset(chain.from_iterable(each))
        return found

    def _of_number(self, word: str) -> _Keyword:
        """A keyword on numbers: it sees the number that a text spells, where one may stand."""

        def check(validator: Any, said: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
            if isinstance(instance, str):
                types = self._types(schema)
                if types and not types & {"integer", "number"}:
                    return None
                read = spellings(instance, self._rules(schema))
                instance = next((v for v in read if validator.is_type(v, "number")), instance)
            return self._standard[word](validator, said, instance, schema)

        return check

    def _text(self, validator: Any, instance: Any, schema: Any) -> str | None:
        """What a keyword on texts sees: also a number's text, where the schema names no types.

        Nothing if the text is a date: that is one value, whatever its spelling.
        """
        rules = self._rules(schema)
        if not isinstance(instance, str):
            if self._types(schema) or not validator.is_type(instance, "number"):
                return None
            instance = next((v for v in spellings(instance, rules) if isinstance(v, str)), None)
        return None if instance is None or reads_as_date(instance, rules) else instance

    def _of_text(self, word: str) -> _Keyword:
        def check(validator: Any, said: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
            return self._standard[word](
                validator, said, self._text(validator, instance, schema), schema
            )

        return check

    def _listed(self, word: str) -> _Keyword:
        """A keyword that lists values; of lists and objects, no other spelling was tried before."""

        def check(validator: Any, said: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
            if isinstance(instance, dict | list):
                rules = self._rules(schema)
                members = said if word == "enum" else [said]
                if any(values_equal(instance, member, rules) for member in members):
                    return None
            return self._standard[word](validator, said, instance, schema)

        return check

    def _pattern(self, validator: Any, said: Any, instance: Any, schema: Any) -> Iterator[Any]:
        from jsonschema import ValidationError

        text = self._text(validator, instance, schema)
        if text is not None and not compiled(said).search(text):
            yield ValidationError(f"{text!r} does not match {said!r}")

    def _pattern_properties(
        self, validator: Any, said: Any, instance: Any, schema: Any
    ) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        for pattern, inside in said.items():
            for name, value in instance.items():
                if compiled(pattern).search(name):
                    fitting = self._fitting(validator, inside, value)
                    yield from validator.descend(fitting, inside, path=name, schema_path=pattern)

    def _unique_items(self, validator: Any, said: Any, instance: Any, schema: Any) -> Iterator[Any]:
        from jsonschema import ValidationError

        if not said or not isinstance(instance, list):
            return
        rules = self._rules(schema).items()
        if len({canonical_text_by_schema(item, rules) for item in instance}) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")
