"""The agent loop for verl: over a stand-in for verl's class here, over verl itself if it is there.

In the stand-in a token is a character, and the newline ends a message.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from orch_env.adapters import verl
from orch_env.types import OrchError
from tests.adapters.conformance import SOURCE, Script, check_report, table
from tests.adapters.other_python import output_of, run_with

GOLD, END = table()[0], "\0"


class Tokenizer:
    all_special_ids = (0,)
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class Base:
    """What the loop uses of verl's class, with verl's rules for the metadata of each token."""

    AgentLoopOutput = SimpleNamespace

    def __init__(self, server: Any, prompt: int, response: int, longest: int | None) -> None:
        self.server_manager, self.tokenizer = server, Tokenizer()
        self.rollout_config = SimpleNamespace(
            prompt_length=prompt, response_length=response, max_model_len=longest
        )

    async def ct_build_initial_tokens(self, messages: list[Any], tools: list[Any]) -> list[int]:
        return list(map(ord, f"{messages}"))[: self.rollout_config.prompt_length]

    async def ct_merge_assistant_token(
        self, ids: Any, new: Any, mask: Any, logprobs: Any, assistant_logprobs: Any
    ) -> Any:
        added = None if logprobs is None else [*logprobs, *assistant_logprobs]
        return SimpleNamespace(token_ids=[*ids, *new]), [*mask, *[1] * len(new)], added

    async def ct_merge_context_msg(
        self, before: Any, after: Any, ids: Any, mask: Any, logprobs: Any, tools: Any
    ) -> Any:
        assert after[: len(before)] == before and before[-1]["role"] == "assistant"
        new = list(map(ord, "".join(m["content"] for m in after[len(before) :])))
        added = None if logprobs is None else [*logprobs, *[0.0] * len(new)]
        return SimpleNamespace(token_ids=[*ids, *new]), [*mask, *[0] * len(new)], added


class Loop(verl.EpisodeLoop, Base):
    pass


class Server:
    """Says what was written; the reasons for which it stops come first."""

    def __init__(self, actions: Sequence[str], reasons: Sequence[str] = ()) -> None:
        self.actions, self.reasons = list(actions), list(reasons)
        self.asked: list[tuple[list[int], int]] = []

    async def generate(self, *, request_id: str, prompt_ids: Any, sampling_params: Any) -> Any:
        room = sampling_params["max_tokens"]
        self.asked.append((list(prompt_ids), room))
        reason = self.reasons.pop(0) if self.reasons else "completed"
        said = (self.actions.pop(0) + END) if reason != "aborted" else ""
        ids = list(map(ord, said))[:room]
        return SimpleNamespace(
            token_ids=ids,
            log_probs=[-1.0] * len(ids),
            stop_reason=reason,
            num_preempted=None,
            routed_experts=None,
            extra_fields={"global_steps": len(self.asked), "max_global_steps": len(self.asked)},
        )


def run(
    server: Server,
    script: Script = GOLD,
    *,
    prompt: int = 100_000,
    response: int = 100_000,
    longest: int | None = None,
    info: Any = None,
    source: Any = None,
) -> Any:
    async def played() -> Any:
        loop = Loop(
            source=source or {"tasks": "harbour"},
            server=server,
            prompt=prompt,
            response=response,
            longest=longest,
        )
        named = {"task_id": script.task_id, "seed": script.seed} if info is None else info
        return await loop.run({}, raw_prompt=SOURCE.prompt(script.task_id), extra_info=named)

    output = asyncio.run(played())
    size = len(output.response_ids)
    assert size == len(output.response_mask) == len(output.response_logprobs) <= response
    for ids, _ in server.asked:  # what the engine saw is what is trained on
        assert [*output.prompt_ids, *output.response_ids][: len(ids)] == ids
    return output


def said_by_model(output: Any) -> str:
    pairs = zip(output.response_ids, output.response_mask, strict=True)
    return "".join(chr(token) for token, own in pairs if own)


def test_the_mask_marks_what_the_model_said_and_gold_earns_one() -> None:
    output = run(Server(GOLD.actions))
    assert said_by_model(output) == "".join(action + END for action in GOLD.actions)
    assert output.reward_score == 1.0 and output.num_turns == 2 * len(GOLD.actions)
    for logprob, own in zip(output.response_logprobs, output.response_mask, strict=True):
        assert logprob == (-1.0 if own else 0.0)
    assert output.extra_fields["stop_reason"] == "answered"
    assert output.extra_fields["reward_extra_info"] == {"acc": 1.0}
    assert output.extra_fields["max_global_steps"] == len(GOLD.actions)
    assert output.extra_fields["global_steps"] == 1


def test_a_message_that_is_cut_ends_the_episode_and_its_calls_are_not_run() -> None:
    first = len(GOLD.actions[0]) + 1
    whole = run(Server(GOLD.actions))
    read = whole.response_mask[first:].index(1)
    response = first + read + 5
    output = run(Server(GOLD.actions), response=response)
    assert output.extra_fields["stop_reason"] == "output_truncated"
    assert len(output.response_ids) == response
    assert output.reward_score == _score(GOLD.actions[0], "output_truncated") < 1.0


def test_a_message_that_just_fits_is_taken_whole() -> None:
    size = len(run(Server(GOLD.actions)).response_ids)
    output = run(Server(GOLD.actions), response=size)
    assert output.reward_score == 1.0 and output.extra_fields["stop_reason"] == "answered"


@pytest.mark.parametrize("limit", ["response", "longest"])
def test_a_result_that_leaves_no_room_ends_the_episode(limit: str) -> None:
    first = len(GOLD.actions[0]) + 1
    prompt = len(run(Server(GOLD.actions)).prompt_ids)
    room = {"response": first + 3} if limit == "response" else {"longest": prompt + first + 3}
    server = Server(GOLD.actions)
    output = run(server, **room)
    assert output.extra_fields["stop_reason"] == "context_overflow"
    assert len(server.asked) == 1 and said_by_model(output) == GOLD.actions[0] + END
    assert limit == "longest" or len(output.response_ids) == first  # the result is left out
    assert output.reward_score == _score(GOLD.actions[0], "context_overflow")


def _score(action: str, reason: str) -> float:
    session = SOURCE.session()
    session.reset(GOLD.task_id, seed=GOLD.seed)
    session.text(action)
    breakdown = session.finish(reason=reason)
    assert breakdown is not None
    return breakdown.total


def test_a_prompt_that_verl_would_cut_is_refused() -> None:
    with pytest.raises(OrchError, match=r"fills all 20 tokens of data\.max_prompt_length"):
        run(Server(GOLD.actions), prompt=20)


@pytest.mark.parametrize("info", [{}, {"task_id": None}, {"index": 3}])
def test_a_row_without_a_task_says_how_rows_are_made(info: Any) -> None:
    with pytest.raises(OrchError, match="orch export-rows --for verl"):
        run(Server(GOLD.actions), info=info)


def test_an_unknown_task_is_one_clear_line() -> None:
    with pytest.raises(OrchError, match="there is no task 'nobody'"):
        run(Server(GOLD.actions), info={"task_id": "nobody"})


def test_what_infrastructure_ends_is_begun_again_and_never_pays_zero() -> None:
    server = Server(GOLD.actions, ["aborted", "aborted"])
    output = run(server)
    assert output.reward_score == 1.0 and len(server.asked) == 2 + len(GOLD.actions)
    with pytest.raises(OrchError, match="infrastructure ended the episode in 3 tries"):
        run(Server(GOLD.actions, ["aborted"] * 3))


def test_settings_out_of_a_configuration_become_plain_data() -> None:
    reward = {"name": "graduated", "edition": 1}
    output = run(Server(GOLD.actions), source={"tasks": "harbour", "reward": reward})
    assert output.reward_score == 1.0
    with pytest.raises(TypeError, match="unexpected keyword argument 'task'"):
        run(Server(GOLD.actions), source={"task": "harbour"})


@pytest.mark.skipif(bool(importlib.util.find_spec("verl")), reason="verl is here")
def test_without_verl_its_first_use_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[verl\]'"):
        _ = verl.OrchAgentLoop
    with pytest.raises(AttributeError, match="no attribute 'OrchLoop'"):
        _ = verl.OrchLoop


@pytest.mark.adapters
def test_verl_itself_passes_the_table_and_pays_what_replay_pays() -> None:
    check_report(run_with("verl", "tests.adapters.verl_conformance"), whole=200)


@pytest.mark.adapters
def test_the_example_plays_gold() -> None:
    said = output_of("verl", "examples/verl_agent_loop.py")
    assert said.count("reward 1.0, answered: 6 turns") == 2
