"""Whole episodes of the bundled world through vLLM: what it read is the transcript, to the token.

The environment advances along the gold calls whatever the random model writes, so that episodes
have several turns with real tool results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.vllm import adapter
from orch_train.models.files import load_tokenizer
from orch_train.rollouts.episode import run_groups
from orch_train.trajectory.requests import SampleRequest
from orch_train.trajectory.sample import Group
from tests.orch_train.vllm.conftest import CONTEXT, Served, learner_logprobs

HERMES = get_format("hermes")


class GoldDriven:
    """The environment hears the gold call wherever the model has written a message."""

    def __init__(self) -> None:
        self._env = ToolOrchestrationEnv("harbour")
        self.unwrapped = self._env.unwrapped
        self._policy = GoldPolicy(HERMES)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._policy.start(next(t for t in self._env.tasks if t.id == options["task_id"]))
        return self._env.reset(seed=seed, options=options)

    def step(self, action: str) -> Any:
        del action
        return self._env.step(self._policy.act("", {}))

    def close(self) -> None:
        self._env.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Everything that vLLM says it has read and written, in order of completion."""
    finals: list[Any] = []
    original = adapter.token_output

    def spy(final: Any, request_id: str) -> Any:
        finals.append(final)
        return original(final, request_id)

    monkeypatch.setattr(adapter, "token_output", spy)
    yield finals


def test_what_vllm_read_and_wrote_is_the_transcript_to_the_token(
    untied: Served, read: list[Any]
) -> None:
    model = untied.model()
    version = untied.sync(model.state_dict())
    chat = ChatRenderer(load_tokenizer(untied.folder), HERMES)
    env = ToolOrchestrationEnv("harbour")
    tasks = [t.id for t in env.tasks if len(t.gold) >= 3][:2]
    env.close()
    limits = RolloutSettings(max_tokens_per_turn=200, max_context=CONTEXT)

    async def play() -> list[Group]:
        wanted = [SampleRequest(t, t, 0, 5, 3, temperature=0.9) for t in tasks]
        stream = run_groups(GoldDriven, untied.engine, chat, wanted, limits=limits)
        return [reply.group async for reply in stream]

    before = dict(untied.engine.stats)
    groups = untied.run(play())
    told = {(tuple(f.prompt_token_ids), tuple(f.outputs[0].token_ids)) for f in read}
    turns = 0
    for sample in (s for g in groups for s in g.samples):
        ids = sample.ids_T.tolist()
        for begin, end in sample.turns:
            assert (tuple(ids[:begin]), tuple(ids[begin:end])) in told
            turns += 1
        assert set(sample.versions_N.tolist()) == {version}
        begin, end = sample.turns[-1]
        wanted = learner_logprobs(model, ids[:begin], tuple(ids[begin:end]), 0.9)
        assert sample.logprobs_T[begin:end].tolist() == pytest.approx(wanted.tolist(), abs=1e-3)
    assert turns == len(read) > 2 * 6  # several turns, and none that is not in a transcript
    spent = {k: v - before[k] for k, v in untied.engine.stats.items()}
    assert spent["prefilled_tokens"] < 0.5 * spent["prompt_tokens"]


def test_an_oversized_prompt_ends_its_episode_and_not_its_group(untied: Served) -> None:
    untied.sync(untied.model().state_dict())
    chat = ChatRenderer(load_tokenizer(untied.folder), HERMES)
    limits = RolloutSettings(max_tokens_per_turn=10, max_context=50)

    async def play() -> list[Group]:
        stream = run_groups(
            GoldDriven, untied.engine, chat, [SampleRequest("g", _task(), 0, 5, 2)], limits=limits
        )
        return [reply.group async for reply in stream]

    group = untied.run(play())[0]
    assert [sample.stop_reason for sample in group.samples] == ["context_overflow"] * 2


def _task() -> str:
    env = ToolOrchestrationEnv("harbour")
    try:
        return env.tasks[0].id
    finally:
        env.close()
