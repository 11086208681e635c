"""The learner: groups of trajectories in, one or more optimizer steps, new weights out.

Everything that the loss is divided by is counted before the first forward pass, over the whole
optimizer step. Micro-batches only add up, so neither the token budget nor the order of packing
changes the gradient.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor
from transformers import PreTrainedModel

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.batch.batch import (
    batch_counts,
    batch_metrics,
    samples_to_learn,
    with_advantages,
)
from orch_train.learner.batch.packing import Microbatch, microbatches_for_rank
from orch_train.learner.group.ranks import OneProcess, Ranks
from orch_train.learner.logprobs import check_head
from orch_train.learner.lora import add_adapters, save_adapter
from orch_train.learner.objective.objective import Objective
from orch_train.learner.objective.statistics import Sums, merge_sums, step_metrics
from orch_train.learner.optimizer import MasterAdamW, StepReport
from orch_train.learner.reference import AdapterFreeReference, ReferencePolicy
from orch_train.learner.saved_state import (
    SavedOutline,
    SavedState,
    random_state,
    read_state,
    restore_random_state,
    write_state,
)
from orch_train.learner.training_mode import prepare_for_training, snapshot
from orch_train.models.load import DTYPES, load_model, rescue_parts, save_model
from orch_train.models.small_files import SmallFiles
from orch_train.storage.atomic_folder import written_whole
from orch_train.storage.rescue import rescue
from orch_train.trajectory.sample import Group
from orch_train.weight_sync.buckets import LiveWeights

Progress = Callable[[int, int], None]
"""Called after each micro-batch with (tokens done, tokens in all), over all updates of a batch."""


class Learner:
    """Trains one policy by policy gradients on groups.

    Args:
        model: a causal language model, best loaded in float32 whatever ``model.dtype`` says;
            it is moved, cast and trained in place.
        settings: the whole configuration; read are ``training``, ``learners``, the dtype and
            adapters of ``model``, ``rollouts.temperature`` and ``debugging.seed``.
        reference: of the KL penalty; needed where ``training.kl_coeff`` is above 0, except with
            LoRA, where it defaults to the model without its adapters.
        ranks: the processes that share the model; ``None``: this one alone.
        files: what lies beside the weights in every model that is saved.

    Raises:
        OrchError: the model's architecture is not supported (see
            :func:`~orch_train.learner.logprobs.check_head`), its adapters cannot be made, or a KL
            penalty has no reference.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Settings,
        reference: ReferencePolicy | None = None,
        ranks: Ranks | None = None,
        files: SmallFiles | None = None,
    ) -> None:
        self.settings, self._files = settings, files or {}
        training, learners = settings.training, settings.learners
        self._dtype, self._lora = DTYPES[settings.model.dtype], settings.model.lora
        if learners.num_cpus_per_learner is not None:
            torch.set_num_threads(learners.num_cpus_per_learner)
        torch.manual_seed(settings.debugging.seed)
        self.model = model
        self._ranks = ranks or OneProcess()
        if self._lora:
            add_adapters(model, settings.model)
        if self._ranks.rank == 0:
            check_head(model)
        prepare_for_training(model, gradient_checkpointing=learners.gradient_checkpointing)
        self._policy = self._ranks.place(model, learners.device, self._dtype)
        if self._lora and reference is None:
            reference = AdapterFreeReference(model, self._policy)
        self._objective = Objective(training, settings.rollouts.temperature, reference)
        # A sharded model keeps its best precision and casts what it gathers.
        kept = torch.float32 if self._ranks.size > 1 else self._dtype
        self._optimizer = MasterAdamW(model, training, kept)
        self._num_batches = 0

    @property
    def num_updates(self) -> int:
        """Optimizer steps taken so far."""
        return self._optimizer.num_updates

    def update(self, groups: Sequence[Group], progress: Progress | None = None) -> dict[str, float]:
        """Learn from one batch.

        Args:
            groups: the batch; sampled at ``rollouts.temperature``.
            progress: see :data:`Progress`.

        Returns:
            Flat metrics. Means over the tokens that were learned from: ``policy_loss`` (as
            minimised), ``entropy`` (nats), ``mismatch_kl`` (recorded against current policy, k3),
            ``ratio_ess`` (effective sample size, 0..1), all at the batch's first optimizer step,
            where policy and data belong together. Over all steps: ``clip_frac`` and ``grad_norm``
            (means; the norm is the one before clipping), ``ratio_max``. With a KL penalty:
            ``reference_kl``. With a correction, at the first step: ``correction_weight_mean``,
            ``correction_truncated_frac``, ``correction_masked_frac``. Besides: ``lr``,
            ``tokens_per_s``, ``fill`` (share of computed cells that are no padding), counts
            (``num_*``, ``zero_variance_*``), seconds (``time_*``). A batch without any signal
            takes no optimizer step (``num_optimizer_steps`` 0).

        Raises:
            OrchError: a broken batch, or gradients that stay non-finite.
        """
        started = perf_counter()
        training, learners = self.settings.training, self.settings.learners
        samples = with_advantages(groups, training)
        learned = samples_to_learn(samples, training)
        microbatches = microbatches_for_rank(
            self._ranks.rank,
            self._ranks.size,
            learned,
            learners.max_tokens_per_microbatch,
            layout=learners.layout,
            device=learners.device,
        )
        packed = perf_counter()
        counters = _Counters(microbatches, training.updates_per_batch, progress)
        steps: list[tuple[dict[str, float], StepReport]] = []
        self._objective.begin(batch_counts(samples, training))
        if microbatches:
            for _ in range(training.updates_per_batch):
                sums = self._gradient(microbatches, counters)
                stepping = perf_counter()
                steps.append((sums, self._optimizer.step()))
                counters.optimizer_seconds += perf_counter() - stepping
        self._stand_at(self._num_batches + 1)
        seconds = perf_counter() - started
        return {
            **batch_metrics(groups, samples, learned, training),
            **step_metrics(steps),
            **_throughput(self._ranks.gather(counters.counts()), seconds),
            **counters.times(),
            "lr": self._optimizer.lr,
            "num_updates_lifetime": self.num_updates,
            "num_bad_gradients_lifetime": self._optimizer.num_bad_gradients,
            "time_pack": packed - started,
            "time_total": seconds,
        }

    def get_weights(
        self, dtype: torch.dtype | None = None, device: str | None = "cpu"
    ) -> dict[str, Tensor]:
        """A copy of the weights; of several ranks only the first gets it.

        The names are those of ``model.state_dict()``; tied tensors appear under each of their
        names and share one memory; adapters are merged in. Later updates do not change the copy.

        Args:
            dtype: ``None``: the dtype that the model computes in; ``torch.float32``: the master
                weights, which the optimizer updates.
            device: of the copy; ``None``: the learner's own.
        """
        return snapshot(
            self.model,
            self._optimizer.master_weights(),
            dtype=dtype or self._dtype,
            device=device,
            gather=self._ranks.gather_full,
            collect=self._ranks.rank == 0,
        )

    def live_weights(self) -> LiveWeights:
        """The weights themselves: later updates change them. Not for adapters or shards."""
        state = self.model.state_dict(keep_vars=True)
        return LiveWeights({name: tensor.detach() for name, tensor in state.items()})

    def _gradient(self, microbatches: list[Microbatch], counters: _Counters) -> dict[str, float]:
        """Add up the gradient of the whole batch; returns the statistics, summed over all ranks."""
        temperature = self.settings.rollouts.temperature
        bonus = self.settings.training.entropy_coeff > 0
        totals: Sums = {}
        for index, microbatch in enumerate(microbatches):
            self._objective.prepare(index, microbatch)
            inputs = self._policy(microbatch, temperature, entropy_gradient=bonus)
            loss, sums = self._objective.loss(index, inputs)
            if microbatch.idle:
                loss, sums = loss * 0.0, {}
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.accumulate()
            merge_sums(totals, sums)
            counters.done(microbatch)
        return self._over_all_ranks(totals)

    def _over_all_ranks(self, mine: Sums) -> dict[str, float]:
        everywhere: Sums = {}
        for sums in self._ranks.gather({key: float(value) for key, value in mine.items()}):
            merge_sums(everywhere, {k: torch.tensor(v).double() for k, v in sums.items()})
        return {key: float(value) for key, value in everywhere.items()}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write everything that a bit-exact continuation needs, whole or not at all.

        See :mod:`orch_train.learner.saved_state`.

        Raises:
            OrchError: the folder cannot be written.
        """
        weights, state = self.get_weights(torch.float32), self._state()
        if self._ranks.rank:
            return
        with written_whole(folder) as partial:
            self._write_model(partial / "model", weights, state.adapter)
            write_state(partial, state)

    def rescue(self, folder: str | os.PathLike[str]) -> str:
        """Write what can be written of :meth:`save`, after that has failed; see :func:`rescue`."""
        weights, state = self.get_weights(torch.float32), self._state()
        if self._ranks.rank:
            return ""
        parts: dict[str, Callable[[Path], None]] = {
            **rescue_parts(self.model, self._files, weights),
            "the optimizer's state": lambda place: write_state(place, state),
        }
        return rescue(Path(folder), parts)

    def _state(self) -> SavedState:
        return SavedState(
            {**self._optimizer.counters(), "num_batches": self._num_batches},
            {"lora": self._lora},
            self._on_first_rank(self._optimizer.tensors()),
            random_state(),
            self._adapter_weights(),
        )

    def save_model(self, folder: str | os.PathLike[str]) -> None:
        """Write a normal model folder with the float32 weights.

        With LoRA the adapters are merged in, and lie by themselves in ``adapter/``, as peft wants
        them.

        Raises:
            OrchError: the folder cannot be written.
        """
        weights, adapter = self.get_weights(torch.float32), self._adapter_weights()
        if self._ranks.rank == 0:
            self._write_model(folder, weights, adapter)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Go back to a saved state; training continues bit for bit.

        The learner's own settings stay: a new learning rate, say, is deliberate. Only the
        adapters must be of the saved rank and scale.

        Raises:
            OrchError: the folder is missing, damaged, or of another model.
        """
        weights: dict[str, Tensor] = {}
        tensors: dict[str, Tensor | None] = {}

        def read() -> SavedOutline:
            """On the first rank alone; what it returns is small and goes to all."""
            saved = read_state(folder)
            adapters = saved.settings.get("lora")
            if adapters != self._lora:
                raise OrchError(
                    f"saved learner {str(folder)!r} was trained with LoRA {adapters or 'off'}, the "
                    f"settings have {self._lora or 'off'}: leave model.lora_* as they were"
                )
            weights.update(load_model(Path(folder) / "model", "float32").state_dict())
            weights.update(saved.adapter)
            self._optimizer.check_fits(weights, saved.optimizer)
            tensors.update(saved.optimizer)
            return SavedOutline.of(saved)

        outline = self._ranks.run_on_rank0(read)
        part = self._ranks.shard_like
        self._optimizer.restore(weights, {**outline.optimizer, **tensors}, outline.counters, part)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if not parameter.requires_grad:
                    parameter.copy_(part(weights.get(name), parameter))
        restore_random_state(outline.rng)
        taken = outline.counters["num_updates"] // self.settings.training.updates_per_batch
        self._stand_at(outline.counters.get("num_batches", taken))  # older states lack it

    def stop(self) -> None:
        """Nothing is left behind; here so that one learner can stand for a group."""

    def _stand_at(self, batches: int) -> None:
        """Put the schedule after a number of batches, with or without a signal."""
        self._num_batches = batches
        self._optimizer.num_due = batches * self.settings.training.updates_per_batch

    def _adapter_weights(self) -> dict[str, Tensor]:
        """A and B in float32, and the base weights they are added to; empty without LoRA."""
        masters = self._optimizer.master_weights()
        return self._on_first_rank(
            {
                name: masters.get(name, p).detach()
                for name, p in self.model.named_parameters()
                if self._lora and (p.requires_grad or ".base_layer." in name)
            }
        )

    def _on_first_rank(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The full tensors on the CPU; the other ranks drop each at once and get nothing."""
        kept: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            whole = self._ranks.gather_full(tensor)
            if self._ranks.rank == 0:
                kept[name] = whole.cpu()
        return kept

    def _write_model(
        self,
        folder: str | os.PathLike[str],
        weights: Mapping[str, Tensor],
        adapter: Mapping[str, Tensor],
    ) -> None:
        with written_whole(folder) as partial:
            save_model(self.model, partial, self._files, weights)
            if self._lora:
                own = {name: v for name, v in adapter.items() if ".lora_" in name}
                save_adapter(partial / "adapter", self.settings.model, own)


class _Counters:
    """Counts and clocks of one call of ``update``."""

    def __init__(
        self, microbatches: Sequence[Microbatch], updates: int, progress: Progress | None
    ) -> None:
        self.optimizer_seconds = 0.0
        self._microbatches = microbatches
        self._started = perf_counter()
        self._all = sum(m.num_tokens for m in microbatches) * updates
        self._done = 0
        self._progress = progress

    def done(self, microbatch: Microbatch) -> None:
        self._done += microbatch.num_tokens
        if self._progress is not None:
            self._progress(self._done, self._all)

    def counts(self) -> dict[str, int]:
        """Of this rank: micro-batches, tokens without and with padding, tokens done in all."""
        return {
            "microbatches": len(self._microbatches),
            "tokens": sum(m.num_tokens for m in self._microbatches),
            "cells": sum(m.num_cells for m in self._microbatches),
            "done": self._done,
        }

    def times(self) -> dict[str, float]:
        """Seconds so far."""
        return {
            "time_gradient": perf_counter() - self._started - self.optimizer_seconds,
            "time_optimizer": self.optimizer_seconds,
        }


def _throughput(ranks: Sequence[dict[str, int]], seconds: float) -> dict[str, float]:
    """``tokens_per_s`` counts tokens without padding over the time of the whole update."""
    count = {key: sum(rank[key] for rank in ranks) for key in ranks[0]}
    return {
        "num_microbatches": count["microbatches"],
        "fill": count["tokens"] / count["cells"] if count["cells"] else 1.0,
        "tokens_per_s": count["done"] / seconds,
    }
