"""Schemas in the words of other dialects and older drafts, put into draft 2020-12.

Type words of programming languages, OpenAPI's ``nullable``, and the forms of drafts 3 to 7 that
2020-12 writes in another way. Only what says exactly the same is translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orch_env.types import OrchError
from orch_env.types.json import Json, JsonObject, escape
from orch_env.values.schema_places import NAMED, ONE, SEVERAL, every_schema

_WORDS = {
    "dict": "object",
    "map": "object",
    "float": "number",
    "double": "number",
    "decimal": "number",
    "int": "integer",
    "long": "integer",
    "bool": "boolean",
    "str": "string",
    "char": "string",
    "text": "string",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "none": "null",
}
_ANY = ("any", "")
_STANDARD = ("object", "array", "string", "number", "integer", "boolean", "null")


def standard_schema(schema: Json, changes: list[str] | None = None) -> JsonObject:
    """A copy of a schema in draft 2020-12.

    Args:
        schema: the schema of a whole document.
        changes: gets one phrase for each thing that the draft itself writes in another way.

    Raises:
        OrchError: a place of a schema holds none, or a type is a word of no dialect; the message
            has the place.
    """
    changes = [] if changes is None else changes
    if not isinstance(schema, Mapping):
        raise OrchError(f"a schema must be a JSON object, got {schema!r:.60}")
    out: JsonObject = _standard(schema, "", changes, _referred(schema))
    return out


def _standard(node: Json, at: str, changes: list[str], referred: frozenset[str]) -> Json:
    if isinstance(node, bool) and at:
        return node
    if not isinstance(node, Mapping):
        where = f" at {at}" if at else ""
        raise OrchError(f"a schema must be a JSON object, got {node!r:.60}{where}")
    out: JsonObject = dict(node)
    _types(out, at, changes)
    _required(out)
    for keyword in ONE:
        if keyword in out and not (keyword == "items" and isinstance(out[keyword], list)):
            out[keyword] = _standard(out[keyword], f"{at}/{keyword}", changes, referred)
    for keyword in SEVERAL:
        if isinstance(out.get(keyword), list):
            out[keyword] = [
                _standard(inside, f"{at}/{keyword}/{number}", changes, referred)
                for number, inside in enumerate(out[keyword])
            ]
    for keyword in NAMED:
        if isinstance(out.get(keyword), Mapping):
            out[keyword] = {
                name: inside
                if keyword == "dependencies" and isinstance(inside, list | str)
                else _standard(inside, f"{at}/{keyword}/{escape(str(name))}", changes, referred)
                for name, inside in out[keyword].items()
            }
    _drafts(out, at, changes, referred)
    return _with_null(out) if out.pop("nullable", False) is True else out


def _types(out: JsonObject, at: str, changes: list[str]) -> None:
    kinds = out.get("type")
    if not isinstance(kinds, str | list):
        return
    words = [_word(kind, at) for kind in (kinds if isinstance(kinds, list) else [kinds])]
    if None in words:
        del out["type"]
        changes.append(f"leave out the type 'any' at {at or '/'}")
        return
    known = list(dict.fromkeys(words))
    made = known if isinstance(kinds, list) else known[0]
    if made != kinds:
        changes.append(f"write the type {made!r} for {kinds!r} at {at or '/'}")
    out["type"] = made


def _word(kind: Json, at: str) -> str | None:
    word = kind.strip().lower() if isinstance(kind, str) else kind
    if word in _ANY:
        return None
    made = _WORDS.get(word, word) if isinstance(word, str) else None
    if made not in _STANDARD:
        where = f" at {at}" if at else ""
        raise OrchError(f"unknown type {kind!r}{where} (known: {', '.join(_STANDARD)})")
    return made


def _required(out: JsonObject) -> None:
    """List the names whose own schemas say ``required: true``, as draft 3 does."""
    marked = [
        name
        for name, inside in _mapping(out, "properties").items()
        if isinstance(inside, Mapping) and inside.get("required") is True
    ]
    if marked and isinstance(out.get("required", []), list):
        out["required"] = list(dict.fromkeys([*out.get("required", ()), *marked]))


def _drafts(out: JsonObject, at: str, changes: list[str], referred: frozenset[str]) -> None:
    """Replace the forms of older drafts in one schema; those inside are replaced already."""
    at = at or "/"
    if isinstance(out.get("items"), list):
        out["prefixItems"] = out.pop("items")
        changes.append(f"write 'prefixItems' for the list 'items' at {at}")
        if "additionalItems" in out:
            out["items"] = out.pop("additionalItems")
    for bound in ("minimum", "maximum"):
        strict = f"exclusive{bound.capitalize()}"
        if isinstance(out.get(strict), bool):
            changes.append(f"write '{strict}' as a number at {at}")
            if out.pop(strict) and bound in out:
                out[strict] = out.pop(bound)
    if isinstance(out.get("required"), bool):
        del out["required"]
        changes.append(f"list required names in 'required' of the object around {at}")
    needs = _mapping(out, "dependencies")
    if needs:
        del out["dependencies"]
        names = {k: [v] if isinstance(v, str) else v for k, v in needs.items()}
        lists = {k: v for k, v in names.items() if isinstance(v, list)}
        rest = {k: v for k, v in names.items() if k not in lists}
        for keyword, said in (("dependentRequired", lists), ("dependentSchemas", rest)):
            if said:
                out[keyword] = {**said, **_mapping(out, keyword)}
    name = out.get("id")
    if isinstance(name, str) and name in referred and "$id" not in out:
        del out["id"]
        changes.append(f"write '$id' for 'id' at {at}")
        out |= {"$anchor": name[1:]} if name.startswith("#") else {"$id": name}


def _with_null(out: JsonObject) -> JsonObject:
    """The schema that also allows null, as ``nullable`` says."""
    kinds = out.get("type")
    if kinds is not None:
        listed = kinds if isinstance(kinds, list) else [kinds]
        out["type"] = [*listed, *(["null"] if "null" not in listed else [])]
        if isinstance(out.get("enum"), list) and None not in out["enum"]:
            out["enum"] = [*out["enum"], None]
        return out
    for keyword in ("anyOf", "oneOf"):
        if isinstance(out.get(keyword), list) and {"type": "null"} not in out[keyword]:
            return {**out, keyword: [*out[keyword], {"type": "null"}]}
    moved = {k: out.pop(k) for k in ("$ref", "allOf") if k in out}
    return {**out, "anyOf": [moved, {"type": "null"}]} if moved else out


def _mapping(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Json]:
    found = schema.get(keyword)
    return found if isinstance(found, Mapping) else {}


def _referred(root: Mapping[str, Any]) -> frozenset[str]:
    """What the references of a document name: an old ``id`` is one only if something asks for it.

    Elsewhere it is a field of some other kind, and as ``$id`` it would cut the references off.
    """
    found: set[str] = set()
    for schema in every_schema(root):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found |= {reference, reference.partition("#")[0]}
    return frozenset(found - {"", "#"})
