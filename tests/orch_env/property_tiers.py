"""Runs one property under two tiers: a few examples in `make test`, thousands in `make test-all`.

A property is a function of drawn values. `hold` runs it on exactly as many examples as asked,
counted by those that reached the end: what an `assume` threw away is no example. The test that
calls it says whether the examples are new ones: only tests marked `long` explore.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

FEW, MANY = 40, 2000
"""Examples of a property in `make test`, and in the long tier."""


def hold(examples: int, body: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Check ``body`` on ``examples`` drawn inputs that it does not reject."""
    ended = 0

    @settings(max_examples=examples)
    @given(st.tuples(*strategies))
    def run(drawn: tuple[Any, ...]) -> None:
        nonlocal ended
        body(*drawn)
        ended += 1

    run()
    assert ended >= examples, f"only {ended} examples: the strategy has no more different ones"
