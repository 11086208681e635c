"""The learner: groups of trajectories in, one or more optimizer steps, new weights out.

The hard decision: everything that the loss is divided by is counted before the first forward
pass, over the whole optimizer step. Micro-batches only add up, so neither the token budget nor
the order of packing changes the gradient.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orch_env.types import OrchError
from orch_train.atomic_folder import written_whole
from orch_train.learner.batch import make_batch
from orch_train.learner.logprobs import action_logprobs, check_head
from orch_train.learner.objective import Objective
from orch_train.learner.optimizer import MasterAdamW, StepReport
from orch_train.learner.packing import Microbatch, make_microbatches
from orch_train.learner.reference import ReferencePolicy
from orch_train.learner.settings import LearnerSettings
from orch_train.learner.statistics import Sums, merge_sums, step_metrics
from orch_train.learner.training_mode import prepare_for_training, snapshot
from orch_train.model import DTYPES, load_model, save_model
from orch_train.trajectory import Group

LEARNER_SCHEMA = 1

Progress = Callable[[int, int], None]
"""Called after each micro-batch with (tokens done, tokens in all), over all updates of a batch."""


class Learner:
    """Trains one policy by policy gradients on groups.

    Args:
        model: a causal language model, best loaded in float32 whatever ``settings.dtype`` says;
            it is moved, cast and trained in place.
        settings: see :class:`LearnerSettings`.
        reference: of the KL penalty; needed where ``settings.kl_coeff`` is above 0.

    Raises:
        OrchError: the model's architecture is not supported (see
            :func:`~orch_train.learner.logprobs.check_head`), or a KL penalty has no reference.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: LearnerSettings,
        reference: ReferencePolicy | None = None,
    ) -> None:
        self.settings = settings
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        torch.manual_seed(settings.seed)
        torch.nn.Module.to(model, torch.device(settings.device))
        self.model = model
        check_head(self.model)
        self._objective = Objective(settings, reference)
        self._optimizer = MasterAdamW(self.model, settings.optimizer, DTYPES[settings.dtype])
        prepare_for_training(self.model, gradient_checkpointing=settings.gradient_checkpointing)

    @property
    def num_updates(self) -> int:
        """Optimizer steps taken so far."""
        return self._optimizer.num_updates

    def update(self, groups: Sequence[Group], progress: Progress | None = None) -> dict[str, float]:
        """Learn from one batch.

        Args:
            groups: the batch; sampled at ``settings.temperature``.
            progress: see :data:`Progress`.

        Returns:
            Flat metrics. Means over the tokens that were learnt from: ``policy_loss`` (as
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
        batch = make_batch(groups, self.settings)
        microbatches = make_microbatches(
            batch.sequences,
            self.settings.max_tokens_per_microbatch,
            layout=self.settings.layout,
            device=self.settings.device,
        )
        packed = perf_counter()
        tally = _Tally(microbatches, self.settings.updates_per_batch, progress)
        steps: list[tuple[dict[str, float], StepReport]] = []
        self._objective.begin(batch.counts)
        if microbatches:
            for _ in range(self.settings.updates_per_batch):
                sums = self._gradient(microbatches, tally)
                stepping = perf_counter()
                steps.append((sums, self._optimizer.step()))
                tally.optimizer_seconds += perf_counter() - stepping
        seconds = perf_counter() - started
        return {
            **batch.metrics,
            **step_metrics(steps),
            **tally.metrics(seconds),
            "lr": steps[-1][1].lr if steps else self.settings.optimizer.lr_at(self.num_updates),
            "num_updates_lifetime": self.num_updates,
            "num_bad_gradients_lifetime": self._optimizer.num_bad_gradients,
            "time_pack": packed - started,
            "time_total": seconds,
        }

    def get_weights(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU, in the dtype that the model computes in.

        The names are those of ``model.state_dict()``; tied tensors appear under each of their
        names and share one memory. Later updates do not change the copy.
        """
        return snapshot(self.model)

    def _gradient(self, microbatches: list[Microbatch], tally: _Tally) -> dict[str, float]:
        """Add up the gradient of the whole batch; returns the summed statistics."""
        settings = self.settings
        totals: Sums = {}
        for index, microbatch in enumerate(microbatches):
            self._objective.prepare(index, microbatch)
            current = action_logprobs(
                self.model,
                microbatch,
                settings.temperature,
                entropy_gradient=settings.entropy_coeff > 0,
            )
            loss, sums = self._objective.loss(index, microbatch, current)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.accumulate()
            merge_sums(totals, sums)
            tally.done(microbatch)
        return {key: float(value) for key, value in totals.items()}

    def save(
        self, folder: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """Write everything that a bit-exact continuation needs, whole or not at all.

        ``model/`` (a normal model folder with the float32 weights; with the tokenizer, if given,
        it can be evaluated), ``optimizer.safetensors``, ``rng.safetensors``, ``learner.json``.

        Raises:
            OrchError: the folder cannot be written.
        """
        with written_whole(folder) as partial:
            self.save_model(partial / "model", tokenizer)
            save_file(
                {k: v.cpu().contiguous() for k, v in self._optimizer.tensors().items()},
                partial / "optimizer.safetensors",
            )
            save_file(_rng_state(), partial / "rng.safetensors")
            record = {
                "schema": LEARNER_SCHEMA,
                "counters": self._optimizer.counters(),
                "settings": self.settings.to_dict(),
            }
            (partial / "learner.json").write_text(json.dumps(record, indent=2) + "\n")

    def save_model(
        self, folder: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """Write a normal model folder with the float32 master weights."""
        state = snapshot(self.model, self._optimizer.master_weights())
        save_model(self.model, tokenizer, folder, state)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Go back to a saved state; training continues bit for bit.

        The learner's own settings stay: a new learning rate, say, is deliberate.

        Raises:
            OrchError: the folder is missing, damaged, or of another model.
        """
        source = Path(folder)
        for name in ("learner.json", "optimizer.safetensors", "rng.safetensors"):
            if not (source / name).is_file():
                raise OrchError(f"{str(folder)!r} is no saved learner: {name} is missing")
        try:
            record = json.loads((source / "learner.json").read_text())
            tensors = load_file(source / "optimizer.safetensors")
            rng = load_file(source / "rng.safetensors")
        except (OSError, ValueError, SafetensorError) as problem:
            raise OrchError(f"saved learner {str(folder)!r} is damaged: {problem}") from problem
        if not isinstance(record, dict) or record.get("schema") != LEARNER_SCHEMA:
            raise OrchError(f"saved learner {str(folder)!r} has an unknown schema")
        weights = load_model(source / "model", "float32").state_dict()
        self._optimizer.restore(weights, tensors, record["counters"])
        torch.set_rng_state(rng["cpu"])
        if "cuda" in rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng["cuda"])


class _Tally:
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

    def metrics(self, seconds: float) -> dict[str, float]:
        """``tokens_per_s`` counts tokens without padding over the time of the whole update."""
        cells = sum(m.num_cells for m in self._microbatches)
        return {
            "num_microbatches": len(self._microbatches),
            "fill": sum(m.num_tokens for m in self._microbatches) / cells if cells else 1.0,
            "tokens_per_s": self._done / seconds,
            "time_gradient": perf_counter() - self._started - self.optimizer_seconds,
            "time_optimizer": self.optimizer_seconds,
        }


def _rng_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
