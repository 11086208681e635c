"""Predicted against actual peak memory of the learner, per configuration, in fresh processes.

    python -m benchmarks.learner_memory --out benchmarks/results/learner_memory.json

Each row starts a process that loads a random model of the named shape, learns twice from one
batch whose micro-batch is as large as the budget allows, and takes the weights; with
``--learners 2`` in the row's name, two processes share it (gloo, FSDP2). What is compared is the
peak resident size of the process (of the larger one) with the sum of the estimate's learner parts.
Row by row, the prediction is what `orch train` prints before a run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.models.memory import estimate_memory
from orch_train.trajectory.sample import Group, TrainingSample

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "smollm2": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
BUDGET = {"tiny": 8192, "smollm2": 1024}
"""Tokens of a micro-batch."""
ACTION_SHARE = 0.25
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "float32": {},
    "bfloat16": {"model": {"dtype": "bfloat16"}},
    "float32, recomputed": {"learners": {"gradient_checkpointing": True}},
    "bfloat16, LoRA 16": {"model": {"dtype": "bfloat16", "lora_rank": 16}},
    "float32, reference": {"training": {"kl_coeff": 0.1}},
    "float32, 2 learners": {"learners": {"num_learners": 2}},
}


def main() -> None:
    """Measure and print a table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--model", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.model:
            folder = Path(scratch) / name
            in_process(write_model, str(folder), name)
            for case in given.case:
                rows.append(measure(folder, name, case))
                print(_line(rows[-1]), flush=True)
    ratios = [row["predicted_mib"] / row["actual_mib"] for row in rows]
    report = {
        "what": "learner memory: predicted over actual peak resident size",
        "rows": rows,
        "predicted_over_actual": {
            "median": statistics.median(ratios),
            "smallest": min(ratios),
            "largest": max(ratios),
        },
        "machine": machine(),
    }
    if given.out:
        write_report(given.out, report)
    print(json.dumps(report["predicted_over_actual"]))


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def measure(folder: Path, name: str, case: str) -> dict[str, Any]:
    """Predict and measure one row."""
    config = _config(folder, name, case)
    estimate = estimate_memory(config.settings, str(folder))
    size = max(config.settings.learners.num_learners, 1)
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (str(folder), name, case, size, f"{meeting}/store", results)
        workers = [context.Process(target=_learn, args=(r, *arguments)) for r in range(size)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise SystemExit(f"{name}, {case}: a process failed")
        peaks = [results.get() for _ in workers]
    return {
        "model": name,
        "case": case,
        "micro_batch_tokens": BUDGET[name],
        "predicted_mib": sum(estimate.learner.values()) / 2**20,
        "actual_mib": max(peaks) / 2**20,
        "parts_mib": {part: round(b / 2**20, 1) for part, b in estimate.learner.items()},
    }


def _config(folder: Path, name: str, case: str) -> GRPOConfig:
    config = GRPOConfig().from_dict(CASES[case]).model(str(folder))
    return config.learners(max_tokens_per_microbatch=BUDGET[name])


def write_model(folder: str, name: str) -> None:
    """Save a model of the named shape with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(tie_word_embeddings=True, max_position_embeddings=16384, **SHAPES[name])
    LlamaForCausalLM(shape).save_pretrained(folder)


def _learn(
    rank: int, folder: str, name: str, case: str, size: int, meeting: str, results: Any
) -> None:
    """What a learner process of a run does, and how large it became."""
    import torch
    import torch.distributed as dist

    from orch_train.learner.group.learner_rank import load_learner
    from orch_train.learner.group.ranks import OneProcess, Ranks, ShardedRanks

    config = _config(Path(folder), name, case).with_overrides(["learners.num_cpus_per_learner=1"])
    settings = config.settings
    ranks: Ranks = OneProcess()
    if size > 1:
        ranks = ShardedRanks(dist.FileStore(meeting, size), rank, size, "cpu", 600.0)
    reference = folder if settings.training.kl_coeff else None
    learner = load_learner(folder, settings, reference, ranks)
    torch.manual_seed(1)
    groups = _batch(SHAPES[name]["vocab_size"], BUDGET[name] * size)
    for _ in range(2):
        learner.update(groups)
    learner.get_weights()
    results.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _batch(vocabulary: int, tokens: int) -> list[Any]:
    """One group that fills the micro-batches to the last token."""
    import random

    rng, length = random.Random(0), 256
    actions = int(length * ACTION_SHARE)
    samples = []
    for member in range(tokens // length):
        reward = float(member % 2)
        sample = TrainingSample(member, reward=reward, success=reward == 1.0)
        sample.append_context([rng.randrange(3, vocabulary) for _ in range(length - actions)])
        ids = [rng.randrange(3, vocabulary) for _ in range(actions)]
        sample.append_action(ids, [-5.0] * actions, [0] * actions)
        samples.append(sample)
    return [Group("g", "t", 0, samples)]


def in_process(target: Any, *arguments: Any) -> None:
    """Call in a process of its own, so that this one stays small and forks nothing of torch."""
    worker = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    worker.start()
    worker.join()
    if worker.exitcode:
        raise SystemExit("the model could not be written")


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['model']:8} {row['case']:22} predicted {row['predicted_mib']:7.0f} MiB   "
        f"actual {row['actual_mib']:7.0f} MiB   ratio "
        f"{row['predicted_mib'] / row['actual_mib']:.2f}   {row['parts_mib']}"
    )


if __name__ == "__main__":
    main()
