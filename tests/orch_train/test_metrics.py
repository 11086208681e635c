"""Numbers of a step, and the files they are written to."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from orch_env.types import (
    Episode,
    ErrorType,
    OrchError,
    RewardBreakdown,
    StopReason,
    ToolCall,
    Turn,
)
from orch_train.metrics.rollouts import rollout_metrics, split_sampling
from orch_train.run.display import LiveDisplay, duration, step_line, time_split
from orch_train.run.metrics_file import (
    MetricsWriter,
    flatten,
    plain,
    read_metrics,
    truncate_metrics,
)
from orch_train.trajectory.requests import SampleReply
from orch_train.trajectory.sample import TrainingSample
from orch_train.trajectory.store import RolloutStore, pack_tokens, unpack_tokens
from tests.orch_train.replies import reply_of, stored_samples


def _member(
    reward: float, *, tokens: int = 3, turns: int = 1, error: ErrorType | None = None
) -> tuple[TrainingSample, Episode]:
    sample = TrainingSample()
    sample.append_context([7, 8])
    sample.append_action(list(range(tokens)), [-0.25] * tokens, [4] * tokens)
    sample.append_context([9])
    call = ToolCall("tool", {"x": 1}, error)
    episode = Episode(
        "task",
        3,
        tuple(Turn.of("text", (call,), ("{}",), "{}") for _ in range(turns)),
        stop_reason=StopReason.ANSWERED if reward else StopReason.MAX_TURNS,
        reward=RewardBreakdown(reward, {"matched": reward}, turns=(reward / 2, reward / 2)),
    )
    sample.score(episode, reward, success=reward == 1.0)
    return sample, episode


def _replies() -> list[SampleReply]:
    replies = [
        reply_of("a", "task", 3, _member(0.0), _member(1.0, tokens=5, turns=3)),
        reply_of("b", "task", 3, _member(1.0), _member(1.0)),
        reply_of("c", "task", 3, _member(0.0, error=ErrorType.UNKNOWN_TOOL), _member(0.0)),
    ]
    for reply in replies:
        for record in reply.records:
            record.timings = {"env": 0.5}
    return replies


def test_rollout_metrics_are_those_of_a_hand_count() -> None:
    metrics = rollout_metrics(_replies(), sample_seconds=2.0)
    assert metrics["episode_return_mean"] == 0.5
    assert metrics["success"] == 0.5
    assert metrics["num_episodes"] == 6
    assert metrics["episode_len_mean"] == 8 / 6
    assert metrics["num_action_tokens"] == 20
    assert metrics["tokens_per_s"] == 10.0
    assert metrics["groups"] == {
        "zero_variance": 2,
        "zero_variance_all_pass": 1,
        "zero_variance_all_fail": 1,
    }
    assert metrics["group_return_std_mean"] == pytest.approx(0.5 / 3)
    assert metrics["stop"] == {"answered": 0.5, "max_turns": 0.5}
    assert metrics["errors_per_episode"] == {"unknown_tool": 1 / 6}
    assert metrics["reward"] == {"matched": 0.5}


@pytest.mark.parametrize(("runners", "env"), [(0, 3.0), (1, 3.0), (2, 1.5), (1000, 0.003)])
def test_sampling_splits_into_what_it_waited_for(runners: int, env: float) -> None:
    seconds = split_sampling({"sample": 4.0, "learner_update": 1.0}, _replies(), runners)
    assert seconds["env"] == pytest.approx(env)
    assert seconds["env"] + seconds["generate"] == pytest.approx(4.0)


def test_names_have_slashes_and_only_numbers_remain() -> None:
    tree = {"a": {"b": {"c": 1}, "d": "text", "flag": True}, "e": 0.5, "none": None, "list": [1]}
    assert flatten(tree) == {"a/b/c": 1, "e": 0.5}


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_json)
def test_whatever_a_result_holds_is_strict_json(value: Any) -> None:
    json.dumps(plain(value), allow_nan=False)


def _result(step: int, **more: Any) -> dict[str, Any]:
    return {"training_iteration": step, **more}


def test_results_are_on_disk_at_once(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.write(_result(1, loss=math.nan))
    assert read_metrics(tmp_path) == [_result(1, loss=None)]
    writer.close()


def test_tensorboard_shows_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = MetricsWriter(tmp_path, tensorboard=True)
    for step in (1, 2):
        writer.write(_result(step, env_runners={"success": step / 4}, bad=math.inf))
    writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("env_runners/success")] == [
        (1, 0.25),
        (2, 0.5),
    ]
    assert "bad" not in events.Tags()["scalars"]


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"training_iteration": 1}\n{"training_iter')
    assert read_metrics(tmp_path) == [_result(1)]
    truncate_metrics(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"training_iteration": 1}\n'


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"training_iteration": 1}\nxx\n{"a": 1}\n{"b": 2}\n')
    with pytest.raises(OrchError, match="line 2 is not JSON"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (b'3\n{"training_iteration": 1}\n', "line 1 is no result"),
        (b'{"training_iteration": "1"}\n', "line 1 is no result"),
        (b'\n{}\n{"training_iteration": 1}\n', "line 2 is no result"),
        (b"\xff\xfe\n\n\n", "cannot be read"),
        (b"[" * 100_000 + b"\n\n\n", "line 1 is not JSON"),
    ],
)
def test_what_is_no_result_is_told_with_its_line(
    tmp_path: Path, content: bytes, piece: str
) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(OrchError, match=piece):
        truncate_metrics(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_results_that_cannot_be_written_or_read_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OrchError, match=r"metrics\.jsonl cannot be written: Is a directory"):
        MetricsWriter(tmp_path, tensorboard=False)
    with pytest.raises(OrchError, match=r"metrics\.jsonl' cannot be read"):
        read_metrics(tmp_path)


# -- rollout store ---------------------------------------------------------------------------


@st.composite
def _samples(draw: st.DrawFn) -> TrainingSample:
    sample = TrainingSample()
    ids = st.integers(0, 200_000)
    for _ in range(draw(st.integers(0, 4))):
        sample.append_context(draw(st.lists(ids, max_size=5)))
        action = draw(st.lists(ids, min_size=1, max_size=5))
        logprobs = [draw(st.floats(-50, 0, width=32)) for _ in action]
        sample.append_action(action, logprobs, [draw(st.integers(0, 9)) for _ in action])
    sample.append_context(draw(st.lists(ids, max_size=5)))
    return sample


def _same_streams(one: TrainingSample, other: TrainingSample) -> bool:
    return all(
        getattr(one, name).dtype == getattr(other, name).dtype
        and np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("ids_T", "turns", "logprobs_N", "versions_N")
    )


@given(_samples())
def test_token_streams_survive_packing_to_the_bit(sample: TrainingSample) -> None:
    assert _same_streams(unpack_tokens(pack_tokens(sample)), sample)


def test_token_streams_are_packed_as_they_always_were() -> None:
    """Stored runs are read by later versions, and by others."""
    assert msgpack.unpackb(pack_tokens(_member(1.0)[0])) == {
        "ids": [7, 8, 0, 1, 2, 9],
        "turns": [[2, 5]],
        "logprobs": [-0.25, -0.25, -0.25],
        "versions": [4, 4, 4],
    }


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x81\xa3ids\x90", pack_tokens(TrainingSample())[:-1]]
)
def test_damaged_streams_are_an_error(data: bytes) -> None:
    with pytest.raises(OrchError, match="damaged"):
        unpack_tokens(data)


def test_stored_rollouts_come_back_whole(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "rollouts.db")
    replies = _replies()
    store.add(1, replies[:2])
    store.add(2, replies[2:])
    for iteration, expected in ((1, replies[:2]), (2, replies[2:])):
        for (step, got), want in zip(store.replies(iteration), expected, strict=True):
            assert step == iteration
            assert got.records == want.records
            for name in ("id", "task_id", "seed", "rewards"):
                assert getattr(got.group, name) == getattr(want.group, name)
            for one, other in zip(got.group.samples, want.group.samples, strict=True):
                assert _same_streams(one, other)
                for name in ("member", "reward", "success", "stop_reason", "turn_rewards"):
                    assert getattr(one, name) == getattr(other, name)
    store.close()


def test_a_store_cuts_back_to_a_step(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "rollouts.db")
    store.add(1, _replies())
    store.add(2, _replies())
    store.truncate(1)
    assert len(stored_samples(store)) == 6
    store.add(2, _replies())
    assert {step for step, _ in store.replies()} == {1, 2}
    store.close()


def test_a_step_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "rollouts.db")
    broken = _replies()
    broken[2].group.samples[1].reward = math.nan
    with pytest.raises(OrchError, match="not finite"):
        store.add(1, broken)
    assert stored_samples(store) == []
    store.close()


def test_the_same_step_twice_is_one_clear_line(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "rollouts.db")
    store.add(1, _replies())
    with pytest.raises(OrchError, match="cannot be written: UNIQUE") as problem:
        store.add(1, _replies())
    assert "\n" not in str(problem.value)
    store.close()


@pytest.mark.parametrize("name", ["q?d", "p%20d", "a#b", "ü d"])
def test_rollouts_lie_where_the_run_does(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    store = RolloutStore(Path(name) / "rollouts.db")
    store.add(1, _replies())
    store.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(stored_samples(store)) == 6
    store.close()
    assert {p.name for p in tmp_path.iterdir()} == {name, "elsewhere"}
    assert [p.name for p in (tmp_path / name).iterdir()] == ["rollouts.db"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rollouts.db").write_text("something else entirely, and long enough to be read")
    with pytest.raises(OrchError, match="not a rollout store"):
        RolloutStore(tmp_path / "rollouts.db")


# -- what people see -------------------------------------------------------------------------


def _step() -> dict[str, Any]:
    return {
        "training_iteration": 5,
        "time_total_s": 50.0,
        "env_runners": rollout_metrics(_replies(), 2.0),
        "learners": {"default_policy": {"grad_norm": 0.125}},
        "timers": {"generate": 6.0, "env": 1.0, "learner_update": 3.0},
        "fault_tolerance": {"num_groups_reissued": 2, "num_env_runner_restarts": 1},
        "evaluation": {"success": 0.25, "n": 8, "greedy": {"success": 0.5}},
    }


def test_the_live_panel_shows_the_phase_and_the_last_step() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, no_color=True)
    with LiveDisplay(10, console) as display:
        with display.phase("sample"):
            display.expect(2)
            display.sampled(_replies()[0].group)
            display.expect(2)
        display.note("[bold] is no markup here")
        with display.phase("learn"):
            display.learned(30, 120)
            display.show(_step())
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    for piece in (
        "1/4",
        "groups",
        "30/120",
        "reward",
        "0.12",  # the gradient norm
        "1 runners restarted, 2 groups sampled again",
        "held out: success 0.250  (greedy success 0.500)  n 8",
        "[bold] is no markup here",
        "step 5/10",
    ):
        assert piece in drawn
    assert drawn.count("[bold]") == 1


def test_a_step_fits_one_line() -> None:
    line = step_line(_step(), 10)
    assert "\n" not in line
    for piece in (
        "step 5/10",
        "reward 0.500",
        "generate 60% learn 30% env 10%",
        "faults 1 runners restarted, 2 groups sampled again",
        "left 0:00:50",
    ):
        assert piece in line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3720, "1:02:00")]
)
def test_durations_read_naturally(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_odd_inputs_do_not_break_the_display() -> None:
    assert time_split({}) == "-"
