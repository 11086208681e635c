"""One sentence per model call for a person: what it earned, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orch_env.rewards.matching.arguments import EQUAL, MISSING, TYPE, UNKNOWN, WRONG
from orch_env.rewards.matching.calls import MadeCall

_WORDS = {
    WRONG: "has the wrong value",
    TYPE: "has the wrong type",
    MISSING: "is missing",
    UNKNOWN: "is not an argument of the gold call",
}
_SHOWN = 4


def explain(
    call: MadeCall,
    *,
    gold: int | None,
    optional: bool,
    arguments: Mapping[str, str],
    broken: Sequence[str],
    repeat_of: int | None,
    name_in_gold: bool,
    reasons: Mapping[str, str] | None = None,
    brings: bool = False,
    second_guess: bool = False,
) -> str:
    """The sentence.

    Args:
        call: the model call.
        gold: number of the gold call it is assigned to, ``None`` if to none.
        optional: whether that gold call may be left out; with ``gold`` ``None``, whether the call
            equals one that may.
        arguments: leaf pointer -> status, for a call that is assigned to a gold call.
        broken: its broken dependencies, one phrase each.
        repeat_of: turn of the first identical call, ``None`` if this is the first.
        name_in_gold: whether gold uses the tool at all.
        reasons: leaf pointer -> why it is not equal (``Comparison.reasons``), where known.
        brings: whether it brought what later gold calls take, in other words than gold's.
        second_guess: whether it is charged as one.
    """
    failure = call.failure
    if gold is None and optional and (failure or broken):
        return sentence(["an optional call of gold, but of no use here", *broken, failure])
    if gold is None:
        guess = "a second guess" if second_guess else ""
        return sentence([_needless(call, repeat_of, name_in_gold), guess, failure])
    if optional:
        return sentence([f"an optional call of gold (number {gold})", failure])
    why = reasons or {}
    faults = [f"{p} {why.get(p, _WORDS[s])}" for p, s in arguments.items() if s != EQUAL]
    if len(faults) > _SHOWN:
        faults[_SHOWN:] = [f"{len(faults) - _SHOWN} more arguments differ"]
    # The argument of an edge with a wrong value is among the faults already.
    named = tuple(f"{p} " for p, s in arguments.items() if s != EQUAL)
    faults += [b for b in broken if not b.startswith(named)]
    if not faults and not failure:
        return f"Matches gold call {gold} in every respect."
    stands = f"stands for gold call {gold}" + (", whose result it brings" if brings else "")
    return sentence([stands, *faults, failure])


def _needless(call: MadeCall, repeat_of: int | None, name_in_gold: bool) -> str:
    if call.malformed:
        return "could not be read as a call"
    if repeat_of is not None:
        return f"repeats the call of turn {repeat_of}"
    if name_in_gold:
        return "every gold call that it could stand for has a better one"
    return f"gold does not use {call.name}"


def sentence(parts: Sequence[str]) -> str:
    """One sentence of the clauses that are not empty."""
    text = "; ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + "."
