"""Who owns which row of the slot cache, what it holds, and where it should lie.

Plain Python on the host: no tensor is touched here. The order of the table is what we want,
`Slot.home` is where the data still lies, and `moves` lists the copies that bring both together, so
that any number of swaps costs each row at most one copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from orch_train.engines.protocol import SamplingParams, TokenOutput

Ids: TypeAlias = npt.NDArray[np.int64]

# Below this many tokens, reading a prefix again is as cheap as finding and copying it.
_WORTH_SHARING = 16
# Decoding goes over rows that ended too, up to this share of them; moving rows costs more.
_IDLE_SHARE = 0.2
_NOTHING: Ids = np.zeros(0, dtype=np.int64)


def uniforms(seed: int, count: int) -> npt.NDArray[np.float64]:
    """The first ``count`` numbers in [0, 1) of a request's own random stream (Philox).

    Every token has its number in advance, and the request alone decides it. So a sample depends
    neither on which requests share the batch, nor on the order of arrival, nor on how often a
    request was put back and taken up again.
    """
    stream = np.random.Generator(np.random.Philox(seed & (2**64 - 1)))
    return stream.random(count)


class Row:
    """A message that is being sampled.

    Args:
        request_id: the episode.
        prompt: token ids, at least one.
        sampling: how to sample.

    Attributes:
        numbers: one uniform number per token of the message.
        sampled: number of tokens sampled so far.
        stopped: a stop token was sampled.
    """

    def __init__(self, request_id: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        self.request_id = request_id
        self.sampling = sampling
        self.prompt_length = len(prompt)
        self.numbers = uniforms(sampling.seed, sampling.max_tokens)
        self.sampled = 0
        self.stopped = False
        self._ids = np.empty(len(prompt) + sampling.max_tokens, dtype=np.int64)
        self._ids[: len(prompt)] = prompt
        self._logprobs = np.empty(sampling.max_tokens, dtype=np.float64)
        self._versions = np.empty(sampling.max_tokens, dtype=np.int64)

    @property
    def ids(self) -> Ids:
        """Prompt and sampled tokens so far; a view that stays valid."""
        return self._ids[: self.prompt_length + self.sampled]

    @property
    def finished(self) -> bool:
        """Whether the message is complete or its budget is used up."""
        return self.stopped or self.sampled >= self.sampling.max_tokens

    def extend(self, ids: Ids, logprobs: npt.NDArray[np.float64], version: int) -> None:
        """Append sampled tokens."""
        start = self.sampled
        self.sampled += len(ids)
        self._ids[self.prompt_length + start : self.prompt_length + self.sampled] = ids
        self._logprobs[start : self.sampled] = logprobs
        self._versions[start : self.sampled] = version
        self.stopped = int(ids[-1]) in self.sampling.stop_token_ids

    def output(self) -> TokenOutput:
        """The message as it was sampled so far."""
        return TokenOutput(
            token_ids=tuple(self.ids[self.prompt_length :].tolist()),
            logprobs=tuple(self._logprobs[: self.sampled].tolist()),
            finish_reason="stop" if self.stopped else "length",
            versions=tuple(self._versions[: self.sampled].tolist()),
        )


@dataclass(slots=True, eq=False)
class Slot:
    """One row of the cache.

    Attributes:
        home: index of the buffer row that holds its data.
        cached: token ids whose keys and values are stored, from column 0.
        owner: request whose conversation this is; ``None`` if it may be overwritten.
        row: the message being sampled here, ``None`` while the conversation waits.
        used: time of last use, for eviction.
    """

    home: int
    cached: Ids = field(default_factory=lambda: _NOTHING)
    owner: str | None = None
    row: Row | None = None
    used: int = 0

    def target(self) -> Ids:
        """Ids that must be cached before the next token: all but the last one."""
        assert self.row is not None
        return self.row.ids[:-1]


class SlotTable:
    """All slots; the first ``active`` ones are decoded.

    Args:
        max_slots: conversations that are kept at the same time, running or waiting.
    """

    def __init__(self, max_slots: int) -> None:
        self.max_slots = max_slots
        self.slots: list[Slot] = []
        self.active = 0
        self._clock = 0

    @property
    def running(self) -> list[Slot]:
        """Slots that sample a message."""
        return [s for s in self.slots[: self.active] if s.row is not None]

    @property
    def held(self) -> int:
        """Slots that belong to a conversation, whether it samples or waits."""
        return sum(slot.owner is not None for slot in self.slots)

    def holds(self, request_id: str) -> bool:
        """Whether a conversation has a slot."""
        return any(s.owner == request_id for s in self.slots)

    def claim(self, row: Row) -> Slot:
        """Give the row its conversation's slot, or one that is free, within the active range.

        What the slot holds is cut to the prefix that it shares with the row; for a new
        conversation it is nothing.
        """
        self._clock += 1
        at = next((i for i, s in enumerate(self.slots) if s.owner == row.request_id), None)
        if at is None:
            at = self._free_slot()
            self.slots[at].cached = _NOTHING
        slot = self.slots[at]
        slot.owner, slot.row, slot.used = row.request_id, row, self._clock
        slot.cached = slot.cached[: common_prefix(slot.cached, slot.target())]
        self._activate(at)
        return slot

    def finish(self, slot: Slot) -> None:
        """Note that the message is complete; its conversation stays cached for the next turn."""
        slot.row = None

    def release(self, request_id: str) -> None:
        """End a conversation: its slot may be overwritten, and serves prefixes until then."""
        for slot in self.slots:
            if slot.owner == request_id:
                slot.owner = slot.row = None

    def forget(self) -> list[Row]:
        """Drop everything that is cached; returns the messages to take up again."""
        rows = [s.row for s in self.slots if s.row is not None]
        for slot in self.slots:
            slot.cached, slot.owner, slot.row = _NOTHING, None, None
        self.active = 0
        return rows

    def compact(self) -> None:
        """Shrink the active range where too many of its rows have ended."""
        while self.active and self.slots[self.active - 1].row is None:
            self.active -= 1
        running = len(self.running)
        if running >= self.active * (1 - _IDLE_SHARE):
            return
        holes = [i for i in range(running) if self.slots[i].row is None]
        movers = [i for i in range(running, self.active) if self.slots[i].row is not None]
        for hole, mover in zip(holes, movers, strict=True):
            self._swap(hole, mover)
        self.active = running

    def moves(self) -> tuple[list[int], list[int], int]:
        """Copies that bring the data into the table's order; afterwards it counts as done.

        Returns:
            Source rows, target rows, and the number of columns to copy.
        """
        sources, targets, width = [], [], 0
        for at, slot in enumerate(self.slots):
            if slot.home != at and len(slot.cached):
                sources.append(slot.home)
                targets.append(at)
                width = max(width, len(slot.cached))
            slot.home = at
        return sources, targets, width

    def best_prefix(self, target: Ids) -> tuple[int, Slot | None]:
        """The longest prefix of ``target`` that any slot holds, if worth sharing."""
        best, source = _WORTH_SHARING, None
        for slot in self.slots:
            if len(slot.cached) > best:
                length = common_prefix(slot.cached, target)
                if length > best:
                    best, source = length, slot
        return (best, source) if source is not None else (0, None)

    def _free_slot(self) -> int:
        for at, slot in enumerate(self.slots):
            if slot.owner is None and slot.row is None:
                return at
        if len(self.slots) < self.max_slots:
            self.slots.append(Slot(home=len(self.slots)))
            return len(self.slots) - 1
        idle = [i for i, s in enumerate(self.slots) if s.row is None]
        return min(idle, key=lambda i: self.slots[i].used)

    def _activate(self, at: int) -> None:
        if at < self.active:
            return
        hole = next((i for i in range(self.active) if self.slots[i].row is None), self.active)
        self._swap(at, hole)
        self.active = max(self.active, hole + 1)

    def _swap(self, a: int, b: int) -> None:
        self.slots[a], self.slots[b] = self.slots[b], self.slots[a]


def common_prefix(a: Ids, b: Ids) -> int:
    """Length of the longest common prefix."""
    length = min(len(a), len(b))
    if not length:
        return 0
    differs = a[:length] != b[:length]
    at = int(differs.argmax())
    return at if differs[at] else length


def sharing_waves(fresh: list[Slot]) -> list[list[Slot]]:
    """Order in which new prompts should be read so that common prefixes are read once.

    A prompt waits for the next wave if an earlier prompt of this one has more of it in common
    than is worth reading twice; identical prompts wait for the first of their kind.
    """
    waves: list[list[Slot]] = []
    by_prompt: dict[bytes, tuple[Ids, list[Slot]]] = {}
    for slot in fresh:
        target = slot.target()
        by_prompt.setdefault(target.tobytes(), (target, []))[1].append(slot)
    todo = list(by_prompt.values())
    read: list[Ids] = []
    copies: list[Slot] = []
    while todo:
        wave: list[tuple[Ids, list[Slot]]] = []
        later: list[tuple[Ids, list[Slot]]] = []
        for target, slots in todo:
            with_read = max((common_prefix(target, other) for other in read), default=0)
            with_wave = max((common_prefix(target, other) for other, _ in wave), default=0)
            wait = with_wave > with_read + _WORTH_SHARING
            (later if wait else wave).append((target, slots))
        waves.append([slots[0] for _, slots in wave])
        copies.extend(s for _, slots in wave for s in slots[1:])
        read.extend(target for target, _ in wave)
        todo = later
    return [*waves, copies] if copies else waves
