"""The canonical form of a value under a JSON Schema. Equality under a schema is equality of it.

What a schema adds to :func:`~orch_env.values.canonical.canonical`, and why:

===================  =========================================  =================================
the schema says      one value, however it is spelt             why
===================  =========================================  =================================
number, integer      ``3``, ``"3"``, ``" 3 "``, ``"3.0"``,      a server reads the text as the
                     ``"+3"``, ``"03"``, ``"3e0"``; not         number; a separator has not the
                     ``"1,000"``, ``"NaN"``                     same meaning everywhere
boolean              ``true``, ``"true"``, ``" True "``; not    "True" is Python's spelling; 1 may
                     ``1``, ``"yes"``                           also be a count
enum, const          letter case and blanks, if only one        the list shows which is meant; with
                     listed string fits                         ``"a"`` and ``"A"`` it does not
format: date         spellings of one day, see                  the format says that it is a day;
                     :mod:`~orch_env.values.dates`              ``03/04/2024`` may be two
format: time         ``14:00``, ``14:00:00``, ``2 PM``          the same
format: date-time    those joined by ``T`` or a blank; equal    ``Z`` and ``+00:00`` name one
                     instants                                   instant; no offset names none
uniqueItems: true,   the items in any order; the count of       the schema calls it a set; by
no prefixItems       equal items matters                        position, items are no set
array, no            nothing: order matters                     a route is not a set
uniqueItems
items, properties    the rules, inside; so for prefixItems,     keys without a schema have the
                     patternProperties, additionalProperties,   plain rules
                     unevaluatedItems, unevaluatedProperties
x-orch-set: ","      the pieces of a string in any order, with   the tool says that it is a set;
                     or without blanks around them; the count   without the word ``"48,2"`` is a
                     of equal pieces matters                    place and ``"OSL,LHR"`` a route
properties, without  a member that is left out, that is null    a server fills in the default, and
``required``         where null is allowed, or that is equal    strict callers write null for "not
                     to its ``default``                         given", whatever the default
string, no enum or   nothing: letter case and blanks matter     in free text they may matter, and
format                                                          full reward needs certainty
anyOf, oneOf, allOf, what any branch says                       see
then, else, $ref,                                               :mod:`~orch_env.values.schema_rules`
dependentSchemas,
type lists
any other keyword    nothing                                    they do not concern spelling
===================  =========================================  =================================

OpenAI's strict mode requires every argument to be written and has null for one that is not given,
so null means "left out" also where the default is another value. A member counts as left out only
where no branch of the schema requires it. Published comparisons know no defaults; for them
:meth:`SchemaRules.of` has ``as_written``.

The form under a schema is a function of the plain canonical form. So equality under a schema is an
equivalence, and values that are equal without a schema stay equal: a call that the cache finds is
right for a reward too.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from orch_env.types.json import Json
from orch_env.values import dates
from orch_env.values.canonical import MAX_DEPTH, canonical, text_of, with_normal_names
from orch_env.values.schema_rules import SchemaRules

MAX_SPELLING = 1024
"""Longer strings (in characters) are never a spelling of something else."""

KEY_VERSION = 2
"""The version of the keys made here; :mod:`~orch_env.values.canonical_v1` makes those of 1."""

DEFAULT_LEVELS = 4
"""Defaults inside defaults that are read; a schema that refers to itself has no end of them."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?")
_DIGITS = re.compile(r"[+-]?[0-9]+")
_BOOLEANS = {"true": True, "false": False}


def canonical_by_schema(value: Json, schema: Mapping[str, Any] | SchemaRules | None) -> Json:
    """Return the canonical form of a JSON value under its schema, itself a JSON value.

    Args:
        value: any JSON value.
        schema: its JSON Schema; ``None`` gives the plain canonical form.
    """
    return refine(canonical(value), SchemaRules.of(schema))


def canonical_text_by_schema(value: Json, schema: Mapping[str, Any] | SchemaRules | None) -> str:
    """JSON text of :func:`canonical_by_schema`; equal texts are equal values under the schema."""
    return text_of(canonical_by_schema(value, schema))


def refine(form: Json, rules: SchemaRules | None, levels: int = DEFAULT_LEVELS) -> Json:
    """The form under ``rules`` of a value in plain canonical form.

    Args:
        form: the canonical form.
        rules: ``None`` for none.
        levels: how many levels of defaults inside defaults still count.
    """
    if rules is None:
        return form
    if isinstance(form, str):
        return _refine_string(form, rules) if rules.respells else form
    if isinstance(form, list):
        items = [refine(item, rules.items(n), levels) for n, item in enumerate(form)]
        return sorted(items, key=text_of) if rules.unordered else items
    if isinstance(form, dict):
        refined: dict[str, Json] = {}
        for key, item in form.items():
            inside = rules.member(key)
            made = refine(item, inside, levels)
            if inside is None or not _is_left_out(made, key, rules, inside, levels):
                refined[key] = made
        return refined
    return form


def stated(value: Json, schema: Mapping[str, Any] | SchemaRules | None) -> Json:
    """A value without the members that are as good as left out, spelt as it is otherwise.

    Two values are equal under the schema exactly if what they state is equal. Names of members are
    in their canonical form.

    Args:
        value: any JSON value; it is not changed.
        schema: its JSON Schema; ``None`` leaves every member in.
    """
    return _stated(value, SchemaRules.of(schema), MAX_DEPTH)


def _stated(value: Json, rules: SchemaRules | None, depth: int) -> Json:
    if not isinstance(value, dict | list) or not depth:
        return value
    if isinstance(value, list):
        each = ((item, rules and rules.items(n)) for n, item in enumerate(value))
        return [_stated(item, inside, depth - 1) for item, inside in each]
    kept: dict[str, Json] = {}
    for key, item in with_normal_names(value).items():
        inside = rules.member(key) if rules is not None else None
        if rules is not None and inside is not None and (item is None or inside.defaults):
            form = refine(canonical(item), inside)
            if _is_left_out(form, key, rules, inside, DEFAULT_LEVELS):
                continue
        kept[key] = _stated(item, inside, depth - 1)
    return kept


def _is_left_out(
    form: Json, key: str, rules: SchemaRules, inside: SchemaRules, levels: int
) -> bool:
    """Whether a member says no more than its absence.

    Args:
        form: the member's form under its schema.
        key: its name.
        rules: of the object.
        inside: of the member.
        levels: how many levels of defaults inside defaults still count.
    """
    if rules.as_written or not (form is None or inside.defaults) or key not in rules.optional:
        return False
    if form is None and inside.nullable:
        return True
    return text_of(form) == _default_text(inside, levels)


def _default_text(inside: SchemaRules, levels: int) -> str | None:
    """Text of the one default that all branches give, ``None`` where there is none."""
    if not levels or not inside.defaults:
        return None
    if levels not in inside.default_texts:
        forms = [refine(canonical(value), inside, levels - 1) for value in inside.defaults]
        texts = {text_of(form) for form in forms}
        inside.default_texts[levels] = texts.pop() if len(texts) == 1 else None
    return inside.default_texts[levels]


def fold(text: str) -> str:
    """The text without differences of letter case and blanks."""
    return " ".join(text.split()).casefold()


def listed(text: str, members: list[Any]) -> list[Json]:
    """The canonical forms of the strings of an enum that ``text`` may mean."""
    wanted = canonical(fold(text))
    strings = (member for member in members if isinstance(member, str))
    forms = [canonical(member) for member in strings if canonical(fold(member)) == wanted]
    return [form for place, form in enumerate(forms) if form not in forms[:place]]


def _refine_string(text: str, rules: SchemaRules) -> Json:
    """The form of a string: a listed value first, then another spelling, then a set."""
    form = _refine_spelling(text, rules) if len(text) <= MAX_SPELLING else text
    if rules.separator is None or form.__class__ is not str or rules.separator not in form:
        return form
    return rules.separator.join(sorted(piece.strip() for piece in form.split(rules.separator)))


def _refine_spelling(text: str, rules: SchemaRules) -> Json:
    """The form of a string. Lists of allowed values come first; their member is then read on."""
    form: Json = text
    for members in rules.enums:
        if form in members:
            continue  # a member is meant exactly, also where another differs only in case
        found = listed(form, members)
        form = found[0] if len(found) == 1 else form
        if not isinstance(form, str):
            return form
    if not (rules.numeric or rules.boolean or rules.formats):
        return form
    folded = fold(form)
    if rules.boolean and folded in _BOOLEANS:
        return _BOOLEANS[folded]
    number = _number(folded) if rules.numeric else None
    if number is not None:
        return number
    for kind in rules.formats:
        spelling = dates.read(folded, kind)
        if spelling is not None:
            return spelling
    return form


def _number(folded: str) -> int | float | None:
    if _DIGITS.fullmatch(folded):
        return int(folded)
    if not _NUMBER.fullmatch(folded):
        return None
    number = float(folded)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def call_key(
    tool: str, arguments: dict[str, Any], schema: Mapping[str, Any] | SchemaRules | None = None
) -> bytes:
    """The 16-byte key of a call: BLAKE2b-128 of key version, tool and canonical arguments.

    Args:
        tool: the tool's canonical name.
        arguments: the call's arguments.
        schema: the ``parameters`` of the catalogue's entry; ``None`` where there is none.
    """
    text = text_of([KEY_VERSION, tool, canonical_by_schema(arguments, schema)])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()
