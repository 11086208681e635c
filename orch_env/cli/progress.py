"""A progress bar on stderr for long work; nothing is shown where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar while the block runs; the value reports ``(what is being done, done, total)``."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        phases: dict[str, progress.TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in phases:
                phases[what] = bar.add_task(what, total=total)
            bar.update(phases[what], completed=done, total=total)

        yield report
