"""Whether a model has an embedding for every token that its tokenizer can give it.

A tokenizer may know more tokens than the model: one was added without resizing the model, or it is
another model's. What matters is whether such a token can come up. Text from outside can spell out
plain tokens; control tokens are written by the chat template alone, so one that the template does
not name never comes up (text-only models with the tokenizer of a model for images).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from orch_env.types import OrchError
from orch_train.chat.control_tokens import is_control

logger = logging.getLogger(__name__)


def check_vocabulary(
    tokenizer: Any, rows: int | None, model: str, used: Collection[int] = ()
) -> None:
    """Raise if a token that can come up has no row in the model's embedding.

    Args:
        tokenizer: a fast ``transformers`` tokenizer.
        rows: token ids that the model has an embedding for; ``None``: not known.
        model: its name, for the error.
        used: ids that the run is sure to use, such as stop tokens.

    Raises:
        OrchError: it names tokenizer, model and remedy.
    """
    if rows is None:
        return
    beyond = {i: text for text, i in tokenizer.get_vocab().items() if i >= rows}
    if not beyond:
        return
    added = tokenizer.added_tokens_decoder
    template = str(tokenizer.chat_template)  # all of them, where there are several
    wrong = [
        text
        for i, text in sorted(beyond.items())
        if i in used or i not in added or not is_control(added[i]) or text in template
    ]
    name = getattr(tokenizer, "name_or_path", "") or model
    size = max(beyond) + 1
    if wrong:
        shown = ", ".join(map(repr, wrong[:3])) + (" and more" if wrong[3:] else "")
        raise OrchError(
            f"the tokenizer of {name!r} has {size} tokens and model {model!r} has an embedding for "
            f"{rows}: {shown} would be beyond it; resize the model "
            "(model.resize_token_embeddings) and save it, or use the tokenizer that belongs to it"
        )
    logger.info(
        "the tokenizer of %r has %d control tokens that model %r has no embedding for; the chat "
        "template writes none of them",
        name,
        len(beyond),
        model,
    )
