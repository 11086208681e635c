"""The audit sees what discarding does to training data, and that waiting does not do it.

Sampling and learning are played on a clock of their own: slow episodes are long ones, as they are.
"""

from __future__ import annotations

import heapq
import random

import pytest

from orch_env.types import Episode, Turn
from orch_train.sampling.admission import Admission
from orch_train.sampling.bias import BiasAudit, ks_distance
from orch_train.trajectory.requests import EpisodeRecord, SampleReply
from orch_train.trajectory.sample import Group, TrainingSample

SIZE, STEPS, LEARNING_S = 4, 150, 1.0


def _reply(name: str, seconds: float) -> SampleReply:
    sample = TrainingSample()
    sample.append_context([1])
    tokens = max(1, round(100 * seconds))
    sample.append_action([2] * tokens, [-0.5] * tokens, [0] * tokens)
    episode = Episode("t", 0, tuple(Turn.of(action="x") for _ in range(1 + round(seconds))))
    record = EpisodeRecord(episode, {"generate": seconds})
    return SampleReply(Group(name, "t", 0, [sample]), [record])


def _play(*, discard: bool, ahead: int = 2) -> tuple[BiasAudit, int]:
    """Train; with ``discard`` no group is waited for, and one that comes too late is dropped."""
    rng = random.Random(0)
    audit = BiasAudit()
    admission = Admission(groups_per_batch=SIZE, max_staleness=ahead)
    running: list[tuple[float, str]] = []
    groups: dict[str, SampleReply] = {}
    born: dict[str, int] = {}
    finished: list[str] = []
    now, step, dropped = 0.0, 0, 0
    while step < STEPS:
        held = len(running) + len(finished)
        while held < (ahead + 1) * SIZE if discard else admission.room(STEPS):
            held += 1
            name = f"g{len(groups)}"
            seconds = rng.lognormvariate(0.0, 1.0)
            groups[name], born[name] = _reply(name, seconds), step
            heapq.heappush(running, (now + seconds, name))
            if not discard:
                admission.admit(name)
        batch: list[str] | None = None
        if discard:
            stale = [name for name in finished if step - born[name] > ahead]
            dropped += len(stale)
            finished = [name for name in finished if name not in stale]
            if len(finished) >= SIZE:
                batch, finished = finished[:SIZE], finished[SIZE:]
        else:
            taken = admission.take()
            batch = None if taken is None else list(taken)
        if batch is None:
            if not running:
                continue
            now, name = heapq.heappop(running)
            audit.sampled(groups[name])
            if discard:
                finished.append(name)
            else:
                admission.finish(name)
            continue
        for name in batch:
            audit.trained(groups[name])
        until = now + LEARNING_S
        while running and running[0][0] <= until:
            _, name = heapq.heappop(running)
            audit.sampled(groups[name])
            if discard:
                finished.append(name)
            else:
                admission.finish(name)
        now, step = until, step + 1
        if not discard:
            admission.advance()
    return audit, dropped


def test_what_is_waited_for_is_trained_as_it_was_sampled() -> None:
    audit, _ = _play(discard=False)
    assert set(audit.distances().values()) == {0.0}


def test_discarding_what_is_late_shows_in_every_feature_that_makes_it_late() -> None:
    audit, dropped = _play(discard=True)
    assert dropped > 10
    found = audit.distances()
    for feature in ("ks_action_tokens", "ks_turns", "ks_latency_s"):
        assert found[feature] > 0.02, found
    assert found["ks_tool_calls"] == 0.0  # no episode has any


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    assert ks_distance({1: 1, 2: 1}, {1: 2, 2: 2}) == 0.0
    assert ks_distance({1: 4}, {2: 4}) == 1.0
    assert ks_distance({1: 2, 3: 2}, {1: 1, 2: 3}) == pytest.approx(0.5)
    assert ks_distance({}, {1: 1}) == 0.0
