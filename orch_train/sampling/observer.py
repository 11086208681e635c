"""What a step tells whoever shows its progress; it never depends on who listens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from orch_train.trajectory.trajectory import Group


class Observer(Protocol):
    """Told what a step is doing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A part of the step: ``sample``, ``learn``, ``sync``, ``evaluate``."""
        ...

    def expect(self, groups: int) -> None:
        """So many more groups are going to be sampled in this phase."""
        ...

    def sampled(self, group: Group) -> None:
        """A group came back."""
        ...

    def learned(self, done: int, total: int) -> None:
        """So many of the batch's tokens were learned from."""
        ...


class SilentObserver:
    """Shows nothing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """See `Observer.phase`."""
        return nullcontext()

    def expect(self, groups: int) -> None:
        """See `Observer.expect`."""

    def sampled(self, group: Group) -> None:
        """See `Observer.sampled`."""

    def learned(self, done: int, total: int) -> None:
        """See `Observer.learned`."""
