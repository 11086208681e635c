"""Signals as a request: the first asks a run to stop cleanly, the second ends it.

Ctrl-C, SIGTERM, and SIGHUP, which a closed terminal or a lost ssh connection sends. Under ``nohup``
SIGHUP stays ignored.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signal(on_request: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Inside the block the first signal is a request, and the next one interrupts.

    Off the main thread, where Python takes no handlers, no signal is ever seen.

    Args:
        on_request: called once, from the signal handler, with the signal's name.

    Yields:
        Says whether a stop was requested.
    """
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if number == signal.SIGHUP:
            _leave_terminal()
            if requested:
                return  # a shell that ends passes on what the kernel sends as well
        if requested:
            raise KeyboardInterrupt
        requested = True
        on_request(signal.Signals(number).name)

    main = threading.current_thread() is threading.main_thread()
    taken = [n for n in _SIGNALS if main and not (n == signal.SIGHUP and _is_ignored(n))]
    before = {number: signal.signal(number, handle) for number in taken}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def _leave_terminal() -> None:
    """Write to nowhere what would go to a terminal that is gone: writing there is an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        with suppress(OSError):
            # A terminal that is gone is none to `isatty` any more, but it is still a device.
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
    os.close(nowhere)
