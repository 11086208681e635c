"""P1: our GRPO step beside one of TRL's `GRPOTrainer`: time, peak memory, and reward.

    make adapters                           # TRL in an environment of its own, once
    python -m benchmarks.trl_comparison     # both rows
    python -m benchmarks.trl_comparison --rows tiny --runs 1 --steps 4 --out /tmp/p1.json

What is equal: the model (random, float32) and its tokenizer, both read from one folder; the
prompts, all of them in every step; group size; the number of sampled tokens (no completion can
end early: the end token's logit is far below the others); temperature 1; one optimizer step per
batch, in one micro-batch, without gradient checkpointing; loss (mean over all tokens of the batch,
clipped at 0.2), advantage (reward minus the group's mean), no KL term; fused AdamW with the same
rates and clipping; compute threads; the reward function. Each run is a process of its own; the
sides take turns, so that a slow spell of the machine meets both.

What is measured, medians over steps (the first one apart: it warms up) and then over runs.
`generate`: of ours the whole of sampling, with environments, rewards and log-probabilities; of
TRL's the call that generates alone. `learn`: of ours the update and handing the weights back; of
TRL's all of the step that is not sampling and scoring. `total`: the wall clock of a step. Where
the sides' definitions differ, ours takes more upon itself. TRL generates with `transformers`
(its default); vLLM takes no part on either side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.report import machine, write_report
from benchmarks.trl_task import Job
from orch_env.types import OrchError

RESULTS = Path("benchmarks/results")
TRL_PYTHON = Path(".venv-adapters/bin/python")
PARTS = ("generate", "learn", "total")
SIDES = ("ours", "trl")


@dataclass(frozen=True)
class Row:
    """A model's shape and the work of a step."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    prompts: int
    group_size: int
    new_tokens: int
    steps: int
    lr: float


ROWS = {
    "tiny": Row(128, 384, 2, 4, 2, 512, False, 4, 8, 32, 40, 1e-3),
    "smollm2": Row(576, 1536, 30, 9, 3, 49152, True, 1, 8, 24, 6, 1e-4),
}


def main() -> int:
    """Run, print, write, draw."""
    options = _arguments()
    if not TRL_PYTHON.exists():
        raise SystemExit("TRL is not installed: run `make adapters` first")
    rows: dict[str, Any] = {}
    for name in options.rows:
        row = replace(ROWS[name], steps=options.steps or ROWS[name].steps)
        with tempfile.TemporaryDirectory() as folder:
            build_model(row, Path(folder) / "model")
            runs = _alternate(row, Path(folder), options)
        rows[name] = {"row": asdict(row), "runs": runs, **summarize(runs)}
        _print(name, rows[name])
    report = {
        "benchmark": "trl_comparison",
        "config": {"runs": options.runs, "threads": options.threads},
        "machine": machine(),
        "rows": rows,
    }
    write_report(options.out, report)
    _draw(rows, options.out.with_suffix(".png"))
    print(f"wrote {options.out} and {options.out.with_suffix('.png')}")
    return 0


def build_model(row: Row, folder: Path) -> None:
    """A random model whose tokens all decode to text and none of which ends a message."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    words = [f"w{n}" for n in range(row.vocabulary - len(alphabet) - len(special))]
    vocabulary = {piece: n for n, piece in enumerate([*special, *alphabet, *words])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=row.vocabulary,
            hidden_size=row.hidden,
            intermediate_size=row.inner,
            num_hidden_layers=row.layers,
            num_attention_heads=row.heads,
            num_key_value_heads=row.kv_heads,
            max_position_embeddings=512,
            tie_word_embeddings=row.tied,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():  # one channel of the residual stream is constant; special tokens lose
        model.model.embed_tokens.weight[:, 0] = 1.0
        specials = [vocabulary[t] for t in special]
        if not row.tied:
            model.lm_head.weight[:, 0] = 0.0
            model.lm_head.weight[specials, 0] = -20.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def summarize(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians per side, ours over theirs, and what shows that both did the same work."""
    found: dict[str, Any] = {"median": {}, "spread": {}, "ratio": {}, "peak_gib": {}, "work": {}}
    for side in SIDES:
        medians = {p: [_median(run, p) for run in runs[side]] for p in PARTS}
        found["median"][side] = {p: statistics.median(v) for p, v in medians.items()}
        found["spread"][side] = {p: [min(v), max(v)] for p, v in medians.items()}
        found["peak_gib"][side] = statistics.median(r["peak_bytes"] for r in runs[side]) / 2**30
        names = ("tokens", "prompt_tokens", "trained_completions")
        found["work"][side] = {
            n: statistics.mean(s[n] for r in runs[side] for s in r["steps"]) for n in names
        }
    ours, theirs = (found["median"][side] for side in SIDES)
    found["ratio"] = {p: ours[p] / theirs[p] for p in PARTS}
    return found


def _median(run: dict[str, Any], part: str) -> float:
    return statistics.median(step[part] for step in run["steps"][1:])


def _alternate(row: Row, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(options.runs):
        job = Job(
            model=str(folder / "model"),
            prompts=row.prompts,
            group_size=row.group_size,
            new_tokens=row.new_tokens,
            steps=row.steps,
            lr=row.lr,
            threads=options.threads,
            seed=number,
        )
        job.write(folder / "job.json")
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            runs[side].append(_run(side, folder, options.threads))
            last = runs[side][-1]
            seconds = ", ".join(f"{p} {_median(last, p):.3f} s" for p in PARTS)
            print(f"run {number} {side:5} {seconds}", file=sys.stderr, flush=True)
    return runs


def _run(side: str, folder: Path, threads: int) -> dict[str, Any]:
    python, module = {
        "ours": (sys.executable, "benchmarks.trl_our_side"),
        "trl": (str(TRL_PYTHON), "benchmarks.trl_their_side"),
    }[side]
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    done = subprocess.run(
        [python, "-m", module, str(folder / "job.json"), str(result)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if done.returncode != 0:
        raise OrchError(f"{module} failed: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _print(name: str, row: dict[str, Any]) -> None:
    print(f"{name}: seconds of a step (median; least and most over the runs)")
    print(f"  {'':10}{'ours':>26}{'TRL':>26}{'ours / TRL':>12}")
    for part in PARTS:
        cells = []
        for side in SIDES:
            low, high = row["spread"][side][part]
            cells.append(f"{row['median'][side][part]:.3f} ({low:.3f}-{high:.3f})")
        print(f"  {part:10}{cells[0]:>26}{cells[1]:>26}{row['ratio'][part]:12.2f}")
    memory = [f"{row['peak_gib'][side]:.2f} GiB" for side in SIDES]
    print(f"  {'peak':10}{memory[0]:>26}{memory[1]:>26}")
    for side in SIDES:
        print(f"  work of a step, {side}: {row['work'][side]}")


def _draw(rows: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(rows), figsize=(5 * len(rows), 3.6), squeeze=False)
    for axis, (name, row) in zip(axes[0], rows.items(), strict=True):
        for side, colour in (("ours", "#3566a8"), ("trl", "#b0602f")):
            curves = [[s["reward"] for s in run["steps"]] for run in row["runs"][side]]
            for curve in curves:
                axis.plot(curve, color=colour, alpha=0.25, lw=0.8)
            mean = [statistics.mean(values) for values in zip(*curves, strict=True)]
            axis.plot(mean, color=colour, label=f"{side}, mean of {len(curves)} runs")
        axis.set_title(name)
        axis.set_xlabel("training step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0][0].set_ylabel("mean reward of the sampled completions")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--runs", type=int, default=5, help="runs of each side")
    parser.add_argument("--steps", type=int, help="training steps of a run")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of a process")
    parser.add_argument("--out", type=Path, default=RESULTS / "trl_comparison.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
