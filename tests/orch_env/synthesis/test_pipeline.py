"""Jobs: the same bytes after kills and in any number of processes; what cannot be made is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from filelock import FileLock

from orch_env import OrchError, load_tasks, open_cache
from orch_env.synthesis.pipeline.config import SynthesisConfig, load_config
from orch_env.synthesis.pipeline.run import run_job
from orch_env.types.json import JsonObject
from tests.orch_env.synthesis.tours import TOWNS, answers, tours_cache, tours_config

ROOT = Path(__file__).parents[3]
MOST_KILLS = 60


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tours_cache(tmp_path_factory.mktemp("tours") / "tours.db")


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JsonObject]:
    """A job that nothing disturbed: its folder and its report."""
    folder = tmp_path_factory.mktemp("whole") / "job"
    return folder, run_job(tours_config(cache, folder))[1]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The files of a job, without how long things took and where they are."""
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder).encode(), b"OUT")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("timings.jsonl", ".lock")
    }


def die_at_a_write(config: JsonObject, writes: int) -> None:
    """Run a job in this process and end it by SIGKILL when it finishes its n-th file."""
    replace, done = os.replace, 0

    def dying(source: str, target: str) -> None:
        nonlocal done
        done += 1
        if done == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = dying  # type: ignore[assignment]
    run_job(SynthesisConfig.model_validate(config))


def test_kill_9_at_every_file_and_reruns_end_with_the_same_bytes(
    cache: Path, finished: tuple[Path, JsonObject], tmp_path: Path
) -> None:
    # A fork of a process that has imported everything starts at once.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "matplotlib.pyplot", "networkx"])
    config = tours_config(cache, tmp_path / "job").model_dump(mode="json")
    writes, names = 2, set[str]()
    for kills in range(MOST_KILLS):  # noqa: B007
        process = context.Process(target=die_at_a_write, args=(config, writes))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert any((tmp_path / "job").rglob(".*.partial"))
        before, names = names, {n for n in bytes_of(tmp_path / "job") if "partial" not in n}
        writes += names == before  # the last stage writes all its files again
    assert kills >= 12
    assert bytes_of(tmp_path / "job") == bytes_of(finished[0])


RUN = """
import sys
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.run import run_job
if __name__ == "__main__":
    config = SynthesisConfig.model_validate_json(sys.argv[1])
    run_job(config, lambda what, done, total: print(f"{what} {done}", flush=True))
"""


def test_two_processes_make_the_same_bytes_also_after_a_kill_that_leaves_no_worker(
    cache: Path, finished: tuple[Path, JsonObject], tmp_path: Path
) -> None:
    config = tours_config(cache, tmp_path / "job", processes=2)
    script = tmp_path / "run.py"
    script.write_text(RUN, encoding="utf-8")
    command = [sys.executable, str(script), config.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "growing workflows 3\n":
                process.kill()
                break
        process.stdout.read()  # ends when the last worker has, for all of them hold it
    assert process.returncode == -signal.SIGKILL
    assert any((tmp_path / "job" / "growing").glob("*.json"))
    assert not (tmp_path / "job" / "tasks.jsonl").exists()
    run_job(config)
    assert bytes_of(tmp_path / "job") == bytes_of(finished[0])


def test_a_finished_job_is_not_done_again(
    cache: Path, finished: tuple[Path, JsonObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report = finished
    monkeypatch.setattr("orch_env.synthesis.pipeline.job.Workshop", None)
    assert run_job(tours_config(cache, folder, processes=2))[1] == report


def test_a_finished_job_is_read_while_another_process_reads_it(
    cache: Path, finished: tuple[Path, JsonObject]
) -> None:
    folder, report = finished
    with FileLock(folder / ".lock"):
        assert run_job(tours_config(cache, folder))[1] == report


def test_one_process_at_a_time_works_in_a_folder(cache: Path, tmp_path: Path) -> None:
    config = tours_config(cache, tmp_path / "job")
    (tmp_path / "job").mkdir()
    with (
        FileLock(tmp_path / "job" / ".lock"),
        pytest.raises(OrchError, match="another process works in"),
    ):
        run_job(config)


def test_every_task_has_the_size_that_was_asked_for_and_one_split(
    finished: tuple[Path, JsonObject],
) -> None:
    folder, report = finished
    assert report["splits"] == {"train": 16, "test": 8} and report["tasks"] == 24
    tasks = load_tasks(folder / "tasks.jsonl")
    split_of: dict[str, str] = {}
    for task in tasks:
        assert task.metadata["calls"] == len(task.gold_calls) in (2, 3)
        for entity in (*task.metadata["entities"], task.metadata["template"]):
            assert split_of.setdefault(entity, task.metadata["split"]) == task.metadata["split"]
    assert len(split_of) > 10 and report["size_mismatches"] == []
    assert tasks == [t for s in ("train", "test") for t in load_tasks(folder / f"tasks-{s}.jsonl")]


def test_each_stage_passes_on_what_it_did_not_refuse(finished: tuple[Path, JsonObject]) -> None:
    stages = finished[1]["stages"]
    assert [s["name"] for s in stages] == [
        "drawn", "planned", "written", "checked", "kept", "replayed",
    ]  # fmt: skip
    for stage, after in zip(stages, [*stages[1:], None], strict=True):
        assert stage["in"] == stage["out"] + sum(stage["reasons"].values())
        assert after is None or after["in"] == stage["out"]
    assert stages[0]["in"] > 24


def test_a_count_out_of_reach_is_told_and_what_there_is_is_kept(
    cache: Path, tmp_path: Path
) -> None:
    config = tours_config(cache, tmp_path / "job", splits={"all": 10_000}, replay=False)
    _, report = run_job(config)
    assert report["wanted"] == {"all": 10_000}
    # Each of 30 towns has two tours with two leaves each, and a list of tours.
    assert 20 < report["tasks"] <= TOWNS * 7
    assert len(load_tasks(tmp_path / "job" / "tasks.jsonl")) == report["tasks"]


def test_a_folder_of_another_job_is_refused_and_left_as_it_is(
    cache: Path, finished: tuple[Path, JsonObject]
) -> None:
    before = bytes_of(finished[0])
    with pytest.raises(OrchError, match=r"other settings .* name another folder by out="):
        run_job(tours_config(cache, finished[0], seed=1))
    assert bytes_of(finished[0]) == before


def test_a_cache_of_one_tool_is_refused(tmp_path: Path) -> None:
    one = tours_cache(tmp_path / "one.db", [a for a in answers() if a[0] == "find_town"])
    with pytest.raises(OrchError, match="calls of one tool only, 'find_town'"):
        run_job(tours_config(one, tmp_path / "job"))


def test_a_cache_without_dependencies_is_refused(tmp_path: Path) -> None:
    apart = [a for a in answers() if a[0] in ("find_town", "tour_guide")]
    with pytest.raises(OrchError, match="no output of the 2 tools feeds an argument of another"):
        run_job(tours_config(tours_cache(tmp_path / "apart.db", apart), tmp_path / "job"))


def test_a_cache_of_errors_is_refused(tmp_path: Path) -> None:
    errors = [
        (tool, arguments, {"error": "not found", "type": "bad_argument"})
        for tool, arguments, _ in answers()
    ]
    with open_cache(tmp_path / "errors.db", write=True) as opened:
        for tool, arguments, response in errors:
            opened.put(tool, arguments, json.dumps(response), is_error=True)
        opened.commit()
    with pytest.raises(OrchError, match=f"holds {len(errors)} responses, all of them errors"):
        run_job(tours_config(tmp_path / "errors.db", tmp_path / "job"))


JOBS = [*(ROOT / "examples" / "synthesis").glob("*_*.yaml"), ROOT / "configs" / "synthesis.yaml"]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_jobs_that_we_publish_are_configurations(path: Path) -> None:
    assert sum(load_config(path).splits.values()) > 0


def test_contradictory_answers_are_pinned_and_every_task_still_replays(tmp_path: Path) -> None:
    # Each town's list was recorded twice, with other tours.
    twice = [
        *answers(),
        *(
            ("list_tours", arguments, {"tours": response["tours"][:1]})
            for tool, arguments, response in answers()
            if tool == "list_tours"
        ),
    ]
    config = tours_config(tours_cache(tmp_path / "twice.db", twice), tmp_path / "job")
    _, report = run_job(config)
    replayed = report["stages"][-1]
    assert report["cache"]["variants"] >= TOWNS
    assert replayed["in"] == replayed["out"] > 0
    pinned = {
        (call.arguments["town_id"], call.response)
        for task in load_tasks(tmp_path / "job" / "tasks.jsonl")
        for call in task.gold_calls
        if call.name == "list_tours"
    }
    assert len(pinned) > len({town for town, _ in pinned})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape: {cals: 3}", r"shape\.cals: there is no such setting"),
        ("shape: {calls: [4, 2]}", "calls: calls must lie between 1 and 12, least first"),
        ("splits: {}", "splits: each split needs at least one task"),
        ("a: [", "is no YAML"),
        ("- 1", "holds no settings"),
    ],
)
def test_a_bad_configuration_is_refused_by_its_key(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text if text[0] in "a-" else f"source: {{cache: harbour}}\n{text}\n")
    with pytest.raises(OrchError, match=message):
        load_config(path)
