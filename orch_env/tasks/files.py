"""Task files: JSON Lines of `Task`, plain or gzipped, and the bundled data sets."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from orch_env.types import OrchError, Task
from orch_env.types.json import JsonObject

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


def located(name: str | os.PathLike[str]) -> str:
    """The absolute path of what exists; another name (a bundled data set, a URL) as it is.

    A process may change its working folder between two uses of a path.
    """
    return str(Path(name).absolute()) if os.path.exists(name) else os.fspath(name)


def load_tasks(path: str | os.PathLike[str]) -> list[Task]:
    """Load tasks from a JSON Lines file (``.gz`` too) or a bundled data set's name.

    Raises:
        OrchError: the file is missing or a line is no valid task (the message has the line), or
            two tasks share an id.
    """
    source = Path(path)
    if not source.exists():
        found = bundled(os.fspath(path), "tasks")
        if found is None:
            names = sorted(folder.name for folder in BUNDLED.glob("*/"))
            raise OrchError(
                f"tasks file {os.fspath(path)!r} does not exist and is no bundled data set "
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
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise OrchError(f"{path}: line {number} is not JSON ({problem})") from problem
        if not isinstance(data, dict):
            raise OrchError(f"{path}: line {number} must be a JSON object")
        yield number, data


def read_lines(path: Path) -> list[str]:
    """All lines of a text file, gzipped or plain (recognised by content).

    Raises:
        OrchError: the file is missing, a folder, not UTF-8, or damaged gzip.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except FileNotFoundError as problem:
        raise OrchError(f"file {str(path)!r} does not exist") from problem
    except (OSError, EOFError, UnicodeDecodeError) as problem:
        raise OrchError(f"file {str(path)!r} cannot be read: {problem}") from problem
    # JSON Lines are separated by \n alone: str.splitlines would cut at U+2028 inside strings.
    return text.split("\n")


def save_tasks(tasks: Iterable[Task], path: str | os.PathLike[str]) -> None:
    """Write tasks as JSON Lines, gzipped if the name ends in ``.gz``; all or none of them."""
    lines = [json.dumps(t.to_dict(), ensure_ascii=False, separators=(",", ":")) for t in tasks]
    write_lines(lines, Path(path))


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write text lines to ``path`` through a temporary file and a rename."""
    data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    write_whole(data, path)


def write_whole(data: bytes, path: Path) -> None:
    """Write a file through a temporary one and a rename: all of it or nothing.

    Raises:
        OrchError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as problem:
        partial.unlink(missing_ok=True)
        raise OrchError(f"cannot write {str(path)!r}: {problem}") from problem
