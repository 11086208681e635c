"""The learner's part of a configuration, in the learner's own words.

Apart so that neither side depends on the other: the configuration imports without torch, and the
learner can be used without a configuration.
"""

from __future__ import annotations

from orch_train.config import Settings
from orch_train.learner.lora import LoraSettings
from orch_train.learner.optimizer import OptimizerSettings
from orch_train.learner.settings import LearnerSettings


def learner_settings(settings: Settings) -> LearnerSettings:
    """Translate the groups ``training``, ``learners``, ``rollouts`` and ``model``."""
    training, learners = settings.training, settings.learners
    return LearnerSettings(
        optimizer=OptimizerSettings(
            lr=training.lr,
            weight_decay=training.weight_decay,
            grad_clip=training.grad_clip,
            lr_schedule=training.lr_schedule,
            warmup_updates=training.lr_warmup_updates,
            total_updates=training.iterations * training.updates_per_batch,
        ),
        loss=training.loss,
        clip_low=training.clip_low,
        clip_high=training.clip_high,
        advantage=training.advantage,
        advantage_eps=training.advantage_eps,
        length_constant=training.length_constant,
        updates_per_batch=training.updates_per_batch,
        max_tokens_per_microbatch=learners.max_tokens_per_microbatch,
        layout=learners.layout,
        temperature=settings.rollouts.temperature,
        entropy_coeff=training.entropy_coeff,
        kl_coeff=training.kl_coeff,
        kl_estimator=training.kl_estimator,
        correction=training.correction,
        correction_cap=training.correction_cap,
        correction_mask=training.correction_mask,
        credit=training.credit,
        zero_variance="keep" if training.zero_variance == "keep" else "drop",
        mask_truncated=training.mask_truncated,
        gradient_checkpointing=learners.gradient_checkpointing,
        dtype=settings.model.dtype,
        device="cuda" if learners.num_gpus_per_learner else "cpu",
        num_threads=learners.num_cpus_per_learner,
        seed=settings.debugging.seed,
        lora=_lora(settings),
    )


def _lora(settings: Settings) -> LoraSettings | None:
    model = settings.model
    if not model.lora_rank:
        return None
    alpha = model.lora_alpha or 2.0 * model.lora_rank
    return LoraSettings(model.lora_rank, alpha, model.lora_targets)
