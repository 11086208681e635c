"""The words for tools and arguments: from hints, else from names, descriptions and schemas."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orch_env.provenance.names import key_parts
from orch_env.servers.framework.chance import words
from orch_env.synthesis.writing.hints import Hints, ToolHints
from orch_env.synthesis.writing.plan import Argument, Plan, PlannedCall
from orch_env.types import ToolSpec

_ORDERS = frozenset(words("request_verbs"))
_FETCHES = frozenset(
    ["get", "fetch", "retrieve", "obtain", "gets", "fetches", "retrieves", "returns", "return"]
)
_ARTICLES = ("the ", "a ", "an ", "all ", "every ", "each ", "which ", "what ", "whether ")
_LEADING_VERBS = _ORDERS | _FETCHES | frozenset({"lookup", "query", "location"})
_SENTENCE_END = re.compile(r"[.;:(\n]|, (?=one |once |which |it |that )")


@dataclass(frozen=True, slots=True)
class ToolWords:
    """The words for one tool.

    Attributes:
        says: variants of a noun phrase or an order, with ``{argument}`` slots.
        order: whether it is an order ("renew the permit"), not a thing ("the permit").
        thing: what one element of its result is called.
        noun: what a silent call's own argument names: "ship" before a ship's name; may be empty.
        hints: the hints for the tool.
    """

    says: tuple[str, ...]
    order: bool
    thing: str
    noun: str
    hints: ToolHints


def variants(text: str) -> tuple[str, ...]:
    """The variants of a phrase, separated by ``|``."""
    return tuple(part.strip() for part in text.split("|"))


def words_of(spec: ToolSpec, hints: Hints | None, nouns: frozenset[str]) -> ToolWords:
    """The words for a tool.

    Args:
        spec: the tool.
        hints: words given for the API.
        nouns: names of what the plan's calls hand on; in a description "a berth" is then "the
            berth", because the request has only one.
    """
    given = hints.tools.get(spec.name, ToolHints()) if hints is not None else ToolHints()
    own = _without_verb(spec.name)
    noun = "" if hints is not None else " ".join(own)
    thing = given.thing or (own[-1].removesuffix("s") if own else "result")
    if given.do is not None:
        return ToolWords(variants(given.do), True, thing, noun, given)
    if given.say is not None:
        return ToolWords(variants(given.say), False, thing, noun, given)
    text, order = _described(spec, own)
    return ToolWords((_definite(text, nouns),), order, thing, noun, given)


def _without_verb(name: str) -> list[str]:
    """The words of a tool's name without the verb that begins it."""
    parts = list(key_parts(name.replace("__", "_")))
    return parts[1:] if len(parts) > 1 and parts[0] in _LEADING_VERBS else parts


def _described(spec: ToolSpec, own: list[str]) -> tuple[str, bool]:
    """A noun phrase or an order made of a description; of the name where that is no short one."""
    first = _SENTENCE_END.split(spec.description.strip(), maxsplit=1)[0].strip()
    tokens = first.split()
    if tokens and len(tokens) <= 14:
        lead = tokens[0].lower()
        if f"{lead} " in _ARTICLES:
            return " ".join([lead, *tokens[1:]]), False
        if lead in _FETCHES and len(tokens) > 1:
            return " ".join(tokens[1:]), False
        stem = lead if lead in _ORDERS else lead.removesuffix("s")
        if stem in _ORDERS:
            return " ".join([stem, *tokens[1:]]), True
    parts = list(key_parts(spec.name.replace("__", "_")))
    if parts and parts[0] in _ORDERS - {"search", "list", "show"}:
        return " ".join([parts[0], "the", *own]), True
    return "the " + (" ".join(own) or spec.name), False


def _definite(text: str, nouns: frozenset[str]) -> str:
    """The text with "the" before what the request has only one of."""
    for noun in sorted(nouns, key=len, reverse=True):
        text = re.sub(rf"\b(?:[Aa]n?) (?=(?:[a-z]+ )?{re.escape(noun)}(?:'s)?\b)", "the ", text)
    return text


def nouns_of(plan: Plan) -> frozenset[str]:
    """The last words of what calls hand to each other: "ship", "berth"."""
    found = set()
    for call in plan.calls:
        for selection in call.selections:
            for pointer in selection.arguments:
                parts = [p for p in key_parts(pointer) if p not in ("id", "ids", "key", "token")]
                found.update(parts[-1:])
        if not call.selections:
            found.update(_without_verb(call.tool)[-1:])
    return frozenset(found)


def argument_name(argument: Argument) -> str:
    """The last named key of an argument's pointer."""
    named = [t for t in argument.path.split("/") if t and not t.isdigit()]
    return named[-1] if named else ""


def plain_name(name: str) -> str:
    """An argument's name in words: "room quantity" for ``room_quantity``."""
    return " ".join(key_parts("/" + name)) or name


def is_lookup(call: PlannedCall, words: ToolWords) -> bool:
    """Whether a call is silent because the request says its one argument by itself, as a name."""
    if words.hints.lookup is not None:
        return words.hints.lookup
    loud = [a for a in call.arguments if not a.silent]
    return (
        not call.goal and not call.selections and len(loud) == 1 and isinstance(loud[0].value, str)
    )
