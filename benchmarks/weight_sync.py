"""C11: seconds of a vLLM weight sync over seconds of copying the same bytes, and its parts.

One engine on this machine takes new weights again and again, as a runner does: copy into shared
memory, freeze, update, go on. The first sync is not counted. `memcpy` copies the same tensors, of
the type in which they travel, into memory that exists already. `per tensor` sends every tensor by a
call of its own. Held on a GPU: at most 3 x memcpy + 15 ms, and the single call at least 5 x faster
than calls per tensor. On a CPU, where vLLM packs every layer for its kernels, both are reported.

    make vllm && .venv-vllm/bin/python -m benchmarks.weight_sync
    .venv-vllm/bin/python -m benchmarks.weight_sync --shape smollm2 --dtype bfloat16
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.report import machine, write_report
from orch_train.engines.vllm.adapter import VllmAdapter, installed_version
from orch_train.engines.vllm.settings import VllmSettings
from orch_train.models.load import load_model
from orch_train.weight_sync.shared_memory import SharedWriter

HOLD_RATIO, HOLD_EXTRA_S, HOLD_PER_TENSOR = 3.0, 0.015, 5.0
SHAPES: dict[str, dict[str, int]] = {
    "33m": {
        "vocab_size": 16384, "hidden_size": 512, "intermediate_size": 1536,
        "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
    },
    "smollm2": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    },
}  # fmt: skip


def random_model(folder: Path, **shape: int) -> str:
    """Save a random Llama without a tokenizer; ``shape`` are arguments of its ``LlamaConfig``."""
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=4096, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or random_model(Path(folder) / "model", **SHAPES[options.shape])
        report = asyncio.run(_measure(model, options))
    report = {
        "benchmark": "weight_sync",
        "config": {
            k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "out"
        },
        "machine": machine(),
        "vllm": installed_version(),
        **report,
    }
    for name, row in report["seconds"].items():
        spread = f"({1000 * row['lowest']:.1f}-{1000 * row['highest']:.1f})"
        print(f"{name:12s} {1000 * row['median']:9.1f} ms  {spread}")
    print(f"megabytes    {report['bytes'] / 1e6:9.1f}")
    print(
        f"sync {report['sync_over_memcpy']:.2f} x memcpy, "
        f"3 x memcpy + 15 ms: {report['bound_s'] * 1000:.1f} ms ({report['bound']}); single call "
        f"{report['per_tensor_over_single']:.1f} x faster than per tensor ({report['per_tensor']})"
    )
    if options.out:
        write_report(options.out, report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model folder; without it a random model is made")
    parser.add_argument("--shape", default="33m", choices=list(SHAPES), help="of a random model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=10, type=int)
    parser.add_argument("--out", type=Path, help="write JSON here")
    return parser.parse_args()


async def _measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    dtype = getattr(torch, options.dtype)
    weights = {
        name: tensor.to(dtype)
        for name, tensor in load_model(model, options.dtype).state_dict().items()
        if name != "lm_head.weight" or not _tied(model)
    }
    settings = VllmSettings(
        model, options.dtype, 512, kv_cache_gib=0.25, num_threads=options.threads
    )
    adapter = VllmAdapter(settings)
    writer = SharedWriter()
    phases: dict[str, list[float]] = {"write": [], "pause": [], "update": [], "resume": []}

    async def sync() -> None:
        clock = [time.perf_counter()]
        manifest = writer.write(weights, dtype)
        clock.append(time.perf_counter())
        await adapter.pause()
        clock.append(time.perf_counter())
        await adapter.update_weights("1", [manifest])
        clock.append(time.perf_counter())
        await adapter.resume()
        clock.append(time.perf_counter())
        for number, name in enumerate(phases):
            phases[name].append(clock[number + 1] - clock[number])

    async def per_tensor() -> None:
        await adapter.pause()
        await _update_by_tensor(adapter, writer, weights, dtype)
        await adapter.resume()

    buffers = {name: torch.empty_like(tensor) for name, tensor in weights.items()}

    async def memcpy() -> None:
        for name, tensor in weights.items():
            buffers[name].copy_(tensor)

    try:
        await adapter.end_with_this_process()
        await adapter.init_weight_transfer()
        rows = {
            "memcpy": await _timed(memcpy, options.repeats),
            "sync": await _timed(sync, options.repeats),
            "per tensor": await _timed(per_tensor, max(2, options.repeats // 3)),
        }
    finally:
        adapter.shutdown()
        writer.close()
    rows.update({name: _row(seconds[1:]) for name, seconds in phases.items()})
    copy, whole = rows["memcpy"]["median"], rows["sync"]["median"]
    bound = HOLD_RATIO * copy + HOLD_EXTRA_S
    ratio = rows["per tensor"]["median"] / whole
    return {
        "bytes": sum(t.numel() * t.element_size() for t in weights.values()),
        "tensors": len(weights),
        "seconds": rows,
        "sync_over_memcpy": whole / copy,
        "bound_s": bound,
        "bound": _verdict(whole <= bound, adapter.on_cpu),
        "per_tensor_over_single": ratio,
        "per_tensor": _verdict(ratio >= HOLD_PER_TENSOR, adapter.on_cpu),
    }


def _verdict(met: bool, on_cpu: bool) -> str:
    return "reported" if on_cpu else "met" if met else "not met"


async def _update_by_tensor(
    adapter: VllmAdapter, writer: SharedWriter, weights: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    """The same update with a manifest and a call for each tensor, all in one memory."""
    whole = writer.write(weights, dtype)
    single = []
    for number in range(len(whole.names)):
        one = slice(number, number + 1)
        single.append(
            type(whole)(
                whole.path,
                whole.size,
                whole.names[one],
                whole.dtypes[one],
                whole.shapes[one],
                whole.offsets[one],
                [],
            )
        )
    await adapter.update_weights("1", single)


async def _timed(work: Callable[[], Awaitable[None]], repeats: int) -> dict[str, float]:
    """Once to warm up, then `repeats` times."""
    await work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - started)
    return _row(seconds)


def _row(seconds: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(seconds),
        "lowest": min(seconds),
        "highest": max(seconds),
    }


def _tied(model: str) -> bool:
    return bool(LlamaConfig.from_pretrained(model).tie_word_embeddings)


if __name__ == "__main__":
    main()
