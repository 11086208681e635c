"""Weights move: every version that is served is the learner's, in full, or none is."""

from __future__ import annotations

import asyncio

import pytest
import torch

from orch_train.engines.protocol import EngineError, SamplingParams, TokenOutput
from orch_train.trajectory.sample import Group, TrainingSample
from orch_train.weight_sync.shared_memory import SharedWriter, read
from tests.orch_train.small_models import group_of
from tests.orch_train.vllm.conftest import Served, learner_logprobs

PROMPTS = [[72, 101, 108], [80, 81, 82, 83, 84, 85], [100] * 17]
TEMPERATURE = 0.8


def rollouts(served: Served, step: int) -> list[Group]:
    samples, rewards = [], []
    for number, prompt in enumerate(PROMPTS):
        out = served.sample(prompt, f"{step}/{number}", temperature=TEMPERATURE, seed=step)
        assert set(out.versions) == {served.version}
        sample = TrainingSample()
        sample.append_context(prompt)
        sample.append_action(out.token_ids, out.logprobs, out.versions)
        samples.append(sample)
        rewards.append(float(number))
    return [group_of(samples, rewards, f"g{step}")]


@pytest.mark.parametrize("head_is_sent", [True, False])
def test_a_tied_output_layer_is_renewed_under_whichever_name_it_comes(
    tied: Served, head_is_sent: bool
) -> None:
    """On a CPU the output layer has a packed copy of its own, which must not stay behind."""
    model = tied.model()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    weights = dict(model.state_dict())
    if not head_is_sent:
        del weights["lm_head.weight"]
    tied.sync(weights)
    out = tied.sample(PROMPTS[0])
    wanted = learner_logprobs(model, PROMPTS[0], out.token_ids)
    assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("embeddings", ["tied", "untied"])
def test_engine_and_learner_agree_after_each_of_ten_updates(
    embeddings: str, request: pytest.FixtureRequest
) -> None:
    served: Served = request.getfixturevalue(embeddings)
    learner = served.learner(TEMPERATURE)
    served.sync(learner.get_weights())
    start = learner.get_weights()
    for step in range(10):
        groups = rollouts(served, step)
        model = learner.model
        for sample in groups[0].samples:
            (begin, end), ids = sample.turns[0], sample.ids_T.tolist()
            wanted = learner_logprobs(model, ids[:begin], tuple(ids[begin:end]), TEMPERATURE)
            assert torch.from_numpy(sample.logprobs_N) == pytest.approx(wanted, abs=1e-3)
        metrics = learner.update(groups)
        assert metrics["ratio_max"] == pytest.approx(1.0, abs=1e-3)
        served.sync(learner.get_weights())
    rollouts(served, 10)
    moved = (learner.get_weights()["lm_head.weight"] - start["lm_head.weight"]).abs().max()
    assert moved > 1e-2  # what had to agree was not the same all along


@pytest.mark.parametrize("embeddings", ["tied", "untied"])
def test_a_message_in_flight_goes_on_and_each_token_names_its_weights(
    embeddings: str, request: pytest.FixtureRequest
) -> None:
    served: Served = request.getfixturevalue(embeddings)
    old, new = served.model(), served.model()
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(1.2)
    served.sync(old.state_dict())
    before, prompt = served.version, PROMPTS[0]

    async def work() -> list[TokenOutput]:
        running = [
            asyncio.ensure_future(
                served.engine.generate(prompt, SamplingParams(1500, seed=i), f"f{i}")
            )
            for i in range(3)
        ]
        # A short message on the same engine: the long ones have begun when it is back.
        await served.engine.generate(prompt, SamplingParams(8), "clock")
        assert not any(r.done() for r in running)
        await served.engine.sync(new.state_dict(), before + 1)
        return await asyncio.gather(*running)

    outputs = served.run(work())
    served.version = before + 1
    for out in outputs:
        assert len(out.token_ids) == len(out.versions) == len(out.logprobs) == 1500
        switch = out.versions.index(before + 1)
        assert 0 < switch < 1500
        assert set(out.versions[:switch]) == {before}
        assert set(out.versions[switch:]) == {before + 1}
        first = learner_logprobs(old, prompt, out.token_ids[:switch])
        assert torch.tensor(out.logprobs[:switch]) == pytest.approx(first, abs=1e-3)
        after = learner_logprobs(new, prompt, out.token_ids)[switch:]
        gap = (torch.tensor(out.logprobs[switch:]) - after).abs().max()
        if served.settings.recompute_on_sync:
            assert gap < 1e-3  # the cache is the new weights' too
        else:
            assert gap > 1e-2  # the old cache under new weights: no single forward pass


def test_a_damaged_transfer_is_noticed() -> None:
    writer = SharedWriter()
    weights = {"a": torch.arange(10.0), "b": torch.ones(3, 5)}
    manifest = writer.write(weights, torch.bfloat16, checksums=True)
    for name, tensor in read(manifest):
        assert torch.equal(tensor, weights[name].bfloat16())
        tensor.view(torch.int16)[..., 0] += 1
    with pytest.raises(ValueError, match="the checksum of a differs"):
        list(read(manifest))
    writer.close()


def test_a_sync_that_fails_leaves_an_engine_that_serves_nothing(untied: Served) -> None:
    served = Served(untied.folder)
    try:
        served.sync(served.model().state_dict())
        assert served.sample(PROMPTS[0]).versions[0] == 1
        weights = served.model().state_dict()
        wrong = {k: v[:-1] if "embed" in k else v for k, v in weights.items()}

        async def work() -> None:
            running = asyncio.ensure_future(
                served.engine.generate(PROMPTS[0], SamplingParams(3000), "long")
            )
            await served.engine.generate(PROMPTS[0], SamplingParams(4), "short")
            with pytest.raises(EngineError, match="weight sync failed"):
                await served.engine.sync(wrong, 2)
            with pytest.raises(EngineError, match="weight sync failed"):
                await running
            with pytest.raises(EngineError, match="weight sync failed"):
                await served.engine.generate(PROMPTS[0], SamplingParams(4), "next")
            with pytest.raises(EngineError, match="weight sync failed"):
                await served.engine.sync(weights, 3)

        served.run(work())
    finally:
        served.close()
