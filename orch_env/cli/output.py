"""How commands print: one JSON object for machines, aligned columns for people."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from orch_env.tasks.files import exists
from orch_env.types.errors import OrchError
from orch_env.types.text import readable_json

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, all else on stderr."
)


mcp_option = click.option(
    "--mcp",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="An mcpServers file (JSON) whose servers answer the calls.",
)


def emit(result: Mapping[str, Any], *, as_json: bool, title: str = "") -> None:
    """Print a command's result: one JSON object, or aligned ``name  value`` lines."""
    if as_json:
        click.echo(readable_json(result))
        return
    if title:
        click.secho(title, bold=True)
    table(("", ""), [(str(key), _readable(value)) for key, value in result.items()])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns under a bold head. Lines are never wrapped.

    Args:
        columns: the head of each column; ``>`` before it aligns the column right. Without any
            text there is no head line.
        rows: the cells of each row; they may carry ``click.style``.
    """
    heads = [head.removeprefix(">") for head in columns]
    lines = [heads, *rows] if any(heads) else list(rows)
    widths = [max(map(_width, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        cells = []
        for cell, head, width in zip(line, columns, widths, strict=True):
            blanks = " " * (width - _width(cell))
            cells.append(blanks + cell if head.startswith(">") else cell + blanks)
        say(f"  {'  '.join(cells).rstrip()}", bold=line is heads or None)


def number(value: float | None, spec: str) -> str:
    """A number for people by a format such as ``.2f``; ``-`` where there is none."""
    return "-" if value is None else format(value, spec)


def say(line: str, *, err: bool = False, **style: Any) -> None:
    """Print one line for people. A lone surrogate has no bytes; its escape is shown."""
    click.secho(line.encode("utf-8", "backslashreplace").decode(), err=err, **style)


def next_command(*words: object, why: str) -> None:
    """Print a command that a person may type next, on stderr: ``next: orch ...  # why``.

    With ``--json`` a program reads, and nothing is printed.

    Args:
        words: what follows ``orch``; see `option`.
        why: what it is good for, in a few words.
    """
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        return
    say(f"next: {shlex.join([*_program(), *map(str, words)])}  # {why}", err=True)


def check_out(out: str | os.PathLike[str] | None, *sources: str | None) -> None:
    """Refuse a place for a command's output before any work is done.

    Args:
        out: where a file shall be written; ``None`` if the user wants none.
        sources: what the command reads, or writes besides.

    Raises:
        OrchError: it is a folder, in no folder that can be written, or one of ``sources``.
    """
    if out is None or (exists(out) and not os.path.isfile(out) and not os.path.isdir(out)):
        return
    place = os.path.realpath(out)
    folder = os.path.dirname(place)
    if os.path.isdir(place):
        problem = "it is a folder"
    elif not os.path.isdir(folder):
        problem = "its folder does not exist"
    elif not os.access(folder, os.W_OK):
        problem = "its folder is read-only"
    elif any(source is not None and os.path.realpath(source) == place for source in sources):
        problem = "this command needs that file itself"
    else:
        return
    raise OrchError(f"cannot write {os.fspath(out)!r}: {problem}")


def option(name: str, value: object) -> tuple[object, ...]:
    """The words of an option: none if it has no value."""
    return () if value is None else (name, value)


def _program() -> list[str]:
    """How to start this installation's ``orch`` from the current folder."""
    beside, found = Path(sys.executable).with_name("orch"), shutil.which("orch")
    if not beside.exists():
        return ["orch"] if found else [sys.executable, "-m", "orch_env.cli.main"]
    if found and beside.samefile(found):
        return ["orch"]
    here = Path.cwd()
    return [str(beside.relative_to(here) if beside.is_relative_to(here) else beside)]


def _width(cell: str) -> int:
    return len(click.unstyle(cell))


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "  ".join(f"{k}={_readable(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        shown = "; ".join(_readable(v) for v in value[:5])
        return (shown or "-") + (f"; ... ({len(value)} in total)" if len(value) > 5 else "")
    return "-" if value is None else str(value)
