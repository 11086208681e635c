"""Build the reader model that is shipped with the package: tokenizer, planted circuit, practice.

    python -m tools.reader_model.build --seed 0 --out orch_train/data/reader

A Llama of 2.6 million parameters on one thread, in about an hour. It knows nothing of any
server. The same machine and library versions give the same bytes in a process of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import click
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from orch_train.storage.atomic_folder import written_whole
from tools.reader_model.attention import NAME, SUPERVISION
from tools.reader_model.circuit import (
    COPY_HEADS,
    FIND_HEAD,
    GATHER_HEAD,
    OPEN_HEAD,
    WANTED_HEAD,
    plant,
    plant_row_opening,
)
from tools.reader_model.conversations import Page, choice, episode, lookups, pair
from tools.reader_model.practice import Batch, Mix, batch
from tools.reader_model.tokenizer import MAX_LENGTH, build_tokenizer

CARD = Path(__file__).with_name("model_card.md")
_HEADS = {
    "gather": GATHER_HEAD,
    "open": OPEN_HEAD,
    "wanted": WANTED_HEAD,
    "find": FIND_HEAD,
    "copy": COPY_HEADS[0],
}


_MIXED = Mix(episodes=0.45, choices=0.28, lookups=0.25)
_VARIED = Mix(episodes=0.3, choices=0.56, lookups=0.06, varied=True)
_CHOOSING = Mix(episodes=0.24, choices=0.66, lookups=0.03, varied=True)
_FAR = Mix(episodes=0.0, choices=0.0, lookups=0.2, varied=True)
_FARTHER = Mix(episodes=0.0, choices=0.0, lookups=0.12, varied=True)


@dataclass(frozen=True)
class Phase:
    """A part of the practice, with an optimizer of its own.

    Attributes:
        steps: optimizer steps.
        lr: learning rate at its start, after the warm-up.
        last_lr: at its end; it falls linearly.
        looks: weight of the losses of looks.
        turns: tokens a sequence and what is in it, in turn.
    """

    steps: int
    lr: float
    last_lr: float
    looks: float
    turns: tuple[tuple[int, Mix], ...]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the seed."""

    hidden: int = 192
    intermediate: int = 512
    layers: int = 4
    heads: int = 4
    theta: float = 1e7
    warmup: int = 50
    tokens: int = 5120
    phases: tuple[Phase, ...] = (
        Phase(500, 1.2e-3, 9.6e-4, 0.3, ((320, _MIXED),)),
        Phase(
            500,
            9.6e-4,
            7e-4,
            0.3,
            tuple((length, _MIXED) for length in (320, 768, 320, 320, 768, 320, 1536)),
        ),
        Phase(840, 7e-4, 3e-4, 1.0, (*((320, _VARIED),) * 3, (4160, _FAR))),
        Phase(300, 6e-4, 1.5e-5, 1.0, (*((320, _CHOOSING),) * 3, (4480, _FAR))),
        Phase(110, 3e-4, 1e-5, 1.0, ((320, _CHOOSING), (4736, _FAR))),
        Phase(60, 3e-4, 1e-5, 1.0, ((320, _CHOOSING), *((4992, _FARTHER),) * 2)),
    )


def reader_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer, trained on practice texts."""
    return build_tokenizer(_texts(Random("tokenizer"), 3000))


def _texts(rng: Random, count: int) -> Iterator[str]:
    for number in range(count):
        page = Page()
        (pair, episode, episode)[number % 3](page, rng)
        if number % 5 == 0:
            lookups(page, rng, 300, 4)
        if number % 5 == 1:
            choice(page, rng, 3)
        yield page.text


def new_model(tokenizer: PreTrainedTokenizerBase, recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """A model with random weights and the planted circuit."""
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
            rope_parameters={"rope_type": "default", "rope_theta": recipe.theta},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    plant(model, seed)
    plant_row_opening(model, row_openings(tokenizer))
    return model


def row_openings(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the pieces that open a JSON object."""
    return [i for i in range(len(tokenizer)) if str(tokenizer.decode([i])).endswith('{"')]


def losses(model: LlamaForCausalLM, given: Batch) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """The weighted cross-entropy of what is learned, and the looks' losses by head."""
    with SUPERVISION.of(given.looks):
        hidden_BTD = model.model(given.ids_BT, use_cache=False).last_hidden_state
        looks = SUPERVISION.losses
    weights_BT = given.weights_BT[:, 1:]
    learned_BT = weights_BT > 0
    logits_NV = model.lm_head(hidden_BTD[:, :-1][learned_BT])
    weights_N = weights_BT[learned_BT]
    loss_N = torch.nn.functional.cross_entropy(
        logits_NV, given.ids_BT[:, 1:][learned_BT], reduction="none"
    )
    return (loss_N * weights_N).sum() / weights_N.sum(), looks


def practise(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    seed: int,
    report: Callable[[int, float, dict[str, float]], None],
) -> None:
    """Train in place; ``report`` is told (step, loss, losses of looks) now and then."""
    model.config._attn_implementation = NAME
    done = 0
    for number, phase in enumerate(recipe.phases):
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        for step in range(phase.steps):
            rate = phase.last_lr + (phase.lr - phase.last_lr) * (1 - step / phase.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / recipe.warmup)
            length, mix = phase.turns[step % len(phase.turns)]
            rng = Random(f"practice {seed} {number} {step}")
            given = batch(tokenizer, round(recipe.tokens / length), length, mix, rng)
            loss, looks = losses(model, given)
            weighted = loss + phase.looks * sum(looks.values(), torch.zeros(()))
            optimizer.zero_grad()
            weighted.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += 1
            named = {n: looks[h].item() for n, h in _HEADS.items() if h in looks}
            report(done, loss.item(), named)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, out: Path, card: str) -> None:
    """Write the model folder in bfloat16, whole or not at all."""
    weights = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items()}
    shipped = LlamaForCausalLM(model.config)  # type: ignore[no-untyped-call]
    torch.nn.Module.to(shipped, torch.bfloat16)
    shipped.load_state_dict(weights)
    with written_whole(out) as partial:
        shipped.save_pretrained(partial)
        tokenizer.save_pretrained(str(partial))
        (partial / "README.md").write_text(card, encoding="utf-8")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=0, show_default=True, help="Seed of weights and practice.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--planted", is_flag=True, help="Write the planted model, without practice.")
@click.option("--save-every", default=300.0, show_default=True, help="Seconds between saves.")
def main(seed: int, out: Path, planted: bool, save_every: float) -> None:
    """Build the reader model and its tokenizer."""
    torch.set_num_threads(1)
    tokenizer, recipe = reader_tokenizer(), Recipe()
    model = new_model(tokenizer, recipe, seed)
    card = CARD.read_text(encoding="utf-8") if CARD.is_file() else "# reader\n"
    started = saved = time.perf_counter()

    def report(step: int, loss: float, looks: dict[str, float]) -> None:
        nonlocal saved
        now = time.perf_counter()
        said = "  ".join(f"{name} {value:.3f}" for name, value in looks.items())
        if step % 20 == 0:
            click.echo(f"step {step}  loss {loss:.3f}  {said}  {now - started:.0f} s", err=True)
        if now - saved > save_every:
            saved = now
            save(model, tokenizer, out, card)

    if not planted:
        practise(model, tokenizer, recipe, seed, report)
    save(model, tokenizer, out, card)
    click.echo(f"{out}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    sys.exit(main())
