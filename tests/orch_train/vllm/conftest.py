"""One engine with tied and one with untied embeddings, shared by all tests of the tier."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from orch_train.engines.protocol import SamplingParams, TokenOutput
from orch_train.engines.vllm.engine import VllmEngine
from orch_train.engines.vllm.settings import VllmSettings
from orch_train.learner.learner import Learner
from orch_train.models.load import load_model
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import byte_tokenizer

CONTEXT = 12_000
Result = TypeVar("Result")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = importlib.util.find_spec("vllm") is None
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if missing:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed (make vllm)"))


def save_small_model(folder: Path, *, tied: bool) -> Path:
    """Two layers, head size 32 (the smallest of vLLM's CPU attention), one token a byte.

    About every twelfth token ends a message where the output layer is one of its own.
    """
    tokenizer = byte_tokenizer()
    torch.manual_seed(int(tied))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        initializer_range=0.12,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if not tied:
        with torch.no_grad():
            model.model.embed_tokens.weight[:, 0] = 4.0
            model.lm_head.weight[:, 0] = 0.0
            model.lm_head.weight[tokenizer.eos_token_id, 0] = 2.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Served:
    """An engine, the loop it lives on, and the model that it should agree with."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.loop = asyncio.Runner()
        self.settings = VllmSettings(str(folder), max_model_len=CONTEXT, **settings)
        self.engine = VllmEngine(self.settings)
        self.version = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run(asyncio.wait_for(work, 120))

    def close(self) -> None:
        self.engine.close()
        self.loop.close()

    def model(self) -> Any:
        return load_model(self.folder)

    def learner(self, temperature: float = 1.0) -> Learner:
        return Learner(self.model(), settings_of(lr=3e-3, temperature=temperature))

    def sync(self, weights: Any) -> int:
        self.version += 1
        self.run(self.engine.sync(weights, self.version))
        return self.version

    def sample(self, prompt: list[int], request: str = "r", **how: Any) -> TokenOutput:
        sampling = SamplingParams(**{"max_tokens": 24, **how})
        return self.run(self.engine.generate(prompt, sampling, request))


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = save_small_model(tmp_path_factory.mktemp("tied") / "model", tied=True)
    served = Served(folder, check_weights=True)
    yield served
    served.close()


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = save_small_model(tmp_path_factory.mktemp("untied") / "model", tied=False)
    served = Served(folder, recompute_on_sync=True)
    yield served
    served.close()


@pytest.fixture
def untied_model(untied: Served) -> Path:
    return untied.folder


def learner_logprobs(
    model: Any, prompt: list[int], answer: tuple[int, ...], temperature: float = 1.0
) -> torch.Tensor:
    """The plain forward pass: natural log-probability of each answer token, float32."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None])[:, 0]
