"""Tokens per second of the torch engine: single messages at several batch sizes, and episodes.

`message` rows sample one message of `--new` tokens per request after a prompt of `--prompt`
tokens. The `episodes` rows play what a training step plays: groups of members with a common
prompt, three to five turns each, with observations between the messages. The `generate` column
is transformers' own `generate` on the same prompts. Process time stands beside wall time, since
it says more on a busy machine. `--out` is written after each row.

    python -m benchmarks.torch_engine
    python -m benchmarks.torch_engine --model models/smollm2-135m-instruct --dtype bfloat16 \
        --prompt 900 --batches 1,8,16 --episodes 16
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.report import machine, write_report
from orch_train.engines.protocol import SamplingParams
from orch_train.engines.torch.engine import TorchEngine
from orch_train.models.load import load_model

TINY: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Measured:
    """Sampled tokens per second: medians over the repeats, and the spread."""

    name: str
    tokens: int
    per_second: float
    lowest: float
    highest: float
    per_cpu_second: float
    generate_per_second: float | None = None


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = _model(options)
    vocabulary = model.config.vocab_size
    rows: list[Measured] = []
    generated: dict[int, float] = {}
    for batch in options.batches if options.compare else ():
        generated[batch] = _generate_rate(model, batch, options)
    report = {
        "benchmark": "torch_engine",
        "config": {key: value for key, value in vars(options).items() if key != "out"},
        "parameters": sum(p.numel() for p in model.parameters()),
        "machine": machine(),
    }
    engine = TorchEngine(model, max_batch=max(*options.batches, *options.episodes))

    def measure(name: str, work: Callable[[int], int], generate: float | None = None) -> float:
        rows.append(_measure(name, work, options.repeats, generate))
        _print(rows[-1])
        reused = 1 - engine.stats["prefilled_tokens"] / engine.stats["prompt_tokens"]
        if options.out:
            shown = {"prompt_tokens_reused": reused, "rows": [asdict(row) for row in rows]}
            write_report(options.out, report | shown)
        return reused

    reused = 0.0
    for batch in options.batches:
        work = _messages(engine, batch, vocabulary, options)
        reused = measure(f"message x {batch}", work, generated.get(batch))
    for count in options.episodes:
        size = min(options.size, count)
        work = _episodes(engine, vocabulary, count // size, size, options.prompt)
        reused = measure(f"episodes {count // size} x {size}", work)
    print(f"prompt tokens not read again: {reused:.3f}")
    engine.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model folder; the default is a random 0.9M Llama")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--batches", default=[1, 8, 32, 128], type=_counts, help="messages at the same time"
    )
    parser.add_argument("--episodes", default=[128], type=_counts, help="episodes at the same time")
    parser.add_argument("--prompt", default=120, type=int, help="prompt tokens")
    parser.add_argument("--new", default=64, type=int, help="tokens of a single message")
    parser.add_argument("--size", default=8, type=int, help="episodes of a group")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=5, type=int)
    parser.add_argument("--no-compare", dest="compare", action="store_false")
    parser.add_argument("--out", type=Path, help="write JSON here")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _model(options: argparse.Namespace) -> Any:
    if options.model:
        return load_model(options.model, options.dtype, options.device)
    model = LlamaForCausalLM(LlamaConfig(**TINY)).eval()
    return model.to(options.device, getattr(torch, options.dtype))


def _measure(
    name: str, work: Callable[[int], int], repeats: int, generated: float | None = None
) -> Measured:
    """Run `work(number) -> sampled tokens` once to warm up, then `repeats` times."""
    work(0)
    tokens, wall, cpu = 0, [], []
    for number in range(1, repeats + 1):
        started, spent = time.perf_counter(), time.process_time()
        tokens = work(number)
        wall.append(tokens / (time.perf_counter() - started))
        cpu.append(tokens / (time.process_time() - spent))
    return Measured(
        name,
        tokens,
        statistics.median(wall),
        min(wall),
        max(wall),
        statistics.median(cpu),
        generated,
    )


def _messages(
    engine: TorchEngine, batch: int, vocabulary: int, options: argparse.Namespace
) -> Callable[[int], int]:
    def work(number: int) -> int:
        rng = random.Random(number)
        prompts = [[rng.randrange(vocabulary) for _ in range(options.prompt)] for _ in range(batch)]

        async def sample() -> None:
            await asyncio.gather(
                *(
                    engine.generate(p, SamplingParams(options.new, seed=i), f"{number}/{i}")
                    for i, p in enumerate(prompts)
                )
            )

        asyncio.run(sample())
        for i in range(batch):
            engine.release(f"{number}/{i}")
        return batch * options.new

    return work


def _episodes(
    engine: TorchEngine, vocabulary: int, groups: int, size: int, prompt: int
) -> Callable[[int], int]:
    def tokens(rng: random.Random, count: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(count)]

    def work(number: int) -> int:
        sampled = 0

        async def episode(group: int, member: int) -> None:
            nonlocal sampled
            ids = tokens(random.Random(0), prompt // 2)  # the tools, common to all
            ids += tokens(random.Random(number * 1000 + group), prompt // 2)
            name = f"{number}/{group}/{member}"
            rng = random.Random(name)
            for turn in range(rng.randint(3, 5)):
                length = max(4, round(rng.gauss(28, 8)))
                sampling = SamplingParams(length, seed=1000 * group + 10 * member + turn)
                output = await engine.generate(ids, sampling, name)
                sampled += length
                ids = [*ids, *output.token_ids, *tokens(rng, rng.randint(10, 30))]
            engine.release(name)

        async def play() -> None:
            await asyncio.gather(*(episode(g, m) for g in range(groups) for m in range(size)))

        asyncio.run(play())
        return sampled

    return work


def _generate_rate(model: Any, batch: int, options: argparse.Namespace) -> float:
    def work(number: int) -> int:
        generator = torch.Generator().manual_seed(number)
        shape = (batch, options.prompt)
        prompts = torch.randint(model.config.vocab_size, shape, generator=generator)
        with torch.inference_mode():
            model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                min_new_tokens=options.new,
                max_new_tokens=options.new,
                pad_token_id=0,
            )
        return batch * options.new

    return _measure("generate", work, max(1, options.repeats // 2)).per_second


def _print(row: Measured) -> None:
    beside = f"   generate {row.generate_per_second:8.0f}/s" if row.generate_per_second else ""
    print(
        f"{row.name:18s} {row.per_second:8.0f} tokens/s  ({row.lowest:.0f}-{row.highest:.0f})  "
        f"{row.per_cpu_second:8.0f} per CPU second{beside}",
        flush=True,
    )


if __name__ == "__main__":
    main()
