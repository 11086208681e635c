"""The time line of a run: valid trace events of what really happened when."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.main import main
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.run.trace import PhaseRecorder, PhaseSpan, TraceFile, episode_spans, trace_events
from orch_train.trajectory.requests import SampleReply
from orch_train.trajectory.store import RolloutStore
from tests.orch_train.replies import reply_of, stored_samples
from tests.orch_train.viewer_runs import member


def check_trace(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The complete events of a trace, after the rules of the format (JSON object form)."""
    names = {(e["name"], e["pid"], e["tid"]): e for e in trace["traceEvents"] if e["ph"] == "M"}
    complete = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(names) + len(complete) == len(trace["traceEvents"])
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in complete:
        assert isinstance(event["name"], str) and isinstance(event["args"], dict)
        assert all(isinstance(event[k], int) and event[k] >= 0 for k in ("ts", "dur", "pid", "tid"))
        assert ("process_name", event["pid"], 0) in names
        assert ("thread_name", event["pid"], event["tid"]) in names
        threads[event["pid"], event["tid"]].append(event)
    for events in threads.values():
        open_until: list[int] = []
        for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
            while open_until and open_until[-1] <= event["ts"]:
                open_until.pop()
            end = event["ts"] + event["dur"]
            assert not open_until or end <= open_until[-1], f"{event} overlaps its neighbour"
            open_until.append(end)
    return complete


def _reply(*extents: tuple[float, float], worker: str = "h:1") -> SampleReply:
    members = [member("a", number, 1.0) for number in range(len(extents))]
    reply = reply_of("g", "a", 3, *members, worker=worker)
    for record, (start, end) in zip(reply.records, extents, strict=True):
        third = (end - start) / 3
        record.spans = [("env", start, third), ("generate", start + third, 2 * third)]
    return reply


def test_episodes_at_the_same_time_never_share_a_line() -> None:
    reply = _reply((10.0, 13.0), (11.0, 12.0), (12.5, 14.0), (13.0, 15.0), (13.1, 13.2))
    steps = [(4, [PhaseSpan("sample", "main", 9.5, 6.0)], episode_spans([reply]))]
    events = check_trace(trace_events(steps))
    episodes = [e for e in events if "member" in e["args"]]
    lanes = {e["args"]["member"]: e["tid"] for e in episodes}
    assert lanes[0] != lanes[1] == lanes[2] and lanes[3] == lanes[0] and lanes[4] not in (2, 3)
    assert (episodes[0]["ts"], episodes[0]["dur"]) == (500_000, 3_000_000)
    assert [e["name"] for e in events if e["tid"] == lanes[1]][:3] == ["a", "env", "generate"]


def test_each_worker_is_a_process_of_its_own() -> None:
    replies = [_reply((1, 2)), _reply((1, 2), worker="h:2")]
    trace = trace_events([(1, [], episode_spans(replies))])
    check_trace(trace)
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert names == ["runner h:1", "runner h:2"]


def test_only_the_newest_steps_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    file = TraceFile(path, 2)
    for step in (1, 2, 3):
        file.add(step, [PhaseSpan("learn", "main", float(step), 0.5)], [_reply((step, step + 1))])
    trace = json.loads(path.read_text())
    check_trace(trace)
    assert trace["otherData"]["steps"] == [2, 3]
    assert {e["args"].get("step") for e in trace["traceEvents"] if e["ph"] == "X"} == {2, 3, None}


def test_a_step_without_episodes_is_a_valid_trace(tmp_path: Path) -> None:
    TraceFile(tmp_path / "trace.json", 1).add(1, [], [])
    assert check_trace(json.loads((tmp_path / "trace.json").read_text())) == []


def test_a_phase_that_fails_is_recorded_and_passed_on() -> None:
    recorder = PhaseRecorder()
    with pytest.raises(ZeroDivisionError), recorder.phase("learn"):
        raise ZeroDivisionError
    assert [p.name for p in recorder.take_phases()] == ["learn"] and recorder.take_phases() == []


def test_training_leaves_a_trace_that_agrees_with_its_results(
    toy_config: GRPOConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "toy.yaml"
    config.write_text(toy_config.training(iterations=3).reporting(log_dir=str(tmp_path)).to_yaml())
    assert main(["train", str(config), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    events = check_trace(json.loads((tmp_path / "toy" / "trace.json").read_text()))
    phases = [e for e in events if e["name"] in ("sample", "learn", "sync")]
    assert [(e["name"], e["args"]["step"]) for e in phases] == [
        (name, step) for step in (2, 3) for name in ("sample", "learn", "sync")
    ]
    learn = phases[-2]["dur"] / 1e6
    assert learn == pytest.approx(result["timers"]["learner_update"], rel=0.2, abs=0.02)
    store = RolloutStore(tmp_path / "toy" / "rollouts.db")
    turns = {(name, s.member): len(s.turns) for _, name, s in stored_samples(store, 3)}
    store.close()
    episodes = [e for e in events if e["args"].get("step") == 3 and "member" in e["args"]]
    assert {(e["args"]["group"], e["args"]["member"]) for e in episodes} == set(turns)
    sample = phases[3]
    for episode in episodes:
        begin, end = episode["ts"], episode["ts"] + episode["dur"]
        assert sample["ts"] - 1000 <= begin and end <= sample["ts"] + sample["dur"] + 1000
        inside = [
            e["name"]
            for e in events
            if e["tid"] == episode["tid"] and not e["args"] and begin <= e["ts"] < end
        ]
        member = turns[episode["args"]["group"], episode["args"]["member"]]
        assert inside.count("generate") == member
        assert inside.count("env") >= member


def test_the_trace_can_be_switched_off(toy_config: GRPOConfig, tmp_path: Path) -> None:
    config = tmp_path / "toy.yaml"
    made = toy_config.training(iterations=1).reporting(log_dir=str(tmp_path), trace_steps=0)
    config.write_text(made.to_yaml())
    assert main(["train", str(config)]) == 0
    assert not (tmp_path / "toy" / "trace.json").exists()
