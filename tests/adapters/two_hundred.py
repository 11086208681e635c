"""200 episodes on the bundled world, with what `orch replay` pays them: gold, exploits, malformed.

Every adapter plays them through its framework and must pay the same, to the last bit. Nothing here
needs a framework or pytest, so that each environment's interpreter can import it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orch_env import StopReason, Task, ToolOrchestrationEnv
from orch_env.audit.exploits import find_exploit
from orch_env.formats import get_format
from orch_env.replay.play import play
from orch_env.replay.policies import PlanPolicy, Policy

TASKS = 10
"""Tasks, spread over the bundled set; each is played in 20 ways."""
_PLANS = (
    "gold",
    "honest_half",
    "answer_at_once",
    "first_tool",
    "every_tool",
    "lucky_call",
    "copied_descriptions",
    "first_call_only",
    "invented_values",
    "backwards",
    "one_message",
    "padded_in_budget",
    "padded_beyond",
    "five_duplicates",
)
_BROKEN = {
    "cut": lambda text: text[: len(text) // 2],
    "no_name": lambda text: text.replace('"name"', '"nome"'),
    "no_close": lambda text: text.replace("</tool_call>", ""),
    "list_of_arguments": lambda text: text.replace('"arguments": {', '"arguments": [{'),
    "only_close": lambda text: text.replace("<tool_call>", ""),
    "not_a_number": lambda text: text.replace('"arguments": {', '"arguments": {"x": NaN, '),
}
"""How gold's second message is broken; gold goes on after it."""


@dataclass(frozen=True)
class Case:
    """One of the episodes.

    Attributes:
        policy: what played it.
        task_id: the task.
        seed: the episode's seed.
        actions: the assistant messages, as texts in the format `hermes`.
        total: what `orch replay` pays.
        stop_reason: why it ended.
    """

    policy: str
    task_id: str
    seed: int
    actions: tuple[str, ...]
    total: float
    stop_reason: StopReason


def cases() -> list[Case]:
    """The 200 episodes; the same in every process."""
    env = ToolOrchestrationEnv("harbour")
    apart = len(env.tasks) // TASKS
    return [
        _played(env, name, policy, task, seed)
        for seed, task in enumerate(env.tasks[::apart][:TASKS])
        for name, policy in _policies(env, task)
    ]


def _played(env: ToolOrchestrationEnv, name: str, policy: Policy, task: Task, seed: int) -> Case:
    play(env, policy, task, seed=seed)
    episode = env.episode
    assert episode.reward is not None and episode.stop_reason is not None
    actions = tuple(turn.action for turn in episode.turns)
    return Case(name, task.id, seed, actions, episode.reward.total, episode.stop_reason)


def _policies(env: ToolOrchestrationEnv, task: Task) -> Iterator[tuple[str, Policy]]:
    style = get_format("hermes")
    resolved = env.backend.resolve(task)
    for name in _PLANS:
        plan = find_exploit(name).plan(resolved)
        if plan is None:
            raise ValueError(f"{name} does not apply to {task.id}")
        yield name, PlanPolicy(plan, style)
    gold = [style.render_calls(step) for step in task.gold]
    for name, spoil in _BROKEN.items():
        at = min(1, len(gold) - 1)
        said = [*gold[:at], spoil(gold[at]), *gold[at:], "Done."]
        yield f"broken_{name}", _Said(said)


class _Said:
    """Says what was written down, then its last line again."""

    def __init__(self, said: list[str]) -> None:
        self._said = said
        self._next = 0

    def start(self, task: Task) -> None:
        """It knows its task."""

    def act(self, observation: str, info: object) -> str:
        """The next line."""
        self._next += 1
        return self._said[min(self._next, len(self._said)) - 1]
