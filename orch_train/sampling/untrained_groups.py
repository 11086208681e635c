"""Groups between the task order and the learner, as a checkpoint keeps them.

    sampled_ahead/book.json     deadlines, and the request of every untrained group
                  finished.db   the episodes of those that are back: a rollout store

What is back is neither sampled again nor lost; what was running is sampled again from its
request, the same task under the same seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.trajectory.store import RolloutStore


@dataclass(frozen=True, slots=True)
class UntrainedGroups:
    """Groups that were admitted and are not trained.

    Attributes:
        admission: see `Admission.state`.
        requests: of all of them.
        finished: those that are back.
    """

    admission: Mapping[str, Any]
    requests: Sequence[SampleRequest]
    finished: Sequence[SampleReply]

    def write(self, folder: Path) -> None:
        """Write into a new folder."""
        folder.mkdir()
        record = {"book": self.admission, "requests": [_stored(r) for r in self.requests]}
        text = json.dumps(record, indent=1)
        (folder / "book.json").write_text(text + "\n", encoding="utf-8")
        with closing(RolloutStore(folder / "finished.db")) as store:
            store.add(0, self.finished)

    @classmethod
    def read(cls, folder: Path) -> UntrainedGroups:
        """Undo `write`.

        Raises:
            OrchError: a file is missing or damaged.
        """
        path = folder / "book.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            requests = [SampleRequest(**given.pop("group"), **given) for given in data["requests"]]
            expected = {group["id"] for group in data["book"]["groups"] if group["finished"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise OrchError(f"{path} cannot be read: {problem!r}") from problem
        finished = _finished(folder / "finished.db", [r for r in requests if r.id in expected])
        return cls(data["book"], requests, finished)


def _stored(request: SampleRequest) -> dict[str, Any]:
    group = asdict(request)
    own = {name: group.pop(name) for name in ("temperature", "held_out")}
    return {**own, "group": group}


def _finished(path: Path, requests: Sequence[SampleRequest]) -> list[SampleReply]:
    if not path.is_file():
        raise OrchError(f"{path} is missing: the checkpoint is incomplete")
    with closing(RolloutStore(path)) as store:
        stored = {reply.group.id: reply for _, reply in store.replies()}
    unknown = stored.keys() - {request.id for request in requests}
    if unknown:
        raise OrchError(f"{path} holds group {min(unknown)!r}, which book.json does not")
    for request in requests:
        if request.id not in stored or len(stored[request.id].group.samples) != request.size:
            raise OrchError(f"{path}: group {request.id!r} is not whole")
    return [stored[request.id] for request in requests]
