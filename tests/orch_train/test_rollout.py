"""Episodes on the bundled world: what the engine sees, what is kept, and how episodes end.

The environment, its cache and the chat template are real; the model is a script, except where the
torch engine itself takes part.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_env.types import Episode, ErrorType, OrchError, StopReason, Task
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.protocol import EngineError, RolloutEngine, SamplingParams, TokenOutput
from orch_train.engines.scripted import ScriptedEngine
from orch_train.engines.torch.engine import TorchEngine
from orch_train.rollouts.env_pool import EnvPool
from orch_train.rollouts.episode import run_group, run_groups, turn_seed
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.trajectory.sample import TrainingSample
from tests.orch_train.chat_templates import QWEN, tokenizer_for

HERMES = get_format("hermes")
ROOMY = RolloutSettings(max_tokens_per_turn=600, max_context=20_000)


@pytest.fixture(scope="module")
def env() -> Iterator[ToolOrchestrationEnv]:
    env = ToolOrchestrationEnv("harbour")
    yield env
    env.close()


@pytest.fixture(scope="module")
def chat() -> ChatRenderer:
    return ChatRenderer(tokenizer_for(QWEN), HERMES)


@pytest.fixture(scope="module")
def task(env: ToolOrchestrationEnv) -> Task:
    return next(t for t in env.tasks if len(t.gold) >= 3)


def gold_actions(task: Task) -> list[str]:
    policy = GoldPolicy(HERMES)
    policy.start(task)
    return [policy.act("", {}) for _ in range(len(task.gold) + 1)]


def play(
    env: Any, engine: RolloutEngine, chat: ChatRenderer, task: Task, limits: RolloutSettings = ROOMY
) -> tuple[TrainingSample, Episode]:
    """A group of one."""
    request = SampleRequest("g", task.id, env_seed=3, sample_seed=11)

    async def played() -> SampleReply:
        return await run_group(EnvPool(lambda: env, 1), engine, chat, request, limits=limits)

    [(sample, record)] = asyncio.run(played()).members
    return sample, record.episode


def limited(context: int, turn: int = 600, **more: Any) -> RolloutSettings:
    return RolloutSettings(max_tokens_per_turn=turn, max_context=context, **more)


def scripted(chat: ChatRenderer, lines: Sequence[Any]) -> ScriptedEngine:
    return ScriptedEngine(lambda _, turn: lines[turn], encode=chat.encode_action)


async def gathered(stream: Any) -> list[SampleReply]:
    return [reply async for reply in stream]


def test_gold_actions_succeed_and_every_prompt_extends_the_last_one_bit_for_bit(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    actions = gold_actions(task)
    engine = scripted(chat, actions)
    sample, episode = play(env, engine, chat, task)
    assert sample.success and sample.reward == 1.0
    assert episode.stop_reason is sample.stop_reason is StopReason.ANSWERED
    sample.check()
    ids = sample.ids_T.tolist()
    for call, (start, end), action in zip(engine.calls, sample.turns, actions, strict=True):
        assert list(call.prompt_ids) == ids[:start]
        assert ids[start:end] == chat.encode_action(action)
    assert engine.released == ["g/0"]


def test_the_stream_is_the_rendering_of_the_conversation(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    sample, episode = play(env, scripted(chat, gold_actions(task)), chat, task)
    _, info = env.reset(options={"task_id": task.id})
    messages = list(info["messages"])
    for turn in episode.turns:
        messages.append({"role": "assistant", "content": turn.action})
        messages += [{"role": "tool", "content": text} for text in turn.results]
    tokenizer = tokenizer_for(QWEN)
    expected = tokenizer.apply_chat_template(messages, tools=info["tools"], return_dict=False)
    assert [*sample.ids_T.tolist(), *tokenizer.encode("\n")] == expected


def test_sampled_ids_stay_as_they_were_even_if_no_encoder_gives_them(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    tokenizer, stop = tokenizer_for(QWEN), chat.stop_token_ids[0]
    actions = gold_actions(task)
    letters = [[i for c in text for i in tokenizer.encode(c)] + [stop] for text in actions]
    assert all(ids != chat.encode_action(text) for ids, text in zip(letters, actions, strict=True))
    sample, _ = play(env, scripted(chat, letters), chat, task)
    assert sample.success
    assert [sample.ids_T[a:b].tolist() for a, b in sample.turns] == letters


def test_dense_rewards_sum_to_the_terminal_reward(chat: ChatRenderer, task: Task) -> None:
    actions = [*gold_actions(task)[:-2], "I give up."]
    rewards = [
        play(
            ToolOrchestrationEnv("harbour", reward_mode=mode), scripted(chat, actions), chat, task
        )[0].reward
        for mode in ("terminal", "dense")
    ]
    assert rewards[0] == rewards[1]
    assert 0.0 < rewards[0] < 1.0


def test_a_truncated_message_ends_the_episode_and_its_calls_are_not_run(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    first, second, *_ = gold_actions(task)
    long = second + " and so on" * 200
    engine = scripted(chat, [first, long])
    sample, episode = play(env, engine, chat, task)
    assert episode.stop_reason is StopReason.OUTPUT_TRUNCATED
    assert [c.error for c in episode.turns[0].calls] == [None]
    assert [c.error for c in episode.turns[1].calls] == [ErrorType.LIMIT]
    assert episode.reward is not None and sample.reward == episode.reward.total
    assert sample.turns[1, 1] - sample.turns[1, 0] == 600
    assert len(engine.calls) == 2


def test_the_last_message_gets_what_the_context_leaves(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    engine = scripted(chat, gold_actions(task))
    play(env, engine, chat, task)
    used = len(engine.calls[1].prompt_ids)
    tight = scripted(chat, gold_actions(task))
    sample, _ = play(env, tight, chat, task, limited(used + 5))
    assert [c.sampling.max_tokens for c in tight.calls][1] == 5
    assert sample.stop_reason is StopReason.OUTPUT_TRUNCATED
    assert len(sample) == used + 5


@pytest.mark.parametrize(("spare", "turns"), [(0, 1), (7, 1), (8, 2)])
def test_a_turn_starts_only_if_the_context_has_room_for_it(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task, spare: int, turns: int
) -> None:
    engine = scripted(chat, gold_actions(task))
    play(env, engine, chat, task)
    limits = limited(len(engine.calls[1].prompt_ids) + spare, min_tokens_per_turn=8)
    again = scripted(chat, gold_actions(task))
    sample, episode = play(env, again, chat, task, limits)
    assert len(again.calls) == turns
    overflow = sample.stop_reason is StopReason.CONTEXT_OVERFLOW
    assert overflow == (turns == 1)
    assert len(episode.turns) == turns


def test_an_oversized_prompt_ends_its_episode_with_its_reward_and_spares_the_rest(
    env: ToolOrchestrationEnv, chat: ChatRenderer
) -> None:
    def prompt_tokens(task: Task) -> int:
        _, info = env.reset(options={"task_id": task.id})
        return len(chat.start(info["messages"], info["tools"]))

    sizes = {t.id: prompt_tokens(t) for t in env.tasks[::40]}
    long, short = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    limits = limited(sizes[long])
    engine = ScriptedEngine(lambda *_: "no", encode=chat.encode_action)
    requests = [SampleRequest("long", long, 0, 0, 2), SampleRequest("short", short, 0, 0, 2)]
    replies = asyncio.run(gathered(run_groups(env.sibling, engine, chat, requests, limits=limits)))
    found = {r.group.id: [s.stop_reason for s in r.group.samples] for r in replies}
    assert found == {
        "long": [StopReason.CONTEXT_OVERFLOW] * 2,
        "short": [StopReason.ANSWERED] * 2,
    }
    lost = next(r for r in replies if r.group.id == "long").members
    assert all(r.episode.reward is not None and s.num_actions == 0 for s, r in lost)
    assert {c.request_id for c in engine.calls} == {"short/0", "short/1"}


def test_sampling_seeds_are_stable_and_differ_by_run_group_member_and_turn() -> None:
    assert turn_seed(7, "g", 1, 2) == 3205274129886662205
    names = [
        (b, g, m, t) for b in (0, 1) for g in ("a", "a1") for m in range(12) for t in range(12)
    ]
    assert len({turn_seed(*name) for name in names}) == len(names)
    assert all(0 <= turn_seed(*name) < 2**63 for name in names)


def test_members_share_the_environment_seed_and_sample_with_their_own(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    actions = gold_actions(task)
    engine = ScriptedEngine(lambda _, turn: actions[turn], encode=chat.encode_action)
    requests = [SampleRequest("g", task.id, 42, 7, size=3)]
    (reply,) = asyncio.run(gathered(run_groups(env.sibling, engine, chat, requests, limits=ROOMY)))
    assert [sample.member for sample in reply.group.samples] == [0, 1, 2]
    assert {record.episode.seed for record in reply.records} == {reply.group.seed} == {42}
    assert len({record.episode.digest for record in reply.records}) == 1
    assert {(c.request_id, c.turn, c.sampling.seed) for c in engine.calls} == {
        (f"g/{m}", turn, turn_seed(7, "g", m, turn))
        for m in range(3)
        for turn in range(len(actions))
    }


def test_every_group_comes_once_and_environments_are_used_again(
    env: ToolOrchestrationEnv, chat: ChatRenderer
) -> None:
    tasks = env.tasks[:9]
    made: list[ToolOrchestrationEnv] = []

    def factory() -> ToolOrchestrationEnv:
        made.append(env.sibling())
        return made[-1]

    plans = {t.id: gold_actions(t) for t in tasks}
    by_group = {f"g{n}": t.id for n, t in enumerate(tasks)}
    engine = ScriptedEngine(
        lambda request, turn: plans[by_group[request.split("/")[0]]][turn],
        encode=chat.encode_action,
    )
    requests = [SampleRequest(g, t, 1, 2, size=4) for g, t in by_group.items()]
    stream = run_groups(factory, engine, chat, requests, limits=ROOMY, max_concurrent=5)
    replies = asyncio.run(gathered(stream))
    assert {r.group.id: r.group.task_id for r in replies} == by_group
    assert all(r.group.rewards == [1.0] * 4 for r in replies)
    assert len(made) == 5
    assert all(set(t.timings) == {"generate", "env"} for r in replies for t in r.records)


def test_an_engine_failure_propagates_and_yields_no_reward(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    actions = gold_actions(task)

    def script(request: str, turn: int) -> Any:
        return EngineError("the engine died") if (request, turn) == ("b/1", 1) else actions[turn]

    engine = ScriptedEngine(script, encode=chat.encode_action)
    requests = [SampleRequest(name, task.id, 0, 0, size=2) for name in "ab"]
    got: list[str] = []

    async def scenario() -> None:
        async for reply in run_groups(env.sibling, engine, chat, requests, limits=ROOMY):
            got.append(reply.group.id)

    with pytest.raises(EngineError, match="the engine died"):
        asyncio.run(scenario())
    assert "b" not in got
    assert sorted(engine.released) == ["a/0", "a/1", "b/0", "b/1"]


def test_a_failure_of_the_environment_propagates_as_it_is(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = env.sibling()

    def step(action: str) -> Any:
        raise ConnectionError("server gone")

    monkeypatch.setattr(broken, "step", step)
    engine = scripted(chat, gold_actions(task))
    with pytest.raises(ConnectionError, match="server gone"):
        play(broken, engine, chat, task)
    assert engine.released == ["g/0"]


def test_closing_the_stream_early_ends_every_episode(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task
) -> None:
    actions = gold_actions(task)
    short = ["I do not know."]
    engine = ScriptedEngine(
        lambda request, turn: (short if request.startswith("fast") else actions)[turn],
        encode=chat.encode_action,
    )
    requests = [SampleRequest(name, task.id, 0, 0, size=2) for name in ("slow", "fast")]

    async def scenario() -> tuple[str, set[str]]:
        stream = run_groups(env.sibling, engine, chat, requests, limits=ROOMY)
        first = await anext(stream)
        await stream.aclose()
        return first.group.id, {t.get_name() for t in asyncio.all_tasks()}

    name, left = asyncio.run(scenario())
    assert name == "fast"
    assert len(left) == 1  # the scenario itself
    assert sorted(engine.released) == ["fast/0", "fast/1", "slow/0", "slow/1"]


@pytest.mark.parametrize(
    "output",
    [
        TokenOutput((), (), "length", ()),
        TokenOutput((40, 41), (-1.0, -1.0), "stop", (0, 0)),
        TokenOutput((40,) * 601, (-1.0,) * 601, "length", (0,) * 601),
        TokenOutput((40, 41), (-1.0,), "length", (0, 0)),
        TokenOutput((40, 41), (-1.0, -1.0), "length", (0,)),
        TokenOutput((40, 41), (-1.0, math.nan), "length", (0, 0)),
        TokenOutput((40, 41), (-1.0, 0.5), "length", (0, 0)),
    ],
)
def test_an_engine_that_breaks_its_promises_is_an_engine_failure(
    env: ToolOrchestrationEnv, chat: ChatRenderer, task: Task, output: TokenOutput
) -> None:
    class Broken(ScriptedEngine):
        async def generate(
            self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
        ) -> TokenOutput:
            return output

    with pytest.raises(EngineError, match="request 'g/0'"):
        play(env, Broken({}), chat, task)


def test_a_group_without_members_is_refused() -> None:
    with pytest.raises(OrchError, match="at least one member"):
        SampleRequest("g", "t", 0, 0, size=0)


def test_a_real_model_on_the_torch_engine_is_recorded_as_it_sampled(
    env: ToolOrchestrationEnv, chat: ChatRenderer
) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer_for(QWEN)),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    reference = copy.deepcopy(model)
    engine = TorchEngine(model, max_batch=8, version=2)
    requests = [SampleRequest(t.id, t.id, 0, 5, 3, temperature=0.8) for t in env.tasks[:4]]
    stream = run_groups(env.sibling, engine, chat, requests, limits=limited(4096, turn=40))
    samples = [s for reply in asyncio.run(gathered(stream)) for s in reply.group.samples]
    engine.close()
    assert len(samples) == 12
    assert len({tuple(sample.ids_T.tolist()) for sample in samples}) == 12
    for sample in samples:
        sample.check()
        assert sample.oldest_version == 2
        ids = torch.from_numpy(sample.ids_T).long()
        with torch.inference_mode():
            rows = torch.log_softmax(reference(ids[None]).logits[0] / 0.8, -1)
        for at, logprob in zip(sample.actions_N, sample.logprobs_N, strict=True):
            assert math.isclose(rows[at - 1, ids[at]].item(), logprob, abs_tol=1e-4)
