"""``trace.json``: the newest training steps as a picture of time, for Perfetto or Chrome.

In the trace event format (open it at ui.perfetto.dev or chrome://tracing): the driver's phases by
thread, and every episode of the batch on the process that played it, with its waits for the engine
and its environment steps inside. The file holds the newest few steps and is written again after
each, so that it is there while a run is slow, and never grows.

Times are each machine's own wall clock; between machines they are as good as its synchronisation.
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orch_train.sampling.observer import SilentObserver
from orch_train.storage.run_folder import write_text
from orch_train.trajectory.requests import SampleReply

Event = dict[str, Any]
_DRIVER = "driver"


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A phase of the driver.

    Attributes:
        name: ``sample``, ``learn``, ``sync``, ``evaluate``.
        thread: the thread it ran on.
        start: seconds since the epoch.
        seconds: how long it took.
    """

    name: str
    thread: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class EpisodeSpan:
    """An episode on the process that played it.

    Attributes:
        task_id: the task.
        worker: the process, as ``host:pid``.
        spans: see `EpisodeRecord`; at least one.
        args: shown beside it.
    """

    task_id: str
    worker: str
    spans: Sequence[tuple[str, float, float]]
    args: Event

    @property
    def extent(self) -> tuple[float, float]:
        """Begin and end, in seconds since the epoch."""
        return self.spans[0][1], max(begin + seconds for _, begin, seconds in self.spans)


def episode_spans(replies: Sequence[SampleReply]) -> list[EpisodeSpan]:
    """The episodes of a batch whose times are known."""
    found = []
    for reply in replies:
        for sample, record in reply.members:
            args = {
                "group": reply.group.id,
                "member": sample.member,
                "reward": sample.reward,
                "turns": len(record.episode.turns),
                "action_tokens": sample.num_actions,
                "stop": None if sample.stop_reason is None else sample.stop_reason.value,
            }
            if record.spans:
                found.append(EpisodeSpan(reply.group.task_id, reply.worker, record.spans, args))
    return found


class PhaseRecorder(SilentObserver):
    """An observer that keeps when phases begin and end."""

    def __init__(self) -> None:
        self._spans: list[PhaseSpan] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record a part of the step, also one that fails."""
        start, clock = time.time(), time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - clock
            thread = threading.current_thread().name
            self._spans.append(PhaseSpan(name, thread, start, seconds))

    def take_phases(self) -> list[PhaseSpan]:
        """The phases that ended since the last call."""
        taken, self._spans = self._spans, []
        return taken


class TraceFile:
    """Keeps the newest steps of a run in one file.

    Args:
        path: the file.
        steps: how many steps it holds, at least 1.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        self._kept: deque[tuple[int, list[PhaseSpan], list[EpisodeSpan]]] = deque(maxlen=steps)

    def add(self, step: int, phases: Sequence[PhaseSpan], replies: Sequence[SampleReply]) -> None:
        """Take in a step and write the file, whole or not at all.

        Args:
            step: number of the training step.
            phases: what the driver did since the last one.
            replies: what was learned from.

        Raises:
            OrchError: the file cannot be written.
        """
        self._kept.append((step, list(phases), episode_spans(replies)))
        write_text(self._path, json.dumps(trace_events(list(self._kept)), ensure_ascii=True))


def trace_events(
    steps: Sequence[tuple[int, Sequence[PhaseSpan], Sequence[EpisodeSpan]]],
) -> dict[str, Any]:
    """Steps in the trace event format (JSON object form); times in microseconds from the first.

    Args:
        steps: number, driver phases and episodes of each step.
    """
    starts = [p.start for _, phases, _ in steps for p in phases]
    starts += [s[1] for _, _, episodes in steps for t in episodes for s in t.spans]
    origin = min(starts, default=0.0)
    writer = _Writer(origin)
    for step, phases, _ in steps:
        for phase in phases:
            place = writer.place(_DRIVER, phase.thread)
            writer.add(phase.name, place, phase.start, phase.seconds, {"step": step})
    episodes = [(step, t) for step, _, found in steps for t in found]
    for step, episode, lane in _lanes(episodes):
        _add_episode(writer, step, episode, lane)
    return {
        "traceEvents": [*writer.names, *writer.events],
        "displayTimeUnit": "ms",
        "otherData": {"origin_s": origin, "steps": [step for step, _, _ in steps]},
    }


class _Writer:
    def __init__(self, origin: float) -> None:
        self._origin = origin
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        self._processes: dict[str, int] = {}
        self.names: list[Event] = []
        self.events: list[Event] = []

    def place(self, process: str, thread: str) -> tuple[int, int]:
        """Numbers of a process and a thread, named on first use."""
        if process not in self._processes:
            self._processes[process] = len(self._processes) + 1
            self._name("process_name", self._processes[process], 0, process)
        if (process, thread) not in self._places:
            place = self._processes[process], len(self._places) + 1
            self._places[process, thread] = place
            self._name("thread_name", *place, thread)
        return self._places[process, thread]

    def add(
        self, name: str, place: tuple[int, int], start: float, seconds: float, args: Event
    ) -> None:
        """A complete event; times are rounded once, so that what is nested stays nested."""
        begin, end = self._us(start), self._us(start + seconds)
        event = {"name": name, "ph": "X", "ts": begin, "dur": max(0, end - begin)}
        self.events.append({**event, "pid": place[0], "tid": place[1], "args": args})

    def _us(self, seconds: float) -> int:
        return round((seconds - self._origin) * 1e6)

    def _name(self, kind: str, process: int, thread: int, name: str) -> None:
        self.names.append(
            {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
        )


def _add_episode(writer: _Writer, step: int, episode: EpisodeSpan, lane: int) -> None:
    place = writer.place(f"runner {episode.worker}", f"episodes {lane}")
    start, end = episode.extent
    writer.add(episode.task_id, place, start, end - start, {"step": step, **episode.args})
    for name, begin, seconds in episode.spans:
        writer.add(name, place, begin, min(seconds, end - begin), {})


def _lanes(
    episodes: Sequence[tuple[int, EpisodeSpan]],
) -> Iterator[tuple[int, EpisodeSpan, int]]:
    """Episodes with the lowest free lane of their worker: those at the same time never share."""
    free: dict[str, list[int]] = {}
    busy: dict[str, list[tuple[float, int]]] = {}
    for step, episode in sorted(episodes, key=lambda item: item[1].extent):
        start, end = episode.extent
        lanes, running = free.setdefault(episode.worker, []), busy.setdefault(episode.worker, [])
        while running and running[0][0] <= start:
            heapq.heappush(lanes, heapq.heappop(running)[1])
        lane = heapq.heappop(lanes) if lanes else len(running) + 1
        heapq.heappush(running, (end, lane))
        yield step, episode, lane
