"""How commands speak: one JSON object for machines, or a readable table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, all else on stderr."
)


def emit(result: Mapping[str, Any], *, as_json: bool, title: str = "") -> None:
    """Print a command's result: one JSON object, or aligned ``name  value`` lines."""
    if as_json:
        text = json.dumps(result, ensure_ascii=False, allow_nan=False)
        if not text.isascii() and not _has_bytes(text):
            text = json.dumps(result, ensure_ascii=True, allow_nan=False)
        click.echo(text)
        return
    if title:
        click.secho(title, bold=True)
    width = max((len(str(key)) for key in result), default=0)
    for key, value in result.items():
        say(f"  {key!s:<{width}}  {_readable(value)}")


def say(line: str, *, err: bool = False, **style: Any) -> None:
    """Print one line for people; what has no bytes (a lone surrogate) is shown as its escape."""
    click.secho(line.encode("utf-8", "backslashreplace").decode(), err=err, **style)


def _has_bytes(text: str) -> bool:
    """Whether a text can be written at all: a lone surrogate, which models do write, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "  ".join(f"{k}={_readable(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        shown = "; ".join(_readable(v) for v in value[:5])
        return (shown or "-") + (f"; ... ({len(value)} in all)" if len(value) > 5 else "")
    return "-" if value is None else str(value)
