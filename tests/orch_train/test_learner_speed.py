"""Small forms of the learner's benchmarks, with slack for a busy machine.

Judged by process time, in turns: what is compared are two pieces of work of one process.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.learner_speed import main

SMALL = ["--layers", "2", "--sequences", "16", "--mean", "150", "--budget", "1024"]


def test_packing_gains_most_of_what_padding_wastes(tmp_path: Path) -> None:
    out = tmp_path / "packing.json"
    figures = main(["packing", *SMALL, "--repeats", "3", "--out", str(out)])["figures"]
    assert figures["fill"]["packed"] >= 0.95 > 0.8 > figures["fill"]["padded"]
    assert figures["speedup_over_ideal_process"] > 0.6
    report = json.loads(out.read_text())
    assert report["benchmark"] == "learner_packing" and report["machine"]["cores"] >= 1
    assert report["figures"] == figures


def test_the_head_on_action_tokens_reaches_most_of_its_ceiling() -> None:
    wide = ["--vocabulary", "8192", "--layers", "2", "--sequences", "4", "--mean", "250"]
    figures = main(["head", *wide, "--sigma", "0", "--repeats", "3"])["figures"]
    assert 0.09 < figures["action_share"] < 0.12
    assert figures["head_share_process"] > 0.3
    assert figures["speedup_over_ceiling_process"] > 0.6


def test_an_update_costs_little_more_than_the_same_step_by_hand() -> None:
    figures = main(["bare-loop", *SMALL, "--repeats", "3"])["figures"]
    assert figures["learner_over_bare_loop_process"] > 0.7
