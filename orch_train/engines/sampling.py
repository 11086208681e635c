"""Draw tokens from logits, each request from its own random stream.

The hard decision: every request draws one uniform number per token, in advance, from a Philox
generator seeded by the request alone, and turns it into a token by inverting the distribution's
cumulative sum. So a sample does not depend on which requests share the batch, on the order of
arrival, or on how often a request was set back and taken up again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def uniforms(seed: int, count: int) -> npt.NDArray[np.float64]:
    """The first ``count`` numbers in [0, 1) of a request's stream."""
    stream = np.random.Generator(np.random.Philox(seed & (2**64 - 1)))
    return stream.random(count)


def draw(logits: Tensor, temperatures: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Choose a token per row.

    Args:
        logits: ``[B, V]``, any floating type; the arithmetic is in float32.
        temperatures: ``[B]``, float32; rows at 0 take the likeliest token.
        numbers: ``[B]``, float64 in [0, 1).

    Returns:
        Token ids ``[B]``, int64, and their natural log-probabilities ``[B]``, float32, under the
        distribution that was sampled from; for rows at temperature 0, that at temperature 1.
    """
    greedy = temperatures == 0
    scale = torch.where(greedy, 1.0, temperatures)
    logprobs = torch.log_softmax(logits.float() / scale[:, None], dim=-1)
    if bool(greedy.all()):
        tokens = logprobs.argmax(-1)
    else:
        tokens = _inverse_cdf(logprobs, numbers)
        tokens = torch.where(greedy, logprobs.argmax(-1), tokens)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def _inverse_cdf(logprobs: Tensor, numbers: Tensor) -> Tensor:
    """The first token whose cumulative probability exceeds the row's number.

    The sum runs in float64: over a large vocabulary a float32 sum loses what rare tokens add.
    The target stays below the total, so the token found has a probability above 0.
    """
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(numbers * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
