"""The quick start end to end, in miniature: the shipped model, world and configuration."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from orch_env import OrchError
from orch_env.cli.main import exit_code, main
from orch_train.cli.quickstart import CONFIG, MEASURES, run_quickstart, show_table
from orch_train.cli.quickstart import main as quickstart
from orch_train.storage.run_folder import own_new
from orch_train.viewer.server import ViewServer
from tests.journeys import next_commands
from tests.test_documentation import commands_of, of

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "env_runners.num_env_runners=0",
    "training.iterations=1",
    "training.groups_per_batch=2",
    "training.group_size=2",
    "evaluation.num_tasks=4",
    "evaluation.evaluation_interval=1",
    "sft.num_tasks=8",
    "sft.max_steps=2",
    "sft.max_seconds=null",
    "reporting.tensorboard=false",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The quick start's folder after it ran as typed, and what it said on stdout and stderr."""
    out = tmp_path_factory.mktemp("my work") / "runs" / "quickstart"
    out.mkdir(parents=True)
    (out / "summary.json").write_text("an earlier run")
    words = ["--seed", "3", "--out", str(out), "--config", str(ROOT / CONFIG), *SMALL]
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        assert exit_code(quickstart, "quickstart", words) == 0
    return out, said.getvalue(), told.getvalue()


def test_it_measures_before_and_after_and_sets_an_earlier_run_aside(
    finished: tuple[Path, str, str],
) -> None:
    out, said, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert (out.parent / "quickstart-2" / "summary.json").read_text() == "an earlier run"
    assert summary["seed"] == 3
    assert set(summary["seconds"]) == {"setup", "sft", "grpo"}
    for moment in ("before", "after"):
        assert summary[moment]["n"] == 4
        assert all(0.0 <= summary[moment][name] <= 1.0 for name in MEASURES)
    assert (out / "sft" / "model" / "config.json").is_file()
    assert (out / "grpo" / "checkpoints" / "step_1").is_dir()
    assert "4 held-out tasks" in said


def test_tasks_on_live_servers_are_measured_without_recorded_responses(tmp_path: Path) -> None:
    summary = run_quickstart(
        seed=0, out=tmp_path / "run", config=ROOT / "configs/servers.yaml", overrides=SMALL
    )
    show_table(summary)
    for moment in (summary["before"], summary["after"]):
        assert set(moment) == {"reward_mean", "success", "n", "greedy"}
        assert moment["n"] == 4 and 0.0 <= moment["success"] <= 1.0


def test_the_commands_that_the_quick_start_prints_run_as_typed(
    finished: tuple[Path, str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, _, told = finished
    monkeypatch.setattr(ViewServer, "serve_forever", lambda self: None)
    view, evaluate, export, resume = next_commands(told)
    assert view == ["view", str(out)] and main(view) == 0
    assert evaluate[:3] == ["eval", "--model", str(out)] and main([*evaluate, "--limit", "2"]) == 0
    assert export[:2] == ["export", str(out)] and main(export) == 0
    [score] = next_commands(capsys.readouterr().err.splitlines()[-1])
    assert score[:3] == ["eval", "--model", f"{out}-model"]
    assert main([*score, "--limit", "1"]) == 0
    assert resume == ["train", "--resume", str(out), "training.iterations=2"]
    assert main(resume) == 0
    results = (out / "grpo" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(results[-1])["training_iteration"] == 2


def documented() -> list[list[str]]:
    """The words of the docs' commands on what the quick start leaves."""
    told = [words for block in of("bash") for words in commands_of(block)]
    return [words[1:] for words in told if words[0] == "orch" and "runs/quickstart" in words]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_the_docs_commands_on_it_run_as_typed(
    words: list[str], finished: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _, _ = finished
    monkeypatch.chdir(out.parent.parent)
    monkeypatch.setattr(ViewServer, "serve_forever", lambda self: None)
    second = out.parent / "quickstart-2" / "grpo"
    if not second.exists():
        shutil.copytree(out / "grpo", second)
    assert main([*words, *["--limit", "1"] * (words[0] == "eval")]) == 0


def test_a_run_argument_that_cannot_be_meant_says_what_there_is(
    finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _, _ = finished
    for words, told in (
        (["train", "--resume", str(out.parent / "quickstrat")], "did you mean 'quickstart'"),
        (["train", "--resume", str(out / "sft")], f"model.path={out / 'sft' / 'model'}"),
        (["train", "--resume", str(out / "summary.json")], "is a file, no run folder"),
        (["train", "--resume", str(out.parent)], "holds 2 GRPO runs, name one of them"),
        (["train", "--resume", str(out / "sft" / "model")], "there is no run below it"),
        (["train", "--resume", str(out / "grpo/checkpoints/step_1")], f"name its run, {out}/grpo"),
        (["eval", "--tasks", "harbour", "--model", str(out.parent / "none")], "none"),
    ):
        assert main(words) == 2, words
        assert told in capsys.readouterr().err


def test_a_wrong_setting_is_found_before_an_earlier_run_is_touched(tmp_path: Path) -> None:
    out = tmp_path / "quickstart"
    out.mkdir()
    with pytest.raises(OrchError, match="did you mean 'lr'"):
        run_quickstart(seed=0, out=out, config=ROOT / CONFIG, overrides=("training.lrr=1",))
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_goes_on_in_the_folder_is_not_set_aside(tmp_path: Path) -> None:
    out = tmp_path / "quickstart"
    with own_new(out / "grpo"), pytest.raises(OrchError, match="in use by process"):
        run_quickstart(seed=0, out=out, config=ROOT / CONFIG, overrides=SMALL)
    assert not list(tmp_path.iterdir())
