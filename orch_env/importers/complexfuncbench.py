"""ComplexFuncBench's JSON Lines: conversations with every recorded API response.

One line is ``{id, conversations, functions}``. In the conversation, assistant messages with
``function_call`` lists alternate with ``observation`` lists of the same length. A closing answer
of the assistant is kept in the metadata and not as the gold answer, because it is only one of many
right wordings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

from orch_env.importers.recording import (
    RecordedResponse,
    RecordedTrace,
    Recordings,
    Refusal,
    response_text,
)
from orch_env.importers.schemas import tool_name, tool_spec
from orch_env.tasks.files import read_lines
from orch_env.types import OrchError, ToolSpec
from orch_env.types.fields import got
from orch_env.types.json import Json, JsonObject, parse_json, parse_whole
from orch_env.types.messages import call_body, calls_of, refuse_unread_calls, text_of
from orch_env.types.tools import SET_KEYWORD

FORMAT = "complexfuncbench"

OFFICIAL_NAMES = {
    "Get_Hotel_Reviews_Tips": "Get_Hotel_Reviews(Tips)",
    "Get_Hotel_Reviews_Tips__Sort_Option": "Get_Hotel_Reviews(Tips)_Sort_Option",
}
"""Stored name -> the official data's name, which is added as an alias to any source's tools."""

# English whatever the locale is.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

SETS = frozenset({"categories_filter", "children_age", "children"})
"""Arguments that are comma-joined sets: filters, and the ages of children. All other commas of the
data stand in names of places."""

_TODAY = re.compile(
    r"\btoday(?:'s date)? is (?:[A-Z][a-z]+day,? )?(?:the )?"
    r"(?:(?P<iso>\d{4}-\d{2}-\d{2})"
    r"|(?P<month>[A-Z][a-z]+)\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?,? (?P<year>\d{4}))",
    re.IGNORECASE,
)


def read(path: Path, progress: Callable[[int, int], None] | None = None) -> Recordings:
    """Read a file, plain or gzipped. A broken task is refused with the reason; the rest is read.

    Args:
        path: the file.
        progress: called with (lines read, total).

    Raises:
        OrchError: the file cannot be read at all.
    """
    found = Recordings(FORMAT)
    lines = [line for line in enumerate(read_lines(path), start=1) if line[1].strip(" \t\r")]
    for done, (number, line) in enumerate(lines, start=1):
        task_id = f"line {number}"
        try:
            record = parse_whole(line)
            if not isinstance(record, Mapping):
                raise OrchError("the line is no JSON object")
            task_id = _id(record, task_id)
        except (OrchError, ValueError) as problem:
            found.refused.append(Refusal(task_id, str(problem)))
        else:
            found.add(task_id, partial(_trace, task_id, record))
        if progress is not None:
            progress(done, len(lines))
    return found


def looks_like(record: Json) -> bool:
    """Whether the first record of a JSON Lines file has this layout."""
    return isinstance(record, Mapping) and "conversations" in record and "functions" in record


def stated_today(text: str) -> str | None:
    """The ISO date in "Today is October 13th, 2024", ``None`` if no such date is stated."""
    match = _TODAY.search(text)
    if match is None:
        return None
    try:
        if match["iso"]:
            return date.fromisoformat(match["iso"]).isoformat()
        month = _MONTHS.index(match["month"][:3].lower()) + 1
        return date(int(match["year"]), month, int(match["day"])).isoformat()
    except ValueError:  # no month, or no such day
        return None


def domain_of(task_id: str) -> str:
    """``Car-Rental`` for ``Car-Rental-0``: the id without its number."""
    stem, _, number = task_id.rpartition("-")
    return stem if stem and number.isdigit() else task_id


def official_spec(spec: ToolSpec) -> ToolSpec:
    """The spec with the official data's name as an alias, where that differs."""
    official = OFFICIAL_NAMES.get(spec.name)
    if official is None or official in spec.aliases:
        return spec
    return replace(spec, aliases=(*spec.aliases, official))


def with_sets(spec: ToolSpec) -> ToolSpec:
    """The spec with the word that says which of its arguments are sets."""
    properties = spec.parameters.get("properties")
    if not isinstance(properties, Mapping):
        return spec
    declared = {
        name: {**schema, SET_KEYWORD: ","}
        for name, schema in properties.items()
        if name in SETS and isinstance(schema, Mapping) and schema.get("type") == "string"
    }
    return replace(spec, parameters={**spec.parameters, "properties": {**properties, **declared}})


def _trace(task_id: str, record: Mapping[str, Json]) -> RecordedTrace:
    conversation = record.get("conversations")
    if not isinstance(conversation, list) or not all(isinstance(m, Mapping) for m in conversation):
        raise OrchError("'conversations' must be a list of messages")
    functions = record.get("functions")
    if not isinstance(functions, list) or not functions:
        raise OrchError("'functions' must be a non-empty list of tools")
    specs = tuple(with_sets(official_spec(tool_spec(f))) for f in functions)
    for number, spec in enumerate(specs):
        if any(spec.name == other.name and spec != other for other in specs[:number]):
            raise OrchError(f"'functions' has two tools {spec.name!r}")
    messages, followups, steps, after_followup, closing = _conversation(conversation)
    if not steps:
        raise OrchError("the conversation holds no call")
    metadata: JsonObject = {"domain": domain_of(task_id)}
    if closing is not None:
        metadata["closing_answer"] = closing
    said = " ".join([*(str(m["content"]) for m in messages), *followups])
    return RecordedTrace(
        id=task_id,
        messages=messages,
        steps=steps,
        tools=tuple(dict.fromkeys(spec.name for spec in specs)),
        specs=specs,
        followups=followups,
        after_followup=after_followup,
        today=stated_today(said),
        metadata=metadata,
    )


def _id(record: Mapping[str, Json], otherwise: str) -> str:
    given = record.get("id")
    if given is None or given == "":
        return otherwise
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise OrchError(f"'id' must be a text or a whole number, got {got(given)}")
    return str(given)


def _conversation(
    conversation: list[Mapping[str, Json]],
) -> tuple[
    tuple[JsonObject, ...],
    tuple[str, ...],
    tuple[tuple[RecordedResponse, ...], ...],
    tuple[int, ...],
    str | None,
]:
    messages: list[JsonObject] = []
    followups: list[str] = []
    steps: list[tuple[RecordedResponse, ...]] = []
    after: list[int] = []
    closing: str | None = None
    pending: list[Json] | None = None
    for number, message in enumerate(conversation):
        role, content = message.get("role"), message.get("content")
        where = f"message {number} ({role})"
        if (pending is not None) != (role == "observation"):
            raise OrchError(f"{where}: calls and observations must alternate")
        if role in ("user", "system"):
            if not isinstance(content, str) or not content.strip():
                raise OrchError(f"{where} has no text: its 'content' is {got(content)}")
            if steps and role == "user":
                followups.append(content)
            else:
                messages.append({"role": role, "content": content})
        elif role == "assistant":
            try:
                calls = calls_of(message)
                refuse_unread_calls(text_of(message), calls)
            except OrchError as problem:
                raise OrchError(f"{where}: {problem}") from problem
            if calls:
                pending = calls
            elif isinstance(content, str):
                closing = content
            else:
                raise OrchError(f"{where} has neither calls nor text")
        elif role == "observation":
            assert pending is not None
            steps.append(_step(where, pending, content))
            after.append(len(followups))
            pending = None
        else:
            raise OrchError(f"{where}: unknown role")
    if pending is not None:
        raise OrchError("the last calls have no observation")
    if not any(m["role"] == "user" for m in messages):
        raise OrchError("there is no user message before the first call")
    timed = tuple(after) if any(after) else ()
    return tuple(messages), tuple(followups), tuple(steps), timed, closing


def _step(where: str, calls: list[Json], content: Json) -> tuple[RecordedResponse, ...]:
    responses = content if isinstance(content, list) else [content]
    if len(responses) != len(calls):
        raise OrchError(f"{where}: {len(responses)} responses to {len(calls)} calls")
    step = []
    for call, response in zip(calls, responses, strict=True):
        body = call_body(call)
        name = body.get("name") if isinstance(body, Mapping) else None
        arguments = body.get("arguments") if isinstance(body, Mapping) else None
        if isinstance(arguments, str):
            arguments = parse_json(arguments or "{}")
        if not isinstance(name, str) or not name or not isinstance(arguments, dict):
            raise OrchError(f"{where}: a call needs a name and an arguments object")
        step.append(RecordedResponse(tool_name(name), arguments, response_text(response)))
    return tuple(step)
