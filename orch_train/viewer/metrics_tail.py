"""``metrics.jsonl`` as columns, read again only where it grew.

The hard decision: a reader of a run that is still being written must never fail on what it finds.
A line that is no JSON becomes a problem to show, a last line without its newline is left for the
next look, and a file that was replaced (a resumed run cuts it back) is read from the start.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orch_train.run.metrics_file import flatten

STEP = "training_iteration"


class MetricsTail:
    """The results of a run, up to date at every look.

    Args:
        path: the file; it may be missing yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file_id: tuple[int, int] | None = None
        self._offset = self._line = 0
        self._rows: list[dict[str, float]] = []
        self._names: dict[str, None] = {}
        self._problems: list[str] = []

    def look(self) -> None:
        """Take in what was written since the last look."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    found = (status.st_dev, status.st_ino)
                    if found != self._file_id or status.st_size < self._offset:
                        self._start_over(found)
                    file.seek(self._offset)
                    data = file.read()
            except FileNotFoundError:
                self._start_over(None)
                return
            except OSError as problem:
                self._problems = [f"{self._path.name} cannot be read: {problem}"]
                return
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.split(b"\n")[:-1]:
                self._line += 1
                self._take(line)

    @property
    def rows(self) -> Sequence[dict[str, float]]:
        """One flat result a line, in the order of the file."""
        return self._rows

    @property
    def names(self) -> list[str]:
        """Every metric that was seen."""
        return sorted(self._names)

    @property
    def problems(self) -> list[str]:
        """What could not be read, the first few lines of it."""
        return list(self._problems)

    def columns(self, names: Sequence[str]) -> dict[str, list[float | None]]:
        """Values by metric, ``None`` where a result lacks it; all lists as long as ``rows``."""
        rows = list(self._rows)
        return {name: [row.get(name) for row in rows] for name in names}

    def _start_over(self, file_id: tuple[int, int] | None) -> None:
        self._file_id = file_id
        self._offset = self._line = 0
        self._rows, self._names, self._problems = [], {}, []

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            result: Any = json.loads(line)
            if not isinstance(result, dict) or not isinstance(result.get(STEP), int):
                raise ValueError(f"no object with a {STEP}")
        except (ValueError, RecursionError) as problem:
            if len(self._problems) < 5:
                self._problems.append(f"{self._path.name}: line {self._line}: {problem}")
            return
        flat = flatten(result)
        self._rows.append(flat)
        self._names.update(dict.fromkeys(flat))
