"""Pins the torch engine to a plain full forward pass of the same model.

Whatever the batch, the turn, the cache and the weights' history: a token's log-probability is
that of one uncached pass over its context, and a sample depends on its request alone.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from orch_env.types import OrchError
from orch_train.engines import make_engine
from orch_train.engines.protocol import BadRequest, EngineError, SamplingParams, TokenOutput
from orch_train.engines.torch.engine import TorchEngine
from orch_train.engines.torch.slot_batch import draw
from orch_train.engines.torch.slot_table import uniforms

VOCABULARY = 61
STOPS = (3, 5)
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}


def make_model(kind: str = "llama", seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**{**SHAPE, "head_dim": 16, **changes})).eval()
    return LlamaForCausalLM(LlamaConfig(**{**SHAPE, **changes})).eval()


def full_logprobs(model: Any, ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].float()
    return torch.log_softmax(logits / (temperature or 1.0), -1)


def deviation(model: Any, prompt: list[int], output: TokenOutput, temperature: float) -> float:
    """Largest difference between the engine's log-probabilities and a full forward pass."""
    rows = full_logprobs(model, [*prompt, *output.token_ids], temperature)[len(prompt) - 1 : -1]
    expected = rows.gather(1, torch.tensor(output.token_ids)[:, None])[:, 0]
    return float((expected - torch.tensor(output.logprobs)).abs().max())


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    return list(await asyncio.gather(*work))


async def sampling_began(engine: TorchEngine, *tasks: asyncio.Future[Any]) -> None:
    """Wait until another token was sampled, and fail rather than wait for ever."""
    before = engine.stats["steps"]
    while engine.stats["steps"] == before:
        assert not any(t.done() for t in tasks)
        await asyncio.sleep(0)


def prompt_of(rng: random.Random, longest: int = 40) -> list[int]:
    return [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, longest))]


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("max_batch", [32, 5])
def test_logprobs_equal_a_full_forward_over_ragged_multi_turn_batches(
    kind: str, max_batch: int
) -> None:
    model = make_model(kind)
    reference = copy.deepcopy(model)
    engine = TorchEngine(model, max_batch=max_batch, prefill_tokens=64, num_threads=1)
    worst = 0.0

    async def episode(number: int) -> None:
        nonlocal worst
        ids = prompt_of(random.Random(number // 3))  # members of a group share the prompt
        rng = random.Random(number)
        for turn in range(rng.randint(1, 4)):
            temperature = rng.choice([0.0, 0.7, 1.0])
            sampling = SamplingParams(rng.randint(1, 20), temperature, STOPS, 10 * number + turn)
            output = await engine.generate(ids, sampling, f"episode-{number}")
            worst = max(worst, deviation(reference, ids, output, temperature))
            stopped = [t in STOPS for t in output.token_ids]
            assert not any(stopped[:-1])
            assert stopped[-1] == (output.finish_reason == "stop")
            assert stopped[-1] or len(output.token_ids) == sampling.max_tokens
            if temperature == 0.0:
                rows = full_logprobs(reference, [*ids, *output.token_ids])[len(ids) - 1 : -1]
                assert rows.argmax(-1).tolist() == list(output.token_ids)
            ids = [*ids, *output.token_ids, *prompt_of(rng, 15)]
            for _ in range(rng.choice([0, 0, 30])):  # some come late, while others decode
                await asyncio.sleep(0)
        engine.release(f"episode-{number}")

    asyncio.run(together(*(episode(n) for n in range(24))))
    engine.close()
    assert worst < 1e-4


def test_a_sample_depends_on_its_request_alone() -> None:
    rng = random.Random(1)
    prompts = [prompt_of(rng) for _ in range(12)]

    def sampling(number: int) -> SamplingParams:
        # With these seeds no number that decides a token lies within 2e-4 of another token's share:
        # a batch's rounding moves shares by some 1e-6, on each kind of processor otherwise.
        return SamplingParams(12, 1.0, STOPS, seed=36 + number)

    def run(order: list[int], alone: bool) -> dict[int, TokenOutput]:
        engine = TorchEngine(make_model(), max_batch=32 if not alone else 1)

        async def one(number: int) -> tuple[int, TokenOutput]:
            return number, await engine.generate(prompts[number], sampling(number), f"r{number}")

        pairs = asyncio.run(together(*(one(n) for n in order)))
        engine.close()
        return dict(pairs)

    batched, reversed_, alone = run([*range(12)], False), run([*range(12)][::-1], False), {}
    alone = run([*range(12)], True)
    for number in range(12):
        assert batched[number].token_ids == reversed_[number].token_ids == alone[number].token_ids
        np.testing.assert_allclose(batched[number].logprobs, alone[number].logprobs, atol=1e-5)
    assert len({o.token_ids for o in batched.values()}) > 6


def test_two_runs_are_equal_bit_for_bit() -> None:
    def run() -> list[TokenOutput]:
        engine = TorchEngine(make_model(), max_batch=16)

        async def episode(number: int) -> list[TokenOutput]:
            ids, outputs = prompt_of(random.Random(number)), []
            for turn in range(3):
                sampling = SamplingParams(5 + number, 1.0, STOPS, seed=100 * number + turn)
                outputs.append(await engine.generate(ids, sampling, f"e{number}"))
                ids = [*ids, *outputs[-1].token_ids, number, turn]
            return outputs

        groups = asyncio.run(together(*(episode(n) for n in range(10))))
        engine.close()
        return [output for outputs in groups for output in outputs]

    assert run() == run()


def test_tokens_are_drawn_with_the_probabilities_of_the_model() -> None:
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0)) * 2
    count = 40_000
    numbers = torch.from_numpy(uniforms(7, count))
    tokens, logprobs = draw(logits.expand(count, 6), torch.full((count,), 0.7), numbers)
    expected = torch.softmax(logits / 0.7, -1)
    counts = torch.bincount(tokens, minlength=6)
    # Pearson's statistic with 5 degrees of freedom stays below 20.5 in 999 of 1000 cases.
    assert float(((counts - count * expected) ** 2 / (count * expected)).sum()) < 20.5
    torch.testing.assert_close(logprobs.exp(), expected[tokens])


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([[-1e9, 0.0, -1e9, 0.0, -1e9]]).expand(4, 5)
    numbers = torch.tensor([0.0, 0.5, 1 - 2**-53, 0.25], dtype=torch.float64)
    tokens, logprobs = draw(logits, torch.ones(4), numbers)
    assert set(tokens.tolist()) <= {1, 3}
    assert torch.isfinite(logprobs).all()


def test_greedy_and_sampled_rows_share_a_batch() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    numbers = torch.tensor([0.999, 0.999], dtype=torch.float64)
    tokens, logprobs = draw(logits, torch.tensor([0.0, 1.0]), numbers)
    assert tokens.tolist() == [1, 2]
    torch.testing.assert_close(logprobs, torch.log_softmax(logits[0], -1)[tokens])


def test_the_next_turn_reads_only_what_is_new() -> None:
    engine = TorchEngine(make_model(), max_batch=4)

    async def scenario() -> None:
        prompt = [*range(10, 40)]
        first = await engine.generate(prompt, SamplingParams(6), "a")
        read = engine.stats["prefilled_tokens"]
        assert read == 29  # the last token of a prompt goes through the decoding step
        await engine.generate([*prompt, *first.token_ids, 7, 8, 9], SamplingParams(2), "a")
        assert engine.stats["prefilled_tokens"] - read == 3

    asyncio.run(scenario())


def test_a_prompt_that_departs_from_the_cache_is_read_from_there_on() -> None:
    model = make_model()
    reference = copy.deepcopy(model)
    engine = TorchEngine(model, max_batch=4)

    async def scenario() -> None:
        prompt = [*range(10, 40)]
        await engine.generate(prompt, SamplingParams(6), "a")
        read = engine.stats["prefilled_tokens"]
        changed = [*prompt[:20], 1, 1, *prompt[22:], 2]
        output = await engine.generate(changed, SamplingParams(6), "a")
        assert engine.stats["prefilled_tokens"] - read == len(changed) - 1 - 20
        assert deviation(reference, changed, output, 1.0) < 1e-4

    asyncio.run(scenario())


def test_a_groups_common_prompt_is_read_once() -> None:
    engine = TorchEngine(make_model(), max_batch=32)
    system = [*range(30)]
    prompts = [[*system, g, g + 1] for g in (7, 9)]

    async def scenario() -> list[Any]:
        return await together(
            *(
                engine.generate(prompts[g], SamplingParams(4, seed=8 * g + m), f"{g}/{m}")
                for g in range(2)
                for m in range(8)
            )
        )

    outputs = asyncio.run(scenario())
    assert engine.stats["prefilled_tokens"] == 31 + 1
    assert len({o.token_ids for o in outputs}) > 8


def test_more_episodes_than_slots_are_served() -> None:
    model = make_model()
    reference = copy.deepcopy(model)
    engine = TorchEngine(model, max_batch=3)

    async def episode(number: int) -> float:
        ids, worst = prompt_of(random.Random(number)), 0.0
        for turn in range(3):
            output = await engine.generate(ids, SamplingParams(5, seed=number + turn), f"e{number}")
            worst = max(worst, deviation(reference, ids, output, 1.0))
            ids = [*ids, *output.token_ids, 1]
        return worst

    assert max(asyncio.run(together(*(episode(n) for n in range(11))))) < 1e-4


def test_new_weights_take_over_in_the_middle_of_a_message() -> None:
    model, other = make_model(), make_model(seed=1)
    before = copy.deepcopy(model)
    engine = TorchEngine(model, max_batch=8, version=4)
    prompts = [prompt_of(random.Random(n)) for n in range(4)]

    async def scenario() -> list[TokenOutput]:
        requests = [
            asyncio.ensure_future(engine.generate(p, SamplingParams(150, seed=n), f"e{n}"))
            for n, p in enumerate(prompts)
        ]
        await sampling_began(engine, *requests)
        await engine.sync(other.state_dict(), 5)
        return list(await asyncio.gather(*requests))

    outputs = asyncio.run(scenario())
    for prompt, output in zip(prompts, outputs, strict=True):
        assert list(output.versions) == sorted(output.versions)
        assert set(output.versions) == {4, 5}
        at = output.versions.index(5)
        ids = [*prompt, *output.token_ids]
        for reference, span in ((before, slice(0, at)), (other, slice(at, None))):
            rows = full_logprobs(reference, ids)[len(prompt) - 1 : -1]
            expected = rows.gather(1, torch.tensor(output.token_ids)[:, None])[:, 0]
            got = torch.tensor(output.logprobs)
            assert float((expected - got)[span].abs().max()) < 1e-4


def test_sync_replaces_the_weights_and_drops_stale_caches() -> None:
    engine, other = TorchEngine(make_model(), max_batch=4), make_model(seed=1)

    async def scenario() -> None:
        prompt = [*range(10, 40)]
        first = await engine.generate(prompt, SamplingParams(6), "a")
        assert first.versions == (0,) * 6
        await engine.generate(prompt, SamplingParams(6), "b")
        await engine.sync({n: t.to(torch.float64) for n, t in other.state_dict().items()}, 3)
        assert engine.version == 3
        ids = [*prompt, *first.token_ids, 7]
        second = await engine.generate(ids, SamplingParams(6), "a")
        assert second.versions == (3,) * 6
        assert deviation(other, ids, second, 1.0) < 1e-4
        third = await engine.generate(prompt, SamplingParams(6), "c")  # b's cache is stale too
        assert deviation(other, prompt, third, 1.0) < 1e-4

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.norm.weight"), "missing model.norm.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda w: w.update({"model.norm.weight": torch.zeros(3)}), r"shape \(3,\).*\(32,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_whole(
    change: Callable[[Any], Any], message: str
) -> None:
    model = make_model()
    engine = TorchEngine(model)
    before = copy.deepcopy(model.state_dict())
    weights = make_model(seed=1).state_dict()
    change(weights)
    with pytest.raises(EngineError, match=message):
        asyncio.run(engine.sync(weights, 1))
    assert engine.version == 0
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_a_tied_tensor_may_be_given_once() -> None:
    engine, other = TorchEngine(make_model()), make_model(seed=1)
    weights = {n: t for n, t in other.state_dict().items() if n != "lm_head.weight"}
    asyncio.run(engine.sync(weights, 1))
    output = asyncio.run(engine.generate([1, 2, 3], SamplingParams(6), "a"))
    assert deviation(other, [1, 2, 3], output, 1.0) < 1e-4


def test_a_message_that_is_read_again_after_a_sync_samples_the_same_tokens() -> None:
    async def sample(sync: bool) -> TokenOutput:
        engine = TorchEngine(make_model())
        task = asyncio.ensure_future(engine.generate([1, 2], SamplingParams(200, seed=3), "a"))
        if sync:
            await sampling_began(engine, task)
            await engine.sync(make_model().state_dict(), 1)
        return await task

    synced, plain = asyncio.run(sample(True)), asyncio.run(sample(False))
    assert set(synced.versions) == {0, 1} and set(plain.versions) == {0}
    assert synced.token_ids == plain.token_ids
    np.testing.assert_allclose(synced.logprobs, plain.logprobs, atol=1e-5)


def test_a_sync_takes_hold_within_a_few_steps() -> None:
    """Undisturbed, the worker decodes 64 steps before it looks at anything else."""
    model = make_model()
    engine = TorchEngine(model)
    weights = make_model(seed=1).state_dict()
    sync = threading.Thread(target=lambda: asyncio.run(engine.sync(weights, 1)))
    passes = 0

    def hook(*args: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 5:
            sync.start()
        if passes >= 5:
            sync.join(timeout=0.1)  # it waits for this very pass to end

    model.register_forward_hook(hook)
    output = asyncio.run(engine.generate([1, 2], SamplingParams(60), "a"))
    assert 5 <= output.versions.index(1) < 20


def test_rows_that_ended_are_not_computed_any_more() -> None:
    model = make_model()
    engine = TorchEngine(model)
    rows: list[int] = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        rows.append(kwargs["input_ids"].shape[0])

    model.register_forward_pre_hook(count, with_kwargs=True)
    lengths = [2, 2, 30, 4, 4, 4, 4, 6]

    async def scenario() -> None:
        await together(
            *(engine.generate([n], SamplingParams(k), f"e{n}") for n, k in enumerate(lengths))
        )

    asyncio.run(scenario())
    assert len(rows) == max(lengths)
    assert rows[0] == 8
    assert rows[6:] == [1] * 24
    assert sum(rows) <= 1.25 * sum(lengths)


def test_the_event_loop_lives_while_the_engine_computes() -> None:
    engine = TorchEngine(make_model())

    async def scenario() -> int:
        task = asyncio.ensure_future(engine.generate([1], SamplingParams(150), "a"))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(scenario()) > 100


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    model = make_model()
    reference = copy.deepcopy(model)
    engine = TorchEngine(model)

    async def scenario() -> TokenOutput:
        kept = asyncio.ensure_future(engine.generate([1, 2], SamplingParams(60, seed=1), "kept"))
        gone = asyncio.ensure_future(engine.generate([4, 5], SamplingParams(200, seed=2), "gone"))
        await sampling_began(engine, kept, gone)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        output = await kept
        again = await engine.generate([4, 5], SamplingParams(4, seed=2), "gone")
        assert deviation(reference, [4, 5], again, 1.0) < 1e-4
        return output

    assert deviation(reference, [1, 2], asyncio.run(scenario()), 1.0) < 1e-4


def test_the_engine_serves_one_event_loop_after_the_other() -> None:
    engine = TorchEngine(make_model())
    sampling = SamplingParams(5, seed=1)
    first = asyncio.run(engine.generate([1, 2], sampling, "a"))

    async def abandoned() -> None:
        task = asyncio.ensure_future(engine.generate([1, 2], SamplingParams(200), "b"))
        await sampling_began(engine, task)

    asyncio.run(abandoned())
    engine.release("a")
    assert asyncio.run(engine.generate([1, 2], sampling, "a")) == first


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ([], SamplingParams(4), "empty"),
        ([VOCABULARY], SamplingParams(4), "token ids"),
        ([-1], SamplingParams(4), "token ids"),
        ([1], SamplingParams(0), "bad sampling"),
        ([1], SamplingParams(4, temperature=-1.0), "bad sampling"),
        ([1], SamplingParams(4, temperature=float("nan")), "bad sampling"),
        ([1] * 250, SamplingParams(7), "256 positions"),
    ],
)
def test_requests_that_cannot_be_served_say_why(
    prompt: list[int], sampling: SamplingParams, message: str
) -> None:
    engine = TorchEngine(make_model())
    with pytest.raises(BadRequest, match=f"request 'a': .*{message}"):
        asyncio.run(engine.generate(prompt, sampling, "a"))
    assert asyncio.run(engine.generate([1], SamplingParams(1), "a")).token_ids  # it is sound


def test_an_episode_has_one_request_at_a_time() -> None:
    engine = TorchEngine(make_model())

    async def scenario() -> None:
        await together(*(engine.generate([1], SamplingParams(50), "a") for _ in range(2)))

    with pytest.raises(EngineError, match="has a request already"):
        asyncio.run(scenario())


def test_a_failing_model_fails_every_request_and_the_engine_recovers() -> None:
    model = make_model()
    engine = TorchEngine(model)
    calls = 0

    def explode(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("out of memory")

    model.model.norm.register_forward_pre_hook(explode)

    async def scenario() -> list[Any]:
        return await asyncio.gather(
            *(engine.generate([n + 1], SamplingParams(9, seed=n), f"e{n}") for n in range(3)),
            return_exceptions=True,
        )

    failures = asyncio.run(scenario())
    assert all(isinstance(f, EngineError) and "out of memory" in str(f) for f in failures)
    assert engine.stats["cache_bytes"] == 0
    assert all(isinstance(o, TokenOutput) for o in asyncio.run(scenario()))


def test_closing_fails_what_is_waiting_and_may_be_done_twice() -> None:
    engine = TorchEngine(make_model())

    async def scenario() -> None:
        task = asyncio.ensure_future(engine.generate([1], SamplingParams(200), "a"))
        await sampling_began(engine, task)
        engine.close()
        await task

    with pytest.raises(EngineError, match="closed"):
        asyncio.run(scenario())
    engine.close()
    assert engine.stats["cache_bytes"] == 0
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(engine.generate([1], SamplingParams(2), "a"))
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(engine.sync({}, 1))


def test_layers_without_full_attention_are_refused() -> None:
    model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16))
    with pytest.raises(OrchError, match="full attention only"):
        TorchEngine(model)


def test_bfloat16_stays_near_float32() -> None:
    model = make_model(initializer_range=0.05)
    reference = copy.deepcopy(model)
    engine = make_engine("torch", model=model.to(torch.bfloat16))

    async def scenario() -> list[float]:
        deviations = []
        for number in range(6):
            prompt = prompt_of(random.Random(number))
            sampling = replace(SamplingParams(20), seed=number)
            output = await engine.generate(prompt, sampling, f"e{number}")
            deviations.append(deviation(reference, prompt, output, 1.0))
        return deviations

    assert 1e-6 < max(asyncio.run(scenario())) < 0.05
