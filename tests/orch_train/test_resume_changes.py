"""What a resumed run may change, what it says, and what stays a fact of the run."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.algorithms.checkpoint import (
    CheckpointMetadata,
    checkpoints,
    read_metadata,
    settings_for,
    write_checkpoint,
)
from orch_train.algorithms.origin import Origin, kl_reference
from orch_train.algorithms.resume import (
    CONSEQUENCES,
    HARMLESS,
    REFUSED,
    REFUSED_IF_SAMPLED_AHEAD,
    ResumeChanges,
    resume_changes,
)
from orch_train.cli.run_arguments import read_config
from orch_train.config import Settings
from orch_train.config.model_folder import file_digest, model_digest
from orch_train.run.display import PlainDisplay
from orch_train.run.training_run import TrainingRun


def _config(**env_config: Any) -> GRPOConfig:
    return (
        GRPOConfig()
        .environment(env_config={"tasks": "tasks.jsonl", "max_turns": 4, **env_config})
        .model("first")
        .training(iterations=2)
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_model: Path) -> Path:
    """The working directory of a run: its first model and its tasks."""
    place = tmp_path / "place"
    shutil.copytree(toy_model, place / "first")
    (place / "tasks.jsonl").write_text("one\n")
    monkeypatch.chdir(place)
    return place


def _checkpoint(config: GRPOConfig, *, ahead: bool = False) -> Path:
    """A checkpoint after one step, without weights."""
    metadata = CheckpointMetadata(1, 1, {}, {}, Origin.of(config.settings))

    def save(folder: Path) -> None:
        shutil.copytree("first", folder / "model")

    Path("run").mkdir(exist_ok=True)
    Path("run/config.yaml").write_text(config.to_yaml())
    folder = write_checkpoint(Path("run/checkpoints/step_1"), metadata, config.to_yaml(), save)
    if ahead:
        (folder / "sampled_ahead").mkdir()
    return folder


def _changes(checkpoint: Path, *overrides: str) -> ResumeChanges:
    config = read_config(None, overrides, Path("run"))
    return resume_changes(config, checkpoint, read_metadata(checkpoint))


def _refused(checkpoint: Path, *overrides: str) -> str:
    with pytest.raises(OrchError) as caught:
        _changes(checkpoint, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_rule_names_a_setting() -> None:
    known = Settings().model_dump(mode="json")
    for rule in (*REFUSED, *REFUSED_IF_SAMPLED_AHEAD, *HARMLESS, *CONSEQUENCES):
        group, _, key = rule.partition(".")
        assert group in known
        assert not key or key in known[group] or key.startswith("env_config.")
    assert not set(REFUSED) & {*HARMLESS, *CONSEQUENCES}


def test_a_resume_that_changes_nothing_says_nothing(place: Path) -> None:
    assert not list(_changes(_checkpoint(_config())).lines())


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.path=other", "weights come from the checkpoint"),
        ("model.path=org/other", "weights come from the checkpoint"),
        ("model.lora_rank=4", "adapters"),
        ("environment.env=another:Env-v0", "which of its tasks were trained"),
        ("environment.env_config.tasks=other.jsonl", "which of them were trained"),
        ("environment.env_config.split=train", "which of its tasks were trained"),
        ("environment.env_config.cache=other.db", "recorded with it"),
        ("debugging.seed=1", "order of the tasks"),
    ],
)
def test_what_a_resume_cannot_mean_is_refused_with_the_way_out(
    place: Path, override: str, reason: str
) -> None:
    (place / "other.jsonl").write_text("another\n")
    _other_model("other")
    refused = _refused(_checkpoint(_config()), override)
    name, _, value = override.partition("=")
    assert f"{name}: " in refused and f"-> {value} (" in refused and reason in refused
    assert f"start a new run from its model with model.path={place.name and 'run'}" in refused


def test_all_that_is_refused_is_told_at_once(place: Path) -> None:
    refused = _refused(_checkpoint(_config()), "debugging.seed=1", "model.lora_rank=4")
    assert "debugging.seed: 0 -> 1" in refused and "model.lora_rank: 0 -> 4" in refused


@pytest.mark.parametrize("key", ["groups_per_batch", "max_staleness"])
def test_groups_that_were_sampled_ahead_bind_what_they_were_sampled_under(
    place: Path, key: str
) -> None:
    config = _config().training(max_staleness=1)
    _changes(_checkpoint(config), f"training.{key}=3")
    assert f"training.{key}: " in _refused(_checkpoint(config, ahead=True), f"training.{key}=3")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.lr=2e-6", "training.lr: 1e-06 -> 2e-06"),
        ("training.iterations=3", "training.iterations: 2 -> 3"),
        ("training.group_size=4", "training.group_size: 8 -> 4 (groups that were sampled ahead"),
        ("model.dtype=bfloat16", "model.dtype: float32 -> bfloat16"),
        ("model.reference=first", "model.reference: null -> first (the KL penalty is measured"),
        ("environment.env_config.max_turns=5", "environment.env_config.max_turns: 4 -> 5"),
        ("environment.env_config.reward=paper", "environment.env_config.reward: (not given) -> "),
        ("evaluation.num_tasks=5", "evaluation.num_tasks: null -> 5 (held-out numbers"),
        ("rollouts.temperature=0.5", "rollouts.temperature: 1.0 -> 0.5"),
    ],
)
def test_what_changes_what_is_learned_is_said_with_the_step(
    place: Path, override: str, line: str
) -> None:
    changes = _changes(_checkpoint(_config().training(kl_coeff=0.01)), override)
    (said,) = changes.learned
    assert said.startswith(line) and not changes.harmless
    assert list(changes.lines()) == ["changed from step 2 on:", f"  {said}"]


@pytest.mark.parametrize(
    "override",
    [
        "env_runners.num_env_runners=3",
        "learners.num_learners=2",
        "reporting.log_dir=elsewhere",
        "fault_tolerance.max_group_attempts=2",
        "debugging.log_level=DEBUG",
        "evaluation.evaluation_interval=0",
        "sft.lr=1",
    ],
)
def test_what_changes_nothing_that_is_learned_is_free(place: Path, override: str) -> None:
    config = _config().evaluation(evaluation_interval=2, tasks="tasks.jsonl")
    changes = _changes(_checkpoint(config), override)
    assert len(changes.harmless) == 1 and not changes.learned


@pytest.mark.parametrize(
    ("schedule", "override", "jumps"),
    [
        ("linear", "training.iterations=4", True),
        ("cosine", "training.iterations=4", True),
        ("constant", "training.iterations=4", False),
    ],
)
def test_a_schedule_with_another_end_is_said(
    place: Path, schedule: Any, override: str, jumps: bool
) -> None:
    checkpoint = _checkpoint(_config().training(lr_schedule=schedule))
    (line,) = _changes(checkpoint, override).learned
    assert (f"the {schedule} schedule ends elsewhere" in line) == jumps


# -- the first model and the files -----------------------------------------------------------


def _other_model(name: str) -> None:
    """The first model with one number changed."""
    shutil.copytree("first", name)
    path = Path(name) / "model.safetensors"
    weights = load_file(path)
    tensor = next(iter(weights.values()))
    tensor.view(-1)[0] += 1.0
    save_file(weights, path, {"format": "pt"})


def test_a_model_or_a_file_of_another_name_and_the_same_content_is_no_change(place: Path) -> None:
    checkpoint = _checkpoint(_config())
    shutil.copytree("first", "moved")
    shutil.copy("tasks.jsonl", "copied.jsonl")
    overrides = ["model.path=moved", "environment.env_config.tasks=copied.jsonl"]
    changes = _changes(checkpoint, *overrides)
    assert not changes.learned and len(changes.harmless) == 2
    assert all("the same content" in line for line in changes.harmless)


@pytest.mark.parametrize("value", ["null", "3", "[cache.db]", "'sqlite:///cache.db'"])
def test_what_names_no_file_has_not_the_content_of_one(place: Path, value: str) -> None:
    (place / "cache.db").write_text("responses\n")
    checkpoint = _checkpoint(_config(cache="cache.db"))
    assert "env_config.cache: cache.db ->" in _refused(
        checkpoint, f"environment.env_config.cache={value}"
    )


def test_a_file_that_cannot_be_read_is_one_clear_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = _checkpoint(_config())

    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("orch_train.algorithms.origin.file_digest", fail)
    assert _refused(checkpoint) == "tasks.jsonl cannot be read: Permission denied"
    monkeypatch.setattr("orch_train.algorithms.origin.model_digest", fail)
    (place / "again").mkdir()
    shutil.copy("first/config.json", "again")
    assert _refused(checkpoint, "model.path=again") == "again cannot be read: Permission denied"


def test_a_checkpoint_under_the_name_of_another_step_is_not_gone_on_from(place: Path) -> None:
    """A resume deletes what lies beyond its step: it would delete what it reads from."""
    checkpoint = _checkpoint(_config())
    shutil.copytree(checkpoint, checkpoint.with_name("step_9"), symlinks=True)
    with pytest.raises(OrchError, match=r"step_9' is of step 1: name it step_1, or move it out"):
        read_config(None, [], Path("run"))


def test_another_number_of_tasks_is_refused_as_other_tasks_are(place: Path) -> None:
    checkpoint = _checkpoint(_config().environment("mine/Env-v0", num_tasks=8))
    assert "environment.num_tasks: 8 -> 9" in _refused(checkpoint, "environment.num_tasks=9")


def test_tasks_that_were_changed_under_their_name_are_told(place: Path) -> None:
    checkpoint = _checkpoint(_config().evaluation(tasks="tasks.jsonl", evaluation_interval=1))
    (place / "tasks.jsonl").write_text("two\n")
    told = _changes(checkpoint).learned
    assert told == [
        f"{where}: the content of 'tasks.jsonl' has changed since the run began"
        for where in ("environment.env_config.tasks", "evaluation.tasks")
    ]


def test_the_digest_of_a_large_file_sees_changes_and_reads_little(tmp_path: Path) -> None:
    path, size = tmp_path / "weights", 64 << 20
    with path.open("wb") as file:
        file.truncate(size)
    digests = {file_digest(path)}
    for at in (0, size // 2, size - 1):
        with path.open("r+b") as file:
            file.seek(at - 40_000 if 0 < at < size - 1 else at)
            file.write(b"x" * (1 if at in (0, size - 1) else 300_000))
        digests.add(file_digest(path))
        if at == size - 1:
            with path.open("ab") as file:
                file.write(b"x")
            digests.add(file_digest(path))
    assert len(digests) == 5


def test_the_digest_of_a_model_is_that_of_its_content(place: Path) -> None:
    shutil.copytree("first", "moved")
    _other_model("other")
    same = model_digest(Path("first"))
    assert model_digest(Path("moved")) == same != model_digest(Path("other"))
    (place / "moved" / "config.json").write_text("{}")
    assert model_digest(Path("moved")) != same


def test_the_reference_is_the_first_model_whatever_model_path_says_later(place: Path) -> None:
    config = _config().training(kl_coeff=0.01)
    origin = Origin.of(config.settings)
    later = config.copy().model("other").settings
    assert kl_reference(later, origin) == str(place / "first")
    assert kl_reference(config.copy().model(reference="other").settings, origin) == "other"
    assert kl_reference(config.copy().training(kl_coeff=0.0).settings, origin) is None
    assert kl_reference(config.copy().model(lora_rank=2).settings, origin) is None


@pytest.mark.parametrize("folder", ["m/first", "first"])
@pytest.mark.parametrize("setting", ["path", "reference"])
def test_a_first_model_that_is_gone_is_missed_at_the_start_and_on_no_hub(
    place: Path, folder: str, setting: str
) -> None:
    """With its parent gone, too, ``m/first`` looks like the id of a model on a hub."""
    kept = place / "kept"
    shutil.copytree("first", kept)
    if folder != "first":
        Path("m").mkdir()
        Path("first").rename(folder)
    config = _config().model(str(kept)).training(kl_coeff=0.01)
    config.model(**{setting: folder})
    kept.rename("first") if not Path("first").exists() else None
    checkpoint = _checkpoint(config)
    Path(folder).parent.rename(place.parent / "away") if folder != "first" else None
    if folder == "first":
        shutil.rmtree(folder)
    with pytest.raises(OrchError, match=r"gone|is no folder") as caught:
        settings_for(config, checkpoint)
    assert "huggingface" not in str(caught.value)


def test_another_model_in_the_place_of_the_first_is_noticed(place: Path) -> None:
    config = _config().training(kl_coeff=0.01)
    checkpoint = _checkpoint(config)
    _other_model("other")
    shutil.rmtree("first")
    Path("other").rename("first")
    with pytest.raises(OrchError, match=r"'.*/first' is another model"):
        settings_for(config, checkpoint)


def test_from_another_directory_the_first_model_is_found_and_missing_tasks_are_explained(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config().training(kl_coeff=0.01)
    checkpoint = place / _checkpoint(config)
    monkeypatch.chdir(place.parent)
    with pytest.raises(OrchError, match=r"tasks\.jsonl.*was started in '.*/place'"):
        settings_for(config, checkpoint)
    absolute = config.copy().environment(env_config={"tasks": str(place / "tasks.jsonl")})
    settings = settings_for(absolute, checkpoint)
    origin = read_metadata(checkpoint).origin
    assert origin is not None
    assert kl_reference(settings, origin) == str(place / "first")


# -- whole runs ------------------------------------------------------------------------------


def _run(config: GRPOConfig, *, resume: bool = False) -> list[str]:
    """Train in ``run``; what was said."""
    said = io.StringIO()
    display = PlainDisplay(config.settings.training.iterations, said)
    TrainingRun(config, Path("run"), display, resume=resume).execute()
    return said.getvalue().splitlines()


def _lr(path: str) -> float:
    return GRPOConfig().from_yaml(path).settings.training.lr


def test_the_folder_says_what_held_when(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = toy_config.reporting(store_rollouts=False, trace_steps=0)
    _run(config.copy().training(iterations=1, lr=1e-3))
    said = _run(config.copy().training(iterations=2, lr=2e-3), resume=True)
    at = said.index("changed from step 2 on:")
    assert said[at - 1] == "resuming run after step 1"
    assert said[at + 1 : at + 3] == [
        "  training.lr: 0.001 -> 0.002",
        "  training.iterations: 1 -> 2",
    ]
    _run(config.copy().training(iterations=2, lr=3e-3), resume=True)  # nothing is left to do
    assert (_lr("run/config.to_step_1.yaml"), _lr("run/config.yaml")) == (1e-3, 2e-3)

    # The second step is lost: what held then held for nothing.
    shutil.rmtree("run/checkpoints/step_2")
    _run(config.copy().training(iterations=2, lr=4e-3), resume=True)
    assert (_lr("run/config.to_step_1.yaml"), _lr("run/config.yaml")) == (1e-3, 4e-3)
    shutil.rmtree("run/checkpoints/step_2")
    (back,) = [c for _, c in checkpoints(Path("run"))]
    again = GRPOConfig().from_yaml(back / "config.yaml").training(iterations=2)
    assert "  training.iterations: 1 -> 2" in _run(again, resume=True)
    assert _lr("run/config.yaml") == 1e-3


def test_a_refused_resume_touches_nothing(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = toy_config.training(iterations=1)
    _run(config.copy())
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    with pytest.raises(OrchError, match=r"cannot change debugging\.seed: 0 -> 1"):
        _run(config.copy().training(iterations=2).debugging(seed=1), resume=True)
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


def test_the_penalty_goes_on_against_the_first_model(
    toy_config: GRPOConfig, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from another directory, and though the configuration names another model by then."""
    shutil.copytree(toy_model, tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    config = toy_config.training(kl_coeff=0.01).model("first")
    with config.copy().build_algo() as algo:
        algo.train()
        checkpoint = algo.save_to_path(tmp_path / "step_1")
        expected = algo.train()["learners"]["default_policy"]["reference_kl"]
    assert expected > 0
    _other_model("other")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    other = config.copy().model(str(tmp_path / "other"))
    with GRPO.from_checkpoint(checkpoint, config=other) as algo:
        assert algo.train()["learners"]["default_policy"]["reference_kl"] == expected
        again = read_metadata(algo.save_to_path(tmp_path / "step_2")).origin
    assert again == read_metadata(checkpoint).origin


def test_a_checkpoint_from_before_these_facts_is_resumed(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    with toy_config.training(kl_coeff=0.01).build_algo() as algo:
        folder = algo.save_to_path(tmp_path / "step_0")
    data = json.loads((folder / "metadata.json").read_text())
    del data["origin"]
    (folder / "metadata.json").write_text(json.dumps(data))
    with GRPO.from_checkpoint(folder) as algo:
        assert algo.train()["learners"]["default_policy"]["reference_kl"] >= 0
    data["origin"] = {"directory": "/"}
    (folder / "metadata.json").write_text(json.dumps(data))
    with pytest.raises(OrchError, match="incomplete"):
        read_metadata(folder)


def test_a_checkpoint_of_a_run_with_another_first_model_is_not_restored_under_a_penalty(
    toy_config: GRPOConfig, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toy_model, tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    _other_model("other")
    config = toy_config.training(kl_coeff=0.01)
    with config.copy().model("other").build_algo() as algo:
        folder = algo.save_to_path(tmp_path / "step_0")
    with config.copy().model("first").build_algo() as algo:
        before = {name: tensor.clone() for name, tensor in algo.learner.get_weights().items()}
        with pytest.raises(OrchError, match="started from another model"):
            algo.restore_from_path(folder)
        after = algo.learner.get_weights()
        assert all(torch.equal(before[name], after[name]) for name in before)
