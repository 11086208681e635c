"""The forward passes of the torch engine: read prompts, then sample a token per row and step.

Everything here runs in one worker thread. Reading a prompt stops one token short, and that last
token goes through the common decoding step, which therefore is the only place where logits are made
and tokens are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orch_train.engines.torch.slot_cache import Decode, Prefill, SlotCache, serve_on_slots
from orch_train.engines.torch.slot_table import Row, Slot, SlotTable, sharing_waves

# Decoding returns to the event loop at the latest after this many steps.
_MAX_STEPS = 64
# Rows of one prefill differ in length by at most this factor (and a few tokens).
_RAGGED = 2
_RAGGED_TOKENS = 16
# Bound on the elements of one prefill's attention mask.
_MASK_ELEMENTS = 1 << 24


class SlotBatch:
    """A model with its slot cache.

    Args:
        model: a ``transformers`` causal language model in evaluation mode; it is switched to
            attention over slots.
        max_slots: conversations that are kept at the same time.
        prefill_tokens: most tokens, padding included, of one prompt-reading pass.

    Attributes:
        version: label of the weights, written on every token.
        prompt_tokens: tokens of all prompts seen so far.
        prefilled_tokens: those of them that had to be read; the rest was cached or shared.
        steps: decoding steps so far.
        row_steps: messages that were sampled in each of them, added up.
    """

    def __init__(self, model: Any, *, max_slots: int, prefill_tokens: int = 8192) -> None:
        serve_on_slots(model)
        self.model = model
        self.device = torch.device(model.device)
        self.table = SlotTable(max_slots)
        self.version = 0
        self.prompt_tokens = 0
        self.prefilled_tokens = 0
        self.steps = 0
        self.row_steps = 0
        positions = model.config.get_text_config().max_position_embeddings
        self._cache = SlotCache(max_slots, int(positions))
        self._prefill_tokens = prefill_tokens

    @property
    def cache_bytes(self) -> int:
        """Memory held by keys and values."""
        return self._cache.nbytes

    def admit(self, rows: Sequence[Row]) -> None:
        """Give messages their slots, and read their prompts up to the last token."""
        fresh: list[Slot] = []
        known: list[Slot] = []
        # Conversations that have a slot come first, so that no new one takes it.
        for row in sorted(rows, key=lambda r: not self.table.holds(r.request_id)):
            slot = self.table.claim(row)
            (known if len(slot.cached) else fresh).append(slot)
            self.prompt_tokens += row.prompt_length
        self._move_rows()
        self._read(known)
        for wave in sharing_waves(fresh):
            self._share(wave)
            self._read(wave)

    @torch.inference_mode()
    def decode(self, interrupted: Callable[[], bool]) -> list[Row]:
        """Sample until a message is complete, the caller interrupts, or many steps are done.

        Returns:
            The complete messages; their conversations stay cached.
        """
        self.table.compact()
        self._move_rows()
        slots = self.table.slots[: self.table.active]
        if not slots:
            return []
        state = _DecodeState(slots, self.device)
        running = sum(row is not None for row in state.rows)
        self._cache.reserve(len(self.table.slots), state.width + state.steps - 1)
        for step in range(state.steps):
            logits = self._decode_logits(state, step)
            self.steps += 1
            self.row_steps += running
            if state.take(*draw(logits, state.temperatures, state.numbers[step])):
                break
            if interrupted():
                break
        finished = state.write_back(self.version)
        for slot in finished:
            self.table.finish(slot)
        return [row for row in state.rows if row is not None and row.finished]

    def forget(self) -> list[Row]:
        """The weights changed: drop what is cached; returns the messages to admit again."""
        return self.table.forget()

    def close(self) -> None:
        """Free the buffers."""
        self.table.forget()
        self._cache.clear()

    def _decode_logits(self, state: _DecodeState, step: int) -> Tensor:
        """Logits ``[B, V]`` of the next token of every active row."""
        width = state.width + step
        self._cache.plan = Decode(len(state.rows), state.lengths, width)
        hidden = torch.arange(width, device=self.device) > state.lengths[:, None]
        out = self.model(
            input_ids=state.tokens[:, None],
            position_ids=state.lengths[:, None],
            attention_mask=_additive(hidden)[:, None, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _share(self, wave: Sequence[Slot]) -> None:
        """Copy the longest prefix that is cached elsewhere into each of these slots."""
        found = [(slot, *self.table.best_prefix(slot.target())) for slot in wave]
        shared = [(slot, length, source) for slot, length, source in found if source is not None]
        self._copy(
            [source.home for _, _, source in shared],
            [slot.home for slot, _, _ in shared],
            max((length for _, length, _ in shared), default=0),
        )
        for slot, length, _ in shared:
            slot.cached = slot.target()[:length]

    def _move_rows(self) -> None:
        """Bring the buffers into the table's order."""
        self._cache.reserve(len(self.table.slots), self._cache.columns)
        self._copy(*self.table.moves())

    @torch.inference_mode()
    def _copy(self, sources: list[int], targets: list[int], width: int) -> None:
        if sources:
            at = torch.tensor([sources, targets], device=self.device)
            self._cache.copy_rows(at[0], at[1], width)

    @torch.inference_mode()
    def _read(self, slots: Sequence[Slot]) -> None:
        """Run the missing tokens of these slots through the model."""
        todo = [s for s in slots if len(s.cached) < len(s.target())]
        while todo:
            for batch in self._prefill_batches(todo):
                self._prefill(batch)
            todo = [s for s in todo if len(s.cached) < len(s.target())]

    def _prefill_batches(self, slots: Sequence[Slot]) -> list[list[Slot]]:
        """Slots in batches of similar work: cached or not, and of similar length."""

        def missing(slot: Slot) -> int:
            return min(len(slot.target()) - len(slot.cached), self._prefill_tokens)

        ordered = sorted(slots, key=lambda s: (len(s.cached) > 0, missing(s)))
        batches: list[list[Slot]] = []
        for slot in ordered:
            tokens = missing(slot)
            if batches:
                batch = batches[-1]
                rows = len(batch) + 1
                width = tokens + max(len(s.cached) for s in (*batch, slot))
                if (
                    (len(batch[0].cached) > 0) == (len(slot.cached) > 0)
                    and tokens <= _RAGGED * missing(batch[0]) + _RAGGED_TOKENS
                    and rows * tokens <= self._prefill_tokens
                    and rows * tokens * width <= _MASK_ELEMENTS
                ):
                    batch.append(slot)
                    continue
            batches.append([slot])
        return batches

    def _prefill(self, slots: list[Slot]) -> None:
        starts = [len(s.cached) for s in slots]
        limit = self._prefill_tokens
        parts = [s.target()[n : n + limit] for s, n in zip(slots, starts, strict=True)]
        size = max(len(part) for part in parts)
        self.prefilled_tokens += sum(len(part) for part in parts)
        ids = np.zeros((len(slots), size), dtype=np.int64)
        for at, part in enumerate(parts):
            ids[at, : len(part)] = part
        first = torch.tensor(starts, device=self.device)
        columns = first[:, None] + torch.arange(size, device=self.device)
        # The padding on the right is stored behind each row's end, where nothing is read.
        width = max(starts) + size
        self._cache.reserve(len(self.table.slots), width)
        mask: Tensor | None = None
        if any(starts):
            mask = _additive(torch.arange(width, device=self.device) > columns[..., None])[:, None]
        rows = torch.tensor([s.home for s in slots], device=self.device)
        self._cache.plan = Prefill(rows, columns, width if any(starts) else 0)
        self.model.base_model(
            input_ids=torch.from_numpy(ids).to(self.device),
            position_ids=columns,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
        )
        for slot, start, part in zip(slots, starts, parts, strict=True):
            slot.cached = slot.target()[: start + len(part)]


class _DecodeState:
    """The active rows as tensors, for one run of decoding steps."""

    def __init__(self, slots: list[Slot], device: torch.device) -> None:
        self.slots = slots
        self.rows = [s.row for s in slots]
        lengths = [len(s.cached) for s in slots]
        running = [r is not None for r in self.rows]
        left = [r.sampling.max_tokens - r.sampled if r is not None else 0 for r in self.rows]
        self.steps = min(_MAX_STEPS, min(n for n in left if n > 0))
        self.width = max(lengths) + 1
        self.lengths = torch.tensor(lengths, device=device)
        self.tokens = torch.tensor([int(r.ids[-1]) if r else 0 for r in self.rows], device=device)
        self.temperatures = torch.tensor(
            [r.sampling.temperature if r else 0.0 for r in self.rows], device=device
        )
        numbers = np.zeros((self.steps, len(slots)))
        stops = [r.sampling.stop_token_ids if r else () for r in self.rows]
        table = np.full((len(slots), max(1, *map(len, stops))), -1, dtype=np.int64)
        for at, row in enumerate(self.rows):
            if row is not None:
                numbers[:, at] = row.numbers[row.sampled : row.sampled + self.steps]
                table[at, : len(stops[at])] = stops[at]
        self.numbers = torch.from_numpy(numbers).to(device)
        self._stops = torch.from_numpy(table).to(device)
        self._running = torch.tensor(running, device=device)
        self._tokens: list[Tensor] = []
        self._logprobs: list[Tensor] = []

    def take(self, tokens: Tensor, logprobs: Tensor) -> bool:
        """Append one token per row; whether any row has sampled a stop token."""
        self._tokens.append(tokens)
        self._logprobs.append(logprobs)
        self.lengths = self.lengths + self._running
        self.tokens = torch.where(self._running, tokens, self.tokens)
        stopped = (tokens[:, None] == self._stops).any(-1) & self._running
        return bool(stopped.any())

    def write_back(self, version: int) -> list[Slot]:
        """Write the sampled tokens into the rows; returns the slots whose message is complete."""
        tokens = torch.stack(self._tokens, 1).cpu().numpy()
        logprobs = torch.stack(self._logprobs, 1).double().cpu().numpy()
        finished: list[Slot] = []
        for slot, row, ids, values in zip(self.slots, self.rows, tokens, logprobs, strict=True):
            if row is None:
                continue
            row.extend(ids, values, version)
            slot.cached = slot.target()
            if row.finished:
                finished.append(slot)
        return finished


def draw(logits: Tensor, temperatures: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Choose a token per row.

    Args:
        logits: ``[B, V]``, any floating type; the arithmetic is in float32.
        temperatures: ``[B]``, float32; rows at 0 take the likeliest token.
        numbers: ``[B]``, float64 in [0, 1): see `uniforms`.

    Returns:
        Token ids ``[B]``, int64, and their natural log-probabilities ``[B]``, float32, under the
        distribution that was sampled from; for rows at temperature 0, that at temperature 1.
    """
    greedy = temperatures == 0
    scale = torch.where(greedy, 1.0, temperatures)
    logprobs = torch.log_softmax(logits.float() / scale[:, None], dim=-1)
    if bool(greedy.all()):
        tokens = logprobs.argmax(-1)
    else:
        tokens = _inverse_cdf(logprobs, numbers)
        tokens = torch.where(greedy, logprobs.argmax(-1), tokens)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def _inverse_cdf(logprobs: Tensor, numbers: Tensor) -> Tensor:
    """The first token whose cumulative probability exceeds the row's number.

    The sum runs in float64: over a large vocabulary a float32 sum loses what rare tokens add.
    The target stays below the total, so the token found has a probability above 0.
    """
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(numbers * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]


def _additive(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
