"""The writer ``engine``: a model folder behind one of our engines puts plans into words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from orch_env.synthesis.writing.endpoint import PromptedWriter
from orch_env.types.json import JsonObject
from orch_train.engines import make_engine
from orch_train.engines.protocol import SamplingParams
from orch_train.models.files import load_tokenizer, resolve_model


class EngineWriter(PromptedWriter):
    """Writes with a local model; found by the name ``engine``.

    Args:
        model: a model folder, or a bundled name.
        engine: ``torch`` or ``vllm``.
        max_tokens: of a text.
        temperature: of sampling.
        options: further arguments of the engine.
    """

    def __init__(
        self,
        model: str,
        engine: str = "torch",
        max_tokens: int = 256,
        temperature: float = 0.8,
        **options: Any,
    ) -> None:
        super().__init__("engine", self._texts)
        from orch_train.evaluation.policy import checkpoint_model

        folder = resolve_model(checkpoint_model(model))
        self._tokenizer: Any = load_tokenizer(folder)
        self._engine = make_engine(engine, model=folder, **options)
        self._max_tokens = max_tokens
        self._temperature = temperature

    def _texts(self, requests: Sequence[JsonObject]) -> list[tuple[str, str | None]]:
        async def each() -> list[tuple[str, str | None]]:
            return list(await asyncio.gather(*map(self._text, range(len(requests)), requests)))

        return asyncio.run(each())

    async def _text(self, number: int, request: JsonObject) -> tuple[str, str | None]:
        tokenizer = self._tokenizer
        prompt = tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        name = f"write-{number}-{request['seed']}"
        params = SamplingParams(
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            stop_token_ids=(tokenizer.eos_token_id,),
            seed=int(request["seed"]),
        )
        output = await self._engine.generate(tuple(prompt), params, name)
        self._engine.release(name)
        return tokenizer.decode(output.token_ids, skip_special_tokens=True), None

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()
