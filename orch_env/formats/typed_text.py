"""Arguments as bare texts, for families that write ``5`` both for a number and for the text "5".

What a text means is up to the schema of its argument:

* where only strings are allowed, it is that string, whatever it looks like;
* otherwise JSON of a type that is allowed is that value, as are ``True``, ``False`` and ``None``;
  commas right before a closing bracket are passed over;
* everything else is a string where strings are allowed, quotation marks included. Where they are
  not, JSON of any type is that value, for the tool's schema to judge, and the rest is a string.

An argument without a schema, and one whose schema names no type, may be anything. A string that
would read as another value ("5" where numbers are allowed too) is written with the marks of JSON,
which are taken off only where they change what is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orch_env.formats.strict_json import decode, without_trailing_commas
from orch_env.types import OrchError, ToolSpec
from orch_env.types.json import Json, JsonObject
from orch_env.types.text import is_encodable, readable_json
from orch_env.values.schema_places import parts

Kinds = frozenset[str]

TEXT = frozenset({"string"})
ANY = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_PYTHON: Mapping[str, Json] = {"True": True, "False": False, "None": None}
_OF_TYPE: Mapping[type, Kinds] = {
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
    type(None): frozenset({"null"}),
    str: TEXT,
}
_UNREAD = object()


class Arguments:
    """What the arguments of one tool may be.

    Args:
        name: the tool's name, as a call gives it.
        tools: the tools on offer.
    """

    def __init__(self, name: str, tools: Sequence[ToolSpec]) -> None:
        self._name = name
        spec = next((t for t in tools if t.name == name or name in t.aliases), None)
        self._root: JsonObject = {} if spec is None else spec.parameters
        whole = list(parts([self._root], self._root, leave_out=("not", "if")))
        self._properties = [p for s in whole if isinstance(p := s.get("properties"), Mapping)]
        self._others = _kinds([s.get("additionalProperties") for s in whole], self._root)
        self._kinds: dict[str, Kinds] = {}

    def kinds(self, key: str) -> Kinds:
        """The JSON types that an argument may have: those that any branch of its schema names."""
        if key not in self._kinds:
            own = [properties[key] for properties in self._properties if key in properties]
            if not own:  # a model may invent any number of them
                return self._others
            self._kinds[key] = _kinds(own, self._root)
        return self._kinds[key]

    def read(self, key: str, text: str) -> Json:
        """The value that a text stands for."""
        return read_text(text, self.kinds(key))

    def write(self, key: str, value: Json) -> str:
        """The text that stands for a value.

        Raises:
            OrchError: none does, because the schema allows only strings and this is none.
            ValueError: it is no JSON value, or has no UTF-8 bytes.
        """
        kinds = self.kinds(key)
        text = value if isinstance(value, str) else readable_json(value)
        if isinstance(value, str) and read_text(value, kinds) != value:
            text = readable_json(value)
        if not isinstance(value, str) and isinstance(read_text(text, kinds), str):
            raise OrchError(
                f"this call format cannot write the argument {key!r:.80} of {self._name!r:.80}: "
                f"where its schema allows text and no such value, {text:.40} is a text"
            )
        if not is_encodable(text):
            raise ValueError("a lone surrogate cannot be written in this call format")
        return text


def read_text(text: str, kinds: Kinds) -> Json:
    """The value that a text stands for where these JSON types are allowed."""
    if kinds == TEXT:
        return text
    bare = text.strip()
    value = _PYTHON[bare] if bare in _PYTHON else _decoded(text)
    if isinstance(value, str):
        # A mark that changes nothing is part of the text. What is inside is shorter by half of its
        # marks at least, so that this ends soon.
        return value if "string" not in kinds or read_text(value, kinds) != value else text
    if value is not _UNREAD and ("string" not in kinds or kinds & _OF_TYPE[type(value)]):
        return value
    return text


def _decoded(text: str) -> Json:
    try:
        return decode(text)
    except ValueError:
        pass
    if not text.lstrip().startswith(("{", "[")):
        return _UNREAD
    try:
        return decode(without_trailing_commas(text))
    except ValueError:
        return _UNREAD


def _kinds(schemas: Sequence[Json], root: JsonObject) -> Kinds:
    named: set[str] = set()
    nullable = False
    for schema in parts(schemas, root, leave_out=("not", "if")):
        types = schema.get("type")
        listed_types = types if isinstance(types, list) else [types]
        known = {k for k in listed_types if isinstance(k, str) and k in ANY}
        if not known:
            listed = schema.get("enum", [schema["const"]] if "const" in schema else [])
            values = listed if isinstance(listed, list) else []
            known = {kind for value in values for kind in _OF_TYPE.get(type(value), ANY)}
        named |= known
        nullable |= schema.get("nullable") is True
    if not named:
        return ANY
    return frozenset(named | {"null"}) if nullable else frozenset(named)
