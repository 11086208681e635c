"""A model folder as a writer and as the policy of a filter; a tiny model's words are nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orch_env import load_tasks, save_tasks
from orch_env.cli.main import main
from orch_env.synthesis.pipeline.config import WritingConfig
from orch_env.synthesis.pipeline.writers import make_writer
from orch_train.synthesis.engine_writer import EngineWriter
from tests.orch_env.synthesis.test_endpoint_writer import plan


def test_a_model_folder_writes_and_its_nonsense_is_counted() -> None:
    options = {"model": "reader", "max_tokens": 8}
    writer = make_writer(WritingConfig(writer="engine", options=options))
    assert isinstance(writer, EngineWriter)
    try:
        found = writer.write([plan(1), plan(2)])
        again = writer.write([plan(1), plan(2)])
    finally:
        writer.close()
    assert [w.text for w in found] == [w.text for w in again]
    refused = [w for w in found if w.text is None]
    assert all(w.reason for w in refused)
    assert sum(writer.refusals.values()) >= len(refused)


def test_a_filter_plays_a_model_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.jsonl"
    save_tasks(load_tasks("harbour")[:2], file)
    words = ["synth", "filter", "--tasks", str(file), "--cache", "harbour", "--model", "tiny"]
    words += ["--k", "2", "--keep", "0:1", "--max-turns", "2", "--max-tokens-per-turn", "16"]
    words += ["--max-context", "1000", "--out", str(tmp_path / "kept.jsonl"), "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kept"] == 2
    kept = load_tasks(tmp_path / "kept.jsonl")
    assert all(0 <= t.metadata["pass_rate"] <= 1 for t in kept)
    assert len((tmp_path / "kept.jsonl.rates").read_text().splitlines()) == 4
