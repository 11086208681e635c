"""How often a policy solves each task; each result is kept as soon as it is there."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from orch_env.endpoint import Endpoint
from orch_env.env import ToolOrchestrationEnv
from orch_env.types import OrchError, Task
from orch_env.types.json import JsonObject

Play = Callable[[Sequence[str], int], Iterator[tuple[str, bool]]]
"""Plays tasks by id, once each; gives (task id, success) as episodes end. The number is that of
the episode from 0, the same for all: the sampling seed follows it, also in a rerun."""
_POLICYS_FAULT = ("no_message", "status_400", "status_413", "status_422")
"""An answer that is none, or a conversation that is too long: the episode goes on with an empty
message. Other errors say nothing about the policy, and count as no episode."""
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
            whole, _, cut = path.read_bytes().rpartition(b"\n")
            for number, line in enumerate(whole.splitlines(), 1):
                self._read(line, f"{str(path)!r}, line {number}")
            if cut:  # the last line of a process that was killed: the next starts in its place
                os.truncate(path, len(whole) + bool(whole))

    def _read(self, line: bytes, where: str) -> None:
        try:
            entry = json.loads(line)
            policy, task, success = entry["policy"], entry["task_id"], entry["success"]
            typed = isinstance(task, str) and isinstance(success, bool)
        except (ValueError, KeyError, TypeError):
            typed = False
        if not typed:
            raise OrchError(f"{where}: no result of an episode; delete the file")
        if policy != self._policy:
            raise OrchError(f"{where} holds rates of {policy!r}: name another file or delete it")
        self._count(task, success)

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
                number = min((self.played[t.id] for t in tasks), default=k)
                if number >= k:
                    break
                missing = [t.id for t in tasks if self.played[t.id] == number][:_BLOCK]
                for task, success in play(missing, number):
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


def endpoint_player(endpoint: Endpoint, env: ToolOrchestrationEnv, seed: int = 0) -> Play:
    """Plays tasks with a model behind an endpoint: messages and tool calls in OpenAI's shape.

    Args:
        endpoint: the client.
        env: an environment with the tasks; every episode has a fork of it.
        seed: sampling seed of a task's first episode.
    """

    def play(names: Sequence[str], number: int) -> Iterator[tuple[str, bool]]:
        with ThreadPoolExecutor(endpoint.settings.concurrency) as pool:
            waiting = {pool.submit(one, name, seed + number): name for name in names}
            problem: BaseException | None = None
            try:
                for future in as_completed(waiting):
                    if future.cancelled():
                        continue
                    if (found := future.exception()) is None:
                        yield waiting[future], future.result()
                    elif problem is None:  # episodes that are under way end, and are kept
                        problem = found
                        _cancel(waiting)
            finally:
                _cancel(waiting)
            if problem is not None:
                raise problem

    def one(name: str, sampling_seed: int) -> bool:
        own = env.sibling()
        try:
            return _episode(endpoint, own, name, sampling_seed)
        finally:
            own.close()

    return play


def _cancel(waiting: Iterable[Future[bool]]) -> None:
    for future in waiting:
        future.cancel()


def _episode(endpoint: Endpoint, env: ToolOrchestrationEnv, name: str, seed: int) -> bool:
    _, info = env.reset(seed=seed, options={"task_id": name})
    messages: list[JsonObject] = list(info["messages"])
    tools = info["tools"]
    while True:
        [answer] = endpoint.ask([{"messages": messages, "tools": tools, "seed": seed}])
        if answer.error is not None and answer.error not in _POLICYS_FAULT:
            raise OrchError(
                f"no answer from endpoint {endpoint.settings.url!r} ({answer.error}); what was "
                "measured is kept: the same command goes on"
            )
        message = answer.message or {"role": "assistant", "content": ""}
        kept = {k: v for k, v in message.items() if k in ("role", "content", "tool_calls")}
        _, _, terminated, truncated, info = env.step_message(kept)
        messages += [kept, *info["messages"]]
        if terminated or truncated:
            return bool(info["success"])
