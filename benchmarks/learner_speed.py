r"""The learner against its own ideals: packing, action-only head, and a hand-written loop.

    packing     packed learner over a padded one, beside what the padding would allow
    head        LM head on action tokens over LM head everywhere, beside the ceiling
                1 / (1 - (1 - action share) h), h the head's measured share of the full form
    bare-loop   Learner.update over forward, backward and step written by hand, same packed rows

The arms of a comparison take turns, so that a busy machine slows all of them; ratios are of
medians. Both clocks are printed: on a busy machine process time says more. Weights are random.

    python -m benchmarks.learner_speed packing --out benchmarks/results/learner_packing.json
    python -m benchmarks.learner_speed head --shape smollm2 --sequences 4 --mean 512 --sigma 0 \
        --threads 2 --out benchmarks/results/learner_head.json
    python -m benchmarks.learner_speed bare-loop --out benchmarks/results/learner_bare_loop.json
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.report import machine, write_report
from orch_train.config import LearnerGroupSettings, Settings, TrainingSettings
from orch_train.learner.batch.batch import with_advantages
from orch_train.learner.batch.packed_attention import use_packed_attention
from orch_train.learner.batch.packing import Microbatch, make_microbatches
from orch_train.learner.learner import Learner
from orch_train.learner.logprobs import action_logprobs, hidden_states
from orch_train.trajectory.sample import Group, TrainingSample

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 512, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "smollm2": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """Seconds of one piece of work, by both clocks."""

    wall: list[float]
    process: list[float]

    def median(self, clock: str) -> float:
        """Median seconds by ``wall`` or ``process`` clock."""
        return statistics.median(getattr(self, clock))


def take_turns(arms: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, Arm]:
    """Run every arm once to warm up, then all of them in turn, ``repeats`` times."""
    measured = {name: Arm([], []) for name in arms}
    for number in range(repeats + 1):
        for name, work in arms.items():
            wall, process = time.perf_counter(), time.process_time()
            work()
            if number:
                measured[name].wall.append(time.perf_counter() - wall)
                measured[name].process.append(time.process_time() - process)
    return measured


# -- batches ---------------------------------------------------------------------------------


def random_groups(options: argparse.Namespace, vocabulary: int) -> list[Group]:
    """Pairs of episodes of lognormal length; an ``action_share`` of the tokens is sampled."""
    rng = np.random.default_rng(options.seed)
    spread = options.sigma
    groups: list[Group] = []
    for number in range(options.sequences // 2):
        members = []
        for member in range(2):
            drawn = rng.lognormal(math.log(options.mean) - spread**2 / 2, spread)
            length = int(np.clip(drawn, 16, options.budget))
            sample = random_sample(rng, length, options.action_share, vocabulary)
            sample.member, sample.reward, sample.success = member, float(member), bool(member)
            members.append(sample)
        groups.append(Group(f"g{number}", "task", 0, members))
    return groups


def random_sample(
    rng: np.random.Generator, length: int, action_share: float, vocabulary: int
) -> TrainingSample:
    """Up to four turns; every turn ends with its share of sampled tokens."""
    sample = TrainingSample()
    for part in np.array_split(np.arange(length), min(4, length // 8)):
        acted = max(1, round(action_share * len(part)))
        ids = rng.integers(3, vocabulary, len(part)).tolist()
        sample.append_context(ids[: len(part) - acted])
        logprobs = (-rng.uniform(5.5, 7.0, acted)).tolist()
        sample.append_action(ids[len(part) - acted :], logprobs, [0] * acted)
    return sample


def make_model(options: argparse.Namespace) -> LlamaForCausalLM:
    """A random Llama of the chosen shape, in training mode."""
    shape = dict(SHAPES[options.shape])
    if options.layers:
        shape["num_hidden_layers"] = options.layers
    if options.vocabulary:
        shape["vocab_size"] = options.vocabulary
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=32768, tie_word_embeddings=True)
    return LlamaForCausalLM(config).train()


def learn_from(model: LlamaForCausalLM, microbatches: list[Microbatch]) -> None:
    """Forward and backward of a policy gradient; the gradient is thrown away."""
    for microbatch in microbatches:
        current = action_logprobs(model, microbatch, 1.0)
        (current.logprobs_N * microbatch.advantages_N).sum().backward()
    model.zero_grad()


# -- the three comparisons -------------------------------------------------------------------


def packing(options: argparse.Namespace) -> dict[str, Any]:
    """Packed rows against rows in order of arrival, padded to the longest of their batch."""
    model = make_model(options)
    groups = random_groups(options, model.config.vocab_size)
    sequences = with_advantages(groups, TrainingSettings())
    arrival = np.random.default_rng(options.seed).permutation(len(sequences))
    padded = [
        batch
        for chunk in np.array_split(arrival, math.ceil(len(sequences) / options.padded_rows))
        for batch in make_microbatches([sequences[i] for i in chunk], 10**9, layout="rows")
    ]
    packed = make_microbatches(sequences, options.budget, layout="packed")
    tokens = sum(s.num_trained for s in sequences)
    fills = {
        name: tokens / sum(b.num_cells for b in batches)
        for name, batches in (("padded", padded), ("packed", packed))
    }
    measured = take_turns(
        {
            "padded": lambda: learn_from(model, padded),
            "packed": lambda: learn_from(model, packed),
        },
        options.repeats,
    )
    show(measured, tokens)
    ideal = 1.0 / fills["padded"]
    figures: dict[str, Any] = {
        "fill": fills,
        "rows_over_fewest_possible": len(packed) / math.ceil(tokens / options.budget),
        "ideal_speedup": ideal,
    }
    for clock in ("wall", "process"):
        speedup = measured["padded"].median(clock) / measured["packed"].median(clock)
        figures[f"speedup_{clock}"] = speedup
        figures[f"speedup_over_ideal_{clock}"] = speedup / ideal
    return {"tokens": tokens, "arms": arms(measured), "figures": figures}


def head(options: argparse.Namespace) -> dict[str, Any]:
    """The same rows with the head on action tokens, on all tokens, and on none."""
    model = make_model(options)
    groups = random_groups(options, model.config.vocab_size)
    sequences = with_advantages(groups, TrainingSettings())
    share = sum(s.num_actions for s in sequences) / sum(s.num_trained for s in sequences)
    chosen = make_microbatches(sequences, options.budget, layout="packed")
    every = make_microbatches([_all_tokens(s) for s in sequences], options.budget, layout="packed")

    def body_only() -> None:
        for microbatch in chosen:
            hidden_states(model, microbatch).sum().backward()
        model.zero_grad()

    measured = take_turns(
        {
            "action head": lambda: learn_from(model, chosen),
            "full head": lambda: learn_from(model, every),
            "no head": body_only,
        },
        options.repeats,
    )
    tokens = sum(s.num_trained for s in sequences)
    show(measured, tokens)
    figures: dict[str, Any] = {"action_share": share}
    for clock in ("wall", "process"):
        full = measured["full head"].median(clock)
        part = 1.0 - measured["no head"].median(clock) / full
        speedup = full / measured["action head"].median(clock)
        ceiling = 1.0 / (1.0 - (1.0 - share) * part)
        figures[f"head_share_{clock}"] = part
        figures[f"speedup_{clock}"] = speedup
        figures[f"ceiling_{clock}"] = ceiling
        figures[f"speedup_over_ceiling_{clock}"] = speedup / ceiling
    return {"tokens": tokens, "arms": arms(measured), "figures": figures}


def _all_tokens(sample: TrainingSample) -> TrainingSample:
    """Every token but the first is read off; those that are no action weigh nothing."""
    length = sample.num_trained
    advantages_T = np.zeros(length, np.float32)
    advantages_T[sample.actions_N] = sample.advantages_N
    every = TrainingSample()
    every.append_context(sample.ids_T[:1])
    every.append_action(sample.ids_T[1:length], np.zeros(length - 1), np.zeros(length - 1))
    return every.weighted(advantages_T[1:])


def bare_loop(options: argparse.Namespace) -> dict[str, Any]:
    """One optimizer step of the learner against the least code that takes the same step."""
    settings = Settings(
        learners=LearnerGroupSettings(
            max_tokens_per_microbatch=options.budget, num_cpus_per_learner=options.threads
        )
    )
    model = make_model(options)
    groups = random_groups(options, model.config.vocab_size)
    samples = with_advantages(groups, settings.training)
    microbatches = make_microbatches(samples, options.budget, layout="packed")
    tokens = sum(s.num_trained for s in samples)
    actions = sum(s.num_actions for s in samples)
    learner = Learner(make_model(options), settings)
    use_packed_attention(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )

    def by_hand() -> None:
        for m in microbatches:
            hidden = model.model(
                input_ids=m.input_ids_BT, position_ids=m.position_ids_BT,
                attention_mask=m.borders, use_cache=False,
            ).last_hidden_state[m.row_N, m.column_N]  # fmt: skip
            logprobs = -cross_entropy(model.lm_head(hidden), m.targets_N, reduction="none")
            ratio = (logprobs - m.behaviour_logprobs_N).exp()
            clipped = ratio.clamp(0.8, 1.2)
            gain = torch.minimum(ratio * m.advantages_N, clipped * m.advantages_N)
            (-gain.sum() / actions).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    measured = take_turns(
        {"by hand": by_hand, "learner": lambda: _update(learner, groups)}, options.repeats
    )
    show(measured, tokens)
    figures = {
        f"learner_over_bare_loop_{clock}": measured["by hand"].median(clock)
        / measured["learner"].median(clock)
        for clock in ("wall", "process")
    }
    return {"tokens": tokens, "arms": arms(measured), "figures": figures}


def _update(learner: Learner, groups: list[Group]) -> None:
    learner.update(groups)


# -- output ----------------------------------------------------------------------------------


def arms(measured: Mapping[str, Arm]) -> dict[str, Any]:
    """Median and spread of each arm, for the report."""
    return {
        name: {
            "wall_median": arm.median("wall"),
            "process_median": arm.median("process"),
            **asdict(arm),
        }
        for name, arm in measured.items()
    }


def show(measured: Mapping[str, Arm], tokens: int) -> None:
    """Print tokens per second of each arm."""
    print(f"{'':12s} {'tokens/s':>10s} {'lowest':>10s} {'highest':>10s} {'per CPU s':>10s}")
    for name, arm in measured.items():
        median, low, high = arm.median("wall"), max(arm.wall), min(arm.wall)
        print(
            f"{name:12s} {tokens / median:10.0f} {tokens / low:10.0f} {tokens / high:10.0f} "
            f"{tokens / arm.median('process'):10.0f}",
            flush=True,
        )


def main(given: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", choices=["packing", "head", "bare-loop"])
    parser.add_argument("--shape", default="tiny", choices=list(SHAPES))
    parser.add_argument("--layers", type=int, help="instead of the shape's own")
    parser.add_argument("--vocabulary", type=int, help="instead of the shape's own")
    parser.add_argument("--sequences", default=64, type=int, help="even")
    parser.add_argument("--mean", default=400.0, type=float, help="mean length in tokens")
    parser.add_argument("--sigma", default=1.0, type=float, help="of the lognormal lengths")
    parser.add_argument("--action-share", default=0.1, type=float)
    parser.add_argument("--budget", default=4096, type=int, help="tokens of a packed row")
    parser.add_argument("--padded-rows", default=4, type=int, help="rows of a padded micro-batch")
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=5, type=int)
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    compare = {"packing": packing, "head": head, "bare-loop": bare_loop}[options.comparison]
    result = compare(options)
    for name, value in result["figures"].items():
        if isinstance(value, float):
            print(f"{name:32s} {value:.3f}")
        else:
            print(f"{name:32s} " + ", ".join(f"{k} {v:.3f}" for k, v in value.items()))
    if options.out:
        config = {
            k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "out"
        }
        report = {"benchmark": f"learner_{options.comparison}", "config": config}
        write_report(options.out, {**report, "machine": machine(), **result})
    return result


if __name__ == "__main__":
    main()
