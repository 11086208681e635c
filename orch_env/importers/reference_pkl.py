"""The reference's released task files: pickles of plain lists, dicts and scalars.

This is the only place that reads a pickle. Its unpickler refuses every global name. Without
globals a pickle can build only builtin containers and scalars: no class, no function, no code.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

from orch_env.importers.complexfuncbench import domain_of, stated_today
from orch_env.importers.recording import (
    RecordedResponse,
    RecordedTrace,
    Recordings,
    response_text,
)
from orch_env.importers.schemas import tool_name
from orch_env.tasks.files import read_content
from orch_env.types import OrchError
from orch_env.types.fields import list_of
from orch_env.types.json import Json, JsonObject

FORMAT = "reference-pkl"

_SCALARS = (str, int, float, bool, type(None))
_MOST_DEPTH = 200


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts and scalars; refuses every name."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise OrchError(
            f"a pickle asks for {module}.{name}: only plain lists, dicts, texts and numbers are "
            "read, so that no file can run code"
        )

    def persistent_load(self, pid: object) -> NoReturn:
        raise OrchError("the pickle refers to objects outside itself, which are never loaded")


def read(path: Path) -> Recordings:
    """Read a released task file.

    Raises:
        OrchError: the file is no pickle, names a global, or does not hold tasks.
    """
    whole = load_plain(path)
    if not isinstance(whole, list) or not whole:
        raise OrchError(f"{str(path)!r}: expected a non-empty list of tasks")
    found = Recordings(FORMAT)
    repeated = Counter(_workflow(record) for record in whole)
    seen: Counter[str] = Counter()
    for record in whole:
        workflow = _workflow(record)
        number = seen[workflow]
        seen[workflow] += 1
        task_id = f"{workflow}.{number}" if repeated[workflow] > 1 else workflow
        found.add(task_id, partial(_trace, task_id, record))
    return found


def load_plain(path: Path) -> Json:
    """Load a pickle of builtin containers and scalars.

    Raises:
        OrchError: the pickle holds anything else, or is damaged.
    """
    try:
        whole = _PlainUnpickler(io.BytesIO(read_content(path))).load()
    except OrchError:
        raise
    except Exception as problem:  # a damaged pickle fails in whatever way its bytes lead to
        raise OrchError(
            f"{str(path)!r} is no readable pickle ({type(problem).__name__}: {problem})"
        ) from problem
    return _plain(path, whole, 0)


def looks_like(data: bytes) -> bool:
    """Whether bytes begin like a pickle of protocol 2 or later."""
    try:
        opcode, _, _ = next(pickletools.genops(data[:16]))
    except (ValueError, StopIteration):
        return False
    return bool(opcode.name == "PROTO")


def _plain(path: Path, value: Json, depth: int) -> Json:
    """A copy as JSON: tuples become lists, keys strings; anything that is no JSON is refused."""
    if depth > _MOST_DEPTH:
        raise OrchError(f"{str(path)!r}: nested more than {_MOST_DEPTH} deep")
    if type(value) in _SCALARS:
        return value
    if type(value) is dict:
        plain = {str(key): _plain(path, item, depth + 1) for key, item in value.items()}
        if len(plain) < len(value):
            raise OrchError(f"{str(path)!r}: two keys of an object are the same as text")
        return plain
    if type(value) in (list, tuple):
        return [_plain(path, item, depth + 1) for item in value]
    raise OrchError(f"{str(path)!r}: holds a {type(value).__name__}, which is no JSON value")


def _workflow(record: Json) -> str:
    named = record.get("workflow_id") if isinstance(record, Mapping) else None
    return str(named) if named not in (None, "") else "task"


def _trace(task_id: str, record: Json) -> RecordedTrace:
    if not isinstance(record, Mapping):
        raise OrchError("a task must be an object")
    query, steps = record.get("query"), record.get("steps")
    if not isinstance(query, str) or not query.strip():
        raise OrchError("'query' must be a text")
    if not isinstance(steps, list) or not steps:
        raise OrchError("'steps' must be a non-empty list")
    calls, tools = [], []
    for number, step in enumerate(steps):
        call, candidates = _step(number, step)
        calls.append((call,))
        tools += [*candidates, call.name]
    extra = record.get("metadata")
    metadata: JsonObject = {
        "domain": domain_of(task_id) if "-" in task_id else None,
        "workflow": record.get("workflow_id"),
        "source": dict(extra) if isinstance(extra, Mapping) else {},
    }
    return RecordedTrace(
        id=task_id,
        messages=({"role": "user", "content": query},),
        steps=tuple(calls),
        tools=tuple(dict.fromkeys(tools)),
        today=stated_today(query),
        metadata=metadata,
    )


def _step(number: int, step: Json) -> tuple[RecordedResponse, list[str]]:
    truth = step.get("ground_truth") if isinstance(step, Mapping) else None
    if not isinstance(truth, Mapping):
        raise OrchError(f"step {number} has no 'ground_truth'")
    name, arguments = truth.get("function"), truth.get("arguments")
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise OrchError(f"step {number}: ground truth needs 'function' and an 'arguments' object")
    result = step.get("execution_result")
    inner = result.get("execution_result") if isinstance(result, Mapping) else None
    if isinstance(result, Mapping) and result.get("success") is False:
        raise OrchError(f"step {number} ({name}) was recorded as failed")
    text = None if inner is None or inner == "" else response_text(inner)
    candidates = [tool_name(t) for t in list_of(step, "candidate_tools", str)]
    return RecordedResponse(tool_name(name), arguments, text), candidates
