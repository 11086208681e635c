"""vLLM as a rollout engine: what it samples, how it stops, what it remembers, how it fails."""

from __future__ import annotations

import asyncio

import pytest
import torch

from orch_train.engines.protocol import BadRequest, EngineError, SamplingParams, TokenOutput
from tests.orch_train.vllm.conftest import CONTEXT, Served, learner_logprobs

PROMPT = [72, 101, 108, 108, 111]


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.9])
def test_logprobs_are_those_of_the_sampling_distribution(
    untied: Served, temperature: float
) -> None:
    model = untied.model()
    untied.sync(model.state_dict())
    for seed in range(3):
        out = untied.sample(PROMPT, temperature=temperature, seed=seed)
        wanted = learner_logprobs(model, PROMPT, out.token_ids, temperature)
        assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-4)


def test_greedy_takes_the_likeliest_token_and_reports_temperature_one(untied: Served) -> None:
    model = untied.model()
    untied.sync(model.state_dict())
    out = untied.sample(PROMPT, temperature=0.0, max_tokens=8)
    ids = list(PROMPT)
    for token in out.token_ids:
        assert token == int(model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
    wanted = learner_logprobs(model, PROMPT, out.token_ids)
    assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-4)


def test_seeds_belong_to_requests(untied: Served) -> None:
    async def together(seeds: list[int]) -> list[TokenOutput]:
        return await asyncio.gather(
            *(
                untied.engine.generate(PROMPT, SamplingParams(24, seed=s), f"s{i}")
                for i, s in enumerate(seeds)
            )
        )

    alone = [untied.sample(PROMPT, seed=s).token_ids for s in (1, 2)]
    batch = [out.token_ids for out in untied.run(together([2, 1, 3, 1]))]
    assert batch[0] == alone[1]
    assert batch[1] == batch[3] == alone[0]
    assert len({*batch}) == 3


def test_a_stop_token_ends_the_answer_and_belongs_to_it(untied: Served) -> None:
    free = untied.sample(PROMPT, seed=5)
    assert free.finish_reason == "length" and len(free.token_ids) == 24
    stop = next(t for i, t in enumerate(free.token_ids) if i >= 3 and t not in free.token_ids[:i])
    at = free.token_ids.index(stop)
    out = untied.sample(PROMPT, seed=5, stop_token_ids=(stop, 9))
    assert out.finish_reason == "stop"
    assert out.token_ids == free.token_ids[: at + 1]
    assert len(out.logprobs) == len(out.versions) == at + 1


def test_only_the_stop_tokens_that_were_asked_for_end_an_answer(untied: Served) -> None:
    model = untied.model()
    eos = model.config.eos_token_id
    outs = [untied.sample(PROMPT, seed=s, max_tokens=40) for s in range(4)]
    assert any(eos in out.token_ids[:-1] for out in outs)  # the model's own end token did not
    assert {out.finish_reason for out in outs} == {"length"}


def test_an_oversized_prompt_is_refused_and_the_engine_goes_on(untied: Served) -> None:
    with pytest.raises(BadRequest, match="exceed the engine's"):
        untied.sample([65] * CONTEXT, max_tokens=1)
    assert len(untied.sample([65] * (CONTEXT - 8), max_tokens=8).token_ids) == 8


@pytest.mark.parametrize(
    ("prompt", "how", "reason"),
    [
        ([], {}, "empty"),
        ([-1], {}, "token ids"),
        ([10**6], {}, "token ids"),
        ([1], {"max_tokens": 0}, "sampling parameters"),
        ([1], {"temperature": float("inf")}, "sampling parameters"),
    ],
)
def test_bad_requests_are_refused(
    untied: Served, prompt: list[int], how: dict[str, float], reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason):
        untied.sample(prompt, **how)


def test_an_episode_has_one_request_at_a_time_and_may_be_cancelled(untied: Served) -> None:
    async def work() -> None:
        long = SamplingParams(4000)
        first = asyncio.ensure_future(untied.engine.generate(PROMPT, long, "same"))
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="has a request already"):
            await untied.engine.generate(PROMPT, SamplingParams(1), "same")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        out = await untied.engine.generate(PROMPT, SamplingParams(2), "same")
        assert len(out.token_ids) == 2

    untied.run(work())


def test_release_aborts_what_still_runs(untied: Served) -> None:
    async def work() -> None:
        running = asyncio.ensure_future(
            untied.engine.generate(PROMPT, SamplingParams(8000), "gone")
        )
        await untied.engine.generate(PROMPT, SamplingParams(4), "other")
        untied.engine.release("gone")
        with pytest.raises(EngineError, match="gone"):
            await running

    untied.run(work())


def test_a_conversation_is_read_once_within_a_version_and_again_after_a_sync(
    tied: Served,
) -> None:
    tied.sync(tied.model().state_dict())

    def prefilled(prompt: list[int]) -> float:
        before = tied.engine.stats["prefilled_tokens"]
        tied.sample(prompt, max_tokens=1)
        return tied.engine.stats["prefilled_tokens"] - before

    prompt = [40 + i % 80 for i in range(1000)]
    longer = [*prompt, *range(60, 100)]
    assert prefilled(prompt) == 1000
    assert prefilled(longer) < 0.1 * len(longer)
    tied.run(tied.engine.sync(tied.model().state_dict(), tied.version))  # the same version's name
    assert prefilled(longer) == len(longer)
    tied.sync(tied.model().state_dict())
    assert prefilled(longer) == len(longer)
    assert prefilled(longer) < 0.1 * len(longer)
