"""Computes all digests of a cache again and lists what does not fit."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from orch_env.cache import reader as sql
from orch_env.cache.catalogue import Catalogue
from orch_env.cache.header import check_file
from orch_env.cache.payload import decode, digest_of
from orch_env.cache.seal import seal_problem
from orch_env.types import OrchError

_MOST_PROBLEMS = 100


def find_problems(reader: sql.Reader, path: Path | None) -> list[str]:
    """Check file structure, payload digests, call keys, references and the content digest.

    Args:
        reader: runs the look-ups.
        path: the file, for checks below SQL; ``None`` for another database.
    """
    try:
        problems = _structure(path) if path is not None else []
        problems += _payloads(reader) + _calls(reader) + _content(reader)
    except OrchError as problem:
        return [str(problem)]
    if len(problems) > _MOST_PROBLEMS:
        rest = len(problems) - _MOST_PROBLEMS
        problems = [*problems[:_MOST_PROBLEMS], f"... and {rest} more problems"]
    return problems


def _structure(path: Path) -> list[str]:
    check_file(path)
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True)
    try:
        rows = connection.execute("PRAGMA integrity_check(10)").fetchall()
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        facts = connection.execute(sql.META).fetchall()
    # SQLite's own messages quote damaged bytes, which need not be UTF-8.
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        return [f"SQLite cannot read the file: {problem}"]
    finally:
        connection.close()
    damage = seal_problem(path, dict(facts).get("seal"))
    found = [damage] if damage is not None else []
    found += [f"SQLite: {row[0]}" for row in rows if row[0] != "ok"]
    return found + [f"a row of {row[0]!r} refers to a missing row of {row[2]!r}" for row in broken]


def _payloads(reader: sql.Reader) -> list[str]:
    problems = []
    for digest, data in reader.rows(sql.PAYLOADS):
        try:
            response = decode(bytes(data), bytes(digest))
        except ValueError as problem:
            problems.append(str(problem))
            continue
        if digest_of(response.text, is_error=response.is_error) != bytes(digest):
            problems.append(f"payload {bytes(digest).hex()} holds another text than its digest")
    return problems


def _calls(reader: sql.Reader) -> list[str]:
    problems = []
    tools = Catalogue(reader.rows(sql.TOOLS), sql.key_version_of(reader))
    for key, variant, tool, arguments, _ in reader.rows(sql.CALLS):
        try:
            right = tools.key(tool, json.loads(arguments)) == bytes(key)
        except (ValueError, TypeError):
            right = False
        if not right:
            problems.append(
                f"variant {variant} of {tool} with {str(arguments)[:80]} has a key of another call"
            )
    return problems


def _content(reader: sql.Reader) -> list[str]:
    from orch_env.cache.writer import content_digest

    facts = dict(tuple(row) for row in reader.rows(sql.META))
    computed = content_digest(reader)
    if facts.get("digest") == computed:
        return []
    return [f"the content digest is {computed}, but the file says {facts.get('digest')}"]
