"""What each fluent group method accepts, for type checkers and editors.

The same names as in `groups` (a test holds them together); every key is optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class EnvironmentArgs(TypedDict, total=False):
    """Of ``.environment(env, ...)``."""

    env_config: Mapping[str, Any]


class ModelArgs(TypedDict, total=False):
    """Of ``.model(path, ...)``."""

    dtype: Literal["float32", "bfloat16"]
    reference: str | None
    lora_rank: int
    lora_alpha: float | None
    lora_targets: Sequence[str]


class RolloutArgs(TypedDict, total=False):
    """Of ``.rollouts(...)``."""

    engine: str
    engine_config: Mapping[str, Any]
    temperature: float
    max_tokens_per_turn: int
    max_context: int
    min_tokens_per_turn: int


class EnvRunnerArgs(TypedDict, total=False):
    """Of ``.env_runners(...)``."""

    num_env_runners: int
    num_envs_per_env_runner: int
    num_cpus_per_env_runner: float
    num_gpus_per_env_runner: float
    tensor_parallel_size: int
    placement: Literal["auto", "none", "separate", "colocated"]
    weight_sync: Literal["auto", "host", "collective"]
    max_requests_in_flight_per_env_runner: int | None
    sample_timeout_s: float
    env_step_timeout_s: float | None
    ray_address: str


class LearnerArgs(TypedDict, total=False):
    """Of ``.learners(...)``."""

    num_learners: int
    num_cpus_per_learner: int | None
    num_gpus_per_learner: int
    learner_timeout_s: float
    max_tokens_per_microbatch: int
    layout: Literal["rows", "packed"]
    gradient_checkpointing: bool


class TrainingArgs(TypedDict, total=False):
    """Of ``.training(...)``."""

    iterations: int
    groups_per_batch: int
    group_size: int
    updates_per_batch: int
    lr: float
    lr_schedule: Literal["constant", "linear", "cosine"]
    lr_warmup_updates: int
    weight_decay: float
    grad_clip: float
    loss: str
    clip_low: float
    clip_high: float
    advantage: Literal["group_mean", "group_std", "leave_one_out"]
    advantage_eps: float
    length_constant: int
    entropy_coeff: float
    kl_coeff: float
    kl_estimator: Literal["k1", "k2", "k3"]
    correction: Literal["none", "token_tis", "sequence_tis"]
    correction_cap: float
    correction_mask: Sequence[float] | None
    credit: Literal["trajectory", "turn"]
    max_staleness: int
    straggler_steps: int
    zero_variance: Literal["keep", "drop", "resample"]
    max_resample_rounds: int
    mask_truncated: bool


class EvaluationArgs(TypedDict, total=False):
    """Of ``.evaluation(...)``."""

    evaluation_interval: int
    evaluation_at_start: bool
    tasks: str | None
    split: str | None
    num_tasks: int | None
    temperatures: Sequence[float]
    samples_per_task: int
    pass_at: Sequence[int]
    seed: int


class FaultToleranceArgs(TypedDict, total=False):
    """Of ``.fault_tolerance(...)``."""

    restart_failed_env_runners: bool
    max_num_env_runner_restarts: int
    delay_between_env_runner_restarts_s: float
    env_runner_health_probe_timeout_s: float
    env_runner_restore_timeout_s: float
    max_group_attempts: int


class ReportingArgs(TypedDict, total=False):
    """Of ``.reporting(...)``."""

    log_dir: str
    run_name: str | None
    tensorboard: bool
    wandb_project: str | None
    wandb_mode: Literal["online", "offline"]
    trace_steps: int
    store_rollouts: bool
    checkpoint_interval: int
    keep_checkpoints: int | None


class DebuggingArgs(TypedDict, total=False):
    """Of ``.debugging(...)``."""

    seed: int
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class SFTArgs(TypedDict, total=False):
    """Of ``.sft(...)``."""

    model: str | None
    out: str | None
    tasks: str | None
    num_tasks: int | None
    copies: int
    corruption: float
    mistakes: Sequence[str]
    max_tokens: int | None
    batch_size: int
    lr: float
    lr_warmup_updates: int
    weight_decay: float
    grad_clip: float
    max_steps: int | None
    max_epochs: float | None
    max_seconds: float | None
    eval_every: int
    eval_at_start: bool
    target_success: Sequence[float] | None
    seed: int | None
