"""Synthetic token sequences that teach copying, and nothing about any task.

Copying a value seen earlier is the bottleneck of a model of a million parameters: it appears as a
phase change after hundreds of steps, too slow for a quick start. So the shipped model has seen
two kinds of random sequences: a random piece repeated, and random *look-ups*: the markup of calls
and results around random keys and values, where a value that a key showed earlier has to be
written again behind the same key. The loss is on the copied tokens alone. Which tool answers what,
which key belongs to which tool and what the words of a request mean is drawn at random every time,
so none of it can be learned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from orch_env.servers.domains.harbour import CONSONANTS, VOWELS
from tools.tiny_model.vocabulary import (
    CALL_ARGUMENTS,
    CALL_END,
    CALL_START,
    END,
    RESULT_END,
    RESULT_START,
    SPECIAL,
    START,
)

IGNORED = -100
_BYTES = 256


class Alphabet:
    """Token ids by what they are good for in a synthetic sequence.

    Args:
        tokenizer: the tiny tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        text = {i: str(tokenizer.decode([i])) for i in range(len(tokenizer))}
        first_piece = len(SPECIAL) + _BYTES
        self.any = [i for i in text if i >= len(SPECIAL)]
        self.pieces = [i for i in text if i >= first_piece]
        # A key with an id's prefix, such as `ship": "S-`, and the bare `name": "`.
        self.keys = [i for i in self.pieces if '": "' in text[i] and text[i].endswith("-")]
        self.name_key = self.one('name": "')
        self.digits = [self.one(f"{number:02d}") for number in range(100)]
        syllables = [c + v for c in CONSONANTS for v in VOWELS]
        self.syllables = [self.one(s) for s in syllables]
        self.capitals = [self.one(s.capitalize()) for s in syllables]
        self.header = {
            role: [self.one(START), self.one(f"{role}\n")]
            for role in ("system", "user", "assistant", "tool")
        }
        self.footer = [self.one(END), self.one("\n")]
        self.call = (self.one(CALL_START), self.one(CALL_ARGUMENTS), self.one(CALL_END))
        self.result = (self.one(RESULT_START), self.one(RESULT_END))
        self.comma, self.newline = self.one('", "'), self.one("\n")

    def one(self, piece: str) -> int:
        """The id of a piece that is one token."""
        ids = self._tokenizer.encode(piece, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"{piece!r} is {len(ids)} tokens, not one")
        return int(ids[0])


@dataclass(slots=True)
class Sequence1D:
    """Token ids with the places that are learned.

    Attributes:
        ids: token ids.
        copied: True where the token could be copied from earlier.
    """

    ids: list[int] = field(default_factory=list)
    copied: list[bool] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, copied: bool = False) -> None:
        """Append tokens."""
        self.ids.extend(ids)
        self.copied.extend([copied] * len(ids))


def repetition(alphabet: Alphabet, length: int, rng: Random) -> Sequence1D:
    """A random piece of 4 to ``length / 3`` tokens, repeated; the repeats are learned."""
    period = rng.randint(4, length // 3)
    piece = [rng.choice(alphabet.any) for _ in range(period)]
    sequence = Sequence1D()
    sequence.add(piece)
    sequence.add([piece[i % period] for i in range(length - period)], copied=True)
    return sequence


def lookups(alphabet: Alphabet, rng: Random) -> Sequence1D:
    """Random calls and results: names from a request, then values shown by earlier results."""
    sequence = Sequence1D()

    def noise(least: int, most: int) -> list[int]:
        return [rng.choice(alphabet.pieces) for _ in range(rng.randint(least, most))]

    tools = rng.sample(alphabet.pieces, 12)
    offered = [token for tool in tools for token in (tool, rng.choice(alphabet.pieces))]
    sequence.add([*alphabet.header["system"], *offered, *alphabet.footer])
    names = [_name(alphabet, rng) for _ in range(rng.choice((1, 1, 2)))]
    request = [token for name in names for token in (*noise(0, 6), *name)]
    sequence.add([*alphabet.header["user"], *request, *noise(0, 4), *alphabet.footer])
    keys = _keys(alphabet, rng)
    known: list[tuple[int, list[int]]] = []
    for _ in range(rng.randint(2, 5)):
        results: list[tuple[int, list[int]]] = []
        sequence.add(alphabet.header["assistant"])
        for number in range(rng.choice((1, 1, 2))):
            if number:
                sequence.add([alphabet.newline])
            sequence.add([alphabet.call[0], rng.choice(tools), alphabet.call[1]])
            _arguments(sequence, alphabet, names, known, rng)
            sequence.add([alphabet.call[2]])
            results.append((keys.pop(), [rng.choice(alphabet.digits) for _ in range(2)]))
        sequence.add([*alphabet.footer, *alphabet.header["tool"]])
        for number, (key, value) in enumerate(results):
            separator = [alphabet.newline] if number else []
            sequence.add([*separator, alphabet.result[0], key, *value, alphabet.result[1]])
        sequence.add(alphabet.footer)
        known += results
    return sequence


def _keys(alphabet: Alphabet, rng: Random) -> list[int]:
    """Twelve different keys; the last are used first, mostly those that occur in results."""
    real = rng.sample(alphabet.keys, len(alphabet.keys)) if rng.random() < 0.7 else []
    others = [token for token in rng.sample(alphabet.any, 24) if token not in real]
    return [*others, *real][-12:]


def _name(alphabet: Alphabet, rng: Random) -> list[int]:
    return [rng.choice(alphabet.capitals), *rng.choices(alphabet.syllables, k=2)]


def _arguments(
    sequence: Sequence1D,
    alphabet: Alphabet,
    names: list[list[int]],
    known: list[tuple[int, list[int]]],
    rng: Random,
) -> None:
    """The next name of the request, or one or two values that results have shown."""
    if names:
        sequence.add([alphabet.name_key])
        sequence.add(names.pop(0), copied=True)
        return
    chosen = rng.sample(known, min(len(known), rng.choice((1, 1, 2))))
    for number, (key, value) in enumerate(chosen):
        sequence.add([alphabet.comma, key] if number else [key])
        sequence.add(value, copied=True)


def batch(
    alphabet: Alphabet, rows: int, length: int, repeated: float, rng: Random
) -> tuple[Tensor, Tensor]:
    """A training batch.

    Args:
        alphabet: the tokens.
        rows: number of sequences B.
        length: tokens of each, T; longer ones are cut, shorter ones padded.
        repeated: share of repetitions; the rest are look-ups.
        rng: source of everything random.

    Returns:
        ``ids_BT`` and ``labels_BT``, which is ``IGNORED`` where nothing is copied.
    """
    ids_BT = torch.zeros(rows, length, dtype=torch.long)
    labels_BT = torch.full((rows, length), IGNORED, dtype=torch.long)
    for row in range(rows):
        made = (
            repetition(alphabet, length, rng) if rng.random() < repeated else lookups(alphabet, rng)
        )
        ids_T = torch.tensor(made.ids[:length])
        copied_T = torch.tensor(made.copied[:length])
        ids_BT[row, : len(ids_T)] = ids_T
        labels_BT[row, : len(ids_T)] = torch.where(copied_T, ids_T, IGNORED)
    return ids_BT, labels_BT
