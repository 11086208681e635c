"""Lists of words that ship with the package; worlds are made from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "data" / "lists"


@cache
def words(name: str) -> tuple[str, ...]:
    """The lines of ``orch_env/data/lists/NAME.txt``, without blank lines and ``#`` comments."""
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
