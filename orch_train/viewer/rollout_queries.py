"""Read-only questions to ``rollouts.db``, answered by SQL a page at a time.

Plain sqlite3 and no ORM: lists touch only the narrow columns, which one covering index of the
store holds, so that a page of 100,000 episodes never reads a transcript. Every question opens a
connection of its own: that costs tens of microseconds, needs no locking between the server's
threads, and sees what the running training wrote a moment ago.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orch_env.types import OrchError

Query = Mapping[str, str]
"""Parameters as they stand in an address."""

COLUMNS = {
    "step": "iteration",
    "group": "group_id",
    "member": "member",
    "task": "task_id",
    "reward": "reward",
    "success": "success",
    "stop": "stop_reason",
    "turns": "turns",
    "tokens": "action_tokens",
}
"""Name outside -> column; the keys are also what a list may be sorted by."""

MAX_PAGE = 500
_LISTED = ", ".join(f"{column} AS {name!r}" for name, column in COLUMNS.items())
_BUSY_S = 10.0


class RolloutsUnreadable(OrchError):
    """The database is missing, damaged, or none of ours."""


def number(query: Query, name: str, kind: type = float) -> Any:
    """A parameter as a number, ``None`` where it is missing.

    Args:
        query: the parameters.
        name: of the parameter.
        kind: ``float``, or ``int`` for a whole number.

    Raises:
        OrchError: it is none.
    """
    text = query.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (kind is int and (value % 1 or abs(value) > 2**53)):
        raise OrchError(f"{name}={text!r} is no {'whole ' * (kind is int)}number")
    return kind(value)


whole = partial(number, kind=int)


def _text(query: Query, name: str) -> str:
    return query[name]


_FILTERS: dict[str, tuple[str, Callable[[Query, str], Any]]] = {
    "step_from": ("iteration >= ?", whole),
    "step_to": ("iteration <= ?", whole),
    "group": ("group_id = ?", _text),
    "task": ("instr(lower(task_id), lower(?)) > 0", _text),
    "success": ("success = ?", lambda query, name: query[name] == "yes"),
    "stop": ("stop_reason IS nullif(?, 'unfinished')", _text),
    "reward_from": ("reward >= ?", number),
    "reward_to": ("reward <= ?", number),
    "turns_from": ("turns >= ?", whole),
    "turns_to": ("turns <= ?", whole),
    "text": ("instr(episode, ?) > 0", lambda query, name: json.dumps(query[name])[1:-1]),
}
"""Parameter -> SQL test and its value. ``text`` reads transcripts and so is the one slow filter."""


def _where(query: Query) -> tuple[str, list[Any]]:
    """The SQL condition of a query, and its parameters. A task in quotes is a whole id."""
    tests, values = ["1"], []
    for name, (test, value) in _FILTERS.items():
        given = query.get(name, "")
        if name == "task" and len(given) > 2 and given[0] == given[-1] == '"':
            tests.append("task_id = ?")
            values.append(given[1:-1])
        elif given:
            tests.append(test)
            values.append(value(query, name))
    return " AND ".join(tests), values


class RolloutReader:
    """The stored episodes of a run.

    Args:
        path: ``rollouts.db``; it may be missing yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """Whether there is a database."""
        return self._path.is_file()

    def facets(self) -> dict[str, Any]:
        """What there is to choose from: number of episodes, steps, stop reasons.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        with self._open() as database:
            row = database.execute(
                "SELECT count(*), min(iteration), max(iteration) FROM rollouts"
            ).fetchone()
            stops = database.execute(
                "SELECT coalesce(stop_reason, 'unfinished'), count(*) FROM rollouts "
                "GROUP BY 1 ORDER BY 2 DESC"
            ).fetchall()
        return {"episodes": row[0], "steps": [row[1], row[2]], "stops": [list(s) for s in stops]}

    def page(
        self, wanted: Query, *, sort: str, descending: bool, offset: int, limit: int
    ) -> dict[str, Any]:
        """One page of a list.

        Args:
            wanted: filters, by the names that the page uses.
            sort: a key of `COLUMNS`; ties by step, group and member.
            descending: largest first.
            offset: rows to pass over.
            limit: rows at most, 1 to `MAX_PAGE`.

        Returns:
            ``{total, mean: {reward, success}, rows}`` over all and of this page.

        Raises:
            OrchError: an unknown sort key, or a filter that is no number.
            RolloutsUnreadable: no usable database.
        """
        if sort not in COLUMNS:
            raise OrchError(f"cannot sort by {sort!r}; one of {', '.join(COLUMNS)}")
        where, values = _where(wanted)
        order = "DESC" if descending else "ASC"
        with self._open() as database:
            total, reward, success = database.execute(
                f"SELECT count(*), avg(reward), avg(success) FROM rollouts WHERE {where}", values
            ).fetchone()
            rows = database.execute(
                f"SELECT {_LISTED} FROM rollouts WHERE {where} ORDER BY {COLUMNS[sort]} {order}, "
                f"iteration {order}, group_id, member LIMIT ? OFFSET ?",
                [*values, max(1, min(limit, MAX_PAGE)), max(0, offset)],
            ).fetchall()
        return {
            "total": total,
            "mean": {"reward": reward, "success": success},
            "rows": [_listed(row) for row in rows],
        }

    def episode(self, step: int, group: str, member: int) -> dict[str, Any] | None:
        """One episode with everything but its tokens, and the keys of its neighbours.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        key = (step, group, member)
        with self._open() as database:
            row = database.execute(
                f"SELECT {_LISTED}, seed, components, episode, timings FROM rollouts "
                "WHERE iteration = ? AND group_id = ? AND member = ?",
                key,
            ).fetchone()
            if row is None:
                return None
            around = {
                name: database.execute(
                    "SELECT iteration AS step, group_id AS 'group', member FROM rollouts "
                    f"WHERE (iteration, group_id, member) {sign} (?, ?, ?) "
                    f"ORDER BY iteration {order}, group_id {order}, member {order} LIMIT 1",
                    key,
                ).fetchone()
                for name, sign, order in (("previous", "<", "DESC"), ("next", ">", "ASC"))
            }
        return {
            **_listed(row),
            "seed": row["seed"],
            **{name: self._json(row, name) for name in ("components", "episode", "timings")},
            **{name: dict(found) if found else None for name, found in around.items()},
        }

    def tokens(self, step: int, group: str, member: int) -> bytes | None:
        """The packed token streams of an episode, see `trajectory.store.pack_tokens`.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        rows = self._all(
            "SELECT tokens FROM rollouts WHERE iteration = ? AND group_id = ? AND member = ?",
            (step, group, member),
        )
        if rows and not isinstance(rows[0][0], bytes):
            raise RolloutsUnreadable(f"{self._path.name}: step {step}: tokens are no bytes")
        return bytes(rows[0][0]) if rows else None

    def members(self, step: int, group: str) -> list[dict[str, Any]]:
        """The members of a group in order, transcripts included.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        rows = self._group(f"{_LISTED}, episode", step, group)
        return [{**_listed(row), "episode": self._json(row, "episode")} for row in rows]

    def rewards(self, step: int, group: str) -> list[dict[str, Any]]:
        """The members of a group in order, without their transcripts.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        return [_listed(row) for row in self._group(_LISTED, step, group)]

    def _group(self, columns: str, step: int, group: str) -> list[Any]:
        return self._all(
            f"SELECT {columns} FROM rollouts WHERE iteration = ? AND group_id = ? ORDER BY member",
            (step, group),
        )

    def newest_group(self, task: str) -> tuple[int, str] | None:
        """Step and id of the last group of a task.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        rows = self._all(
            "SELECT iteration, group_id FROM rollouts WHERE task_id = ? "
            "ORDER BY iteration DESC, group_id DESC LIMIT 1",
            (task,),
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def by_task(self, wanted: Query) -> dict[str, dict[str, Any]]:
        """Mean reward and success of each task.

        Raises:
            RolloutsUnreadable: no usable database.
        """
        where, values = _where(wanted)
        rows = self._all(
            "SELECT task_id, count(*), avg(reward), avg(success), max(iteration) "
            f"FROM rollouts WHERE {where} GROUP BY +task_id",
            values,
        )
        return {
            task: {"n": n, "reward": reward, "success": success, "last_step": last}
            for task, n, reward, success, last in rows
        }

    def _all(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._open() as database:
            return database.execute(sql, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self.exists:
            raise RolloutsUnreadable(f"there is no {self._path.name} in this run")
        # A finished run has no write-ahead log beside it: then nothing at all is written here,
        # not even the log's index, so that an archived run on a read-only disk can be read.
        live = self._path.with_name(self._path.name + "-wal").exists()
        mode = "mode=ro" if live else "mode=ro&immutable=1"
        try:
            database = sqlite3.connect(
                f"file:{quote(str(self._path.resolve()))}?{mode}", uri=True, timeout=_BUSY_S
            )
            try:
                database.row_factory = sqlite3.Row
                yield database
            finally:
                database.close()
        except sqlite3.Error as problem:
            raise RolloutsUnreadable(f"{self._path.name} cannot be read: {problem}") from problem

    def _json(self, row: sqlite3.Row, name: str) -> Any:
        try:
            return json.loads(row[name])
        except (ValueError, TypeError, RecursionError) as problem:
            raise RolloutsUnreadable(
                f"{self._path.name}: step {row['step']}, group {row['group']!r}, member "
                f"{row['member']}: column {name!r} is damaged ({problem})"
            ) from problem


def _listed(row: Mapping[str, Any] | sqlite3.Row) -> dict[str, Any]:
    found = {name: row[name] for name in COLUMNS}
    return {**found, "success": bool(found["success"]), "stop": found["stop"] or "unfinished"}
