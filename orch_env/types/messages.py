"""A conversation as APIs and frameworks write it: assistant messages, their calls and answers.

Read are OpenAI's chat messages (``tool_calls`` and the older ``function_call``; answers have the
role ``tool`` or ``function``), Anthropic's blocks in ``content`` (``tool_use``, ``tool_result``),
the items of OpenAI's Responses API (``function_call``, ``function_call_output``) and LangChain's
calls (``args``). A message that carries calls in another form is refused, because its calls would
be lost.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orch_env.types.errors import OrchError
from orch_env.types.fields import got
from orch_env.types.json import Json, parse_json
from orch_env.types.text import message_text, shortened

_ARGUMENT_KEYS = ("arguments", "args", "input", "parameters")
_NO_TEXT = ("tool_use", "thinking", "redacted_thinking", "reasoning")
_OF_CALLS = re.compile(r"tool[-_]?(call|use|result)|function[-_]?(call|response)", re.IGNORECASE)
# How model families write calls as text.
_MARKUP = re.compile(
    r"<\|?tool_calls?(?:_\w+)?\|?>|<\|(?:python_tag|plugin|START_ACTION)\|>|\[TOOL_CALLS\]|"
    r"<(?:minimax:tool_call|function_calls|start_function_call|function=|invoke name=)|"
    r"```tool_code|"
    r"<\N{FULLWIDTH VERTICAL LINE}tool\N{LOWER ONE EIGHTH BLOCK}call|to=functions\.|"
    r"^Action:.*\nAction Input:|\A\s*\[[A-Za-z_][\w.]*\((?s:.*)\)\]\s*\Z",
    re.MULTILINE,
)
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_NAMING = re.compile(r"(?:tool|function)_?name|custom", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a call.

    Attributes:
        text: the text.
        failed: whether the message is marked as an error.
        call_id: the call that it names, ``None`` if it names none.
        number: position of its message in the conversation.
    """

    text: str
    failed: bool
    call_id: str | None
    number: int


@dataclass(slots=True)
class AssistantMessage:
    """An assistant's message.

    Attributes:
        text: its text, without the calls.
        calls: as they were received.
        answers: one for each call, ``None`` where there is none.
    """

    text: str
    calls: list[Json] = field(default_factory=list)
    answers: list[Answer | None] = field(default_factory=list)


def read_conversation(messages: Iterable[Mapping[str, Any]]) -> list[AssistantMessage]:
    """The assistant's messages of a conversation, each call with its answer.

    An answer that names a call by its id goes to the first call of that id without one, in the
    last message that has such a call; ids need not be unique. The others go to the calls of the
    message before them in order: those without any id to calls still unanswered, and those of an
    unknown id to calls that have no id themselves.

    A ``function_call`` item of the Responses API belongs to the assistant's message or item right
    before it, if there is one.

    Raises:
        OrchError: a message is of no known form, or an answer finds no call; with its number.
    """
    said: list[AssistantMessage] = []
    answers: list[tuple[int, Answer]] = []
    goes_on = False
    for number, message in enumerate(messages):
        try:
            role, kind = _role_and_type(message)
            if role == "assistant":
                text, calls = text_of(message), calls_of(message)
                refuse_unread_calls(text, calls)
                said.append(AssistantMessage(text, calls))
                goes_on = True
            elif kind == "function_call" and role is None:
                if not goes_on:
                    said.append(AssistantMessage(""))
                said[-1].calls.append(message)
                goes_on = True
            elif kind != "reasoning":
                goes_on = False
                for answer in _answers(message, number):
                    if not said:
                        raise OrchError(
                            f"a {role or kind!r} message stands before any assistant message"
                        )
                    answers.append((len(said) - 1, answer))
        except OrchError as problem:
            raise OrchError(f"message {number}: {problem}") from problem
        except (TypeError, RecursionError) as problem:
            raise OrchError(f"message {number}: it is no JSON ({problem})") from problem
    _hand_out(said, answers)
    return said


def text_of(message: Mapping[str, Any]) -> str:
    """The text of an assistant's message, without calls and thoughts that are blocks of it."""
    content, parts = message.get("content"), _parts(message)
    if parts or content == []:
        content = [part for part in parts if _type_of(part) not in _NO_TEXT] or None
    text = message_text(content)
    refusal = message.get("refusal")
    return text or (refusal if isinstance(refusal, str) else "")


def without_thoughts(text: str) -> str:
    """What a message without calls says: its text without ``<think>`` parts."""
    before, closed, after = text.partition("</think>")
    opened_by_prompt = closed and "<think>" not in before
    return _THOUGHT.sub("", after if opened_by_prompt else text).strip()


def calls_of(message: Mapping[str, Any]) -> list[Json]:
    """The calls of an assistant's message as they were received.

    Raises:
        OrchError: it carries calls in a form that is not read; the message names the form.
    """
    if isinstance(message.get("tool_calls"), str) and message["tool_calls"].strip():
        raise OrchError("its 'tool_calls' are a text: a list of objects with a 'name' is read")
    parts = _parts(message)
    blocks = [part for part in parts if _type_of(part) == "tool_use"]
    _refuse_unread([part for part in parts if _type_of(part) not in _NO_TEXT])
    forms = {
        "tool_calls": _as_list(message.get("tool_calls")),
        "function_call": _as_list(message.get("function_call")),
        "tool_use": blocks,
    }
    given = {form: calls for form, calls in forms.items() if calls}
    calls = next(iter(given.values()), [])
    # Frameworks repeat the calls of an API in a second form.
    if any(_names(again) != _names(calls) for again in given.values()):
        raise OrchError(f"its calls differ in number or names between {' and '.join(given)}")
    for key, value in message.items():
        if value and key not in ("tool_calls", "function_call") and _names_calls(key):
            raise OrchError(f"it carries calls as {key!r}, which is not read")
    addressee = message.get("recipient")
    if isinstance(addressee, str) and addressee.startswith("functions."):
        raise OrchError(f"it is a call to {addressee!r} by 'recipient', which is not read")
    extra = message.get("additional_kwargs")
    if not calls and isinstance(extra, Mapping) and any(extra.get(form) for form in forms):
        raise OrchError("it carries calls in 'additional_kwargs', which is not read")
    return calls


def refuse_unread_calls(text: str, calls: Sequence[Json]) -> None:
    """Refuse an assistant's message whose calls are not read.

    Args:
        text: from :func:`text_of`.
        calls: from :func:`calls_of`.

    Raises:
        OrchError: a call has its name under another key, or there is none and the text is one.
    """
    for number, call in enumerate(calls):
        body = call_body(call)
        if not isinstance(body, Mapping):
            if isinstance(body, str) and isinstance(call, Mapping) and "arguments" in call:
                raise OrchError(
                    f"its call {number} is named by 'function': {got(body)}, which is not read"
                )
            continue  # what a model wrote instead of a call: a malformed one
        other = next((k for k in (*call, *call.get("function", ())) if _NAMING.fullmatch(k)), None)
        if "name" not in body and other is not None:
            raise OrchError(f"its call {number} is named by {other!r}, which is not read")
    if calls:
        return
    said = _THOUGHT.sub("", text)
    found = _MARKUP.search(said)
    if found is not None or _is_call_as_json(said):
        form = "JSON" if found is None else shortened(" ".join(found.group().split()), 40)
        raise OrchError(
            f"it writes calls as text ({form}), which is not read here: give them as 'tool_calls'"
        )


def call_body(item: Json) -> Json:
    """The name and arguments of a call as received; what is no object stays what it is."""
    inner = item.get("function", item) if isinstance(item, Mapping) else item
    if not isinstance(inner, Mapping):
        return inner
    body = {"name": inner["name"]} if "name" in inner else {}
    key = next((key for key in _ARGUMENT_KEYS if key in inner), None)
    return body if key is None else {**body, "arguments": inner[key]}


def call_id(item: Json) -> str | None:
    """The id of a call or of an answer to it; a blank one is none."""
    if not isinstance(item, Mapping):
        return None
    for key in ("tool_call_id", "tool_use_id", "call_id", "id"):
        value = item.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def _role_and_type(message: Mapping[str, Any]) -> tuple[str | None, Json]:
    if not isinstance(message, Mapping):
        raise OrchError(f"it must be an object, got {got(message)}")
    role, kind = message.get("role"), message.get("type")
    if role is None and kind in ("function_call", "function_call_output", "reasoning"):
        return None, kind
    if role not in ("assistant", "tool", "function", "user", "system", "developer"):
        form = f"type {kind!r} and no role" if role is None else f"role {got(role)}"
        raise OrchError(f"messages of {form} are not read")
    return role, kind


def _answers(message: Mapping[str, Any], number: int) -> list[Answer]:
    """The answers in a message that is not the assistant's."""
    parts = _parts(message)
    if message.get("role") == "user":
        blocks = [part for part in parts if _type_of(part) == "tool_result"]
        _refuse_unread([part for part in parts if _type_of(part) != "tool_result"])
    elif message.get("role") in ("tool", "function"):
        _refuse_unread(parts)
        blocks = [message]
    elif message.get("type") == "function_call_output":
        blocks = [{**message, "content": message.get("output")}]
    else:
        blocks = []
    return [
        Answer(
            message_text(block.get("content")),
            True in (block.get("is_error"), block.get("isError")) or block.get("status") == "error",
            call_id({k: v for k, v in block.items() if k != "id"}),
            number,
        )
        for block in blocks
    ]


def _hand_out(said: Sequence[AssistantMessage], answers: Sequence[tuple[int, Answer]]) -> None:
    """Give each answer to its call, see :func:`read_conversation`."""
    waiting: list[dict[str | None, deque[int]]] = []
    for message in said:
        message.answers = [None] * len(message.calls)
        waiting.append(defaultdict(deque))
        for position, call in enumerate(message.calls):
            waiting[-1][call_id(call)].append(position)
    left: list[tuple[int, Answer]] = []
    for index, answer in answers:
        named = answer.call_id
        holder = next((n for n in range(index, -1, -1) if named and waiting[n].get(named)), None)
        if holder is None:
            left.append((index, answer))
        else:
            said[holder].answers[waiting[holder][named].popleft()] = answer
    in_order = [deque(range(len(message.calls))) for message in said]
    for index, answer in left:
        given = said[index].answers
        queue = in_order[index] if answer.call_id is None else waiting[index][None]
        while queue and given[queue[0]] is not None:
            queue.popleft()
        if not queue:
            which = "" if answer.call_id is None else f" {answer.call_id!r}"
            raise OrchError(
                f"message {answer.number}: it answers a call{which} that no message before it makes"
            )
        given[queue.popleft()] = answer


def _parts(message: Mapping[str, Any]) -> list[Json]:
    """The parts of a message's content; none if it is a text.

    Raises:
        OrchError: they stand under Gemini's key, so that the content would be lost.
    """
    if message.get("parts"):
        raise OrchError("its content stands in 'parts', which is not read: put it into 'content'")
    content = message.get("content")
    if isinstance(content, Mapping) and "type" in content:
        return [content]
    return content if isinstance(content, list) else []


def _is_call_as_json(text: str) -> bool:
    """Whether a text is nothing but one or several calls as JSON objects."""
    value = parse_json(text) if text.lstrip().startswith(("{", "[")) else None
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(map(_is_call, items))


def _is_call(item: Json) -> bool:
    body = call_body(item)
    if not isinstance(body, Mapping) or "name" not in body:
        return False
    return "function" in item or isinstance(body.get("arguments"), Mapping)


def _names(calls: Sequence[Json]) -> list[Json]:
    bodies = map(call_body, calls)
    return [body.get("name") if isinstance(body, Mapping) else None for body in bodies]


def _as_list(calls: Json) -> list[Json]:
    if not calls:
        return []
    return list(calls) if isinstance(calls, list | tuple) else [calls]


def _type_of(part: Json) -> Json:
    return part.get("type") if isinstance(part, Mapping) else None


def _names_calls(key: Json) -> bool:
    word = str(key).lower()
    return _OF_CALLS.search(word) is not None and not word.endswith(("id", "ids"))


def _refuse_unread(parts: Sequence[Json]) -> None:
    """Refuse parts of a content that hold calls or answers in a form that is not read."""
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        for form in (part.get("type"), *part):
            if isinstance(form, str) and _OF_CALLS.search(form):
                raise OrchError(f"its content holds {form!r}, which is not read")
