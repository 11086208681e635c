"""Control tokens come from the chat template alone, never from what a tool or a user wrote.

A tool result may hold the text ``<|im_end|>``; encoded as it stands it would end the turn and
could open one of the system's. So outside text is *guarded* before the template sees it: each
control token's text in it is replaced by a placeholder, and put back when the rendering is
encoded, as plain text with the same characters. The whole rendering is encoded in one go, by a copy
of the tokenizer in which the control tokens have secret names, and never in pieces, because pieces
merge differently at their seams. Text without control tokens takes the tokenizer itself, and both
ways give the same ids.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from orch_env.types import OrchError


class ControlTokens:
    r"""The tokens of one tokenizer that text from outside must not become.

    These are its special tokens, and added tokens written like markup (``<tool_call>``); other
    added tokens (runs of spaces, words) are text.

    Args:
        tokenizer: a fast ``transformers`` tokenizer.

    Raises:
        OrchError: it is no fast tokenizer.

    Example:
        >>> control = ControlTokens(tokenizer)                                # doctest: +SKIP
        >>> text = f"<|im_start|>user\n{control.guard('<|im_end|>')}"         # doctest: +SKIP
        >>> control.encode(text)  # one control token, at the start           # doctest: +SKIP
    """

    def __init__(self, tokenizer: Any) -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise OrchError(
                f"{type(tokenizer).__name__} is no fast tokenizer: save it as tokenizer.json and "
                "load it with transformers.AutoTokenizer"
            )
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        found = {token.content for token in added if is_control(token)}
        # The longest first: where one token's text starts with another's, the tokenizer takes it.
        self._texts = sorted(found, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, self._texts)) or r"(?!)")
        # Letters and digits only, so that no template escapes them, and not to be guessed.
        secret = f"zqx{secrets.token_hex(8)}"
        self._placeholders = {t: f"{secret}p{n}p" for n, t in enumerate(self._texts)}
        self._originals = {p: t for t, p in self._placeholders.items()}
        self._names = {t: f"{secret}n{n}n" for n, t in enumerate(self._texts)}
        self._mark = f"{secret}p"
        self._placeholder = re.compile(rf"{self._mark}\d+p")

    def guard(self, text: str) -> str:
        """The text with a placeholder for each control token that is spelt out in it."""
        return self._pattern.sub(lambda found: self._placeholders[found.group()], text)

    def guard_json(self, value: Any) -> Any:
        """JSON data with every string in it guarded, keys included."""
        if isinstance(value, str):
            return self.guard(value)
        if isinstance(value, Mapping):
            return {self.guard(str(k)): self.guard_json(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.guard_json(v) for v in value]
        return value

    def restore(self, text: str) -> str:
        """Undo :meth:`guard`."""
        if self._mark not in text:
            return text
        return self._placeholder.sub(lambda found: self._originals[found.group()], text)

    def encode(self, text: str) -> list[int]:
        """Ids of a rendering; what was guarded in it comes out as ordinary tokens."""
        if self._mark not in text:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
            return ids
        named = self._pattern.sub(lambda found: self._names[found.group()], text)
        found: list[int] = self._secretive.encode(self.restore(named), add_special_tokens=False).ids
        return found

    @cached_property
    def _secretive(self) -> Tokenizer:
        """A copy of the tokenizer that knows its control tokens under secret names only."""
        data = json.loads(self._tokenizer.backend_tokenizer.to_str())
        for token in data["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        model = data["model"]
        vocabulary = model["vocab"]
        if isinstance(vocabulary, dict):
            model["vocab"] = {self._names.get(t, t): i for t, i in vocabulary.items()}
        else:  # Unigram: pieces and their scores
            model["vocab"] = [[self._names.get(t, t), score] for t, score in vocabulary]
        if "merges" in model:
            model["merges"] = [m for m in model["merges"] if _merged(m) not in self._names]
        if model.get("unk_token") is not None:
            model["unk_token"] = self._names.get(model["unk_token"], model["unk_token"])
        data.update(post_processor=None, truncation=None, padding=None)
        return Tokenizer.from_str(json.dumps(data))


def _merged(merge: Any) -> str:
    """What a byte-pair merge makes; files have it as a pair or as two words in one text."""
    return "".join(merge) if isinstance(merge, list) else str(merge).replace(" ", "", 1)


def is_control(token: Any) -> bool:
    """Whether an added token (tokenizers' ``AddedToken``) is one that text must not become."""
    return bool(token.content) and bool(token.special or _is_markup(token.content))


def _is_markup(text: str) -> bool:
    wrapped = (text[0], text[-1]) in (("<", ">"), ("[", "]"))
    return wrapped and not any(c.isspace() for c in text)
