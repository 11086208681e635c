"""Build the tiny model that is shipped with the package: tokenizer, and a network that can copy.

    python -m tools.tiny_model.build --seed 0 --out orch_train/data/tiny

A Llama of 0.9 million parameters: fresh weights, a planted induction circuit, then some minutes
of training on `copying` alone (one thread). It knows nothing of any task, so whatever the quick
start shows was learned in the quick start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import click
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from orch_env.cli.main import exit_code
from orch_env.servers.domains.harbour import Harbour
from orch_env.types import OrchError
from orch_train.storage.atomic_folder import written_whole
from tools.harbour_world.workflows import WORKFLOWS
from tools.tiny_model.circuit import plant_induction
from tools.tiny_model.copying import IGNORED, Alphabet, batch
from tools.tiny_model.tokenizer import MAX_LENGTH, build_tokenizer
from tools.tiny_model.vocabulary import harbour_pieces

CARD = Path(__file__).with_name("model_card.md")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the seed.

    Attributes:
        hidden: width of the model.
        intermediate: width of its feed-forward layers.
        layers: number of layers.
        heads: attention heads.
        lr: peak learning rate of AdamW; falls linearly to 0.
        warmup: optimizer steps over which it rises.
        steps: optimizer steps.
        rows: sequences per step.
        length: tokens of each.
        repeated: share of plain repetitions; the rest are look-ups.
    """

    hidden: int = 128
    intermediate: int = 344
    layers: int = 4
    heads: int = 4
    lr: float = 1e-3
    warmup: int = 20
    steps: int = 400
    rows: int = 16
    length: int = 160
    repeated: float = 0.3


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the bundled world."""
    specs = [tool.spec for tool in Harbour.tools.values()]
    return build_tokenizer(harbour_pieces(specs, WORKFLOWS))


def new_model(tokenizer: PreTrainedTokenizerBase, recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """A model with random weights and a planted circuit."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    plant_induction(model, seed)
    return model


def teach_copying(
    model: LlamaForCausalLM,
    alphabet: Alphabet,
    recipe: Recipe,
    seed: int,
    report: Callable[[int, float], None],
) -> None:
    """Train in place; ``report`` is told (step, accuracy on copied tokens) now and then."""
    rng = Random(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0
    )
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            rise = min(1.0, (step + 1) / recipe.warmup)
            group["lr"] = recipe.lr * rise * (1 - step / recipe.steps)
        ids_BT, labels_BT = batch(alphabet, recipe.rows, recipe.length, recipe.repeated, rng)
        logits_BTV, targets_BT = model(ids_BT).logits[:, :-1], labels_BT[:, 1:]
        loss = torch.nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            report(step, copying_accuracy(logits_BTV, targets_BT))


def copying_accuracy(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> float:
    """Share of the copied tokens that are the likeliest ones."""
    learned_BT = targets_BT != IGNORED
    right_BT = (logits_BTV.argmax(-1) == targets_BT) & learned_BT
    return float(right_BT.sum() / learned_BT.sum())


def build(out: Path, seed: int, recipe: Recipe, report: Callable[[int, float], None]) -> int:
    """Write the model folder, whole or not at all; returns the number of parameters."""
    torch.set_num_threads(1)  # the same sums in the same order, however many cores there are
    tokenizer = tiny_tokenizer()
    model = new_model(tokenizer, recipe, seed)
    teach_copying(model, Alphabet(tokenizer), recipe, seed, report)
    torch.nn.Module.to(model, torch.bfloat16)
    count = sum(p.numel() for p in model.parameters())
    with written_whole(out) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(str(partial))
        card = CARD.read_text(encoding="utf-8").format(
            parameters=f"{count:,}", pieces=len(tokenizer), seed=seed, steps=recipe.steps
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
    return count


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=0, show_default=True, help="Seed of weights and sequences.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder to write, such as orch_train/data/tiny; an earlier model there is replaced.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=Recipe.steps, show_default=True, help="Training."
)
def main(seed: int, out: Path, steps: int) -> None:
    """Build the tiny model and its tokenizer; some minutes on one thread."""
    if out.exists() and not (out / "config.json").is_file():
        raise OrchError(f"{str(out)!r} exists and is no model folder: choose another --out")
    started = time.perf_counter()

    def report(step: int, accuracy: float) -> None:
        seconds = time.perf_counter() - started
        click.echo(f"step {step}  copied right {accuracy:.3f}  {seconds:.0f} s", err=True)

    count = build(out, seed, Recipe(steps=steps), report)
    click.echo(f"{out}: {count / 1e6:.2f} M parameters")


if __name__ == "__main__":
    sys.exit(exit_code(main, "tiny_model"))
