"""Pins the alignment of the token streams: equal lengths, and NaN where the model did not act."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_train.trajectory.token_trace import NO_VERSION, TokenTrace

_IDS = st.lists(st.integers(0, 99), max_size=6)
_PARTS = st.lists(st.tuples(st.booleans(), _IDS, st.integers(0, 3)), max_size=8)


def built(parts: list[Any]) -> TokenTrace:
    trace = TokenTrace()
    for is_action, ids, version in parts:
        if is_action:
            trace.append_action(ids, [-0.5 * i for i in range(len(ids))], [version] * len(ids))
        else:
            trace.append_context(ids)
    return trace


@given(_PARTS)
def test_streams_stay_aligned_and_nothing_appended_changes_what_stands(parts: list[Any]) -> None:
    for end in range(len(parts) + 1):
        trace = built(parts[:end])
        trace.check()
        assert trace.ids == [i for _, ids, _ in parts[:end] for i in ids]
        acted = [action for action, ids, _ in parts[:end] for _ in ids]
        assert trace.action_mask == acted
        assert [math.isnan(x) for x in trace.logprobs] == [not a for a in acted]
        assert [v == NO_VERSION for v in trace.versions] == [not a for a in acted]
        assert trace.num_actions == sum(acted)


@given(_PARTS)
def test_a_trace_survives_json(parts: list[Any]) -> None:
    trace = built(parts)
    again = TokenTrace.from_dict(json.loads(json.dumps(trace.to_dict(), allow_nan=False)))
    assert again.to_dict() == trace.to_dict()


def test_the_oldest_version_ignores_what_was_not_sampled() -> None:
    trace = built([(False, [1, 2], 0), (True, [3], 7), (True, [4], 5)])
    assert trace.oldest_version() == 5
    assert built([(False, [1], 0)]).oldest_version() == NO_VERSION


@pytest.mark.parametrize("logprob", [math.nan, math.inf, -math.inf, 0.1])
def test_a_log_probability_that_is_none_is_refused(logprob: float) -> None:
    with pytest.raises(ValueError, match="finite and at most 0"):
        TokenTrace().append_action([1], [logprob], [0])


def test_unequal_streams_are_refused_before_anything_is_appended() -> None:
    trace = TokenTrace()
    with pytest.raises(ValueError, match="aligned"):
        trace.append_action([1, 2], [-1.0], [0, 0])
    assert len(trace) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("ids", [1]), ("turns", [[0, 1]]), ("logprobs", [None, None]), ("action_mask", [True, True])],
)
def test_a_damaged_record_is_refused(name: str, value: Any) -> None:
    record = built([(False, [1], 0), (True, [2], 0)]).to_dict()
    with pytest.raises(ValueError):
        TokenTrace.from_dict({**record, name: value})
