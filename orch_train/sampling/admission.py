"""Which groups may be sampled ahead of the learner, and which of them the next batch takes.

A pure state machine without I/O, threads or clocks. Two rules bound the staleness of every
trained group, counted in training steps from the one in which it was admitted, to S + L:

1. **Admission.** At most ``(S + 1) * B`` admitted groups are untrained at any time (B groups are
   a batch), so that over a run never more than ``(S + step + 1) * B`` are admitted. A group that
   is admitted in step t has the *deadline* t + S + L: the last batch that may hold it. L, by
   default 0, lets a straggler come later; the number of groups under way does not change.
2. **Batches.** Batch k takes the B finished groups with the earliest deadlines, and only if all
   the others can still meet theirs: for each d > k at most ``(d - k) * B`` groups with a deadline
   up to d remain. Otherwise it waits for a group that is due.

A late group is waited for and never discarded: discarding it would select fast and easy tasks. By
rule 1 the wait always ends once the groups that run come back.

    --admit--> running --finish--> finished --take--> in training --advance--> (gone)
                                      |
                                      +--replace--> (gone, its place is free again)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Entry:
    deadline: int
    arrival: int | None = None  # number of its arrival; None while it is being sampled


class Admission:
    """The groups between the task order and the learner.

    Args:
        groups_per_batch: B, at least 1.
        max_staleness: S, at least 0.
        straggler_steps: L, at least 0.
        step: training steps that are done.
        max_replaced: groups that may be replaced per batch, see `replace`.
    """

    def __init__(
        self,
        *,
        groups_per_batch: int,
        max_staleness: int,
        straggler_steps: int = 0,
        step: int = 0,
        max_replaced: int = 0,
    ) -> None:
        self._size, self._max_staleness = groups_per_batch, max_staleness
        self._straggler_steps, self._max_replaced = straggler_steps, max_replaced
        self._entries: dict[str, _Entry] = {}
        self._training: tuple[str, ...] = ()
        self._arrivals = self._replaced = 0
        self._step = step

    @property
    def step(self) -> int:
        """Training steps that are done, their weights served."""
        return self._step

    @property
    def running(self) -> list[str]:
        """Groups that are being sampled, in the order of their admission."""
        return [name for name, entry in self._entries.items() if entry.arrival is None]

    @property
    def finished(self) -> list[str]:
        """Groups that wait for the learner, in the order in which they came back."""
        done = [(e.arrival, name) for name, e in self._entries.items() if e.arrival is not None]
        return [name for _, name in sorted(done)]

    def room(self, steps: int) -> int:
        """Groups that may be admitted now.

        Args:
            steps: training steps of the whole run: nothing is sampled for later ones.
        """
        batches = min(self._max_staleness + 1, max(steps, self._step + 1) - self._step)
        return max(0, batches * self._size - len(self._entries) - len(self._training))

    def admit(self, group: str) -> int:
        """Admit a group for sampling; returns its deadline.

        Raises:
            ValueError: there is no room, or the group is there already.
        """
        if group in self._entries or group in self._training:
            raise ValueError(f"group {group!r} is admitted already")
        if len(self._entries) + len(self._training) >= (self._max_staleness + 1) * self._size:
            raise ValueError(
                f"group {group!r}: {self._max_staleness + 1} batches are admitted already"
            )
        self._entries[group] = _Entry(self._step + self._max_staleness + self._straggler_steps)
        return self._entries[group].deadline

    def finish(self, group: str) -> None:
        """A group came back.

        Raises:
            ValueError: it is not being sampled.
        """
        entry = self._entries.get(group)
        if entry is None or entry.arrival is not None:
            raise ValueError(f"group {group!r} is not being sampled")
        entry.arrival, self._arrivals = self._arrivals, self._arrivals + 1

    def replace(self, group: str) -> bool:
        """Give up the place of a finished group that teaches nothing, so that another is admitted.

        Returns:
            False if as many were replaced since the last batch as may be; it then stays.
        """
        if self._replaced >= self._max_replaced or self._entries[group].arrival is None:
            return False
        del self._entries[group]
        self._replaced += 1
        return True

    def take(self) -> tuple[str, ...] | None:
        """Take the batch of this step, earliest deadlines first; ``None`` if it must wait.

        Raises:
            ValueError: the last batch is still in training.
        """
        if self._training:
            raise ValueError("the last batch is still in training")
        by_deadline = sorted(self.finished, key=lambda name: self._entries[name].deadline)
        batch = tuple(by_deadline[: self._size])
        if len(batch) < self._size or not self._rest_is_in_time(set(batch)):
            return None
        for name in batch:
            del self._entries[name]
        self._training, self._replaced = batch, 0
        return batch

    def advance(self) -> None:
        """The batch was learned from and its weights are served: the step is done."""
        self._training = ()
        self._step += 1

    def state(self) -> dict[str, Any]:
        """Everything but a batch in training, as plain data."""
        groups = [
            {"id": name, "deadline": self._entries[name].deadline, "finished": finished}
            for finished, names in ((True, self.finished), (False, self.running))
            for name in names
        ]
        return {
            "groups_per_batch": self._size,
            "max_staleness": self._max_staleness,
            "groups": groups,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the groups of a stored state, into an empty object.

        Raises:
            ValueError: it was stored under another B or S, which its deadlines rest on.
        """
        for key, own in (("groups_per_batch", self._size), ("max_staleness", self._max_staleness)):
            if state["groups"] and state[key] != own:
                raise ValueError(f"training.{key} was {state[key]}, is {own}")
        for group in state["groups"]:
            self._entries[group["id"]] = _Entry(int(group["deadline"]))
            if group["finished"]:
                self.finish(group["id"])

    def _rest_is_in_time(self, taken: set[str]) -> bool:
        rest = sorted(e.deadline for name, e in self._entries.items() if name not in taken)
        return all(n < (due - self._step) * self._size for n, due in enumerate(rest))
