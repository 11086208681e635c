"""Gold's episodes prepared as actions, played with a clock on each reset and each step."""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orch_env import Task, ToolOrchestrationEnv
from orch_env.replay.policies import make_policy

Spread = dict[str, float]
"""Over the passes: ``median``, ``min`` and ``max``."""


@dataclass(frozen=True)
class Script:
    """One episode, prepared: gold's messages, the first ``calling`` of which hold calls."""

    task_id: str
    actions: tuple[Any, ...]
    calling: int
    gold_calls: int


@dataclass(frozen=True)
class Pass:
    """Nanoseconds of each reset and each step of a pass, in order."""

    resets: array[int]
    steps: array[int]

    @property
    def steps_per_s(self) -> float:
        """Steps a second of the time spent in reset and step."""
        return len(self.steps) / ((sum(self.resets) + sum(self.steps)) * 1e-9)


def gold_scripts(tasks: Iterable[Task]) -> list[Script]:
    """Each task's episode, as the gold policy plays it."""
    policy = make_policy("gold")
    scripts = []
    for task in tasks:
        policy.start(task)
        calling = sum(1 for step in task.gold if step)
        actions = tuple(policy.act("", {}) for _ in range(calling + len(task.followups) + 1))
        scripts.append(Script(task.id, actions, calling, sum(map(len, task.gold))))
    return scripts


def message_scripts(tasks: Iterable[Task]) -> list[Script]:
    """The same episodes with OpenAI messages for actions."""
    scripts = []
    for task, script in zip(tasks, gold_scripts(tasks), strict=True):
        made = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": f"call_{turn}_{number}",
                        "type": "function",
                        "function": {"name": c.name, "arguments": json.dumps(dict(c.arguments))},
                    }
                    for number, c in enumerate(step)
                ],
            }
            for turn, step in enumerate(step for step in task.gold if step)
        ]
        said = [{"role": "assistant", "content": text} for text in script.actions[script.calling :]]
        scripts.append(replace(script, actions=(*made, *said)))
    return scripts


def succeeded(result: Any) -> bool:
    """What a last step returned says that the task was done."""
    return bool(result[2] and result[4]["success"])


def goes_on(result: Any) -> bool:
    """What a step returned says that the episode has not ended."""
    return not (result[2] or result[3])


def play(
    env: ToolOrchestrationEnv,
    scripts: Iterable[Script],
    take: Callable[[Any], Any] | None = None,
    ended: Callable[[Any], bool] = succeeded,
) -> Pass:
    """Play each episode once, from reset to its last action.

    Args:
        env: the environment.
        scripts: the episodes.
        take: what takes an action; ``env.step`` where it is ``None``.
        ended: whether what the last action returned is as it should be.
    """
    step = take or env.step
    reset, clock = env.reset, time.perf_counter_ns
    resets, steps = array("q"), array("q")
    gc.collect()
    for script in scripts:
        options = {"task_id": script.task_id}
        started = clock()
        reset(seed=0, options=options)
        resets.append(clock() - started)
        for action in script.actions:
            started = clock()
            result = step(action)
            steps.append(clock() - started)
        if not ended(result):
            raise SystemExit(f"task {script.task_id!r} ends as it should not: {result[4]}")
    return Pass(resets, steps)


def with_calls(script: Script, at: int) -> bool:
    """Whether this action makes calls; the last one never does."""
    return at < script.calling


def answers(script: Script, at: int) -> bool:
    """Whether this is the last action, after which the episode is scored."""
    return at == len(script.actions) - 1


def answers_of_five(script: Script, at: int) -> bool:
    """The same in a task of exactly five gold calls."""
    return answers(script, at) and script.gold_calls == 5


def steps_us(
    scripts: Sequence[Script], passes: Sequence[Pass], wanted: Callable[[Script, int], bool]
) -> Spread | None:
    """The spread of the passes' medians over the steps that are wanted; None if there are none."""
    flat = [wanted(script, at) for script in scripts for at in range(len(script.actions))]
    if not any(flat):
        return None
    return spread(median_us(itertools.compress(one.steps, flat)) for one in passes)


def median_us(nanoseconds: Iterable[int]) -> float:
    """The median in microseconds."""
    return statistics.median(nanoseconds) / 1e3


def spread(values: Iterable[float]) -> Spread:
    """Median, smallest and largest."""
    made = sorted(values)
    return {"median": statistics.median(made), "min": made[0], "max": made[-1]}


def counts(scripts: Sequence[Script]) -> dict[str, int]:
    """How much one pass plays."""
    return {
        "tasks": len(scripts),
        "steps": sum(len(script.actions) for script in scripts),
        "gold_calls": sum(script.gold_calls for script in scripts),
    }
