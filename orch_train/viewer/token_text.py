"""What the token ids of a run say, by the run's own tokenizer.

Only ``tokenizer.json`` is read (the fast tokenizers' format), so nothing of torch or transformers
is imported. The hard decision: a run without such a file is shown with ids alone; a tokenizer of
about the right model would show wrong text with a straight face.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orch_env.types import OrchError

_REPLACEMENT = "�"
_WORD = "▁"  # how SentencePiece writes a leading space


class TokenText:
    """Decodes tokens one by one, and spans as a whole.

    Args:
        file: a ``tokenizer.json``.

    Raises:
        OrchError: it is none.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as problem:  # the library raises nothing narrower
            raise OrchError(f"{file} is no tokenizer: {problem}") from problem
        self._known: dict[int, str] = {}

    def token(self, number: int) -> str:
        """The text of one token; a part of a character is shown as the vocabulary writes it."""
        if number not in self._known:
            self._known[number] = self._decode_one(number)
        return self._known[number]

    def text(self, ids: Sequence[int]) -> str:
        """The text of a span, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _decode_one(self, number: int) -> str:
        raw = self._tokenizer.id_to_token(number)
        if raw is None:
            return f"<{number}>"
        text = str(self._tokenizer.decode([number], skip_special_tokens=False))
        if not text or _REPLACEMENT in text:
            return str(raw)
        return f" {text}" if raw.startswith(_WORD) and not text.startswith(" ") else text


def find_tokenizer(run: Path, model: Path | None) -> Path | None:
    """The tokenizer of a run: its newest checkpoint's, else that of the model it started from.

    Args:
        run: the run's folder.
        model: folder of the starting model, if it is here.
    """
    checkpoints = sorted(
        (p for p in run.glob("checkpoints/step_*") if p.name[5:].isdigit()),
        key=lambda p: int(p.name[5:]),
        reverse=True,
    )
    for folder in checkpoints:
        found = sorted(folder.rglob("tokenizer.json"))
        if found:
            return found[0]
    if model is not None and (model / "tokenizer.json").is_file():
        return model / "tokenizer.json"
    return None
