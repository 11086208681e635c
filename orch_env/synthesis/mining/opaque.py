"""Which arguments hold values that no person would type: ids, tokens, coordinates."""

from __future__ import annotations

import re

from orch_env.provenance.information import bits
from orch_env.synthesis.mining.followed import Followed
from orch_env.synthesis.mining.mined import Slot
from orch_env.synthesis.mining.observed import Observed
from orch_env.types.json import Json

_MOST = 0.5
"""Share of a slot's values that must look made by a machine."""
_SAID = 0.2
"""A slot whose value stands in the user's words more often than this is no opaque one."""
_UNSAID = 0.3
"""The same for a slot that outputs feed nearly always, or that is said to be read from them."""
_FEWEST_USES = 3
_FEW_VALUES, _USES_PER_VALUE = 20, 2
"""A slot of words is an enumeration if it has at most so many, each used so often on average."""
_LONG = 16
_BIG = 99_999
_DECIMALS = 3

_MIXED = re.compile(r"(?=.*\d)(?=.*[^\W\d])\S{4,}")
_JOINED = re.compile(r"(?=.*[^\W\d])[^\s@]*[._:/=|~#][^\s@]*")
_WORDS = re.compile(r"[^\W\d]+(?:[ -][^\W\d]+)*")
_LIST_OF_NUMBERS = re.compile(r"\d+(?:[,;]\s*\d+)*")


def looks_machine_made(value: Json) -> bool:
    """Whether a value looks like an id, a token or a coordinate, and not like words or an amount.

    Examples:
        ``"S-0843"``, ``"LAX.AIRPORT"``, ``-1456928`` and ``43.6831`` do; ``"Lake Como"``,
        ``"economy"``, ``250`` and ``19.99`` do not.
    """
    if isinstance(value, bool) or value is None:
        return False
    text = str(value)
    number = _number(text)
    if number is not None:
        decimals = len(text.partition(".")[2])
        return decimals >= _DECIMALS or (decimals == 0 and abs(number) > _BIG)
    if " " in text.strip() or _LIST_OF_NUMBERS.fullmatch(text):
        return False
    if len(text) >= _LONG or _MIXED.fullmatch(text):
        return True
    return len(text) >= 6 and _JOINED.fullmatch(text) is not None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def is_enumeration(slot: Slot, observed: Observed) -> bool:
    """Whether a slot takes few values, each many times, and most of them are words."""
    values = list(observed.values[slot].values())
    words = sum(_WORDS.fullmatch(str(value)) is not None for value in values)
    return (
        len(values) <= _FEW_VALUES
        and observed.uses[slot] >= _USES_PER_VALUE * len(values)
        and words > _MOST * len(values)
    )


def is_machine_made(slot: Slot, observed: Observed, followed: Followed) -> bool:
    """Whether a slot's values look made by a machine, and people do not say them."""
    total = followed.total[slot]
    if total >= _FEWEST_USES and followed.said[slot] > _SAID * total:
        return False
    if is_enumeration(slot, observed):
        return False
    values = list(observed.values[slot].values())
    made = sum(looks_machine_made(value) and bits(value) > 0 for value in values)
    return made > _MOST * len(values)


def is_unsaid(slot: Slot, followed: Followed) -> bool:
    """Whether people hardly ever say a slot's value, as far as traces tell."""
    return followed.said[slot] <= _UNSAID * followed.total[slot]
