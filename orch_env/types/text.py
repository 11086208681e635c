"""Texts: the nearest known name, long texts cut short, readable JSON, what a chat message says."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from orch_env.types.json import Json

_COMPARED_CHARS = 200
"""Characters of a word that are compared; a model may write a name of a megabyte."""


def nearest(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Up to ``most`` known names that are spelt like ``word``, the closest first."""
    return difflib.get_close_matches(word[:_COMPARED_CHARS], list(known), n=most)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` with the nearest known name; empty where none is near."""
    found = nearest(word, known)
    return f" (did you mean {found[0]!r}?)" if found else ""


def shortened(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters: a longer one is cut and ends in ``...``."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def readable_json(value: Json, **style: Any) -> str:
    """JSON text with letters as they are; ASCII with escapes if it holds a lone surrogate.

    Args:
        value: what is written.
        style: as for ``json.dumps``.

    Raises:
        ValueError: the value holds NaN or an infinity, unless ``allow_nan`` is set.
    """
    style = {"allow_nan": False, **style}
    text = json.dumps(value, ensure_ascii=False, **style)
    return text if is_encodable(text) else json.dumps(value, ensure_ascii=True, **style)


def is_encodable(text: str) -> bool:
    """Whether the text has UTF-8 bytes. Lone surrogates, which models do write, have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def message_text(content: Json) -> str:
    """The text of a chat message's ``content``: a text, or a list of parts that hold texts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [str(p["text"]) for p in content if isinstance(p, Mapping) and "text" in p]
        if texts:
            return "".join(texts)
    return json.dumps(content, ensure_ascii=False)
