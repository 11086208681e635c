"""Answers that were paid for once: kept in a file, so that a rerun asks only what is missing.

The file also knows what its requests cost, so that a spend limit holds for all processes that share
it, and over reruns.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orch_env.types import OrchError
from orch_env.types.json import JsonObject

_WAIT_S = 60.0
"""For another process that is writing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        message: the assistant message, OpenAI shape; ``None`` where there is none.
        error: why there is none: ``timeout``, ``unreachable``, ``status_500``, ``no_message``,
            ``spend_limit``.
        prompt_tokens: as the endpoint counted.
        completion_tokens: likewise.
        cached: whether it came from the store.
    """

    message: JsonObject | None
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False

    @property
    def text(self) -> str:
        """The message's text; empty where there is none."""
        content = (self.message or {}).get("content")
        return content if isinstance(content, str) else ""


class AnswerStore:
    """Answers by request, in a SQLite file; each is there as soon as it is put.

    Several processes may use one file.

    Args:
        path: the file; ``None`` keeps nothing.

    Raises:
        OrchError: it cannot be opened.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._lock = threading.Lock()
        try:
            self._file = sqlite3.connect(
                path or ":memory:", check_same_thread=False, timeout=_WAIT_S
            )
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, answer TEXT)"
            )
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS spending (id INTEGER PRIMARY KEY, cost REAL)"
            )
            self._file.commit()
        except sqlite3.Error as problem:
            raise OrchError(f"answers cannot be kept in {str(path)!r}: {problem}") from problem

    def get(self, key: str) -> Answer | None:
        """The answer of a request."""
        with self._lock:
            row = self._file.execute(
                "SELECT answer FROM answers WHERE request = ?", (key,)
            ).fetchone()
        return None if row is None else replace(Answer(**json.loads(row[0])), cached=True)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer."""
        with self._lock:
            self._file.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(asdict(answer)))
            )
            self._file.commit()

    def reserve(self, cost: float, limit: float | None) -> int | None:
        """Count a request's cost before it goes out.

        Args:
            cost: what it may cost.
            limit: what all requests of the file may cost together; ``None``: no limit.

        Returns:
            A number for :meth:`settle`; ``None`` if the limit would be passed.
        """
        with self._lock, self._file:
            self._file.execute("BEGIN IMMEDIATE")
            if limit is not None:
                [spent] = self._file.execute("SELECT total(cost) FROM spending").fetchone()
                if spent + cost > limit:
                    return None
            return self._file.execute("INSERT INTO spending (cost) VALUES (?)", (cost,)).lastrowid

    def settle(self, number: int, cost: float) -> None:
        """Put what a request did cost in the place of what it might have cost."""
        with self._lock, self._file:
            self._file.execute("UPDATE spending SET cost = ? WHERE id = ?", (cost, number))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def key_of_request(request: JsonObject) -> str:
    """The key of a request: equal for equal requests only."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
