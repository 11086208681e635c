"""The commands that a command prints at its end, as a person would type them."""

from __future__ import annotations

import shlex


def next_commands(text: str) -> list[list[str]]:
    """The words after ``orch`` of each ``next:`` line, in order."""
    found = []
    for line in text.splitlines():
        if line.startswith("next: "):
            program, *words = shlex.split(line.removeprefix("next: "), comments=True)
            # Without an installed script: PYTHON -m orch_env.cli.main
            found.append(words if program.endswith("orch") else words[2:])
    return found
