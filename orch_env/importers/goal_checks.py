"""Checks the answer and the final state that a task asks for.

A goal that no episode can reach (an answer that no text gives, a state of tools that hold none)
would count for nothing or fail every episode. The form is checked before gold is played, so that
the reason names the mistake in the task and not gold's reward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from orch_env.rewards.outcome.answers import AnswerRule
from orch_env.rewards.outcome.state_diff import describe, diff_states, records_of
from orch_env.types import OrchError, Task
from orch_env.types.json import Json, leaves, unescape
from orch_env.types.text import shortened

_SHOWN = 60
"""Characters of a value that are shown."""


def check_goals(task: Task) -> None:
    """Check the form of a task's answer and final state.

    Raises:
        OrchError: nothing can be compared with the answer or the final state, or the rule for
            answers does not accept the answer itself.
    """
    if task.answer is not None:
        _check_answer(task)
    if task.final_state is not None:
        _check_form(task.final_state)
        _check_servers(task)
    _check_created(task)


def check_final_state(task: Task, state: Json) -> None:
    """Check that gold's calls lead to the final state that the task asks for.

    Args:
        task: a task whose goals have the right form.
        state: what gold's calls changed, ``None`` where the tools hold no state.

    Raises:
        OrchError: the tools hold no state, or the state differs; the message has the first
            difference.
    """
    if task.final_state is None:
        return
    if state is None:
        raise OrchError("'final_state' is given, but the task's tools hold no state")
    created = task.metadata.get("created") or ()
    differences = describe(diff_states(task.final_state, state, created))
    if differences:
        first = " ".join(differences[0].split())
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise OrchError(f"gold does not leave the 'final_state' of the task: {first}{more}")


def _check_answer(task: Task) -> None:
    answer = task.answer
    if answer in ([], {}) or (isinstance(answer, str) and not answer.strip()):
        raise OrchError(
            f"'answer' is empty ({answer!r}); leave it out (null) where the task asks for none"
        )
    _check_numbers("answer", answer)
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if AnswerRule().score(task, text) != 1.0:
        raise OrchError(
            f"'answer' {_short(answer)} does not count as itself by the rule for answers; "
            "name another one in metadata 'answer_match'"
        )


def _check_form(state: Json) -> None:
    _check_tables(state, "", levels=3)
    _check_numbers("final_state", state)


def _check_tables(node: Json, at: str, levels: int) -> None:
    """Check that ``node`` has the form of a state with ``levels`` levels above its records."""
    if not isinstance(node, Mapping):
        found = f": at {at} stands {_short(node)}" if at else f", got {_short(node)}"
        raise OrchError(
            f"'final_state' must be {{server: {{table: {{id: record or null}}}}}}{found}"
        )
    for key, below in node.items() if levels else ():
        if levels > 1 or below is not None:
            _check_tables(below, f"{at}/{key}", levels - 1)


def _check_servers(task: Task) -> None:
    if not task.servers:
        raise OrchError("'final_state' is given, but the task names no 'servers' that hold state")
    strange = [name for name in task.final_state if name not in task.servers]
    if strange:
        raise OrchError(
            f"'final_state' changes {strange[0]!r}, which is none of the task's servers "
            f"({', '.join(task.servers)})"
        )


def _check_created(task: Task) -> None:
    """Check that ``metadata['created']`` names records of the final state."""
    created = task.metadata.get("created")
    if created is None:
        return
    if not isinstance(created, list | tuple) or not all(isinstance(p, str) for p in created):
        raise OrchError(f"metadata 'created' must be a list of pointers, got {_short(created)}")
    places = records_of(task.final_state)
    for pointer in created:
        if tuple(unescape(token) for token in pointer.split("/")[1:]) not in places:
            raise OrchError(f"metadata 'created' names {pointer!r}, which 'final_state' lacks")


def _check_numbers(field: str, value: Json) -> None:
    for pointer, leaf in leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            where = pointer or "/"
            raise OrchError(f"{field!r} holds a number that JSON does not have, at {where}")


def _short(value: Json) -> str:
    return shortened(repr(value), _SHOWN)
