"""Groups between the task order and the learner, as a checkpoint keeps them.

    sampled_ahead/book.json     the admission book, and the request of every untrained group
                  finished.db   the episodes of those that are back: a rollout store

What is back is neither sampled again nor lost; what was running is sampled again from its
request, the same task under the same seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.types import OrchError
from orch_train.trajectory.store import RolloutStore
from orch_train.trajectory.trajectory import Group

if TYPE_CHECKING:
    from orch_train.rollouts.env_runner import SampleRequest


@dataclass(frozen=True, slots=True)
class SampledAhead:
    """Groups that were admitted and are not trained.

    Attributes:
        book: see `AdmissionBook.state`.
        requests: of all of them.
        finished: those that are back.
    """

    book: Mapping[str, Any]
    requests: Sequence[SampleRequest]
    finished: Sequence[Group]

    def write(self, folder: Path) -> None:
        """Write into a new folder."""
        folder.mkdir()
        requests = [asdict(request) for request in self.requests]
        text = json.dumps({"book": self.book, "requests": requests}, ensure_ascii=False, indent=1)
        (folder / "book.json").write_text(text + "\n", encoding="utf-8")
        store = RolloutStore(folder / "finished.db")
        try:
            store.add(0, self.finished)
        finally:
            store.close()

    @classmethod
    def read(cls, folder: Path) -> SampledAhead:
        """Undo `write`.

        Raises:
            OrchError: a file is missing or damaged.
        """
        path = folder / "book.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            requests = [_request(given) for given in data["requests"]]
            expected = {group["id"] for group in data["book"]["groups"] if group["finished"]}
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise OrchError(f"{path} cannot be read: {problem!r}") from problem
        finished = _groups(folder / "finished.db", {r.id: r for r in requests if r.id in expected})
        return cls(data["book"], requests, finished)


def _request(given: Mapping[str, Any]) -> SampleRequest:
    # Not above: the command line reads checkpoints' metadata before torch is imported.
    from orch_train.rollouts.env_runner import SampleRequest
    from orch_train.rollouts.episode import GroupRequest

    return SampleRequest(**{**given, "group": GroupRequest(**given["group"])})


def _groups(path: Path, requests: Mapping[str, SampleRequest]) -> list[Group]:
    if not path.is_file():
        raise OrchError(f"{path} is missing: the checkpoint is incomplete")
    store = RolloutStore(path)
    groups = {
        name: Group(name, r.group.task_id, r.group.env_seed, []) for name, r in requests.items()
    }
    try:
        for _, trajectory in store.trajectories():
            groups[trajectory.group].trajectories.append(trajectory)
    except KeyError as problem:
        raise OrchError(f"{path} holds group {problem}, which book.json does not") from problem
    finally:
        store.close()
    for name, group in groups.items():
        if len(group.trajectories) != requests[name].group.size:
            raise OrchError(f"{path}: group {name!r} is not whole")
    return list(groups.values())
