"""Practice batches: conversations as token ids, what is learned in them, and where to look."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tools.reader_model.circuit import (
    COPY_HEADS,
    FIND_HEAD,
    GATHER_HEAD,
    OPEN_HEAD,
    WANTED_HEAD,
)
from tools.reader_model.conversations import Copy, Page, Span, choice, episode, lookups, pair

_MARKUP_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """Where a head has to look: from one place at a range of earlier ones."""

    head: tuple[int, int]
    row: int
    place: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """A page as token ids.

    Attributes:
        ids: token ids.
        weights: of each token in the loss; 0 where it is not learned.
        looks: where heads have to look.
        copies: each copied value with the places of its tokens and of their sources.
    """

    ids: list[int]
    weights: list[float]
    looks: list[Look]
    copies: list[tuple[Copy, list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences of equal length."""

    ids_BT: Tensor
    weights_BT: Tensor
    looks: list[Look]


def tokens_of(page: Page, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Encode a page and turn its spans of characters into places of tokens."""
    encoding = tokenizer.backend_tokenizer.encode(page.text, add_special_tokens=False)
    ids, starts = encoding.ids, [start for start, _ in encoding.offsets]

    def places(span: Span) -> list[int]:
        return list(range(bisect_left(starts, span[0]), bisect_left(starts, span[1])))

    weights = [0.0] * len(ids)
    for span in page.learned:
        for place in places(span):
            weights[place] = _MARKUP_WEIGHT
    looks, copies = [], []
    for copy in page.copies:
        target, source = places(copy.target), places(copy.source)
        shared = 0
        while shared < min(len(target), len(source)) and (
            ids[target[shared]] == ids[source[shared]]
        ):
            shared += 1
        for place in target:
            weights[place] = 1.0
        copies.append((copy, target, source))
        for head in COPY_HEADS:
            looks += [
                Look(head, 0, t - 1, s, s + 1)
                for t, s in zip(target[:shared], source[:shared], strict=True)
            ]
        if copy.criterion is not None:
            for head, shown in ((FIND_HEAD, copy.criterion), (WANTED_HEAD, copy.wanted)):
                seen = places(shown) if shown is not None else []
                if seen:
                    looks += [Look(head, 0, t - 1, seen[0], seen[-1] + 1) for t in target]
    for whole, first in page.rows:
        value, inside = places(first), places(whole)
        opening = bisect_right(starts, whole[0]) - 1
        looks += [
            Look(OPEN_HEAD, 0, place, opening, opening + 1) for place in inside if place > opening
        ]
        if value:
            looks += [
                Look(GATHER_HEAD, 0, place, value[0], min(place, value[-1]) + 1)
                for place in inside
                if place >= value[0]
            ]
    return Tokens(ids, weights, looks, copies)


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of practice; what is missing to 1 is repetition."""

    episodes: float = 0.45
    choices: float = 0.28
    lookups: float = 0.25
    most_rows: int = 4
    varied: bool = False


def batch(
    tokenizer: PreTrainedTokenizerBase, rows: int, length: int, mix: Mix, rng: Random
) -> Batch:
    """Sequences of practice, one conversation after another until each is full."""
    ids_BT = torch.zeros(rows, length, dtype=torch.long)
    weights_BT = torch.zeros(rows, length)
    looks: list[Look] = []
    for row in range(rows):
        draw = rng.random()
        if draw < 1 - mix.episodes - mix.choices - mix.lookups:
            period = rng.randint(8, length * 7 // 8 if mix.varied else length // 2)
            piece = [rng.randrange(8, len(tokenizer)) for _ in range(period)]
            ids = [piece[i % period] for i in range(length)]
            ids_BT[row] = torch.tensor(ids)
            weights_BT[row, period + 2 :] = 0.3
            continue
        page = Page(mix.varied)
        if draw > 1 - mix.lookups:
            # About 2.3 characters a token; the calls take a quarter of the room.
            reach = int(length * 2.6 * rng.uniform(0.1, 0.85))
            lookups(page, rng, reach, rng.randint(4, 8))
        while len(page.text) < length * 3.7:
            if draw > 1 - mix.lookups - mix.choices:
                choice(page, rng, rng.choice((2, 2, 2, rng.randint(3, max(3, mix.most_rows)))))
            elif rng.random() < 0.15:
                pair(page, rng)
            else:
                episode(page, rng)
        made = tokens_of(page, tokenizer)
        ids_BT[row, : len(made.ids)] = torch.tensor(made.ids[:length])
        weights_BT[row, : len(made.ids)] = torch.tensor(made.weights[:length])
        looks += [
            Look(look.head, row, look.place, look.start, look.end)
            for look in made.looks
            if look.place < length
        ]
    return Batch(ids_BT, weights_BT, looks)
