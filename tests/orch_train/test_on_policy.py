"""Environment, engine and learner agree about the policy, before and after weights move.

Real parts throughout: what the engine recorded while it sampled episodes of the bundled world is
what the learner's forward pass says of the same tokens, so ratios are 1 and the mismatch is 0.
"""

from __future__ import annotations

import asyncio
import copy

import pytest

from orch_env import load_tasks
from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.torch.engine import TorchEngine
from orch_train.learner.learner import Learner
from orch_train.rollouts.episode import run_groups
from orch_train.trajectory.requests import SampleRequest
from orch_train.trajectory.sample import Group
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import byte_tokenizer, small_llama

TEMPERATURE = 0.8
LIMITS = RolloutSettings(max_tokens_per_turn=12, max_context=12_000)


@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_ratios_are_one_on_fresh_rollouts_after_every_sync(dtype: str, ratio: float) -> None:
    tokenizer = byte_tokenizer()
    chat = ChatRenderer(tokenizer, get_format("hermes"))
    model = small_llama(vocabulary=len(tokenizer))
    served = copy.deepcopy(model)
    if dtype == "bfloat16":
        for parameter in served.parameters():
            parameter.data = parameter.data.bfloat16()
    engine = TorchEngine(served)
    learner = Learner(
        model,
        settings_of(
            lr=3e-3,
            temperature=TEMPERATURE,
            dtype=dtype,  # type: ignore[arg-type]
        ),
    )
    tasks = [t.id for t in load_tasks("harbour")[:1]]

    async def rollouts(version: int) -> list[Group]:
        requests = [
            SampleRequest(f"{version}-{t}", t, 0, version, 3, temperature=TEMPERATURE)
            for t in tasks
        ]
        environments = lambda: ToolOrchestrationEnv("harbour")  # noqa: E731
        stream = run_groups(environments, engine, chat, requests, limits=LIMITS)
        return [reply.group async for reply in stream]

    try:
        before = learner.get_weights()["lm_head.weight"]
        for version in range(2):
            groups = asyncio.run(rollouts(version))
            for group in groups:
                for sample in group.samples:  # any spread of rewards will do
                    sample.reward = float(sample.member)
            metrics = learner.update(groups)
            assert metrics["num_action_tokens"] > 20
            assert metrics["ratio_max"] == pytest.approx(1.0, abs=ratio)
            assert metrics["mismatch_kl"] < ratio**2
            asyncio.run(engine.sync(learner.get_weights(), version + 1))
        moved = (learner.get_weights()["lm_head.weight"].float() - before.float()).abs().max()
        assert moved > 2e-3  # the weights that had to agree were not the same ones
    finally:
        engine.close()
