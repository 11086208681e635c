"""The admission book: staleness is bounded, nothing is lost, nothing waits for ever.

Whatever the order in which groups come back, are lost and given out again, and batches are taken.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_train.sampling.admission import Admission


class _Run:
    """A run of the book by a random schedule, with the claims checked at every move."""

    def __init__(self, seed: int, size: int, ahead: int, steps: int, late: int) -> None:
        self.rng = random.Random(seed)
        self.size, self.ahead, self.steps, self.late = size, ahead, steps, late
        self.book = self.fresh_book(step=0)
        self.admitted: dict[str, int] = {}
        self.trained: dict[str, int] = {}
        self.learning = False

    def fresh_book(self, step: int) -> Admission:
        return Admission(
            groups_per_batch=self.size,
            max_staleness=self.ahead,
            straggler_steps=self.late,
            step=step,
        )

    def admit(self) -> None:
        if self.book.step == self.steps:
            return
        for _ in range(self.book.room(self.steps)):
            name = f"g{len(self.admitted)}"
            self.book.admit(name)
            self.admitted[name] = self.book.step
        assert len(self.admitted) <= (self.ahead + self.book.step + 1) * self.size

    def take(self) -> bool:
        batch = self.book.take()
        if batch is None:
            return False
        assert len(batch) == self.size
        for name in batch:
            assert name not in self.trained
            self.trained[name] = self.book.step
            assert 0 <= self.book.step - self.admitted[name] <= self.ahead + self.late
        self.learning = True
        return True

    def move(self) -> None:
        running = self.book.running
        choice = self.rng.randrange(4)
        if choice == 0 and running:
            # Mostly the youngest first: slow groups are overtaken as far as the rules allow.
            self.book.finish(self.rng.choice([running[-1], self.rng.choice(running)]))
        elif choice == 1 and self.learning:
            self.book.advance()
            self.learning = False
            self.admit()
        elif choice == 2 and not self.learning and self.book.step < self.steps:
            self.take()
        elif choice == 3 and not self.learning:
            # The process dies; whoever comes after goes on with what was written down.
            state, step = self.book.state(), self.book.step
            self.book = self.fresh_book(step)
            self.book.restore(state)

    def finish_all(self) -> None:
        """From here on everything that runs comes back: the run must come to its end."""
        while self.book.step < self.steps:
            self.admit()
            for name in self.book.running:
                self.book.finish(name)
            if not self.learning:
                assert self.take(), "all groups are back and no batch can be taken"
            self.book.advance()
            self.learning = False


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 10**9),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(1, 8),
    st.integers(0, 3),
)
def test_every_group_is_trained_once_and_in_time_whatever_happens(
    seed: int, size: int, ahead: int, steps: int, late: int
) -> None:
    run = _Run(seed, size, ahead, steps, late)
    run.admit()
    for _ in range(200):
        run.move()
    run.finish_all()
    assert len(run.trained) == len(run.admitted) == steps * size
    assert not run.book.running and not run.book.finished


def _book(size: int, ahead: int) -> Admission:
    return Admission(groups_per_batch=size, max_staleness=ahead)


def test_without_staleness_a_batch_is_sampled_after_the_other() -> None:
    book = _book(size=2, ahead=0)
    assert book.room(10) == 2
    for name in "ab":
        assert book.admit(name) == 0
        book.finish(name)
    assert book.take() == ("a", "b") and book.room(10) == 0
    book.advance()
    assert book.room(10) == 2


def test_a_batch_waits_for_the_group_that_is_due() -> None:
    book = _book(size=1, ahead=1)
    book.admit("slow")
    book.admit("fast")
    book.finish("fast")
    assert book.take() == ("fast",)
    book.advance()
    book.admit("next")
    book.finish("next")
    assert book.take() is None
    book.finish("slow")
    assert book.take() == ("slow",)


def test_two_slow_groups_with_one_deadline_are_not_both_put_off_to_it() -> None:
    book = _book(size=1, ahead=2)
    for name in ("slow 1", "slow 2", "fast"):
        assert book.admit(name) == 2
    book.finish("fast")
    assert book.take() == ("fast",)
    book.advance()
    book.admit("young")
    book.finish("young")
    # One of the two must go now: batch 2 has one place, and both are due in it.
    assert book.take() is None
    book.finish("slow 2")
    assert book.take() == ("slow 2",)


def test_a_straggler_may_come_later_and_no_more_are_under_way_for_it() -> None:
    book = Admission(groups_per_batch=1, max_staleness=1, straggler_steps=1)
    assert book.admit("slow") == 2
    for step in range(2):
        assert book.admit(f"fast {step}") == step + 2 and book.room(10) == 0
        book.finish(f"fast {step}")
        assert book.take() == (f"fast {step}",)
        book.advance()
    book.admit("fast 2")
    book.finish("fast 2")
    assert book.take() is None
    book.finish("slow")
    assert book.take() == ("slow",)


def test_nothing_is_sampled_beyond_the_last_step() -> None:
    book = _book(size=3, ahead=2)
    assert book.room(2) == 6
    assert Admission(groups_per_batch=3, max_staleness=2, step=5).room(5) == 3


def test_replacing_frees_a_place_as_often_as_allowed() -> None:
    book = Admission(groups_per_batch=1, max_staleness=1, max_replaced=1)
    for name in "ab":
        book.admit(name)
        book.finish(name)
    assert book.replace("a") and book.room(10) == 1
    assert not book.replace("b") and book.room(10) == 1
    assert book.take() == ("b",)


def test_misuse_is_an_error() -> None:
    book = _book(size=1, ahead=0)
    book.admit("a")
    with pytest.raises(ValueError, match="already"):
        book.admit("a")
    with pytest.raises(ValueError, match="1 batches are admitted"):
        book.admit("b")
    with pytest.raises(ValueError, match="not being sampled"):
        book.finish("b")
    book.finish("a")
    assert book.take() == ("a",)
    with pytest.raises(ValueError, match="still in training"):
        book.take()


def test_a_state_of_another_batch_size_is_refused() -> None:
    book = _book(size=2, ahead=1)
    book.admit("a")
    with pytest.raises(ValueError, match=r"training\.groups_per_batch was 2, is 3"):
        _book(size=3, ahead=1).restore(book.state())
