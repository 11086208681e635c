"""Settings of the learner: plain, frozen, and checked where they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orch_env.types import OrchError
from orch_train.learner.batch.packing import Layout
from orch_train.learner.lora import LoraSettings
from orch_train.learner.objective.advantages import ADVANTAGES
from orch_train.learner.objective.corrections import Correction, CorrectionKind
from orch_train.learner.objective.kl_penalty import KLEstimator
from orch_train.learner.objective.loss import ClipRange, loss_named
from orch_train.learner.optimizer import OptimizerSettings


@dataclass(frozen=True)
class LearnerSettings:
    """How a batch of groups becomes optimizer steps.

    Attributes:
        optimizer: learning rate, schedule, clipping.
        loss: a key of :data:`orch_train.learner.objective.loss.LOSSES`.
        clip_low: the ratio is clipped below at ``1 - clip_low``.
        clip_high: the ratio is clipped above at ``1 + clip_high``.
        advantage: ``group_mean``, ``group_std`` or ``leave_one_out``.
        advantage_eps: added to the group's standard deviation (``group_std``), in reward units.
        length_constant: tokens per trajectory that ``dr_grpo`` divides by.
        updates_per_batch: optimizer steps on one batch; each sees the whole batch.
        max_tokens_per_microbatch: tokens of one forward pass, padding included; bounds memory and
            never changes a gradient.
        layout: how micro-batches are laid out, see :mod:`orch_train.learner.batch.packing`.
        temperature: the sampling temperature of the rollouts, above 0.
        entropy_coeff: weight of an entropy bonus, a mean over action tokens.
        kl_coeff: weight of the KL penalty against the reference policy, per token like the loss;
            above 0 the learner must be given a reference.
        kl_estimator: see :mod:`orch_train.learner.objective.kl_penalty`.
        correction: of the mismatch between sampling and learning, see
            :mod:`orch_train.learner.objective.corrections`.
        correction_cap: largest importance weight.
        correction_mask: band around 1 for the geometric mean ratio of a trajectory; outside of it
            the trajectory is not learnt from.
        credit: ``trajectory``: one advantage for all tokens of a trajectory; ``turn``: one per
            message, see :mod:`orch_train.learner.objective.credit`.
        zero_variance: groups whose rewards are all equal. ``keep``: their tokens count in the
            loss's denominator; ``drop``: they do not. No forward pass is spent on either.
        mask_truncated: none of the tokens of an episode that a token limit cut off is learnt from,
            see :mod:`orch_train.learner.batch.batch`.
        gradient_checkpointing: recompute activations in the backward pass.
        dtype: what the model computes in; ``bfloat16`` keeps float32 master weights.
        device: torch device.
        num_threads: compute threads of this process; ``None`` leaves torch's choice.
        seed: seeds torch, for adapters and models that draw random numbers in training.
        lora: train these adapters instead of the model's own weights.
    """

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loss: str = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    advantage: str = "group_mean"
    advantage_eps: float = 1e-4
    length_constant: int = 1024
    updates_per_batch: int = 1
    max_tokens_per_microbatch: int = 4096
    layout: Layout = "packed"
    temperature: float = 1.0
    entropy_coeff: float = 0.0
    kl_coeff: float = 0.0
    kl_estimator: KLEstimator = "k3"
    correction: CorrectionKind = "none"
    correction_cap: float = 2.0
    correction_mask: tuple[float, float] | None = None
    credit: Literal["trajectory", "turn"] = "trajectory"
    zero_variance: Literal["keep", "drop"] = "keep"
    mask_truncated: bool = False
    gradient_checkpointing: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    num_threads: int | None = None
    seed: int = 0
    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        loss_named(self.loss)
        choices: dict[str, tuple[str, ...]] = {
            "advantage": tuple(ADVANTAGES),
            "zero_variance": ("keep", "drop"),
            "kl_estimator": ("k1", "k2", "k3"),
            "credit": ("trajectory", "turn"),
            "dtype": ("float32", "bfloat16"),
            "layout": ("rows", "packed"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise OrchError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("updates_per_batch", "max_tokens_per_microbatch", "length_constant"):
            if getattr(self, name) < 1:
                raise OrchError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise OrchError(
                f"the learner needs a sampling temperature above 0, got {self.temperature}"
            )
        if not 0 < self.clip_low < 1 or not self.clip_high > 0 or not self.advantage_eps > 0:
            raise OrchError("clip_low must be in (0, 1), clip_high and advantage_eps above 0")
        if self.entropy_coeff < 0 or self.kl_coeff < 0:
            raise OrchError("entropy_coeff and kl_coeff must not be negative")
        Correction(self.correction, self.correction_cap, self.correction_mask)

    @property
    def clip(self) -> ClipRange:
        """The ratio's trust region."""
        return ClipRange(self.clip_low, self.clip_high)

    @property
    def correction_settings(self) -> Correction:
        """How the mismatch between sampling and learning is corrected."""
        return Correction(self.correction, self.correction_cap, self.correction_mask)

    @property
    def needs_every_trajectory(self) -> bool:
        """Whether a trajectory with advantage 0 has a gradient too."""
        return self.entropy_coeff > 0 or self.kl_coeff > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LearnerSettings:
        """Undo :meth:`to_dict`."""
        optimizer = dict(data["optimizer"])
        optimizer["betas"] = tuple(optimizer["betas"])
        known = {**data, "optimizer": OptimizerSettings(**optimizer)}
        if known.get("correction_mask") is not None:
            known["correction_mask"] = tuple(known["correction_mask"])
        return cls(**{**known, "lora": LoraSettings.from_dict(known.get("lora"))})
