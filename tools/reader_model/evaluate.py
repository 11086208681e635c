"""What the reader model can do, on ids and names it has never seen.

python -m tools.reader_model.evaluate orch_train/data/reader
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from random import Random

import click
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orch_train.models.files import load_tokenizer
from orch_train.models.load import load_model
from tools.reader_model.conversations import (
    Conversation,
    Page,
    choice,
    draw_thing,
    episode,
    lookups,
    pair,
)
from tools.reader_model.practice import Tokens, tokens_of

VERBATIM = (60, 250, 1000, 2000, 4000)
DISTANCES = (17, 340, 640, 1240, 2650)
ROWS = (2, 3, 5, 10)
_CHARACTERS = 3.45  # a token of a JSON result, about


@torch.no_grad()
def verbatim(
    model: PreTrainedModel,
    length: int,
    rng: Random,
    count: int = 6,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> float:
    """Share of right tokens where a text is repeated ``length`` tokens later.

    The text is random pieces; with a tokenizer it is results of random tools, where the same keys
    and marks come again and again.
    """
    right = total = 0
    for _ in range(count):
        if tokenizer is None:
            piece = [rng.randrange(8, model.config.vocab_size) for _ in range(length)]
        else:
            page = Page()
            while len(page.text) < length * 5:
                Conversation(page, rng).result(draw_thing(rng).record(rng))
            piece = tokenizer.encode(page.text, add_special_tokens=False)[:length]
        ids_1T = torch.tensor([[*piece, *piece[:50]]])
        logits_TV = model(ids_1T, logits_to_keep=48).logits[0, :-1]
        right += int((logits_TV.argmax(-1) == ids_1T[0, -47:]).sum())
        total += 47
    return right / total


@torch.no_grad()
def exact(model: PreTrainedModel, made: Tokens) -> list[tuple[str, int, bool, bool]]:
    """Of each copied value its kind, the number of rows, exact and first piece right.

    Every token of the value must be the likeliest one; with the true tokens before it, which is
    the same as greedy decoding of the value.
    """
    ids_1T = torch.tensor([made.ids])
    likeliest = model(ids_1T).logits[0].argmax(-1).tolist()
    found = []
    for copy, target, _ in made.copies:
        hits = [likeliest[place - 1] == made.ids[place] for place in target]
        if hits:
            found.append((copy.what, copy.rows, all(hits), hits[0]))
    return found


def look_up(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, distance: int, rng: Random, n: int
) -> tuple[float, float, float]:
    """Look-up by key: exact, first piece, and the true mean distance in tokens."""
    results: list[tuple[bool, bool]] = []
    distances: list[int] = []
    while len(results) < n:
        page = Page()
        lookups(page, rng, int(distance * _CHARACTERS) if distance > 20 else 0, 1)
        made = tokens_of(page, tokenizer)
        for (_, _, hit, first), (_, target, source) in zip(
            exact(model, made), made.copies, strict=True
        ):
            results.append((hit, first))
            distances.append(target[0] - source[0])
    return (
        sum(hit for hit, _ in results) / len(results),
        sum(first for _, first in results) / len(results),
        sum(distances) / len(distances),
    )


def choose(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int, rng: Random, n: int
) -> tuple[float, float]:
    """Choice of one row among several: exact, first piece."""
    results: list[tuple[bool, bool]] = []
    while len(results) < n:
        page = Page()
        choice(page, rng, rows)
        if page.copies:
            results += [found[2:] for found in exact(model, tokens_of(page, tokenizer))]
    return (
        sum(hit for hit, _ in results) / len(results),
        sum(first for _, first in results) / len(results),
    )


@torch.no_grad()
def episodes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rng: Random, n: int
) -> dict[str, float]:
    """Practice conversations: values by where they come from, and whole conversations exact."""
    by: dict[str, list[bool]] = defaultdict(list)
    for number in range(n):
        page = Page()
        (pair if number % 6 == 0 else episode)(page, rng)
        if not page.copies:
            continue
        made = tokens_of(page, tokenizer)
        for what, rows, hit, _ in exact(model, made):
            by[f"{what} ({rows} rows)" if rows > 1 else what].append(hit)
        likeliest = model(torch.tensor([made.ids])).logits[0].argmax(-1).tolist()
        learned = [i for i, weight in enumerate(made.weights) if weight > 0]
        by["whole conversation"].append(all(likeliest[i - 1] == made.ids[i] for i in learned))
    return {what: sum(hits) / len(hits) for what, hits in sorted(by.items())}


def report(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int, n: int
) -> dict[str, dict[str, float]]:
    """All measures."""
    model.train(False)
    rng = Random(f"held out {seed}")
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for length in VERBATIM:
        result["verbatim"][str(length)] = verbatim(model, length, rng)
        result["verbatim, results"][str(length)] = verbatim(model, length, rng, tokenizer=tokenizer)
    for distance in DISTANCES:
        hit, first, true = look_up(model, tokenizer, distance, rng, n)
        result["look-up"][f"{distance}"] = hit
        result["look-up, first piece"][f"{distance}"] = first
        result["look-up, mean distance"][f"{distance}"] = round(true)
    for rows in ROWS:
        hit, first = choose(model, tokenizer, rows, rng, n)
        result["choice"][str(rows)] = hit
        result["choice, first piece"][str(rows)] = first
    result["conversations"] = episodes(model, tokenizer, rng, n)
    return dict(result)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True)
@click.option("--count", default=150, show_default=True, help="Values per measure.")
def main(model: Path, seed: int, count: int) -> None:
    """Measure a model folder and print JSON."""
    torch.set_num_threads(1)
    found = report(load_model(model), load_tokenizer(model), seed, count)
    click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
