"""The other ways to write one value: what a validator must accept wherever it accepts one of them.

Equality is a rule of canonical forms. A validator needs values that a schema can judge, so this
module goes the other way: from a value to those equal to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from orch_env.types.json import Json
from orch_env.values import dates
from orch_env.values.by_schema import MAX_SPELLING, fold, refine
from orch_env.values.canonical import canonical
from orch_env.values.equality import values_equal
from orch_env.values.schema_rules import SchemaRules


def spellings(value: Json, rules: SchemaRules | None) -> Iterator[Json]:
    """Other values that equal a text, a number or a boolean under the rules, the plainest first.

    The number that a text spells, the text of a number, the ISO form of a date, the members of an
    ``enum`` that are meant. Not every spelling is among them: there is no end of those.

    Args:
        value: any JSON value; ``null``, lists and objects have no other spelling.
        rules: of its place, ``None`` for the plain rules.
    """
    if not isinstance(value, str | int | float):
        return
    plain = canonical(value)
    form = refine(plain, rules)
    for shape in dict.fromkeys((form, plain)):
        yield shape
        if isinstance(shape, int | float) and not isinstance(shape, bool):
            text = _number_text(shape)
            if text is not None:
                yield text
    for members in rules.enums if rules is not None else ():
        for member in members:
            if isinstance(member, str | int | float) and values_equal(member, value, rules):
                yield member


def reads_as_date(text: str, rules: SchemaRules) -> bool:
    """Whether the rules read the text as a date or time, which may then be spelt in many ways."""
    if not rules.formats or len(text) > MAX_SPELLING:
        return False
    folded = fold(text)
    return any(dates.read(folded, kind) is not None for kind in rules.formats)


def _number_text(number: float) -> str | None:
    try:
        text = str(number)
    except ValueError:  # an integer of more digits than Python prints
        return None
    return format(Decimal(text), "f") if "e" in text else text
