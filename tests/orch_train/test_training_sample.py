"""Pins the token streams: turns in order, and nothing where no token was sampled."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train.trajectory.sample import NO_VERSION, TrainingSample
from orch_train.trajectory.store import pack_tokens, unpack_tokens

_IDS = st.lists(st.integers(0, 99), max_size=6)
_PARTS = st.lists(st.tuples(st.booleans(), _IDS, st.integers(0, 3)), max_size=8)


def built(parts: list[Any]) -> TrainingSample:
    sample = TrainingSample()
    for is_action, ids, version in parts:
        if is_action:
            sample.append_action(ids, [-0.5 * i for i in range(len(ids))], [version] * len(ids))
        else:
            sample.append_context(ids)
    return sample


@given(_PARTS)
def test_streams_stay_aligned_and_nothing_appended_changes_what_stands(parts: list[Any]) -> None:
    for end in range(len(parts) + 1):
        sample = built(parts[:end])
        sample.check()
        assert sample.ids_T.tolist() == [i for _, ids, _ in parts[:end] for i in ids]
        acted = [action for action, ids, _ in parts[:end] for _ in ids]
        versions = [version for action, ids, version in parts[:end] if action for _ in ids]
        assert sample.mask_T.tolist() == acted
        assert sample.actions_N.tolist() == [at for at, action in enumerate(acted) if action]
        assert (~np.isnan(sample.logprobs_T)).tolist() == acted
        assert (sample.versions_T != NO_VERSION).tolist() == acted
        assert sample.versions_N.tolist() == versions
        assert sample.num_actions == sum(acted)


def test_log_probabilities_and_versions_stand_where_their_tokens_do() -> None:
    sample = built([(False, [1, 2], 0), (True, [3, 4], 7), (False, [5], 0), (True, [6], 8)])
    assert sample.turns.tolist() == [[2, 4], [5, 6]]
    assert sample.versions_T.tolist() == [-1, -1, 7, 7, -1, 8]
    np.testing.assert_equal(sample.logprobs_T, [np.nan, np.nan, 0.0, -0.5, np.nan, 0.0])
    assert sample.num_trained == 6 and built([(True, [1], 0), (False, [2], 0)]).num_trained == 1


def test_the_oldest_version_ignores_what_was_not_sampled() -> None:
    sample = built([(False, [1, 2], 0), (True, [3], 7), (True, [4], 5)])
    assert sample.oldest_version == 5
    assert built([(False, [1], 0)]).oldest_version == NO_VERSION


@pytest.mark.parametrize("logprob", [math.nan, math.inf, -math.inf, 0.1])
def test_a_log_probability_that_is_none_is_refused(logprob: float) -> None:
    with pytest.raises(ValueError, match="finite and at most 0"):
        TrainingSample().append_action([1], [logprob], [0])


@pytest.mark.parametrize(("logprobs", "versions"), [([-1.0], [0, 0]), ([-1.0] * 2, [0])])
def test_unequal_streams_are_refused_and_leave_nothing(
    logprobs: list[float], versions: list[int]
) -> None:
    sample = TrainingSample()
    with pytest.raises(ValueError, match="aligned"):
        sample.append_action([1, 2], logprobs, versions)
    assert len(sample) == sample.num_actions == len(sample.turns) == len(sample.versions_N) == 0


def test_turns_that_overlap_are_refused_though_their_counts_agree() -> None:
    sample = built([(False, [1], 0), (True, [2, 3], 0), (True, [4, 5], 0)])
    sample.check()
    sample.turns = np.array([[1, 3], [2, 4]], np.int32)
    assert np.diff(sample.turns).sum() == sample.num_actions
    with pytest.raises(ValueError, match="not in order"):
        sample.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", [1]),  # shorter than its turns
        ("ids", [[1, 2, 3]]),
        ("ids", [1, 2**31, 3]),
        ("turns", [[0, 2]]),  # more tokens than log-probabilities
        ("turns", [[2, 1]]),
        ("turns", [[-2, -1]]),
        ("turns", [[2, 3], [1, 2]]),
        ("turns", [[1]]),
        ("turns", "ab"),
        ("logprobs", [None]),
        ("logprobs", [-0.5, -0.5]),
        ("logprobs", [0.5]),
        ("versions", []),
        ("versions", None),
    ],
)
def test_a_damaged_record_is_one_clear_error(name: str, value: Any) -> None:
    packed = pack_tokens(built([(False, [1], 0), (True, [2], 0), (False, [3], 0)]))
    record = msgpack.unpackb(packed)
    assert pack_tokens(unpack_tokens(msgpack.packb(record))) == packed
    with pytest.raises(OrchError, match="stored token streams are damaged"):
        unpack_tokens(msgpack.packb({**record, name: value}))
