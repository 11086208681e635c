"""The formula behind MFU counts what torch counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.learner_gpu import make_groups
from benchmarks.model_flops import Shape, update_flops
from orch_train.learner.batch.packing import make_microbatches
from orch_train.learner.logprobs import action_logprobs
from tests.orch_train.small_models import VOCABULARY, small_llama


def test_the_formula_is_torchs_count_without_attention() -> None:
    shape = Shape(2, 32, 64, 4, 2, 8, VOCABULARY)
    groups, lengths = make_groups(VOCABULARY, 64, 2, 0.5)
    sequences = [t.weighted(1.0) for t in groups[0].samples]
    assert sum(s.num_trained for s in sequences) == sum(lengths)
    model, counted = small_llama(), 0
    for batch in make_microbatches(sequences, 64, layout="packed"):
        with FlopCounterMode(display=False) as counter:
            action_logprobs(model, batch, 1.0).logprobs_N.sum().backward()
        by_kind = counter.get_flop_counts()["Global"]
        counted += sum(n for kind, n in by_kind.items() if "attention" not in str(kind))
    actions = sum(s.num_actions for s in sequences)
    body_and_head = update_flops(shape, lengths, actions) - _attention(shape, lengths)
    assert counted == pytest.approx(body_and_head, rel=1e-6)


def test_attention_counts_pairs_within_sequences() -> None:
    shape = Shape(2, 32, 64, 4, 2, 8, VOCABULARY)
    one, two = update_flops(shape, [100], 0), update_flops(shape, [50, 50], 0)
    assert one - two == pytest.approx(_attention(shape, [100]) / 2)


def test_a_machine_without_a_gpu_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    from benchmarks import learner_gpu

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["learner_gpu"])
        assert learner_gpu.main() == 2
    assert capsys.readouterr().err == "learner_gpu: no CUDA device here; nothing was measured\n"


def test_a_row_that_fails_is_reported_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import learner_gpu

    def measure(name: str, tokens: int, mode: str, given: object) -> dict[str, object]:
        if tokens == 128:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")
        return real(name, tokens, mode, given)

    real, out = learner_gpu.measure, tmp_path / "rows.json"
    monkeypatch.setattr(learner_gpu, "measure", measure)
    few = ["--model", "tiny", "--tokens", "128", "64", "--mode", "rl", "--updates", "1"]
    monkeypatch.setattr("sys.argv", ["learner_gpu", "--device", "cpu", *few, "--out", str(out)])
    assert learner_gpu.main() == 1
    report = json.loads(out.read_text())
    assert [row["row_tokens"] for row in report["rows"]] == [64]
    assert [row["error"] for row in report["failed"]] == [
        "CUDA out of memory. Tried to allocate 9 GiB"
    ]


def test_the_peak_of_a_card_is_known_by_its_name_or_not_at_all() -> None:
    from benchmarks.learner_gpu import peak_tflops

    names = ["NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB", "T4", None]
    assert [peak_tflops(name) for name in names] == [989.0, 756.0, 312.0, None, None]


def _attention(shape: Shape, lengths: list[int]) -> float:
    """Forward and backward, two products of 2 operations per pair, half of the square."""
    pairs = sum(n * n for n in lengths) / 2
    return 3 * 2 * 2 * shape.layers * shape.heads * shape.head_size * pairs
