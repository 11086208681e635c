"""Which call format a chat template teaches, found out by rendering a tool, a call and a result.

The template's own text of a call is given to every format: the one that reads it as that call is
taught. Of a template that shows tools but writes no calls, the tags are compared with those that
each format writes itself. No list of models or of templates is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from orch_env.formats import format_names, get_format
from orch_env.types import OrchError, ToolCall, ToolSpec
from orch_train.config import RolloutSettings, Settings
from orch_train.config.groups import OUR_ENV, SystemTools
from orch_train.models.files import load_tokenizer

AUTO = "auto"
DEFAULT = "hermes"

_CALL = ToolCall("zqx_tool", {"zqx_key": "zqx value"})
_TOOL = ToolSpec(
    _CALL.name,
    "x",
    {"type": "object", "properties": {"zqx_key": {"type": "string", "description": "x"}}},
)
_QUESTION = {"role": "user", "content": "x"}
_ID = "zqx000000"
_RESULT = {"role": "tool", "name": _CALL.name, "tool_call_id": _ID, "content": "y"}
_MARKUP = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


def taught_format(tokenizer: Any, variables: Mapping[str, Any] | None = None) -> str | None:
    """The name of the format that the tokenizer's chat template teaches.

    Args:
        tokenizer: a ``transformers`` tokenizer.
        variables: further variables for the template.

    Returns:
        The name; ``None`` if the template writes no calls, or in a form that no format reads.
    """
    given = dict(variables or {})
    prompt = _render(tokenizer, [_QUESTION], given, generation_prompt=True)
    writes_calls = False
    for message in _messages_with_call():
        text = _render(tokenizer, [_QUESTION, message], given)
        answer = text[_shared(prompt, text) :]
        if (found := _format_of(answer)) is not None:
            return found
        writes_calls |= _CALL.name in answer
    return None if writes_calls else _format_of_tags(tokenizer, given)


def choose_format(
    asked: str | None,
    tokenizer: Any,
    *,
    system_tools: SystemTools = "auto",
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The format to use with a model.

    Args:
        asked: a name; ``auto``: what the chat template teaches; ``None``: that as well, or
            `DEFAULT` if it teaches none.
        tokenizer: a ``transformers`` tokenizer.
        system_tools: who offers the tools. With ``always`` a system message teaches the format, and
            what the template teaches does not matter.
        variables: further variables for the template.

    Raises:
        OrchError: there is no such format; ``auto``, and the template teaches none; or it teaches
            another one, and would offer the tools.
    """
    taught = taught_format(tokenizer, variables)
    if asked is None:
        return taught or DEFAULT
    whose = f"the chat template of {getattr(tokenizer, 'name_or_path', '') or 'the model'}"
    if asked == AUTO:
        if taught is None:
            raise OrchError(
                f"call_format auto: {whose} teaches no calls that any format reads; name a format, "
                f"such as {DEFAULT}, and a system message will teach it"
            )
        return taught
    name = get_format(asked).name
    if taught not in (None, name) and system_tools != "always":
        raise OrchError(
            f"call_format {name}: {whose} teaches {taught}, so the model would write calls that "
            f"are not read; set call_format to auto or {taught}, or keep it and set system_tools "
            f"to always as well, so that a system message teaches {name} in its place"
        )
    return name


def asked_format(settings: Settings) -> str | None:
    """The call format that a configuration asks for; ``None`` for an environment of the user's own.

    Environments of our own write `DEFAULT` where none is named.
    """
    environment = settings.environment
    default = DEFAULT if environment.env == OUR_ENV else None
    asked: str | None = environment.env_config.get("call_format", default)
    return asked


def format_of_model(asked: str | None, model: str, limits: RolloutSettings) -> str:
    """`choose_format` for a model folder, kept for the next environment that asks.

    Args:
        asked: as for `choose_format`.
        model: the folder.
        limits: how its template is used is read from here.

    Raises:
        OrchError: as `choose_format`, or there is no tokenizer.
    """
    variables = json.dumps(limits.chat_template_kwargs, sort_keys=True)
    return _format_of_model(asked, model, limits.system_tools, variables)


def choice_line(settings: Settings) -> str | None:
    """One line that says what ``auto`` has chosen; ``None`` where a format is named.

    Raises:
        OrchError: as `format_of_model`.
    """
    if asked_format(settings) != AUTO:
        return None
    name = format_of_model(AUTO, settings.model.path, settings.rollouts)
    return f"call format: {name}, as the chat template teaches"


@lru_cache(maxsize=8)
def _format_of_model(
    asked: str | None, model: str, system_tools: SystemTools, variables: str
) -> str:
    return choose_format(
        asked, load_tokenizer(model), system_tools=system_tools, variables=json.loads(variables)
    )


def _messages_with_call() -> Iterator[dict[str, Any]]:
    """An assistant's call in the shapes that templates take."""
    for arguments in (_CALL.arguments, json.dumps(_CALL.arguments)):
        function = {"name": _CALL.name, "arguments": arguments}
        call = {"id": _ID, "type": "function", "function": function}
        for content in ({"content": ""}, {"content": None}, {}):
            yield {"role": "assistant", **content, "tool_calls": [call]}


def _format_of(text: str) -> str | None:
    """The format in which a text is the call: as it writes it itself, or at least as it reads it.

    Some formats read the tags of others.
    """
    formats = [get_format(name) for name in format_names()]
    for style in formats:
        if style.render_calls([_CALL], [_TOOL]) in text:
            return style.name
    for style in formats:
        if style.parse(text, [_TOOL]).calls == (_CALL,):
            return style.name
    return None


def _format_of_tags(tokenizer: Any, variables: Mapping[str, Any]) -> str | None:
    """The format whose tags stand in the template's text about tools and results."""
    said = {"role": "assistant", "content": "x"}
    plain = set(_MARKUP.findall(_render(tokenizer, [_QUESTION, said], variables, tools=False)))
    shown = _render(tokenizer, [_QUESTION], variables)
    shown += _render(tokenizer, [_QUESTION, said, _RESULT], variables)
    tags = set(_MARKUP.findall(shown)) - plain
    scores: dict[str, int] = {}
    for name in format_names():
        style = get_format(name)
        own = style.render_calls([_CALL], [_TOOL]) + style.render_results(["y"], [_CALL.name])
        scores[name] = len(tags & set(_MARKUP.findall(own)))
    best = max(scores.values())
    found = [name for name, score in scores.items() if score == best]
    return found[0] if best and len(found) == 1 else None


def _shared(first: str, second: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def _render(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    variables: Mapping[str, Any],
    *,
    tools: bool = True,
    generation_prompt: bool = False,
) -> str:
    """The template's text, empty if it refuses the messages."""
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tools=[_TOOL.to_openai()] if tools else None,
            add_generation_prompt=generation_prompt,
            tokenize=False,
            **variables,
        )
    except Exception:  # templates raise whatever they like
        return ""
    return str(text)
