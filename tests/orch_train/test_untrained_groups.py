"""What a checkpoint keeps of groups that no step has learned from: its format, and its damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from orch_env.types import Episode, OrchError, StopReason
from orch_train.sampling.untrained_groups import UntrainedGroups
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.trajectory.sample import TrainingSample
from orch_train.trajectory.store import RolloutStore, pack_tokens
from tests.orch_train.replies import answer

# As every version has written it; checkpoints are read by later ones.
STORED = {
    "book": {
        "groups_per_batch": 2,
        "max_staleness": 1,
        "groups": [
            {"id": "0:b", "deadline": 1, "finished": True},
            {"id": "0:a", "deadline": 2, "finished": False},
        ],
    },
    "requests": [
        {
            "group": {
                "id": f"0:{name}",
                "task_id": name,
                "env_seed": 2**62 + 1,
                "sample_seed": 7,
                "size": 2,
                "training_step": 3,
            },
            "temperature": 0.9,
            "held_out": False,
        }
        for name in "ab"
    ],
}
REQUESTS = [
    SampleRequest(f"0:{name}", name, 2**62 + 1, 7, 2, training_step=3, temperature=0.9)
    for name in "ab"
]


def reply(request: SampleRequest) -> SampleReply:
    members = []
    for reward in (0.0, 1.0):
        sample, episode = TrainingSample(), Episode("b", 3, stop_reason=StopReason.ANSWERED)
        sample.append_context([1, 2])
        sample.append_action([3], [-0.5], [4])
        sample.score(episode, reward, success=reward == 1.0)
        members.append((sample, episode))
    return answer(request, *members)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    UntrainedGroups(STORED["book"], REQUESTS, [reply(REQUESTS[1])]).write(tmp_path / "ahead")  # type: ignore[arg-type]
    return tmp_path / "ahead"


def test_it_is_written_as_it_always_was_and_comes_back_whole(folder: Path) -> None:
    assert json.loads((folder / "book.json").read_text()) == STORED
    found = UntrainedGroups.read(folder)
    assert found.admission == STORED["book"] and found.requests == REQUESTS
    [back], expected = found.finished, reply(REQUESTS[1])
    assert (back.group.id, back.group.task_id, back.group.seed) == ("0:b", "b", 2**62 + 1)
    assert back.records == expected.records and back.group.rewards == [0.0, 1.0]
    for sample, was in zip(back.group.samples, expected.group.samples, strict=True):
        assert pack_tokens(sample) == pack_tokens(was)
        assert (sample.member, sample.stop_reason) == (was.member, StopReason.ANSWERED)


def _without_the_episodes(folder: Path) -> None:
    (folder / "finished.db").unlink()


def _half_a_group(folder: Path) -> None:
    _execute(folder, "DELETE FROM rollouts WHERE member = 1")


def _no_group(folder: Path) -> None:
    _execute(folder, "DELETE FROM rollouts")


def _unaligned_streams(folder: Path) -> None:
    _execute(folder, "UPDATE rollouts SET tokens = x'81a369647390' WHERE member = 1")


def _a_foreign_group(folder: Path) -> None:
    with closing(RolloutStore(folder / "finished.db")) as store:
        store.add(0, [reply(SampleRequest("1:z", "b", 0, 0, 2))])


def _torn_text(folder: Path) -> None:
    (folder / "book.json").write_text((folder / "book.json").read_text()[:-40])


def _a_request_of_nothing(folder: Path) -> None:
    broken = {**STORED, "requests": [{"temperature": 1.0}]}
    (folder / "book.json").write_text(json.dumps(broken))


def _execute(folder: Path, statement: str) -> None:
    engine = create_engine(f"sqlite:///{folder / 'finished.db'}")
    with engine.begin() as database:
        database.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without_the_episodes, "finished.db is missing"),
        (_half_a_group, "group '0:b' is not whole"),
        (_no_group, "group '0:b' is not whole"),
        (_unaligned_streams, "stored token streams are damaged"),
        (_a_foreign_group, "holds group '1:z'"),
        (_torn_text, "book.json cannot be read"),
        (_a_request_of_nothing, "book.json cannot be read"),
    ],
)
def test_damage_is_one_clear_error(folder: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(folder)
    with pytest.raises(OrchError, match=says):
        UntrainedGroups.read(folder)
