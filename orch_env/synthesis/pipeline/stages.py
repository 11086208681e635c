"""The stages that a task passes: how many came, how many were refused and why, what is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orch_env.types import Task
from orch_env.types.json import JsonObject

STAGES = ("drawn", "planned", "written", "checked", "kept", "replayed")
"""The stages of a task, in order; each passes on what it accepts."""


@dataclass(slots=True)
class Tally:
    """How many came to a stage, how many it passed on, and why it refused the others."""

    came: int = 0
    passed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def refuse(self, reason: str) -> None:
        """One came and was refused."""
        self.came += 1
        self.reasons[reason] += 1

    def accept(self, count: int = 1) -> None:
        """So many came and were passed on."""
        self.came += count
        self.passed += count

    def to_dict(self) -> JsonObject:
        """``{in, out, reasons}``."""
        return {"in": self.came, "out": self.passed, "reasons": dict(sorted(self.reasons.items()))}


@dataclass(slots=True)
class Made:
    """What a chunk gives: tasks, the stage table, and what it took to draw."""

    tasks: list[Task]
    stages: dict[str, Tally]
    attempts: int
    draw_seconds: float


class Balance:
    """Keeps tasks in which no entity is too frequent and no text occurs twice.

    Args:
        count: tasks to keep.
        most: of these, so many may be about one entity.
    """

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = max(1, most)
        self._used: Counter[str] = Counter()
        self._texts: set[str] = set()
        self.kept: list[Task] = []

    def offer(self, task: Task, tally: Tally) -> None:
        """Keep a task, or count why not."""
        entities = task.metadata["entities"]
        if len(self.kept) == self._count:
            tally.refuse("more_than_asked")
        elif task.query in self._texts and task.metadata["writer"] != "none":
            tally.refuse("same_text")
        elif any(self._used[entity] >= self._most for entity in entities):
            tally.refuse("entity_limit")
        else:
            tally.accept()
            self._used.update(entities)
            self._texts.add(task.query)
            self.kept.append(task)
