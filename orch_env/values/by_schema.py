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
uniqueItems: true    the items in any order; the count of       the schema calls it a set
                     equal items matters
array, no            nothing: order matters                     a route is not a set
uniqueItems
items, properties,   the rules, inside                          keys without a schema have the
additionalProperties                                            plain rules
string, no enum or   nothing: letter case and blanks matter     in free text they may matter, and
format                                                          full reward needs certainty
anyOf, oneOf, allOf, what any branch says                       see
type lists, $ref                                                :mod:`~orch_env.values.schema_rules`
any other keyword    nothing                                    they do not concern spelling
===================  =========================================  =================================

The form under a schema is a function of the plain canonical form. So equality under a schema is an
equivalence, and values that are equal without a schema stay equal: a call that the cache finds is
right for a reward too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from orch_env.types.json import Json
from orch_env.values import dates
from orch_env.values.canonical import canonical, text_of
from orch_env.values.schema_rules import SchemaRules

MAX_SPELLING = 1024
"""Longer strings (in characters) are never a spelling of something else."""

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


def refine(form: Json, rules: SchemaRules | None) -> Json:
    """The form under ``rules`` of a value in plain canonical form."""
    if rules is None:
        return form
    if isinstance(form, str):
        return _refine_string(form, rules) if len(form) <= MAX_SPELLING else form
    if isinstance(form, list):
        inside = rules.items()
        items = form if inside is None else [refine(item, inside) for item in form]
        return sorted(items, key=text_of) if rules.unordered else items
    if isinstance(form, dict):
        return {key: refine(item, rules.member(key)) for key, item in form.items()}
    return form


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
