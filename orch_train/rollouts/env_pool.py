"""The environments of one runner, and on which thread their calls run.

Recorded answers come in microseconds, so by default an environment is called on the runner's event
loop itself, which is fastest and repeats bit for bit. A slow tool would stop every other episode
there. With a time limit each environment has a thread of its own: slow tools wait side by side,
and a call that never returns costs one environment and not the runner. What exceeds the limit is
infrastructure: it raises, and is never scored.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from orch_train.rollouts.environments import RolloutEnv

T = TypeVar("T")

NO_TOOL = "environment"
"""What a timeout is counted under when no tool is known to have run: a reset, say."""


class EnvTimeout(Exception):
    """A call of an environment did not return within its limit."""


class EnvCaller(Protocol):
    """Runs one call of an environment and waits for its value."""

    def __call__(self, call: Callable[[], T]) -> Awaitable[T]:
        """Run ``call``; what it raises is raised here."""
        ...


async def on_the_loop(call: Callable[[], T]) -> T:
    """Run a call here and now."""
    return call()


class EnvThread:
    """A thread in which the calls of one environment run, one at a time.

    It is a daemon: one that hangs for ever does not keep the process from ending.

    Args:
        timeout_s: seconds that a call may take, above 0; waiting for an earlier one counts.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._unanswered = 0
        threading.Thread(target=self._work, name="environment", daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether every call has returned."""
        return self._unanswered == 0

    async def __call__(self, call: Callable[[], T]) -> T:
        """Run a call in the thread.

        Raises:
            EnvTimeout: it did not return in time; it still runs.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._unanswered += 1

        def deliver(value: Any, problem: BaseException | None) -> None:
            self._unanswered -= 1
            if answer.done():
                return
            if problem is None:
                answer.set_result(value)
            else:
                answer.set_exception(problem)

        def run() -> None:
            value, problem = None, None
            try:
                value = call()
            except BaseException as raised:  # raised again where it is awaited
                problem = raised
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(deliver, value, problem)

        self._calls.put(run)
        done, _ = await asyncio.wait([answer], timeout=self._timeout_s)
        if not done:
            raise EnvTimeout(
                f"an environment did not answer within {self._timeout_s:g} s "
                "(env_runners.env_step_timeout_s)"
            )
        return answer.result()

    def end_with(self, call: Callable[[], object]) -> None:
        """Run a last call once all others have returned, and wait for nothing."""

        def last() -> None:
            with suppress(Exception):
                call()

        self._calls.put(last)
        self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()


@dataclass(frozen=True, slots=True, eq=False)
class HeldEnv:
    """One environment and how its calls are run."""

    env: RolloutEnv
    caller: EnvCaller = on_the_loop

    @property
    def idle(self) -> bool:
        """Whether no call of it is running."""
        return not isinstance(self.caller, EnvThread) or self.caller.idle

    def close(self) -> None:
        """Close it, in its own thread if it has one."""
        if isinstance(self.caller, EnvThread):
            self.caller.end_with(self.env.close)
        else:
            self.env.close()


class EnvPool:
    """At most ``size`` environments, made when none is free, handed out in order of asking.

    Args:
        factory: makes an environment.
        size: how many may be in use at the same time, at least 1.
        step_timeout_s: run each environment in a thread of its own and wait this long for each
            call; ``None`` calls it on the event loop.

    Attributes:
        step_timeout_s: see above.
    """

    def __init__(
        self,
        factory: Callable[[], RolloutEnv],
        size: int,
        *,
        step_timeout_s: float | None = None,
    ) -> None:
        self._factory = factory
        self.step_timeout_s = step_timeout_s
        self._places = asyncio.Semaphore(size)
        self._free: list[HeldEnv] = []
        self._all: list[HeldEnv] = []
        self._timeouts: Counter[str] = Counter()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[HeldEnv]:
        """Wait for an environment and hold it for the block.

        One that is still busy at the end of the block is given up: nobody gets it again.
        """
        async with self._places:
            if not self._free:
                self._all.append(self._make())
                self._free.append(self._all[-1])
            held = self._free.pop()
            try:
                yield held
            except EnvTimeout:
                tool = getattr(held.env.unwrapped, "running_tool", None)
                self._timeouts[tool or NO_TOOL] += 1
                raise
            finally:
                if held.idle:
                    self._free.append(held)
                else:
                    self._all.remove(held)
                    held.close()

    @property
    def environments(self) -> list[RolloutEnv]:
        """Those that it holds, free or in use; one that hung is given up."""
        return [held.env for held in self._all]

    def take_timeouts(self) -> dict[str, int]:
        """Timeouts since this was last asked, by the tool that ran."""
        taken, self._timeouts = self._timeouts, Counter()
        return dict(taken)

    def close(self) -> None:
        """Close every environment that was made."""
        for held in self._all:
            held.close()

    def _make(self) -> HeldEnv:
        env = self._factory()
        return (
            HeldEnv(env)
            if self.step_timeout_s is None
            else HeldEnv(env, EnvThread(self.step_timeout_s))
        )
