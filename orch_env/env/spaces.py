"""`TextSpace`: the space of texts that models write and read.

Gymnasium's own ``Text`` is alphanumeric by default and walks every character to answer
``contains``; this one holds any Unicode (lone surrogates included) up to a length and answers at
once. It does not derive from ``Text``: shared-memory vector environments, which would encode
character by character and fail on the first unknown one, then refuse it when they are built and not
in the middle of a run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Space

_WORDS = (
    "the", "hotel", "flight", "from", "Zürich", "to", "京都", "on", "2024-10-13", "at", "9:30",
    "cheapest", "42", "3.5", "café", "please", "{}", '"', "\n", "\t", "<", "🙂",
)  # fmt: skip
_CALLS = (
    '<tool_call>\n{"name": "search", "arguments": {"query": "Zürich"}}\n</tool_call>',
    '<tool_call>\n{"name": "search", "arguments": {"query": 1,}}\n</tool_call>',
    '<tool_call>\n{"name": "search"',
    "<tool_call></tool_call>",
)
_CALL_SHARE = 0.75


class TextSpace(Space[str]):
    """All texts of at most ``max_length`` characters.

    Works in ``SyncVectorEnv``, in ``AsyncVectorEnv(shared_memory=False)`` (a batch is a tuple of
    texts), pickles, and compares equal by length.

    Args:
        max_length: largest number of characters, at least 1.
        seed: seed of :meth:`sample`.

    Example:
        >>> space = TextSpace(10)
        >>> "naïve {}" in space, "x" * 11 in space, 3 in space
        (True, False, False)
    """

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        self.max_length = max_length
        super().__init__(shape=(), dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Texts have no numeric form."""
        return False

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a text within the length; does not look at the characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a short text: words of several scripts, and often something like a tool call.

        Raises:
            ValueError: a mask or probability is given; texts have none.
        """
        if mask is not None or probability is not None:
            raise ValueError("TextSpace.sample takes neither a mask nor a probability")
        rng = self.np_random
        words = rng.integers(len(_WORDS), size=int(rng.integers(0, 12)))
        text = " ".join(_WORDS[i] for i in words)
        if rng.random() < _CALL_SHARE:
            text = f"{text}\n{_CALLS[int(rng.integers(len(_CALLS)))]}"
        return text[: self.max_length]

    def __repr__(self) -> str:
        return f"TextSpace({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash((TextSpace, self.max_length))
