"""What a step reports to whoever shows its progress; it never depends on who listens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from orch_train.trajectory.sample import Group


class Observer(Protocol):
    """Is called as a step goes on; what a subclass leaves out shows nothing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A part of the step: ``sample``, ``learn``, ``sync``, ``evaluate``."""
        return nullcontext()

    def expect(self, groups: int) -> None:
        """So many more groups are going to be sampled in this phase."""
        return

    def sampled(self, group: Group) -> None:
        """A group came back."""
        return

    def learned(self, done: int, total: int) -> None:
        """So many of the batch's tokens were learned from."""
        return


class SilentObserver(Observer):
    """Shows nothing."""
