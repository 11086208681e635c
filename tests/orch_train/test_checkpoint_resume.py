"""Checkpoints and run folders: nothing is lost, nothing is doubled, to the bit."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.algorithms.checkpoint import checkpoints, read_metadata
from orch_train.cli.run_arguments import read_config
from orch_train.learner.learner import Learner
from orch_train.run import stop_signal
from orch_train.run.display import PlainDisplay
from orch_train.run.metrics_file import read_metrics
from orch_train.run.training_run import RunOutcome, TrainingRun
from orch_train.trajectory.sample import Group
from orch_train.trajectory.store import RolloutStore
from tests.orch_train.replies import groups_of, stored_samples


def _weights(algo: GRPO) -> dict[str, torch.Tensor]:
    return algo.learner.get_weights()


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _steps(algo: GRPO, count: int) -> list[tuple[str, tuple[float, ...]]]:
    done = []
    for _ in range(count):
        algo.train()
        done += [(g.id, tuple(g.rewards)) for g in groups_of(algo)]
    return done


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_six_steps_are_three_a_resume_and_three_to_the_bit(
    toy_config: GRPOConfig, tmp_path: Path, dtype: Any
) -> None:
    config = toy_config.model(dtype=dtype).training(updates_per_batch=2)
    with config.copy().build_algo() as straight:
        whole = _steps(straight, 6)
        end = _weights(straight)
    with config.copy().build_algo() as first:
        begun = _steps(first, 3)
        first.save_to_path(tmp_path / "half")
    with GRPO.from_checkpoint(tmp_path / "half") as second:
        assert second.iteration == second.weights_seq_no == 3
        rest = _steps(second, 3)
        assert _same(_weights(second), end)
    assert begun + rest == whole


def _as_written_before_learner_actors(checkpoint: Path) -> None:
    """Schema 1, in which ``num_learners: 1`` was the driver process."""
    metadata = json.loads((checkpoint / "metadata.json").read_text())
    assert metadata["schema"] == 2
    (checkpoint / "metadata.json").write_text(json.dumps({**metadata, "schema": 1}))
    text = (checkpoint / "config.yaml").read_text()
    assert "num_learners: 0" in text
    (checkpoint / "config.yaml").write_text(text.replace("num_learners: 0", "num_learners: 1"))


def test_an_old_run_of_one_learner_goes_on_in_the_driver_process_and_says_so(
    toy_config: GRPOConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    _run(toy_config.training(iterations=2), folder)
    old = checkpoints(folder)[-1][1]
    _as_written_before_learner_actors(old)
    (folder / "config.yaml").write_bytes((old / "config.yaml").read_bytes())
    resumed = read_config(None, [], folder)
    assert resumed.settings.learners.num_learners == 0
    (line,) = [r.getMessage() for r in caplog.records if "num_learners" in r.getMessage()]
    assert "driver process" in line and "\n" not in line
    with GRPO.from_checkpoint(old) as algo:
        assert isinstance(algo.learner, Learner) and algo.iteration == 2
    explicit = read_config(None, ["learners.num_learners=1"], folder)
    assert explicit.settings.learners.num_learners == 1


def test_a_run_of_one_learner_actor_is_resumed_as_one(
    toy_config: GRPOConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    _run(toy_config.training(iterations=1), folder)
    config = GRPOConfig().from_yaml(folder / "config.yaml").learners(num_learners=1)
    (folder / "config.yaml").write_text(config.to_yaml())
    assert read_config(None, [], folder).settings.learners.num_learners == 1
    assert not [r for r in caplog.records if "num_learners" in r.getMessage()]


def test_restoring_takes_an_algorithm_back(toy_config: GRPOConfig, tmp_path: Path) -> None:
    with toy_config.build_algo() as algo:
        _steps(algo, 1)
        algo.save_to_path(tmp_path / "one")
        ahead = _steps(algo, 2)
        end = _weights(algo)
        algo.restore_from_path(tmp_path / "one")
        assert _steps(algo, 2) == ahead
        assert _same(_weights(algo), end)


def test_a_checkpoint_holds_a_model_that_transformers_loads(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    with toy_config.build_algo() as algo:
        _steps(algo, 1)
        folder = algo.save_to_path(tmp_path / "step_1")
        trained = _weights(algo)
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}])
    state = model.state_dict()
    assert all(torch.equal(state[name], trained[name]) for name in trained)


def test_a_checkpoint_moves_with_its_folder_and_outlives_the_first_model(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    with toy_config.build_algo() as algo:
        _steps(algo, 1)
        algo.save_to_path(tmp_path / "here" / "step_1")
    (tmp_path / "here").rename(tmp_path / "there")
    config = GRPOConfig().from_yaml(tmp_path / "there" / "step_1" / "config.yaml")
    config.model(str(tmp_path / "deleted"))
    with GRPO.from_checkpoint(tmp_path / "there" / "step_1", config=config) as again:
        assert again.iteration == 1
        _steps(again, 1)


@pytest.mark.parametrize(
    ("name", "content", "piece"),
    [
        ("metadata.json", None, "no metadata.json"),
        ("metadata.json", "{", "cannot be read"),
        ("metadata.json", '{"schema": 99}', "schema 1"),
        ("metadata.json", '{"schema": 1}', "incomplete"),
        ("learner/learner.json", None, "learner.json is missing"),
        ("learner/optimizer.safetensors", "x", "damaged"),
        ("metadata.json", "[" * 100_000, "cannot be read"),
        ("learner/learner.json", '{"schema": 1, "settings": {}}', "damaged: KeyError: 'counters'"),
        ("learner/learner.json", '{"schema": 1, "settings": {}, "counters": null}', "damaged"),
        ("learner/learner.json", '{"schema": 1, "settings": {}, "counters": {}}', "no 'bad_in_a_"),
        ("learner/learner.json", '{"schema": 1, "settings": 3, "counters": {}}', "damaged"),
        ("config.yaml", "training:\n", "training: must be a mapping"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_error(
    toy_config: GRPOConfig, tmp_path: Path, name: str, content: str | None, piece: str
) -> None:
    with toy_config.build_algo() as algo:
        folder = algo.save_to_path(tmp_path / "step_0")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(OrchError, match=piece):
        GRPO.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("key", "value", "piece"),
    [
        ("task_order", {}, "task_order is damaged"),
        ("task_order", {"seed": 0, "epoch": 0, "consumed": None}, "task_order is damaged"),
        ("task_order", {"seed": 0, "epoch": 0, "consumed": [{}]}, "task_order is damaged"),
        ("task_order", {"seed": "x", "epoch": 0, "consumed": []}, "task_order is damaged"),
        ("lifetime", {"num_episodes_lifetime": "a"}, "incomplete"),
        ("lifetime", {"num_episodes_lifetime": None}, "incomplete"),
    ],
)
def test_damaged_metadata_is_told_before_anything_is_sampled(
    toy_config: GRPOConfig, tmp_path: Path, key: str, value: Any, piece: str
) -> None:
    with toy_config.build_algo() as algo:
        folder = algo.save_to_path(tmp_path / "step_0")
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(OrchError, match=piece):
        GRPO.from_checkpoint(folder)


# -- run folders -----------------------------------------------------------------------------


def _run(config: GRPOConfig, folder: Path, **options: Any) -> RunOutcome:
    display = PlainDisplay(config.settings.training.iterations, io.StringIO())
    return TrainingRun(config, folder, display, **options).execute()


def test_a_run_leaves_the_documented_files(toy_config: GRPOConfig, tmp_path: Path) -> None:
    config = (
        toy_config.training(iterations=4)
        .reporting(checkpoint_interval=1, keep_checkpoints=2, tensorboard=True)
        .evaluation(tasks="xy", evaluation_interval=3, evaluation_at_start=True)
    )
    outcome = _run(config, tmp_path / "run")
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "trace.json",
        "tensorboard",
        "rollouts.db",
        "checkpoints",
        "summary.json",
    }
    assert [step for step, _ in checkpoints(folder)] == [3, 4]
    assert outcome.checkpoint == folder / "checkpoints" / "step_4"
    results = read_metrics(folder)
    assert [r["training_iteration"] for r in results] == [0, 1, 2, 3, 4]
    # Before the first step, at the interval, and after the last step.
    assert [bool(r.get("evaluation")) for r in results] == [True, False, False, True, True]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["evaluation"]["first"]["training_iteration"] == 0
    assert summary["evaluation"]["last"]["training_iteration"] == 4
    assert summary["checkpoint"] == "checkpoints/step_4"
    assert list((folder / "tensorboard").iterdir())
    assert GRPOConfig().from_yaml(folder / "config.yaml").settings == config.settings


def test_the_checkpoint_that_a_run_goes_on_from_stays_until_it_ends(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    """A runner that is replaced loads its model."""
    config = toy_config.reporting(checkpoint_interval=1, keep_checkpoints=1)
    folder = tmp_path / "run"
    _run(config.copy().training(iterations=1), folder)
    held: list[list[int]] = []

    class Looking(PlainDisplay):
        def show(self, result: Any) -> None:
            held.append([step for step, _ in checkpoints(folder)])

    longer = config.copy().training(iterations=4)
    TrainingRun(longer, folder, Looking(4, io.StringIO()), resume=True).execute()
    assert held == [[1], [1, 2], [1, 3]]
    assert [step for step, _ in checkpoints(folder)] == [4]


def test_a_crash_doubles_nothing(toy_config: GRPOConfig, tmp_path: Path) -> None:
    """Steps that were written down after the last checkpoint are done again and stand once."""
    config = toy_config.training(iterations=5).reporting(checkpoint_interval=2)
    straight = _run(config.copy(), tmp_path / "straight")

    crashed = config.copy()

    class Crash(Exception):
        pass

    import orch_train.run.training_run as module

    real = module.TrainingRun._save
    written: list[int] = []

    def save_then_crash(run: TrainingRun, algo: GRPO) -> None:
        if algo.iteration <= 2:
            real(run, algo)
            written.append(algo.iteration)
        if algo.iteration > 2:
            raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.TrainingRun, "_save", save_then_crash)
        with pytest.raises(Crash):
            _run(crashed, tmp_path / "crashed")
    folder = tmp_path / "crashed"
    assert written == [2]
    assert [r["training_iteration"] for r in read_metrics(folder)] == [1, 2, 3, 4]

    resumed = _run(config.copy(), folder, resume=True)
    assert [r["training_iteration"] for r in read_metrics(folder)] == [1, 2, 3, 4, 5]
    stored = [_stored(f) for f in (folder, tmp_path / "straight")]
    assert stored[0] == stored[1] and len(stored[0]) == 5 * 8
    weights = [
        (outcome.checkpoint / "model" / "model.safetensors").read_bytes()
        for outcome in (resumed, straight)
        if outcome.checkpoint is not None
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_step_leaves_its_tasks_to_be_trained(
    toy_config: GRPOConfig, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In step with the learner: what was drawn for an abandoned step is drawn again, once."""
    sampled: list[str] = []
    monkeypatch.setattr(stop_signal, "_leave_terminal", lambda: None)

    class Interrupting(PlainDisplay):
        def sampled(self, group: Group) -> None:
            sampled.append(group.id)
            if len(sampled) == 3:  # the first of two groups of the second step
                os.kill(os.getpid(), number)

    config = toy_config.training(iterations=3).env_runners(
        num_envs_per_env_runner=4, max_requests_in_flight_per_env_runner=1
    )
    folder = tmp_path / "run"
    outcome = TrainingRun(config.copy(), folder, Interrupting(3, io.StringIO())).execute()
    assert outcome.interrupted and outcome.result["training_iteration"] == 1
    assert len(sampled) == 3  # one group of the abandoned step was back, one was not
    TrainingRun(config.copy(), folder, PlainDisplay(3, io.StringIO()), resume=True).execute()
    trained = Counter(group for _, group, *_ in _stored(folder))
    assert trained == dict.fromkeys((f"0:letter-{c}" for c in "abcdef"), 4)


def test_the_learner_is_given_tokens_and_scores_and_no_episode(
    toy_config: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `LearnerGroup.update` sends to every rank."""
    given: list[Group] = []
    with toy_config.build_algo() as algo:
        update = algo.learner.update

        def noted(groups: list[Group], progress: Any) -> dict[str, float]:
            given.extend(groups)
            return update(groups, progress)

        monkeypatch.setattr(algo.learner, "update", noted)
        algo.train()
        texts = [
            turn.action for r in algo.last_batch for e in r.records for turn in e.episode.turns
        ]
    sent = pickle.dumps(given)
    assert b"TrainingSample" in sent and len(given) == 2
    assert b"EpisodeRecord" not in sent and b"Turn" not in sent
    assert texts and not any(len(t) > 4 and t.encode() in sent for t in texts)


def _stored(folder: Path) -> list[tuple[int, str, int, float, tuple[int, ...]]]:
    store = RolloutStore(folder / "rollouts.db")
    rows = [
        (step, group, s.member, s.reward, tuple(s.ids_T.tolist()))
        for step, group, s in stored_samples(store)
    ]
    store.close()
    return rows


def test_a_run_without_a_checkpoint_resumes_from_the_start(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(toy_config.to_yaml())
    (folder / "metrics.jsonl").write_text('{"training_iteration": 1}\n{"training_it')
    outcome = _run(toy_config.training(iterations=1), folder, resume=True)
    assert [r["training_iteration"] for r in read_metrics(folder)] == [1]
    assert outcome.result["env_runners"]["num_episodes"] == 8


def test_a_finished_run_has_nothing_to_resume(toy_config: GRPOConfig, tmp_path: Path) -> None:
    config = toy_config.training(iterations=1)
    first = _run(config.copy(), tmp_path / "run")
    again = _run(config.copy(), tmp_path / "run", resume=True)
    assert again.result == first.result


def test_a_used_folder_is_not_overwritten(toy_config: GRPOConfig, tmp_path: Path) -> None:
    _run(toy_config.training(iterations=1).copy(), tmp_path / "run")
    with pytest.raises(OrchError, match="--resume"):
        _run(toy_config.copy(), tmp_path / "run")


def test_only_a_run_can_be_resumed(toy_config: GRPOConfig, tmp_path: Path) -> None:
    with pytest.raises(OrchError, match="no run folder"):
        _run(toy_config, tmp_path, resume=True)


def test_a_run_that_cannot_start_leaves_no_folder(toy_config: GRPOConfig, tmp_path: Path) -> None:
    with pytest.raises(OrchError):
        _run(toy_config.rollouts(max_context=20), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_metadata_holds_the_frontier(toy_config: GRPOConfig, tmp_path: Path) -> None:
    with toy_config.build_algo() as algo:
        done = _steps(algo, 2)
        metadata = read_metadata(algo.save_to_path(tmp_path / "step_2"))
    assert metadata.task_order["epoch"] == 0
    assert set(metadata.task_order["consumed"]) == {group.partition(":")[2] for group, _ in done}
    assert metadata.lifetime["num_episodes_lifetime"] == 16
