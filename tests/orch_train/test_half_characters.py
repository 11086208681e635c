"""Whatever a run writes can be read again, though models and services write half characters.

Half a character is a lone surrogate: JSON can escape it, but it has no bytes in UTF-8.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from orch_env.types import Episode, RewardBreakdown, StopReason, ToolCall, Turn
from orch_train import GRPOConfig
from orch_train.algorithms.checkpoint import CheckpointMetadata, read_metadata, write_checkpoint
from orch_train.config.reading import read_yaml
from orch_train.run.metrics_file import MetricsWriter, read_metrics, truncate_metrics
from orch_train.run.trace import TraceFile
from orch_train.sampling.untrained_groups import UntrainedGroups
from orch_train.storage.run_folder import write_text
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.trajectory.sample import TrainingSample
from orch_train.trajectory.store import RolloutStore
from orch_train.viewer.export import export_page
from orch_train.viewer.run_data import RunData
from tests.orch_train.replies import answer

HALF = "half \ud83d an emoji"
REQUEST = SampleRequest("0:t", "t", 1, 2, 1)


def reply() -> SampleReply:
    turn = Turn.of(HALF, [ToolCall(HALF, {HALF: HALF})], [HALF], HALF)
    reward = RewardBreakdown(1.0, {HALF: 1.0})
    state = {HALF: {HALF: {HALF: HALF}}}
    episode = Episode("t", 1, (turn,), HALF, StopReason.ANSWERED, reward, state)
    sample = TrainingSample()
    sample.append_context([1, 2])
    sample.append_action([3], [-0.5], [4])
    sample.score(episode, 1.0, success=True)
    return answer(REQUEST, (sample, episode))


def stored_episode(path: Path) -> Episode:
    with closing(RolloutStore(path)) as store:
        ((_, found),) = store.replies()
    return found.records[0].episode


def test_rollouts(tmp_path: Path) -> None:
    with closing(RolloutStore(tmp_path / "rollouts.db")) as store:
        store.add(1, [reply()])
    assert stored_episode(tmp_path / "rollouts.db") == reply().records[0].episode


def test_metrics_written_and_written_again(tmp_path: Path) -> None:
    result = {"training_iteration": 1, "env_runners": {HALF: 1.0, "Zürich": 2.0}}
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.write(result)
    writer.close()
    assert read_metrics(tmp_path) == [result]
    truncate_metrics(tmp_path, 1)
    assert read_metrics(tmp_path) == [result]


def test_a_checkpoint_with_groups_that_were_not_trained_on(tmp_path: Path) -> None:
    metadata = CheckpointMetadata(1, 2, {HALF: 1.0}, {"drawn": [HALF]})
    request = SampleRequest("0:t", "t", 1, 2, 1, temperature=0.5)
    untrained = UntrainedGroups(
        {"groups": [{"id": "0:t", "finished": True, HALF: HALF}]}, [request], [reply()]
    )
    folder = write_checkpoint(tmp_path / "c", metadata, "a: 1\n", Path.mkdir, untrained)
    assert read_metadata(folder) == metadata
    (books,) = folder.rglob("book.json")
    found = UntrainedGroups.read(books.parent)
    assert found.admission == untrained.admission
    assert found.finished[0].records[0].episode == reply().records[0].episode


def test_the_configuration(tmp_path: Path) -> None:
    config = GRPOConfig().environment(env_config={"tasks": HALF, "ü": "Zürich"})
    write_text(tmp_path / "config.yaml", config.to_yaml())
    assert read_yaml(tmp_path / "config.yaml")["environment"]["env_config"] == {
        "tasks": HALF,
        "ü": "Zürich",
    }


def test_the_exported_page_and_the_trace(tmp_path: Path) -> None:
    with closing(RolloutStore(tmp_path / "rollouts.db")) as store:
        store.add(1, [reply()])
    write_text(tmp_path / "config.yaml", "{}")
    export_page([RunData(tmp_path)], tmp_path / "page.html")
    assert json.dumps(HALF)[1:-1] in (tmp_path / "page.html").read_text(encoding="utf-8")
    TraceFile(tmp_path / "trace.json", 1).add(1, [], [reply()])
    json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))


def test_a_byte_order_mark_before_a_configuration(tmp_path: Path) -> None:
    text = "training:\n  lr: 1.0e-6\nmodel:\n  path: zürich\n"
    for name, mark in (("plain.yaml", b""), ("marked.yaml", b"\xef\xbb\xbf")):
        (tmp_path / name).write_bytes(mark + text.encode())
    assert read_yaml(tmp_path / "marked.yaml") == read_yaml(tmp_path / "plain.yaml")
