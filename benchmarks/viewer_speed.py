"""How fast `orch view` answers over a run of 100,000 episodes: milliseconds a question, by HTTP.

    python -m benchmarks.viewer_speed [--episodes N] [--out benchmarks/results/viewer_speed.json]

A run is written with the production writers' schema (transcripts of about 5 kB, 600 tokens), then
each question of the page is asked over HTTP, the database's first reading included as ``first``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.report import machine, write_report
from orch_env.types import CallAccount, Episode, RewardBreakdown, StopReason, ToolCall, Turn
from orch_train.trajectory.sample import TrainingSample
from orch_train.trajectory.store import Rollout, RolloutStore, pack_tokens
from orch_train.viewer.run_data import RunData
from orch_train.viewer.server import ViewServer

GROUP_SIZE, GROUPS_PER_STEP, TASKS = 8, 16, 500
QUESTIONS = {
    "runs (polled every 4 s)": "runs",
    "curves: 8 metrics": "metrics?names=" + ",".join(f"env_runners/m{i}" for i in range(8)),
    "list: newest page": "rollouts?limit=50",
    "list: page 1,000": "rollouts?limit=50&offset=50000",
    "list: by reward": "rollouts?limit=50&sort=reward",
    "list: filtered by stop and reward": "rollouts?limit=50&stop=max_turns&reward_from=0.5",
    "list: part of a task id": "rollouts?limit=50&task=task-12",
    "list: text in 10 steps' transcripts": "rollouts?limit=50&text=needle&step_to=10",
    "list: text in all transcripts": "rollouts?limit=50&text=needle",
    "tasks: all": "tasks",
    "episode": "episode?step=9&group=9-3&member=2",
    "tokens": "tokens?step=9&group=9-3&member=2",
    "group": "group?step=9&group=9-3",
}


def write_run(folder: Path, episodes: int, seed: int = 0) -> None:
    """A run's folder with so many episodes."""
    rng = random.Random(seed)
    (folder / "config.yaml").write_text("training: {advantage: group_std, advantage_eps: 0.0001}\n")
    store = RolloutStore(folder / "rollouts.db")
    steps = episodes // (GROUP_SIZE * GROUPS_PER_STEP) + 1
    left = episodes
    for step in range(1, steps + 1):
        rows = [_row(rng, step, g, m) for g in range(GROUPS_PER_STEP) for m in range(GROUP_SIZE)]
        with store._engine.begin() as connection:
            connection.execute(insert(Rollout.__table__), rows[:left])  # type: ignore[arg-type]
        left -= len(rows)
        if left <= 0:
            break
    store.close()
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            values = {f"m{i}": rng.random() for i in range(120)}
            file.write(json.dumps({"training_iteration": step, "env_runners": values}) + "\n")


def _row(rng: random.Random, step: int, group: int, member: int) -> dict[str, Any]:
    turns = rng.randint(1, 8)
    task = f"task-{(step * GROUPS_PER_STEP + group) % TASKS}"
    reward = rng.random()
    sample = TrainingSample()
    sample.append_context([rng.randrange(50_000) for _ in range(200)])
    for _ in range(turns):
        size = 400 // turns
        sample.append_action([rng.randrange(50_000)] * size, [-0.25] * size, [step] * size)
    call = ToolCall("search", {"query": f"x{rng.random()}"})
    result = json.dumps({"items": [rng.random() for _ in range(25)]})
    episode = Episode(
        task,
        1,
        tuple(
            Turn.of("<tool_call>...</tool_call>", (call,), (result,), result) for _ in range(turns)
        ),
        stop_reason=StopReason.ANSWERED if reward > 0.2 else StopReason.MAX_TURNS,
        reward=RewardBreakdown(
            reward, {"matched": reward}, tuple(CallAccount(t, 0, t) for t in range(turns))
        ),
    )
    return {
        "iteration": step,
        "group_id": f"{step}-{group}",
        "member": member,
        "task_id": task,
        "seed": "1",
        "reward": reward,
        "success": reward > 0.8,
        "stop_reason": str(episode.stop_reason),
        "turns": turns,
        "action_tokens": sample.num_actions,
        "components": {"matched": reward},
        "episode": episode.to_dict(),
        "tokens": pack_tokens(sample),
        "timings": {"env": 0.1},
    }


def measure(url: str, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each question: the first time, and the median and largest of the others."""
    found: dict[str, dict[str, float]] = {}
    for name, question in QUESTIONS.items():
        times = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            with urllib.request.urlopen(f"{url}api/{question}") as answer:
                answer.read()
            times.append(1000 * (time.perf_counter() - started))
        rest = times[1:]
        found[name] = {
            "first": round(times[0], 2),
            "median": round(statistics.median(rest), 2),
            "max": round(max(rest), 2),
        }
    return found


def main() -> None:
    """Write a run, ask, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        write_run(folder, given.episodes)
        size = (folder / "rollouts.db").stat().st_size
        print(
            f"{given.episodes} episodes, {size / 1e6:.0f} MB, {time.perf_counter() - started:.0f} s"
        )
        server = ViewServer([RunData(folder)])
        server.start()
        try:
            found = measure(server.url, given.repeats)
        finally:
            server.stop()
    print(f"{'question':<40}{'first ms':>10}{'median ms':>11}{'max ms':>9}")
    for question, times in found.items():
        print(f"{question:<40}{times['first']:>10}{times['median']:>11}{times['max']:>9}")
    if given.out is not None:
        config = {"episodes": given.episodes, "repeats": given.repeats, "database_bytes": size}
        write_report(given.out, {"machine": machine(), "config": config, "milliseconds": found})


if __name__ == "__main__":
    main()
