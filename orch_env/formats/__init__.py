"""The ways in which model families write tool calls, by name."""

from __future__ import annotations

from orch_env.formats.deepseek import DeepSeekFormat
from orch_env.formats.glm import GlmFormat
from orch_env.formats.granite import GraniteFormat
from orch_env.formats.harmony import HarmonyFormat
from orch_env.formats.hermes import HermesFormat
from orch_env.formats.llama3 import Llama3Format
from orch_env.formats.mistral import MistralFormat
from orch_env.formats.openai_text import OpenAIFormat
from orch_env.formats.protocol import CallFormat, ParsedMessage
from orch_env.formats.pythonic import PythonicFormat
from orch_env.formats.qwen3_coder import Qwen3CoderFormat
from orch_env.types import OrchError

_ALL: tuple[CallFormat, ...] = (
    DeepSeekFormat(),
    GlmFormat(),
    GraniteFormat(),
    HarmonyFormat(),
    HermesFormat(),
    Llama3Format(),
    MistralFormat(),
    OpenAIFormat(),
    PythonicFormat(),
    Qwen3CoderFormat(),
)
_FORMATS = {call_format.name: call_format for call_format in _ALL}


def format_names() -> tuple[str, ...]:
    """Names that :func:`get_format` knows."""
    return tuple(sorted(_FORMATS))


def get_format(name: str) -> CallFormat:
    """Return a call format by name.

    Raises:
        OrchError: there is no format of that name; the message lists the known ones. ``auto`` is
            no format: it is chosen where there is a model.
    """
    if name == "auto":
        raise OrchError(
            "call_format auto is chosen by a model's chat template, and there is no model here; "
            f"name a format: {', '.join(format_names())}"
        )
    found = _FORMATS.get(name)
    if found is None:
        raise OrchError(f"unknown call format {name!r}; known formats: {', '.join(format_names())}")
    return found


__all__ = ["CallFormat", "HermesFormat", "ParsedMessage", "format_names", "get_format"]
