"""The table that every adapter passes, and 200 episodes whose reward is that of `orch replay`.

A framework's script, run in the framework's own environment, writes one function: it plays scripted
assistant messages through the adapter and the framework's own loop, and says what came of each::

    if __name__ == "__main__":
        report(perform)

Nothing here imports pytest or a framework.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.play import play
from orch_env.replay.policies import make_policy
from orch_env.session import EpisodeSource
from orch_env.tasks.selection import spread
from orch_env.types import StopReason
from orch_env.types.json import JsonObject, parse_json
from tests.adapters.two_hundred import cases

SOURCE = EpisodeSource("harbour")
"""What the adapters are built on; all limits as they come."""

MALFORMED = '<tool_call>\n{"name": "berth_of", "arguments": {\n</tool_call>'
UNKNOWN = '<tool_call>\n{"name": "no_such_tool", "arguments": {}}\n</tool_call>'


@dataclass(frozen=True)
class Script:
    """An episode whose messages are written beforehand.

    Attributes:
        case: its row of the table.
        task_id: the task.
        actions: the assistant's messages with Hermes markup, as `env.step` takes them.
        seed: the episode's seed.
    """

    case: str
    task_id: str
    actions: tuple[str, ...]
    seed: int = 0

    def messages(self) -> list[JsonObject]:
        """The actions in OpenAI's shape, for frameworks that hold parsed calls.

        A call that cannot be read has no name, and its text as its arguments.
        """
        return [message_of(action, number) for number, action in enumerate(self.actions)]


@dataclass(frozen=True)
class Played:
    """What came of a script.

    Attributes:
        reward: what the framework was given; ``None`` where it was told not to score.
        results: the text of each call's result, in order, as the model would read it.
        actions: how many messages of the script were played before the framework or the
            environment ended the episode.
        stop_reason: as the adapter says it, ``None`` where the framework has no place for it.
        last_run: False where the framework ended the episode at a message whose calls it did not
            run.
    """

    reward: float | None
    results: tuple[str, ...]
    actions: int
    stop_reason: str | None = None
    last_run: bool = True


Play = Callable[[Sequence[Script]], Sequence[Played]]
"""Plays scripts, those given together in turns: a message of each, then the next of each."""


def message_of(action: str, number: int = 0) -> JsonObject:
    """An action as an assistant message in OpenAI's shape; ``number`` makes its call ids."""
    read = get_format("hermes").parse(action)
    message: JsonObject = {"role": "assistant", "content": read.content}
    if read.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number}_{position}",
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": action
                    if position in read.problems
                    else json.dumps(call.arguments),
                },
            }
            for position, call in enumerate(read.calls)
        ]
    return message


def table() -> list[Script]:
    """The scripts of the table's rows."""
    gold = [_gold(task_id) for task_id in _tasks(3)]
    one, two, three = gold
    errors = (UNKNOWN,) * (SOURCE.max_errors or 0)
    return [
        *gold,
        Script("no-op", one.task_id, one.actions[-1:]),
        Script("malformed call", one.task_id, (MALFORMED, *one.actions)),
        Script("unknown tool", two.task_id, (UNKNOWN, *two.actions)),
        Script("parallel calls", three.task_id, ("\n".join(three.actions[:-1]), three.actions[-1])),
        Script("call after the end", one.task_id, (*errors, *one.actions)),
        Script("truncation", one.task_id, one.actions[:1]),
    ]


@cache
def expected(script: Script, actions: int | None = None, last_run: bool = True) -> Played:
    """What the environment itself makes of a script, or of its first messages.

    An episode that does not end by itself is ended with ``output_truncated``.
    """
    env = _env()
    env.reset(seed=script.seed, options={"task_id": script.task_id})
    results: list[str] = []
    played = list(script.actions[:actions])
    unrun = "" if last_run else played.pop()
    taken = 0
    for action in played:
        _, _, terminated, truncated, info = env.step(action)
        taken += 1
        results += [m["content"] for m in info["messages"] if m["role"] == "tool"]
        if terminated or truncated:
            break
    else:
        *_, info = env.stop(StopReason.OUTPUT_TRUNCATED, unrun)
    return Played(info["reward"]["total"], tuple(results), taken, info["stop_reason"])


def report(perform: Play, *, exempt: Mapping[str, str] | None = None, count: int = 200) -> None:
    """Play everything and print it as one line of JSON; `check_report` says what must hold."""
    print(json.dumps(report_of(perform, exempt=exempt, count=count)))


def report_of(
    perform: Play, *, exempt: Mapping[str, str] | None = None, count: int = 200
) -> JsonObject:
    """Play everything and say what came of it.

    Args:
        perform: the framework's side.
        exempt: rows that the framework cannot express as they stand, with the reason. Their reward
            must be right all the same, for what the framework took of them.
        count: episodes beside the table.
    """
    exempt = exempt or {}
    rows: dict[str, str] = {}
    for script in table():
        [one] = perform([script])
        wrong = _difference(script, one, whole=script.case not in exempt)
        if script.case == "gold" and one.reward != 1.0:
            wrong = f"gold earned {one.reward}"
        rows[script.case] = rows.get(script.case) or wrong
    gold = [script for script in table() if script.case == "gold"][:2]
    together, again = perform(gold), perform(gold)
    wrong = [_difference(*pair) for pair in zip(gold, together, strict=True)]
    rows["two interleaved"] = "; ".join(filter(None, wrong))
    rows["same seed, same bytes"] = "" if list(together) == list(again) else "they differ"
    episodes: dict[str, Any] = {"whole": 0, "cut": 0, "unequal": []}
    for case in cases()[:count] if count else ():
        script = Script(case.policy, case.task_id, case.actions, case.seed)
        [one] = perform([script])
        truth = expected(script)
        whole = one.last_run and one.actions >= truth.actions and _by_itself(truth)
        episodes["whole" if whole else "cut"] += 1
        if not whole:
            truth = expected(script, one.actions, one.last_run)
        if one.reward != truth.reward:
            episodes["unequal"].append([script.case, script.task_id, one.reward])
    return {"rows": rows, "exempt": dict(exempt), "episodes": episodes}


def check_report(found: Mapping[str, Any], *, whole: int) -> None:
    """Assert that a report holds.

    Args:
        found: what `report` printed.
        whole: at least so many of its episodes went to their end as the environment has it.
    """
    assert len(found["rows"]) == 9
    assert {row: why for row, why in found["rows"].items() if why} == {}
    assert found["episodes"]["unequal"] == []
    assert found["episodes"]["whole"] >= whole


def _difference(script: Script, one: Played, whole: bool = True) -> str:
    """What is wrong with a played script, empty if nothing is."""
    truth = expected(script) if whole else expected(script, one.actions, one.last_run)
    if one.reward != truth.reward:
        return f"the reward is {one.reward}, not {truth.reward}"
    if not whole:
        return ""
    if len(one.results) < len(truth.results):
        return "results are missing"
    if not all(map(_alike, one.results, truth.results)):
        return "the results differ"
    if any(_error(result) != "limit" for result in one.results[len(truth.results) :]):
        return "a call after the end was run"
    reason = one.stop_reason
    if reason is not None and reason != truth.stop_reason and not StopReason(reason).external:
        return f"the stop reason is {reason}, not {truth.stop_reason}"
    return ""


def _by_itself(truth: Played) -> bool:
    return truth.stop_reason is not None and not StopReason(truth.stop_reason).external


def _alike(result: str, truth: str) -> bool:
    """Equal; what is wrong with a malformed call depends on the form in which it came."""
    return result == truth or _error(result) == _error(truth) == "malformed_call"


def _error(result: str) -> str | None:
    body = parse_json(result)
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("type") if isinstance(error, dict) else None


@cache
def _env() -> ToolOrchestrationEnv:
    return ToolOrchestrationEnv(SOURCE.tasks, SOURCE.cache, split=SOURCE.split)


def _tasks(count: int) -> list[str]:
    return [task.id for task in spread(_env().tasks, count)]


def _gold(task_id: str) -> Script:
    env = _env()
    play(env, make_policy("gold"), env.named(task_id))
    return Script("gold", task_id, tuple(turn.action for turn in env.episode.turns))
