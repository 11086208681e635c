"""Task files (JSON Lines of `Task`), the bundled data sets, and how any text file is read.

Every file of a user may be gzipped and may begin with a byte order mark.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from orch_env.types import OrchError, Task
from orch_env.types.fields import got
from orch_env.types.json import Json, JsonObject, parse_whole
from orch_env.types.text import readable_json

BUNDLED = Path(__file__).parent.parent / "data"


def bundled(name: str, kind: str) -> Path | None:
    """Path of a bundled file, ``None`` if there is none.

    Args:
        name: a data set's name, such as ``"harbour"`` or ``"harbour/heldout"`` (one split).
        kind: ``"tasks"`` or ``"cache"``.
    """
    dataset, _, split = name.partition("/")
    if not dataset.isidentifier() or (split and not split.isidentifier()):
        return None
    stem = f"{kind}-{split}" if split and kind == "tasks" else kind
    suffixes = (".jsonl.gz", ".jsonl") if kind == "tasks" else (".db",)
    for suffix in suffixes:
        path = BUNDLED / dataset / f"{stem}{suffix}"
        if path.is_file():
            return path
    return None


def exists(name: str | os.PathLike[str]) -> bool:
    """Whether there is something at a path.

    Raises:
        OrchError: the system cannot say, because the name is too long or a folder may not be read.
    """
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as problem:
        raise OrchError(f"file {shown(name)} cannot be read: {_reason(problem)}") from problem
    return True


def refuse_pipe(path: str | os.PathLike[str]) -> None:
    """Refuse what gives its content only once, where it is read more than once.

    Raises:
        OrchError: it is a pipe or another device.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OrchError(
            f"{shown(path)} is a pipe or a device, which can be read only once: save it as a file"
        )


def located(name: str | os.PathLike[str]) -> str:
    """The absolute path of what exists; another name (a bundled data set, a URL) as it is.

    A process may change its working folder between two uses of a path.

    Raises:
        OrchError: it is no text.
    """
    if not isinstance(name, str | os.PathLike):
        raise OrchError(f"a file or a data set is named by text, got {name!r:.60}")
    return str(Path(name).absolute()) if os.path.exists(name) else os.fspath(name)


def load_tasks(path: str | os.PathLike[str]) -> list[Task]:
    """Load tasks from a JSON Lines file (``.gz`` too) or a bundled data set's name.

    Raises:
        OrchError: the file is missing or a line is no valid task (the message has the line), or
            two tasks share an id.
    """
    source = Path(path)
    if not exists(path):
        found = bundled(os.fspath(path), "tasks")
        if found is None:
            names = sorted(path.parent.name for path in BUNDLED.glob("*/tasks.jsonl.gz"))
            raise OrchError(
                f"tasks file {shown(path)} does not exist and is no bundled data set "
                f"(bundled: {', '.join(names) or 'none'})"
            )
        source = found
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, data in read_records(source):
        try:
            task = Task.from_dict(data)
        except OrchError as problem:
            raise OrchError(f"{source}: line {number}: {problem}") from problem
        if task.id in seen:
            raise OrchError(
                f"{source}: line {number}: task id {task.id!r} was used on line {seen[task.id]}"
            )
        seen[task.id] = number
        tasks.append(task)
    return tasks


def read_records(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """The objects of a JSON Lines file with their line numbers, from 1; blank lines are skipped.

    Raises:
        OrchError: the file cannot be read, or a line is no JSON object (the message has the line).
    """
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip(" \t\r"):
            continue
        try:
            data = parse_whole(line)
        except ValueError as problem:
            raise OrchError(f"{path}: line {number} is not JSON ({problem})") from problem
        if not isinstance(data, dict):
            raise OrchError(f"{path}: line {number} must be a JSON object")
        yield number, data


def read_json(path: Path) -> Json:
    """The JSON value that a file holds.

    Raises:
        OrchError: the file cannot be read, or is not JSON.
    """
    try:
        return parse_whole(read_text(path))
    except ValueError as problem:
        raise OrchError(f"file {str(path)!r} is not JSON ({problem})") from problem


def read_lines(path: Path) -> list[str]:
    """All lines of a text file.

    Raises:
        OrchError: as :func:`read_text`.
    """
    # JSON Lines are separated by \n alone: str.splitlines would cut at U+2028 inside strings.
    return read_text(path).split("\n")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        OrchError: the file cannot be read, or is not UTF-8.
    """
    try:
        # Lone surrogates, which task files of older versions hold, have no bytes in strict UTF-8.
        return read_content(path).decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as problem:
        raise OrchError(f"file {str(path)!r} cannot be read: {problem}") from problem


def read_content(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is gzipped (recognised by content).

    Raises:
        OrchError: the file is missing, a folder, or damaged gzip.
    """
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError as problem:
        raise OrchError(f"file {str(path)!r} does not exist") from problem
    except (OSError, ValueError, EOFError, zlib.error) as problem:
        raise OrchError(f"file {shown(path)} cannot be read: {_reason(problem)}") from problem


def save_tasks(tasks: Iterable[Task], path: str | os.PathLike[str]) -> None:
    """Write tasks as JSON Lines, gzipped if the name ends in ``.gz``; all or none of them."""
    style: dict[str, Any] = {"allow_nan": True, "separators": (",", ":")}
    write_lines([readable_json(task.to_dict(), **style) for task in tasks], Path(path))


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write text lines to ``path``, see :func:`write_whole`."""
    data = "".join(line + "\n" for line in lines).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    write_whole(data, path)


def write_whole(data: bytes, path: Path) -> None:
    """Write a file through a temporary one and a rename: all of it or nothing.

    A symbolic link stays one: the file that it leads to is written. A pipe or a device takes the
    data as it is.

    Raises:
        OrchError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        place = Path(os.path.realpath(path))
        partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(data)
            os.replace(partial, place)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
    except (OSError, ValueError) as problem:
        raise OrchError(f"cannot write {shown(path)}: {_reason(problem)}") from problem


def shown(path: str | os.PathLike[str]) -> str:
    """A path as an error message shows it."""
    return got(os.fspath(path), 200)


def _reason(problem: Exception) -> str:
    return problem.strerror or str(problem) if isinstance(problem, OSError) else str(problem)
