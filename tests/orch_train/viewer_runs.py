"""Run folders for the viewer's tests, written by the same parts that training writes them with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from orch_env.types import (
    CallAccount,
    Episode,
    ErrorType,
    RewardBreakdown,
    StopReason,
    ToolCall,
    Turn,
)
from orch_train.metrics.rollouts import rollout_metrics
from orch_train.run.metrics_file import MetricsWriter
from orch_train.trajectory.requests import SampleReply
from orch_train.trajectory.sample import TrainingSample
from orch_train.trajectory.store import RolloutStore
from tests.orch_train.replies import reply_of

HOSTILE = "<img src=x onerror=\"alert('xss')\"><script>alert('xss')</script>"
HOSTILE_TASK = "t/../<b onclick=alert(1)>\"'&#x41;?#%2e%2e"


def member(
    task: str, number: int, reward: float, *, version: int = 0, result: str = "{}"
) -> tuple[TrainingSample, Episode]:
    """An episode of one good call, one failed call and, where it is paid well, an answer."""
    sample = TrainingSample(number)
    sample.append_context([72, 105])
    sample.append_action([65, 66, 67], [-0.0078125, -0.75, -3.5], [version, version, version + 1])
    sample.append_context([10])
    sample.append_action([68], [-0.25], [version + 1])
    calls = (ToolCall("find", {"name": "x"}), ToolCall("book", {"id": 1}, ErrorType.UNKNOWN_TOOL))
    turns = [Turn.of("<tool_call>...</tool_call>", calls, (result, '{"error": 1}'), "seen")]
    if reward > 0.5:
        turns.append(Turn.of(f"Done by {number}."))
    accounts = (
        CallAccount(0, 0, 0, 1.0, 0.5, {"/name": "equal"}, "Matches gold call 0.", reward),
        CallAccount(0, 1, None, 0.0, 0.0, {}, HOSTILE, 0.0),
    )
    episode = Episode(
        task,
        3,
        tuple(turns),
        final=turns[-1].action if reward > 0.5 else None,
        stop_reason=StopReason.ANSWERED if reward > 0.5 else StopReason.MAX_TURNS,
        reward=RewardBreakdown(
            reward, {"matched": reward}, accounts, (reward,) + (0.0,) * (len(turns) - 1)
        ),
    )
    sample.score(episode, reward, success=reward == 1.0)
    return sample, episode


def step_replies(step: int) -> list[SampleReply]:
    """Two groups of three: rewards that differ, and rewards that do not."""
    first = [member("a", m, m / 2, version=step) for m in range(3)]
    second = [member(HOSTILE_TASK, m, 1.0, result=HOSTILE) for m in range(3)]
    replies = [
        reply_of(f"{step}:a", "a", 3, *first),
        reply_of(f"{step}:{HOSTILE_TASK}", HOSTILE_TASK, 3, *second),
    ]
    for reply in replies:
        for record in reply.records:
            record.timings = {"env": 0.25}
    return replies


def result(step: int, replies: list[SampleReply], **more: Any) -> dict[str, Any]:
    """A result as the algorithm makes it, the learner's part made up."""
    return {
        "training_iteration": step,
        "num_episodes_lifetime": 6 * step,
        "env_runners": rollout_metrics(replies, 1.0),
        "evaluation": {"by_domain": {"ship": {"avg_at_2": {"mean": step / 8, "low": 0.0}}}},
        "learners": {"default_policy": {"policy_loss": -step / 10, "entropy": 1 / step}},
        "timers": {"sample": 1.0, "generate": 0.75, "env": 0.25, "learner_update": 2.0},
        "time_this_iter_s": 3.5,
        "time_total_s": 3.5 * step,
        **more,
    }


def write_steps(folder: Path, first: int, last: int) -> None:
    """Append training steps to a run, rollouts before results as training does."""
    writer = MetricsWriter(folder, tensorboard=False)
    store = RolloutStore(folder / "rollouts.db")
    for step in range(first, last + 1):
        replies = step_replies(step)
        store.add(step, replies)
        writer.write(result(step, replies))
    store.close()
    writer.close()


def make_run(folder: Path, steps: int = 3, **training: Any) -> Path:
    """A run of so many steps."""
    folder.mkdir(parents=True)
    config = {"training": {"iterations": steps, "advantage": "group_mean", **training}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if steps:
        write_steps(folder, 1, steps)
    return folder


def make_warm_start(folder: Path) -> Path:
    """A finished run of ``orch sft`` of three steps, measured after the second and at the end."""
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"sft": {"max_steps": 3}}))
    steps: list[dict[str, float]] = [
        {"step": s, "seconds": float(s), "loss": 4.0 / 2**s, "grad_norm": 1.0} for s in (1, 2, 3)
    ]
    steps[1] |= {"evaluation/success": 0.125, "evaluation/n": 16}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(s) + "\n" for s in steps))
    last = {"step": 3, "seconds": 3.0, "success": 0.25, "n": 16}
    summary = {"stop": "target", "evaluations": [{**last, "step": 2, "success": 0.125}, last]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def make_quickstart(folder: Path) -> Path:
    """What the quick start leaves: a warm start and the GRPO run from it, measured twice."""
    model = make_warm_start(folder / "sft") / "model"
    grpo = folder / "grpo"
    grpo.mkdir()
    config: dict[str, Any] = {"training": {"iterations": 3}, "model": {"path": str(model)}}
    (grpo / "config.yaml").write_text(yaml.safe_dump(config))

    def measured(success: float) -> dict[str, Any]:
        ends = {"mean": success, "low": success - 0.25, "high": success + 0.15}
        return {"success": success, "n": 16, "avg_at_1": ends}

    writer = MetricsWriter(grpo, tensorboard=False)
    writer.write({"training_iteration": 0, "evaluation": measured(0.25)})
    writer.close()
    write_steps(grpo, 1, 2)
    replies = step_replies(3)
    store, writer = RolloutStore(grpo / "rollouts.db"), MetricsWriter(grpo, tensorboard=False)
    store.add(3, replies)
    writer.write(result(3, replies, evaluation=measured(0.75)))
    store.close()
    writer.close()
    return folder
