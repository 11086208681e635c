"""Learner throughput and MFU on one CUDA GPU: Qwen3-0.6B and 1.7B shapes, bf16, packed rows.

    python -m benchmarks.learner_gpu --out benchmarks/results/learner_gpu.json

Random weights, full fine-tuning, gradient checkpointing, AdamW with float32 master weights; each
row is one `Learner.update` on one batch, after warm-up, timed between device synchronisations.
`rl` learns from a quarter of the tokens, `sft` from all but each sequence's first. MFU is the
operations of :mod:`benchmarks.model_flops` over time over the peak (``--peak-tflops``; by default
the dense bfloat16 peak of the card, as far as it is known). Attention runs per sequence of a packed
row with torch's causal kernel (:mod:`orch_train.learner.batch.packed_attention`). ``--out`` is
written after each row; a row that fails (the card's memory, say) is reported and the others go on.

Not run on a GPU yet: it was written on machines without one, and no result of one is committed.
Without a CUDA device the script says so and ends; ``--device cpu --model tiny`` shows that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.model_flops import Shape, update_flops
from benchmarks.report import machine, write_report
from orch_train.config import LearnerGroupSettings, ModelSettings, Settings
from orch_train.learner.learner import Learner
from orch_train.trajectory.sample import Group, TrainingSample

SHAPES = {
    "qwen3-0.6b": Shape(28, 1024, 3072, 16, 8, 128, 151936),
    "qwen3-1.7b": Shape(28, 2048, 6144, 16, 8, 128, 151936),
    "tiny": Shape(4, 128, 384, 4, 2, 32, 512),
}
MODES = {"rl": 0.25, "sft": 1.0}
"""Share of the tokens that are actions."""
PEAK_TFLOPS = {"A100": 312.0, "H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "L40S": 362.0}
"""Dense bfloat16 peaks by a part of the card's name, from NVIDIA's data sheets; first match."""


def main() -> int:
    """Measure and print a table; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", nargs="+", choices=list(SHAPES), default=["qwen3-0.6b", "qwen3-1.7b"]
    )
    parser.add_argument("--tokens", nargs="+", type=int, default=[4096, 16384], metavar="N")
    parser.add_argument("--mode", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--updates", type=int, default=5, help="timed updates a row")
    parser.add_argument("--rows-per-update", type=int, default=4, help="packed rows a batch")
    parser.add_argument("--peak-tflops", type=float, help="of the card; default: by its name")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda",
        help="cpu: only to see that it runs (--model tiny); there is no MFU then",
    )  # fmt: skip
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("learner_gpu: no CUDA device here; nothing was measured", file=sys.stderr)
        return 2
    gpu = torch.cuda.get_device_name() if on_gpu else None
    if given.peak_tflops is None:
        given.peak_tflops = peak_tflops(gpu)
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    report = {
        "what": "learner update on one GPU: tokens/s and MFU",
        "flops": "model FLOPs as in benchmarks/model_flops.py; recomputation is not counted",
        "peak_tflops": given.peak_tflops,
        "gpu": gpu,
        "rows": rows,
        "failed": failed,
        "machine": machine(),
    }
    for name, tokens, mode in itertools.product(given.model, given.tokens, given.mode):
        try:
            rows.append(measure(name, tokens, mode, given))
            print(_line(rows[-1]), flush=True)
        except RuntimeError as problem:  # CUDA's, out of memory among them
            reason = str(problem).partition("\n")[0]
            failed.append({"model": name, "row_tokens": tokens, "mode": mode, "error": reason})
            print(f"{name} {mode}, rows of {tokens} tokens: failed: {reason}", flush=True)
        if on_gpu:
            torch.cuda.empty_cache()
        if given.out:
            write_report(given.out, report)
    print(json.dumps({"rows": len(rows), "failed": len(failed), "gpu": gpu}))
    return 1 if failed else 0


def peak_tflops(gpu: str | None) -> float | None:
    """Dense bfloat16 peak of a card by its name; ``None``: not known."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in (gpu or "")), None)


def measure(name: str, tokens: int, mode: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    shape, on_gpu = SHAPES[name], given.device == "cuda"
    groups, lengths = make_groups(shape.vocabulary, tokens, given.rows_per_update, MODES[mode])
    settings = Settings(
        model=ModelSettings(dtype="bfloat16"),
        learners=LearnerGroupSettings(
            num_gpus_per_learner=int(on_gpu),
            max_tokens_per_microbatch=tokens,
            gradient_checkpointing=True,
        ),
    )
    learner = Learner(make_model(shape, given.device), settings)
    for _ in range(2):
        metrics = learner.update(groups)
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(given.updates):
        wait()
        started = time.perf_counter()
        learner.update(groups)
        wait()
        seconds.append(time.perf_counter() - started)
    middle = statistics.median(seconds)
    actions = int(metrics["num_action_tokens"])
    peak = given.peak_tflops if on_gpu else None
    rate = {
        key: update_flops(shape, lengths, actions, full_head=full) / middle / peak / 1e12
        if peak
        else None
        for key, full in (("mfu", False), ("mfu_full_head", True))
    }
    return {
        "model": name,
        "shape": asdict(shape),
        "row_tokens": tokens,
        "mode": mode,
        "tokens": sum(lengths),
        "action_tokens": actions,
        "fill": metrics["fill"],
        "seconds": {"median": middle, "smallest": min(seconds), "largest": max(seconds)},
        "tokens_per_s": sum(lengths) / middle,
        **rate,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
    }


def make_model(shape: Shape, device: str) -> Any:
    """A random model of this shape with tied embeddings, in float32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
    )
    with torch.device(device):
        return Qwen3ForCausalLM(config)


def make_groups(
    vocabulary: int, tokens: int, rows: int, action_share: float
) -> tuple[list[Group], list[int]]:
    """Sequences of a quarter to a whole row, actions and observations in turns of 256 tokens.

    Returns:
        The groups, and the tokens of each sequence that are computed.
    """
    rng = random.Random(0)
    lengths: list[int] = []
    for _ in range(rows):
        room = tokens
        while room >= tokens // 8:
            lengths.append(min(room, rng.randint(tokens // 4, tokens)))
            room -= lengths[-1]
    samples = []
    for member, length in enumerate(lengths):
        reward = float(member % 2)
        sample = TrainingSample(member, reward=reward, success=reward == 1.0)
        ids = [rng.randrange(3, vocabulary) for _ in range(length)]
        start = 1
        sample.append_context(ids[:1])
        while start < length:
            turn = min(256, length - start)
            context = min(int(turn * (1 - action_share)), turn - 1)
            sample.append_context(ids[start : start + context])
            actions = ids[start + context : start + turn]
            sample.append_action(actions, [-11.0] * len(actions), [0] * len(actions))
            start += turn
        samples.append(sample)
    return [Group("g", "t", 0, samples)], lengths


def _line(row: dict[str, Any]) -> str:
    line = (
        f"{row['model']:10} {row['mode']:3} rows of {row['row_tokens']:6} tokens: "
        f"{row['tokens_per_s']:9,.0f} tokens/s"
    )
    if row["mfu"] is not None:
        line += f"   MFU {row['mfu']:.1%} (head on all tokens: {row['mfu_full_head']:.1%})"
    return line if row["peak_gib"] is None else f"{line}   peak {row['peak_gib']:.1f} GiB"


if __name__ == "__main__":
    raise SystemExit(main())
