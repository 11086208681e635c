"""C12: how much of a conversation vLLM reads again at its next turn.

Groups of members with a common prompt play several turns with observations between the messages,
as a training step does. Of the tokens that a conversation had before its turn (prompt, messages,
observations that were read), `within a version` is the share that was not computed again; `across
versions` is that share for the first turn after a weight sync. Held: at least 0.9, and 0.

    make vllm && .venv-vllm/bin/python -m benchmarks.prefix_reuse
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_report
from benchmarks.weight_sync import random_model
from orch_train.engines.protocol import SamplingParams
from orch_train.engines.vllm.adapter import installed_version
from orch_train.engines.vllm.engine import VllmEngine
from orch_train.engines.vllm.settings import VllmSettings
from orch_train.models.load import load_model

VOCABULARY = 512


class Conversation:
    """One member's tokens, and how many of them an earlier turn has left in the cache."""

    def __init__(self, group: int, member: int, options: argparse.Namespace) -> None:
        common = random.Random(0)
        own = random.Random(group + 1)
        half = options.prompt // 2
        self.ids = [common.randrange(VOCABULARY) for _ in range(half)]
        self.ids += [own.randrange(VOCABULARY) for _ in range(half)]
        self.name = f"{group}/{member}"
        self.rng = random.Random(self.name)
        self.known = 0

    async def turn(self, engine: VllmEngine) -> None:
        """Sample a message and hear an observation."""
        sampling = SamplingParams(
            max(4, round(self.rng.gauss(40, 10))), seed=self.rng.randrange(2**31)
        )
        output = await engine.generate(self.ids, sampling, self.name)
        # The last sampled token was never read.
        self.known = len(self.ids) + len(output.token_ids) - 1
        self.ids += output.token_ids
        self.ids += [self.rng.randrange(VOCABULARY) for _ in range(self.rng.randint(20, 60))]


def main() -> None:
    """Measure, print, and write the JSON."""
    options = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(
            Path(folder) / "model",
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        measured = asyncio.run(_measure(model, options))
    report = {
        "benchmark": "prefix_reuse",
        "config": {
            k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "out"
        },
        "machine": machine(),
        "vllm": installed_version(),
        **measured,
        "met": measured["within_version"] >= 0.9 and measured["across_versions"] == 0.0,
    }
    for name in ("within_version", "across_versions", "of_all_prompt_tokens"):
        print(f"{name:22s} {report[name]:.3f}")
    print("met" if report["met"] else "not met")
    if options.out:
        write_report(options.out, report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", default=8, type=int)
    parser.add_argument("--size", default=8, type=int, help="members of a group")
    parser.add_argument("--turns", default=5, type=int)
    parser.add_argument("--prompt", default=800, type=int, help="tokens of the opening prompt")
    parser.add_argument("--out", type=Path, help="write JSON here")
    return parser.parse_args()


async def _measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    engine = VllmEngine(VllmSettings(model, max_model_len=4096, max_num_seqs=64, kv_cache_gib=1.0))
    weights = load_model(model).state_dict()
    talks = [
        Conversation(g, m, options) for g in range(options.groups) for m in range(options.size)
    ]

    async def round_of_turns() -> tuple[int, float, float]:
        """Tokens known before, tokens computed, tokens of all prompts."""
        before = dict(engine.stats)
        known, length = sum(t.known for t in talks), sum(len(t.ids) for t in talks)
        await asyncio.gather(*(t.turn(engine) for t in talks))
        computed = engine.stats["prefilled_tokens"] - before["prefilled_tokens"]
        return known, computed, length

    try:
        await engine.sync(weights, 1)
        rounds = [await round_of_turns() for _ in range(options.turns)]
        await engine.sync(weights, 2)
        # Members of a group share their prompts again in the new version: one at a time is asked.
        talks[:] = talks[:1]
        after = await round_of_turns()
    finally:
        engine.close()
    later = rounds[1:]
    known = sum(k for k, _, _ in later)
    # A turn computes what is new in any case; the rest of what it computed was known before.
    again = sum(computed - (length - k) for k, computed, length in later)
    return {
        "within_version": 1 - again / known,
        "across_versions": 1 - (after[1] - (after[2] - after[0])) / after[0],
        "of_all_prompt_tokens": 1 - sum(c for _, c, _ in rounds) / sum(n for *_, n in rounds),
        "conversations": options.groups * options.size,
        "turns": options.turns,
    }


if __name__ == "__main__":
    main()
