"""A toy suite on the one environment that uses all that benchmarks need beside tasks and calls.

A shop: a customer speaks in turns that appear when the last one ends, a refund tool is offered from
the second turn on, a turn has at most two messages, each turn has a verdict, and a price may be
written in a form that the tool's schema does not allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from orch_env import OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.backends.protocol import BackendSession, UserTurn
from orch_env.env.episode_machine import Limits
from orch_env.env.payout import Score
from orch_env.evaluation import Suite
from orch_env.formats import get_format
from orch_env.replay.play import play
from orch_env.tasks.resolved import ResolvedTask, offered_tool
from orch_env.types import Episode, ErrorType, RewardBreakdown
from orch_env.types.json import JsonObject

NUMBER = {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}
SELL = ToolSpec("sell", "Sell something.", NUMBER)
REFUND = ToolSpec("refund", "Give money back.", NUMBER)
TASK = Task("shop", ({"role": "user", "content": "Sell one for 5."},), ("sell",))
GOLD = ({"sold": 5}, {"sold": 5, "refunded": 2}, {"sold": 5, "refunded": 2})

Speaker = Callable[[str | None], UserTurn | None]


def fixed(*turns: UserTurn) -> Speaker:
    """A user who says the same whatever the model does."""
    left = list(turns)
    return lambda answer: left.pop(0) if left else None


def simulated(answer: str | None) -> UserTurn | None:
    """A user who reads the answer: asks for a refund until it is promised."""
    return None if "refund" in (answer or "") else UserTurn("And my money?", (REFUND,))


class ShopSession:
    """Runs every call, whatever the schema says, and judges each user turn at its end."""

    def __init__(self, speaker: Speaker) -> None:
        self.state: JsonObject = {}
        self.verdicts: list[bool] = []
        self._speaker = speaker
        self._tools = {"sell": "sold"}

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        return [self._answer(call) for call in calls]

    def _answer(self, call: ToolCall) -> ToolResult:
        if call.name not in self._tools:
            return ToolResult.failure(ErrorType.UNKNOWN_TOOL, f"no {call.name}")
        # The schema asks for a number; the shop takes "5 dollars" too.
        price = int(str(call.arguments.get("price", 0)).split()[0])
        field = self._tools[call.name]
        self.state[field] = self.state.get(field, 0) + price
        return ToolResult(json.dumps({"ok": True}))

    def next_user_turn(self, answer: str | None) -> UserTurn | None:
        number = len(self.verdicts)
        self.verdicts.append(number < len(GOLD) and self.state == GOLD[number])
        said = self._speaker(answer)
        if said is not None and said.tools:
            self._tools["refund"] = "refunded"
        return said

    def close(self) -> None: ...


class ShopBackend:
    def __init__(self, speaker: Callable[[], Speaker]) -> None:
        self._speaker = speaker

    def resolve(self, task: Task) -> ResolvedTask:
        return ResolvedTask.of(task, [offered_tool(SELL)])

    def open(self, task: Task, *, seed: int) -> ShopSession:
        return ShopSession(self._speaker())

    def close(self) -> None: ...


def score(episode: Episode, session: BackendSession) -> Score:
    assert isinstance(session, ShopSession)
    done = episode.stop_reason == "answered" and all(session.verdicts)
    return Score(done, RewardBreakdown(float(done)), {"turns": list(session.verdicts)})


def shop(speaker: Callable[[], Speaker], **limits: Any) -> Suite:
    chosen = {"max_messages_per_user_turn": 2, **limits}
    return Suite("shop", (TASK,), ShopBackend(speaker), score, Limits(**chosen))


def three_turns() -> Speaker:
    return fixed(UserTurn("Give 2 back.", (REFUND,)), UserTurn("Thanks!"))


class Script:
    """A policy of written messages."""

    def __init__(self, *messages: Sequence[ToolCall] | str) -> None:
        self._left = list(messages)
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def start(self, task: Task) -> None: ...

    def act(self, observation: str, info: Any) -> str:
        self.seen.append((observation, info))
        message = self._left.pop(0)
        return message if isinstance(message, str) else get_format("hermes").render_calls(message)


def sell(price: Any) -> list[ToolCall]:
    return [ToolCall("sell", {"price": price})]


def refund(price: Any) -> list[ToolCall]:
    return [ToolCall("refund", {"price": price})]


def test_user_turns_appear_when_the_last_one_ends_and_each_has_its_verdict() -> None:
    script = Script(sell(5), "Sold.", refund(2), "Refunded.", "You are welcome.")
    info = play(shop(three_turns).env(), script, TASK)
    assert (info["success"], info["reward"]["total"]) == (True, 1.0)
    assert info["score"] == {"turns": [True, True, True]}
    assert [text for text, _ in script.seen][2::2] == ["Give 2 back.", "Thanks!"]
    assert script.seen[2][1]["messages"] == [{"role": "user", "content": "Give 2 back."}]


def test_a_tool_is_offered_and_answered_from_its_turn_on() -> None:
    script = Script(refund(2), sell(5), refund(2), "Refunded.", "You are welcome.")
    env = shop(three_turns).env()
    info = play(env, script, TASK)
    first, second = script.seen[0][1]["tools"], script.seen[2][1]["tools"]
    assert [tool["function"]["name"] for tool in first] == ["sell"]
    assert [tool["function"]["name"] for tool in second] == ["sell", "refund"]
    assert "tools" not in script.seen[1][1] and "tools" not in script.seen[3][1]
    assert [call.error for call in env.episode.calls] == [ErrorType.UNKNOWN_TOOL, None, None]
    assert info["score"] == {"turns": [True, True, True]}


def test_a_limit_ends_the_user_turn_and_the_next_one_follows_its_results() -> None:
    script = Script(sell(5), sell(1), "Bye.", "Bye.")
    env = shop(three_turns).env()
    info = play(env, script, TASK)
    observation, said = script.seen[2]
    assert observation.startswith("<tool_response>") and observation.endswith("\nGive 2 back.")
    assert [m["role"] for m in said["messages"]] == ["tool", "user"]
    assert info["stop_reason"] == "answered"
    assert info["score"] == {"turns": [False, False, False]}


def test_a_limit_in_the_last_user_turn_ends_the_episode() -> None:
    info = play(shop(lambda: fixed()).env(), Script(sell(5), sell(0)), TASK)
    assert (info["stop_reason"], info["success"]) == ("max_turns", False)
    assert info["score"] == {"turns": [True]}


def test_a_suite_may_choose_that_the_limit_ends_the_episode() -> None:
    env = shop(three_turns, next_turn_at_limit=False).env()
    info = play(env, Script(sell(5), sell(0)), TASK)
    assert (info["stop_reason"], info["score"]) == ("max_turns", {"turns": [True]})


def test_a_call_runs_although_the_schema_disagrees() -> None:
    script = Script(sell("5 dollars"), "Sold.", refund("2"), "Refunded.", "You are welcome.")
    env = shop(three_turns).env()
    assert play(env, script, TASK)["success"]
    assert all(call.ok for call in env.episode.calls)


def test_a_simulated_user_hears_the_answer() -> None:
    script = Script(sell(5), "Sold.", "No.", refund(2), "A refund is on its way.")
    env = shop(lambda: simulated).env()
    info = play(env, script, TASK)
    assert info["stop_reason"] == "answered"
    assert info["score"] == {"turns": [True, False, True]}


def test_another_reward_may_be_paid_beside_the_suite_s_verdict() -> None:
    env = shop(three_turns).env(reward="binary")
    info = play(env, Script("Bye.", "Bye.", "Bye."), TASK)
    assert info["reward"]["total"] == 1.0  # a task without gold calls, and none was made
    assert (info["success"], info["score"]) == (False, {"turns": [False, False, False]})
    with pytest.raises(OrchError, match="name a reward"):
        env.from_backend([TASK], ShopBackend(three_turns), reward=None)


def test_tools_without_snapshots_say_so_when_an_episode_is_to_be_saved_or_forked() -> None:
    env = shop(three_turns).env()
    env.reset(seed=0)
    for save in (env.get_state, env.fork):
        with pytest.raises(OrchError, match=r"ShopSession cannot be saved.*no snapshot\(\)"):
            save()
    env.step("Sold.")  # the episode goes on


def test_message_by_message_is_the_same_in_openai_s_shape() -> None:
    env = shop(three_turns).env()
    env.reset(seed=0)
    function = {"name": "sell", "arguments": '{"price": 5}'}
    env.step_message({"content": None, "tool_calls": [{"id": "a", "function": function}]})
    *_, info = env.step_message({"content": "Sold."})
    assert info["messages"] == [{"role": "user", "content": "Give 2 back."}]
    assert [t["function"]["name"] for t in info["tools"]] == ["sell", "refund"]
