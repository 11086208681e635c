"""Ctrl-C and SIGTERM as a request: the first asks a run to stop cleanly, the second ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        if requested:
            raise KeyboardInterrupt
        requested = True
        on_request(signal.Signals(number).name)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in _SIGNALS if main}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
