"""A synthesis job in a folder: stages in pieces, each written whole or not at all.

``kill -9`` at any moment loses the pieces in progress and nothing else: a rerun does what is
missing, and the files are the same bytes in the end, for any number of processes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from filelock import FileLock, Timeout

from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.mining import Mined
from orch_env.synthesis.pipeline.assignment import (
    homes_of,
    load_templates,
    traced_templates,
)
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.source import check_source, open_source
from orch_env.synthesis.pipeline.stages import STAGES, Balance, Tally
from orch_env.synthesis.pipeline.workshop import Workshop
from orch_env.synthesis.templates.template import Template
from orch_env.tasks.files import read_json, read_records, write_whole
from orch_env.types import OrchError, Task
from orch_env.types.json import Json, JsonObject
from orch_env.types.text import readable_json

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""
_SPARE = 1.3
"""Tasks that chunks try for, over those that are wanted: some chunks fall short."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of work: ``grow`` templates for a split, or ``make`` a chunk of tasks.

    Attributes:
        kind: ``grow`` or ``make``.
        split: the split.
        number: number of the round, or of the chunk.
        count: tasks to make.
    """

    kind: str
    split: str
    number: int
    count: int = 0

    @property
    def name(self) -> str:
        """Stem of the piece's file."""
        return f"{self.split}-{self.number:04d}"


class Job:
    """A job in its folder.

    Args:
        config: what to make.

    Raises:
        OrchError: the folder holds another job, or another process works in it.
    """

    def __init__(self, config: SynthesisConfig) -> None:
        self.config = config
        self.folder = Path(config.out)

    def run(self, finish: Finish, progress: Progress | None = None) -> JsonObject:
        """Do what is missing.

        Args:
            finish: writes the report when everything else is there.
            progress: see :data:`Progress`.

        Returns:
            The report, as in ``report.json``.
        """
        report = progress or (lambda _what, _done, _total: None)
        if self._is_finished():  # any number of processes may read it
            found: JsonObject = read_json(self.folder / "report.json")
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as problem:
            raise OrchError(f"another process works in {str(self.folder)!r}") from problem
        try:
            return self._run(finish, report)
        finally:
            lock.release()
            if "workshop" in vars(self):
                self.workshop.close()
                del self.workshop

    def _run(self, finish: Finish, report: Progress) -> JsonObject:
        self._claim()
        for partial in self.folder.rglob(".*.partial"):  # what a kill left of a file
            partial.unlink(missing_ok=True)
        report("mining", 0, 1)
        workshop = self.workshop
        report("mining", 1, 1)
        splits = list(self.config.splits)
        if self.config.sampling.templates is None:
            rounds = range(self.config.sampling.growth_rounds)
            grow = [Piece("grow", split, round_) for split in splits for round_ in rounds]
            self._do(grow, "growing workflows", report)
        self._assign(workshop)
        self._do(list(self._chunks()), "making tasks", report)
        return finish(self, workshop)

    def _is_finished(self) -> bool:
        """Whether this very job is done; a folder of another job is refused."""
        if not (self.folder / "report.json").is_file():
            return False
        self._claim()
        return True

    def _claim(self) -> None:
        """Write the configuration, or refuse a folder that has another one or another cache."""
        path = self.folder / "config.json"
        cache = open_source(self.config.source.cache).stats()["digest"]
        identity = {**self.config.identity(), "cache_digest": cache}
        text = readable_json(identity, indent=1, sort_keys=True) + "\n"
        if path.is_file():
            if path.read_text(encoding="utf-8") != text:
                raise OrchError(
                    f"{str(self.folder)!r} holds a job with other settings or of another cache "
                    "(config.json there): name another folder by out=..., or delete it"
                )
        else:
            write_whole(text.encode(), path)

    @cached_property
    def workshop(self) -> Workshop:
        """What this process reads once; mines where that was not done yet."""
        path = self.folder / "mined.json"
        mined = Mined.from_dict(read_json(path)) if path.is_file() else None
        # SQLite's files serve the processes of one machine, not those of several.
        folder = self.folder if self.config.runner == "local" else None
        workshop = Workshop(self.config, mined, folder)
        check_source(workshop.corpus, workshop.mined)
        if mined is None:
            write_whole((readable_json(workshop.mined.to_dict(), indent=1) + "\n").encode(), path)
        return workshop

    # -- templates -----------------------------------------------------------------------------

    def _assign(self, workshop: Workshop) -> None:
        """Write ``templates.jsonl``: each template with the one split that it belongs to."""
        path = self.folder / "templates.jsonl"
        if path.is_file():
            return
        fillings: dict[str, dict[str, float]] = {}
        templates: dict[str, Template] = {}
        for split, template, count in self._candidates(workshop):
            templates[template.id] = template
            fillings.setdefault(template.id, {})[split] = count
        if self.config.sampling.novel:
            known = traced_templates(workshop)
            for name in [name for name in templates if name in known]:
                del templates[name], fillings[name]
        home = homes_of(templates, fillings, self.config)
        lines = [
            readable_json({**templates[t].to_dict(), "split": home[t], "fillings": fillings[t]})
            for t in sorted(templates)
            if t in home
        ]
        if not lines:
            raise OrchError(
                "no workflow of the wanted shape can be filled from this cache: ask for fewer "
                "calls or another depth, width or number of domains; `orch synth graph` shows "
                "what there is"
            )
        write_whole("".join(f"{line}\n" for line in lines).encode(), path)

    def _candidates(self, workshop: Workshop) -> Iterator[tuple[str, Template, float]]:
        given = self.config.sampling.templates
        if given is None:
            for path in sorted((self.folder / "growing").glob("*.json")):
                for entry in read_json(path):
                    yield (
                        path.stem.rsplit("-", 1)[0],
                        Template.from_dict(entry["template"]),
                        entry["count"],
                    )
            return
        from orch_env.synthesis.sampling.prepared import Prepared

        for template in load_templates(given):
            template.check(workshop.corpus)
            if not workshop.fits(template):
                continue
            for split, part in workshop.parts.items():
                count = Prepared(workshop.index, template, rows=part.rows).count
                if count:
                    yield split, template, count

    def templates(self, split: str) -> list[Template]:
        """The templates of a split, in a mixed and fixed order."""
        found = [
            Template.from_dict(entry)
            for _, entry in read_records(self.folder / "templates.jsonl")
            if entry["split"] == split
        ]
        return Chance(f"{self.config.seed}/order/{split}").shuffled(found)

    # -- pieces --------------------------------------------------------------------------------

    def _chunks(self) -> Iterator[Piece]:
        for split, count in self.config.splits.items():
            templates = len(self.templates(split))
            chunks = max(1, min(-(-count // self.config.chunk), templates))
            each = -(-round(count * (_SPARE if chunks > 1 else 1.0)) // chunks)
            for number in range(chunks):
                yield Piece("make", split, number, each)

    def path_of(self, piece: Piece) -> Path:
        """The file of a piece."""
        room = "growing" if piece.kind == "grow" else "parts"
        return self.folder / room / f"{piece.name}.json"

    def _do(self, pieces: Sequence[Piece], what: str, report: Progress) -> None:
        missing = [piece for piece in pieces if not self.path_of(piece).is_file()]
        done = len(pieces) - len(missing)
        report(what, done, len(pieces))
        for _ in runner_of(self.config)(self, missing):
            done += 1
            report(what, done, len(pieces))

    def do(self, piece: Piece) -> None:
        """Do one piece and write its file."""
        workshop = self.workshop
        path = self.path_of(piece)
        path.parent.mkdir(parents=True, exist_ok=True)
        result: Json
        if piece.kind == "grow":
            result = [
                {"template": template.to_dict(), "count": count}
                for template, count in workshop.grow(piece.split, piece.number)
            ]
        else:
            templates = self.templates(piece.split)
            chunks = sum(p.split == piece.split for p in self._chunks())
            mine = templates[piece.number :: chunks]
            made = workshop.make(piece.split, piece.number, mine, piece.count)
            result = {
                "stages": {name: tally.to_dict() for name, tally in made.stages.items()},
                "attempts": made.attempts,
                "tasks": [task.to_dict() for task in made.tasks],
            }
            timing = {
                "attempts": made.attempts,
                "accepted": made.stages["drawn"].passed,
                "seconds": made.draw_seconds,
            }
            with (self.folder / "timings.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(timing) + "\n")
        write_whole((readable_json(result) + "\n").encode(), path)

    # -- what came of it -----------------------------------------------------------------------

    def parts(self, split: str) -> list[JsonObject]:
        """The finished chunks of a split."""
        return [read_json(self.path_of(piece)) for piece in self._chunks() if piece.split == split]

    def tasks(self) -> dict[str, list[Task]]:
        """The tasks of each split: its chunks in turn, up to the number wanted.

        No text occurs twice in a split, and no entity is in more than its share of all tasks.
        """
        made = {split: self._made(split) for split in self.config.splits}
        wanted = {split: min(n, len(made[split])) for split, n in self.config.splits.items()}
        while True:
            most = int(self.config.sampling.entity_limit * sum(wanted.values()))
            found = {split: _chosen(made[split], wanted[split], most) for split in made}
            sizes = {split: len(tasks) for split, tasks in found.items()}
            if sizes == wanted:
                return found
            wanted = sizes  # fewer tasks: each entity may be in fewer

    def _made(self, split: str) -> list[Task]:
        """All tasks of a split's chunks, the first of each chunk first."""
        chunks = [[Task.from_dict(t) for t in part["tasks"]] for part in self.parts(split)]
        return [
            chunk[place]
            for place in range(max(map(len, chunks), default=0))
            for chunk in chunks
            if place < len(chunk)
        ]

    def timing(self) -> JsonObject:
        """How fast traces were drawn: ``{attempts, accepted, seconds, traces_per_s}``.

        Seconds differ from run to run, so they stand in a file of their own.
        """
        path = self.folder / "timings.jsonl"
        lines = [line for _, line in read_records(path)] if path.is_file() else []
        total = {k: sum(line[k] for line in lines) for k in ("attempts", "accepted", "seconds")}
        seconds = max(float(total["seconds"]), 1e-9)
        return {**total, "traces_per_s": round(total["accepted"] / seconds, 1)}

    def stages(self) -> list[JsonObject]:
        """The stage table: ``{name, in, out, reasons}`` for each stage, over all chunks."""
        table = []
        for name in STAGES:
            came = passed = 0
            reasons: Counter[str] = Counter()
            for split in self.config.splits:
                for part in self.parts(split):
                    stage = part["stages"][name]
                    came, passed = came + stage["in"], passed + stage["out"]
                    reasons.update(stage["reasons"])
            table.append(
                {"name": name, "in": came, "out": passed, "reasons": dict(reasons.most_common())}
            )
        return table


def _chosen(tasks: Sequence[Task], count: int, most: int) -> list[Task]:
    """Up to ``count`` tasks, in their order, no entity in more than ``most``; seldom ones first."""
    often = Counter(e for task in tasks for e in task.metadata["entities"])
    place = {task.id: number for number, task in enumerate(tasks)}

    def commonest(task: Task) -> int:
        return max((often[entity] for entity in task.metadata["entities"]), default=0)

    balance = Balance(count, most)
    for task in sorted(tasks, key=lambda task: (commonest(task) > most, place[task.id])):
        balance.offer(task, Tally())
    return sorted(balance.kept, key=lambda task: place[task.id])


Finish = Callable[[Job, Workshop], JsonObject]
"""Writes what a job gives in the end."""
Runner = Callable[[Job, Sequence[Piece]], Iterator[None]]
"""Does pieces of a job; yields once for each that is finished."""


RUNNERS = {
    "local": "orch_env.synthesis.pipeline.local:run_locally",
    "ray": "orch_train.synthesis.ray_data:run_on_ray",
}
"""Runners by strings: orch_env never imports orch_train."""


def runner_of(config: SynthesisConfig) -> Runner:
    """The runner that a configuration names.

    Raises:
        OrchError: there is no such runner, or what it needs is not installed.
    """
    if config.runner not in RUNNERS:
        raise OrchError(f"there is no runner {config.runner!r}: take {' or '.join(RUNNERS)}")
    module, _, name = RUNNERS[config.runner].partition(":")
    try:
        found: Runner = getattr(import_module(module), name)
    except ImportError as problem:
        raise OrchError(
            f"the {config.runner} runner needs Ray Data, and {problem.name!r} is missing: "
            "pip install 'orch-rl[train,ray-data]'"
        ) from problem
    return found
