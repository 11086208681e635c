"""Checks the goals of a task beyond its calls: the answer and the final state that it asks for.

A goal that no episode can be held against would silently count for nothing, or fail everybody: an
answer that no text gives, a state of tools that hold none. The hard decision: the form is checked
before gold is played, so that the reason names the task's mistake and not gold's reward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from orch_env.rewards.outcome.answers import AnswerRule
from orch_env.rewards.outcome.state_diff import describe, diff_states, records_of
from orch_env.types import OrchError, Task
from orch_env.types.json import Json, leaves, unescape

_SHOWN = 60


def check_goals(task: Task) -> None:
    """Check the form of a task's answer and final state.

    Raises:
        OrchError: an answer or a final state that nothing can be compared with, or a rule for
            answers that does not fit the answer.
    """
    if task.answer is not None:
        _check_answer(task)
    if task.final_state is not None:
        _check_form(task.final_state)
        _check_servers(task)
    _check_created(task)


def check_final_state(task: Task, state: Json) -> None:
    """Check that gold leaves the final state that the task asks for.

    Args:
        task: a task whose goals have the right form.
        state: what gold's calls changed, ``None`` where the tools hold no state.

    Raises:
        OrchError: the tools hold no state, or gold leaves another one; the first difference is
            named.
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
    if isinstance(answer, str | list | dict) and (
        not answer or (isinstance(answer, str) and not answer.strip())
    ):
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
    wanted = "'final_state' must be {server: {table: {id: record or null}}}"
    if not isinstance(state, Mapping):
        raise OrchError(f"{wanted}, got {_short(state)}")
    for server, tables in state.items():
        if not isinstance(tables, Mapping):
            raise OrchError(f"{wanted}: at /{server} stands {_short(tables)}")
        for table, records in tables.items():
            if not isinstance(records, Mapping):
                raise OrchError(f"{wanted}: at /{server}/{table} stands {_short(records)}")
            for name, record in records.items():
                if record is not None and not isinstance(record, Mapping):
                    raise OrchError(
                        f"{wanted}: at /{server}/{table}/{name} stands {_short(record)}"
                    )
    _check_numbers("final_state", state)


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
    """``metadata['created']`` names records of the final state."""
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
    for pointer in _not_numbers(value):
        raise OrchError(f"{field!r} holds a number that JSON does not have, at {pointer or '/'}")


def _not_numbers(value: Json) -> Iterator[str]:
    for pointer, leaf in leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            yield pointer


def _short(value: Json) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
