"""How often a policy solves each task; each result is kept as soon as it is there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orch_env.endpoint import Endpoint
from orch_env.env import ToolOrchestrationEnv
from orch_env.types import OrchError, Task
from orch_env.types.json import JsonObject

Play = Callable[[Sequence[str]], Iterator[tuple[str, bool]]]
"""Plays tasks by id, once each; gives (task id, success) as episodes end."""
_BLOCK = 32
"""Tasks whose results are kept together."""


class PassRates:
    """Counts of solved episodes, in a JSON Lines file that is appended to.

    Args:
        path: the file; what it holds is not played again.
        policy: the policy's name; a file of another one is refused.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self._path = path
        self._policy = policy
        self.played: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the last line of a process that was killed
                if entry["policy"] != policy:
                    raise OrchError(
                        f"{str(path)!r} holds rates of {entry['policy']!r}: name another file or "
                        "delete it"
                    )
                self._count(entry["task_id"], entry["success"])

    def _count(self, task: str, success: bool) -> None:
        self.played[task] += 1
        self.passed[task] += success

    def measure(
        self,
        tasks: Sequence[Task],
        k: int,
        play: Play,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[str, float]:
        """Play each task until it has ``k`` episodes; task id -> share that succeeded."""
        total = k * len(tasks)
        done = sum(min(self.played[t.id], k) for t in tasks)
        with self._path.open("a", encoding="utf-8") as lines:
            while True:
                missing = [t.id for t in tasks if self.played[t.id] < k][:_BLOCK]
                if not missing:
                    break
                for task, success in play(missing):
                    entry = {"task_id": task, "success": bool(success), "policy": self._policy}
                    lines.write(json.dumps(entry) + "\n")
                    lines.flush()
                    self._count(task, success)
                    done += 1
                    if progress is not None:
                        progress("playing", done, total)
        return {t.id: self.passed[t.id] / self.played[t.id] for t in tasks}


def keep(
    tasks: Sequence[Task], rates: Mapping[str, float], k: int, policy: str, low: float, high: float
) -> list[Task]:
    """The tasks whose rate lies in ``low..high``, both included, with the rate in the metadata."""
    return [
        task.with_metadata(pass_rate=round(rates[task.id], 4), pass_episodes=k, pass_policy=policy)
        for task in tasks
        if low <= rates[task.id] <= high
    ]


def endpoint_player(
    endpoint: Endpoint, env: ToolOrchestrationEnv, tasks: Mapping[str, Task]
) -> Play:
    """Plays tasks with a model behind an endpoint: messages and tool calls in OpenAI's shape.

    Args:
        endpoint: the client.
        env: an environment with the tasks; every episode has a fork of it.
        tasks: id -> task.
    """
    rounds: Counter[str] = Counter()

    def play(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
        seeds = [rounds[name] for name in names]
        rounds.update(names)
        with ThreadPoolExecutor(endpoint.settings.concurrency) as pool:
            yield from zip(names, pool.map(one, names, seeds), strict=True)

    def one(name: str, seed: int) -> bool:
        own = env.sibling()
        try:
            return _episode(endpoint, own, name, seed)
        finally:
            own.close()

    return play


def _episode(endpoint: Endpoint, env: ToolOrchestrationEnv, name: str, seed: int) -> bool:
    _, info = env.reset(seed=seed, options={"task_id": name})
    messages: list[JsonObject] = list(info["messages"])
    tools = info["tools"]
    while True:
        [answer] = endpoint.ask([{"messages": messages, "tools": tools, "seed": seed}])
        if answer.error == "spend_limit":
            raise OrchError("the spend limit is reached; what was measured is kept")
        message = answer.message or {"role": "assistant", "content": ""}
        kept = {k: v for k, v in message.items() if k in ("role", "content", "tool_calls")}
        _, _, terminated, truncated, info = env.step_message(kept)
        messages += [kept, *info["messages"]]
        if terminated or truncated:
            return bool(info["success"])
