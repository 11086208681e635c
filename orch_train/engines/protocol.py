"""What a rollout worker needs of an inference engine: tokens in, tokens out.

`generate` is a coroutine: a runner drives many episodes on one event loop and the engine batches
whatever is waiting, in process (torch) or in an engine of its own (vLLM's AsyncLLM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from orch_env.types import OrchError
from orch_train.weight_sync.buckets import Weights

FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample one message.

    Attributes:
        max_tokens: upper bound on new tokens, at least 1.
        temperature: 0 is greedy; log-probabilities are then those at temperature 1.
        stop_token_ids: generation ends with (and includes) any of these.
        seed: seed of this request's own random stream; the result does not depend on which other
            requests happen to share the batch.
    """

    max_tokens: int
    temperature: float = 1.0
    stop_token_ids: tuple[int, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """One sampled message.

    Attributes:
        token_ids: new tokens, the sampled stop token included.
        logprobs: natural log-probability of each under the sampling distribution
            (temperature applied).
        finish_reason: ``stop`` if a stop token was sampled, ``length`` if the budget ran out.
        versions: weight version that sampled each token.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    versions: tuple[int, ...]


class EngineError(Exception):
    """The engine failed: infrastructure, never the model's fault. Episodes are discarded."""


class BadRequest(EngineError, OrchError):
    """No engine of this model could serve the request: to ask again is futile.

    The engine is as sound as before, so it is not replaced.
    """


class RolloutEngine(Protocol):
    """An inference engine that serves one policy.

    It may have a property ``stats``, a mapping of the counters in
    `orch_train.metrics.engines.COUNTERS`.
    """

    @property
    def version(self) -> int:
        """Version of the weights that are being served."""
        ...

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
    ) -> TokenOutput:
        """Sample one message after ``prompt_ids``.

        ``request_id`` names the episode: an engine may keep its KV cache for the next turn, whose
        prompt starts with every token of this one. A request that cannot be served raises
        :class:`BadRequest`, any other problem :class:`EngineError`.
        """
        ...

    def release(self, request_id: str) -> None:
        """The episode is over: its KV cache may be freed."""
        ...

    async def sync(self, weights: Weights, version: int) -> None:
        """Serve new weights (state-dict names and shapes) from now on under this version.

        Messages that are being sampled go on with them; each token carries its own version. A
        coroutine, since an engine may live in another process. Any problem raises
        :class:`EngineError`; the runner is then replaced.
        """
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...
