"""Small forms of the learner's benchmarks.

The ordinary tier claims that they run, what they report, and what they count: fill, shares of
tokens. The long tier claims speed, with slack for a busy machine: by process time and in turns,
since what is compared are two pieces of work of one process.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learner_speed import main

SMALL = ["--layers", "2", "--sequences", "16", "--mean", "150", "--budget", "1024"]
WIDE = ["--layers", "2", "--sequences", "4", "--mean", "250", "--sigma", "0"]
WIDE += ["--vocabulary", "8192"]


def figures_of(comparison: str, shape: list[str], repeats: int, *more: str) -> dict[str, Any]:
    result = main([comparison, *shape, "--repeats", str(repeats), *more])
    return dict(result["figures"])


def are_ratios(figures: dict[str, Any], *names: str) -> bool:
    """Whether these figures are there by both clocks, each a number above 0."""
    found = [figures[f"{name}_{clock}"] for name in names for clock in ("wall", "process")]
    return all(math.isfinite(value) and value > 0 for value in found)


def test_packing_fills_what_padding_leaves_empty(tmp_path: Path) -> None:
    out = tmp_path / "packing.json"
    figures = figures_of("packing", SMALL, 1, "--out", str(out))
    assert figures["fill"]["packed"] >= 0.95 > 0.8 > figures["fill"]["padded"]
    assert figures["ideal_speedup"] == 1 / figures["fill"]["padded"]
    assert figures["rows_over_fewest_possible"] >= 1
    assert are_ratios(figures, "speedup", "speedup_over_ideal")
    report = json.loads(out.read_text())
    assert report["benchmark"] == "learner_packing" and report["machine"]["cores"] >= 1
    assert report["figures"] == figures
    assert set(report["arms"]) == {"padded", "packed"}
    assert all(len(arm["wall"]) == len(arm["process"]) == 1 for arm in report["arms"].values())


def test_a_tenth_of_the_tokens_goes_through_the_head() -> None:
    figures = figures_of("head", WIDE, 1)
    assert 0.09 < figures["action_share"] < 0.12
    assert are_ratios(figures, "speedup", "speedup_over_ceiling")
    assert {"head_share_wall", "head_share_process", "ceiling_wall", "ceiling_process"} <= set(
        figures
    )


def test_an_update_runs_beside_the_same_step_by_hand() -> None:
    assert are_ratios(figures_of("bare-loop", SMALL, 1), "learner_over_bare_loop")


@pytest.mark.long
def test_packing_gains_most_of_what_padding_wastes() -> None:
    """Claims speed: more than 0.6 of what the padding would allow."""
    assert figures_of("packing", SMALL, 3)["speedup_over_ideal_process"] > 0.6


@pytest.mark.long
def test_the_head_on_action_tokens_reaches_most_of_its_ceiling() -> None:
    """Claims speed: more than 0.6 of the ceiling, where the head is more than 0.3 of the work."""
    figures = figures_of("head", WIDE, 3)
    assert figures["head_share_process"] > 0.3
    assert figures["speedup_over_ceiling_process"] > 0.6


@pytest.mark.long
def test_an_update_costs_little_more_than_the_same_step_by_hand() -> None:
    """Claims speed: the hand-written step takes more than 0.7 of the learner's time."""
    assert figures_of("bare-loop", SMALL, 3)["learner_over_bare_loop_process"] > 0.7
