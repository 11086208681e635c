"""A process that outlives its parent for a moment, to remove what the parent leaves behind.

It reads lines from its standard input: ``+group PID``, ``-group PID``, ``+folder PATH``,
``-folder PATH``. When the input ends, because the parent closed it or died in whatever way, it
kills the process groups and removes the folders that are still listed, and ends. It runs as a file
of its own and imports nothing of this project.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def kill_group(group: int) -> None:
    """Kill all processes of a group; none may be left of it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def remove_folder(path: str) -> None:
    """Remove a folder with all that is in it, also what its writer made read-only."""

    def retry(call: Callable[..., Any], at: str, _: Any) -> None:
        with suppress(OSError):
            for place in (os.path.dirname(at), at):
                if not os.path.islink(place):
                    os.chmod(place, 0o700)
            shutil.rmtree(at) if os.path.isdir(at) and not os.path.islink(at) else call(at)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=retry)
    else:
        shutil.rmtree(path, onerror=retry)


def main() -> None:
    """Follow the parent's lines to their end, then clean up."""
    listed: dict[str, dict[str, None]] = {"group": {}, "folder": {}}
    for line in sys.stdin:
        kind, _, what = line[1:].rstrip("\n").partition(" ")
        if line.startswith("+"):
            listed[kind][what] = None
        else:
            listed[kind].pop(what, None)
    for group in listed["group"]:
        kill_group(int(group))
    for path in listed["folder"]:
        remove_folder(path)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
