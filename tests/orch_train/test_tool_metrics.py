"""Counters of tools and of calls that never reached one, against hand counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orch_env.backends.arguments import ArgumentChecker
from orch_env.types import Episode, ErrorType, ToolCall, ToolSpec, Turn
from orch_train.metrics.rollouts import rollout_metrics
from orch_train.metrics.tools import (
    MOST_TOOLS,
    PARSE_CLASSES,
    parse_failures,
    tool_counts,
    tool_times,
)
from tests.orch_train.replies import reply_of
from tests.orch_train.viewer_runs import member, step_replies

_SPEC = ToolSpec(
    "book",
    "Books.",
    {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "kind": {"enum": ["a", "b"]}},
        "required": ["id"],
    },
)


def _episode(*calls: tuple[str, ErrorType | None, str]) -> Episode:
    made = tuple(ToolCall(name, {}, error) for name, error, _ in calls)
    return Episode("t", turns=(Turn.of("x", made, tuple(text for _, _, text in calls)),))


def _refused(**arguments: Any) -> str:
    """What the environment really says to these arguments."""
    found = ArgumentChecker(_SPEC).problem(arguments)
    assert found is not None
    return found.text


def test_calls_and_failures_are_counted_by_tool() -> None:
    episodes = [
        _episode(("find", None, "{}"), ("find", ErrorType.TOOL_ERROR, "{}")),
        _episode(("book", ErrorType.INVALID_ARGUMENTS, "{}"), ("find", None, "{}")),
    ]
    assert tool_counts(episodes) == {
        "find": {"calls": 3, "fail": 1},
        "book": {"calls": 1, "fail": 1},
    }


def test_a_name_that_the_model_made_up_is_no_metric() -> None:
    episodes = [
        _episode(("nope/../x", ErrorType.UNKNOWN_TOOL, "{}"), ("", ErrorType.MALFORMED_CALL, ""))
    ]
    assert tool_counts(episodes) == {}


def test_times_of_tools_stand_beside_their_counters() -> None:
    first, second = step_replies(1)
    first.records[0].tool_seconds = [("find", 0.1), ("find", 0.4), ("rare", 2.0)]
    second.records[2].tool_seconds = [("find", 0.2)]
    second.tool_timeouts = {"find": 2, "slow": 1}
    counts = {"find": {"calls": 4, "fail": 1}, "book": {"calls": 1, "fail": 1}}
    assert tool_times([first, second], counts) == {
        "find": {"calls": 4, "fail": 1, "p50_s": 0.2, "p95_s": 0.4, "timeout": 2},
        "book": {"calls": 1, "fail": 1},
        "others": {"p50_s": 2.0, "p95_s": 2.0},
        "slow": {"timeout": 1},
    }
    assert set(counts["find"]) == {"calls", "fail"}


def test_rare_tools_are_added_up() -> None:
    names = [f"tool-{i:03}" for i in range(MOST_TOOLS + 3)]
    episodes = [_episode(*((name, None, "{}") for name in names + names[:MOST_TOOLS]))]
    counts = tool_counts(episodes)
    assert len(counts) == MOST_TOOLS + 1
    assert counts["others"] == {"calls": 3, "fail": 0}


@pytest.mark.parametrize(
    ("error", "result", "kind"),
    [
        (ErrorType.MALFORMED_CALL, "{}", "unreadable"),
        (ErrorType.UNKNOWN_TOOL, "{}", "unknown_tool"),
        (ErrorType.INVALID_ARGUMENTS, _refused(), "arguments_missing"),
        (ErrorType.INVALID_ARGUMENTS, _refused(id=1, x=2), "arguments_unknown"),
        (ErrorType.INVALID_ARGUMENTS, _refused(id=[]), "arguments_wrong_type"),
        (ErrorType.INVALID_ARGUMENTS, _refused(id=1, kind="c"), "arguments_not_allowed"),
        (ErrorType.INVALID_ARGUMENTS, _refused(x=1), "arguments_missing"),
        (ErrorType.INVALID_ARGUMENTS, "no JSON", "arguments_other"),
        (ErrorType.INVALID_ARGUMENTS, json.dumps({"error": {"details": [1]}}), "arguments_other"),
        (ErrorType.TOOL_ERROR, _refused(), None),
        (None, _refused(), None),
    ],
)
def test_every_failure_has_one_class(error: ErrorType | None, result: str, kind: str) -> None:
    found = parse_failures([_episode(("book", error, result), ("book", None, "{}"))])
    assert found == {name: 0.5 if name == kind else 0.0 for name in PARSE_CLASSES}


def test_no_calls_are_no_failures() -> None:
    assert set(parse_failures([_episode()]).values()) == {0.0}


def test_results_carry_the_counters_and_the_environments_latency() -> None:
    slow = reply_of("g", "a", 3, member("a", 0, 1.0))
    slow.records[0].timings = {"env": 3.0, "generate": 1.0}
    spans = [("env", 0.0, s / 100) for s in range(1, 101)] + [("generate", 0.0, 9.0)]
    slow.records[0].spans = spans
    metrics = rollout_metrics([*step_replies(1), slow], 1.0)
    assert metrics["tools"] == {"find": {"calls": 7, "fail": 0}}
    assert metrics["parse"]["unknown_tool"] == 0.5
    assert metrics["env_latency_share"] == pytest.approx(4.5 / 5.5)
    assert metrics["env_step_s"] == {"p50": 0.5, "p99": 0.99}
