"""The groups of a configuration: one frozen model each, every field with its unit and its reason.

Light on purpose: no torch, no ray, so that a wrong key is found in a fraction of a second. The
hard decision: only three batch numbers exist, and all of them count episodes or groups of them
(``groups_per_batch``, ``group_size``, ``updates_per_batch``); memory is bounded by a token budget
(``learners.max_tokens_per_microbatch``) that never changes a gradient.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, protected_namespaces=(), validate_default=True
    )


class EnvironmentSettings(_Frozen):
    """Which environment, and what it is made with.

    Attributes:
        env: a registered Gymnasium id; ``package.module:id`` imports the module first, which
            runners in other processes need for environments of your own.
        env_config: keyword arguments of ``gym.make``: ``tasks``, ``cache``, ``reward``,
            ``call_format``, ``max_turns``, ...; paths are relative to the current directory.
    """

    env: str = "orch_env/ToolOrchestration-v0"
    env_config: dict[str, Any] = Field(default_factory=dict)


class ModelSettings(_Frozen):
    """The policy.

    Attributes:
        path: folder of a Hugging Face model with its tokenizer, or a hub id.
        dtype: parameters and forward passes of learner and engine; log-probabilities are
            always computed in float32.
        reference: folder or hub id of the KL penalty's reference policy; null: ``path``, the
            model that training starts from. Only read where ``training.kl_coeff`` is above 0.
        lora_rank: train adapters of this rank instead of the weights (LoRA; needs peft, the extra
            ``lora``); 0 trains the weights. Engines and checkpoints get merged weights.
        lora_alpha: the adapters' output is scaled by ``lora_alpha / lora_rank``; null: by 2.
        lora_targets: last parts of the names of adapted layers (``q_proj``), or ``all-linear``:
            every linear layer but the output head.
    """

    path: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    reference: str | None = None
    lora_rank: Count = 0
    lora_alpha: PositiveFloat | None = None
    lora_targets: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("all-linear",)

    @property
    def lora(self) -> dict[str, Any] | None:
        """``{rank, alpha, targets}`` of the adapters as checkpoints hold it; ``None`` without."""
        if not self.lora_rank:
            return None
        alpha = self.lora_alpha or 2.0 * self.lora_rank
        return {"rank": self.lora_rank, "alpha": alpha, "targets": list(self.lora_targets)}


class RolloutSettings(_Frozen):
    """How episodes are sampled, and what ends them.

    Attributes:
        engine: inference engine of the runners: ``torch``, ``vllm``, or
            ``package.module:factory``.
        engine_config: further keyword arguments of that engine.
        temperature: above 0; GRPO needs the sampling distribution.
        max_tokens_per_turn: upper bound on the tokens of one message.
        max_context: upper bound on prompt and answer tokens of a whole episode.
        min_tokens_per_turn: a turn starts only if the context leaves this many tokens for it.

    The environment has limits of its own (``max_turns``, ``max_tool_calls``, ...) in
    ``environment.env_config``.
    """

    engine: str = "torch"
    engine_config: dict[str, Any] = Field(default_factory=dict)
    temperature: PositiveFloat = 1.0
    max_tokens_per_turn: PositiveInt = 512
    max_context: PositiveInt = 4096
    min_tokens_per_turn: PositiveInt = 1


class EnvRunnerSettings(_Frozen):
    """The rollout workers.

    Attributes:
        num_env_runners: Ray actors that sample; 0 runs the same code in this process, without Ray;
            a tool that never returns then stops the run, unless ``env_step_timeout_s`` is set.
        num_envs_per_env_runner: episodes that one runner keeps in flight.
        num_cpus_per_env_runner: CPUs that Ray reserves for a runner; also its compute threads.
        num_gpus_per_env_runner: GPUs that Ray reserves for a runner; a fraction shares one.
        tensor_parallel_size: GPUs over which the engine of one runner splits its model (``vllm``);
            then ``num_gpus_per_env_runner`` is the same number.
        placement: ``separate`` reserves a place for every runner and learner, ``colocated`` puts
            runner i and learner i on one GPU, ``none`` leaves it to Ray; ``auto``: ``none``
            without GPUs, else ``separate`` where it fits, else ``colocated``.
        weight_sync: ``host`` hands new weights over in host memory (Ray's object store);
            ``collective`` broadcasts them from the learner to all runners at once (NCCL on GPUs,
            gloo on CPUs; ``torch`` and ``vllm`` engines); ``auto``: ``collective`` where learner
            actors and runners have whole GPUs of their own, else ``host``.
        max_requests_in_flight_per_env_runner: groups (of ``training.group_size``) queued at one
            runner; null: enough to fill its environments, and one to spare.
        sample_timeout_s: a runner that has not brought a group back after this long counts as
            hung: it is replaced, and its groups are given out again.
        env_step_timeout_s: null: environments answer on the runner's event loop, right for
            recorded responses; a number: each has a thread of its own, so that slow tools wait
            side by side, and a call that takes longer gives up its episode's group, which is
            sampled again.
        ray_address: ``local`` starts Ray on this machine; else the address of a cluster.
    """

    num_env_runners: Count = 1
    num_envs_per_env_runner: PositiveInt = 32
    num_cpus_per_env_runner: PositiveFloat = 1.0
    num_gpus_per_env_runner: Amount = 0.0
    tensor_parallel_size: PositiveInt = 1
    placement: Literal["auto", "none", "separate", "colocated"] = "auto"
    weight_sync: Literal["auto", "host", "collective"] = "auto"
    max_requests_in_flight_per_env_runner: PositiveInt | None = None
    sample_timeout_s: PositiveFloat = 1800.0
    env_step_timeout_s: PositiveFloat | None = None
    ray_address: str = "local"


class LearnerGroupSettings(_Frozen):
    """Where and in which portions the update is computed.

    Attributes:
        num_learners: 0 or 1: one learner, in the driver process; more: Ray actors that share one
            model (FSDP2), each with a share of the tokens.
        num_cpus_per_learner: compute threads of a learner, and of an actor the CPUs that Ray
            reserves; null leaves torch's own choice, and reserves 1.
        num_gpus_per_learner: 0 learns on the CPU, 1 on the GPU.
        learner_timeout_s: a call to learner actors (start, update, weights, checkpoint) that takes
            longer counts as hung and ends the run.
        max_tokens_per_microbatch: tokens of one forward pass of a learner; bounds memory, not the
            result.
        layout: ``packed`` (end to end, no padding) or ``rows`` (padded; works with any attention).
        gradient_checkpointing: recompute activations in the backward pass: less memory, slower.
    """

    num_learners: Count = 0
    num_cpus_per_learner: PositiveInt | None = None
    num_gpus_per_learner: Annotated[int, Field(ge=0, le=1)] = 0
    learner_timeout_s: PositiveFloat = 1800.0
    max_tokens_per_microbatch: PositiveInt = 8192
    layout: Literal["rows", "packed"] = "packed"
    gradient_checkpointing: bool = False

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Torch device of a learner."""
        return "cuda" if self.num_gpus_per_learner else "cpu"


class TrainingSettings(_Frozen):
    """The algorithm.

    Attributes:
        iterations: training steps of a run; each samples one batch and learns from it.
        groups_per_batch: tasks in a batch.
        group_size: episodes sampled for each of them; at least 2, they are compared.
        updates_per_batch: optimizer steps on one batch.
        lr: learning rate of AdamW.
        lr_schedule: after the warm-up ``constant``, or ``linear`` or ``cosine`` down to 0 at the
            last iteration.
        lr_warmup_updates: optimizer steps over which it rises from 0.
        weight_decay: decoupled weight decay.
        grad_clip: bound on the gradient's norm.
        loss: ``grpo`` (mean within each episode, then over episodes), ``dapo`` (mean over all
            action tokens), ``dr_grpo`` (constant length), ``bnpo``, ``gspo`` (one ratio per
            episode), ``cispo`` (clipped weights), or a name given to
            `orch_train.learner.objective.loss.register_loss`; see there.
        clip_low: the probability ratio is clipped below at ``1 - clip_low``.
        clip_high: the ratio is clipped above at ``1 + clip_high``.
        advantage: ``group_mean``: r - mean; ``group_std``: that over (std + advantage_eps);
            ``leave_one_out``: r - mean of the others.
        advantage_eps: added to the group's standard deviation, in reward units.
        length_constant: tokens per episode that ``dr_grpo`` divides by.
        entropy_coeff: weight of an entropy bonus.
        kl_coeff: weight of a KL penalty against the reference policy (``model.reference``).
        kl_estimator: ``k1``, ``k2`` or ``k3``, see `orch_train.learner.objective.kl_penalty`.
        correction: what is done about the gap between the policy that sampled a token and the
            learner's: ``none`` (the ratio is to the recorded policy, its clip is all), or
            truncated importance weights per token (``token_tis``) or episode (``sequence_tis``).
        correction_cap: largest importance weight.
        correction_mask: ``[low, high]`` around 1: episodes whose mean ratio is outside of it are
            not learnt from; null: all are.
        credit: ``trajectory``: one advantage for a whole episode; ``turn``: each message is
            judged by what was earned from it on, for rewards that say what each turn earned.
        max_staleness: steps by which sampling may run ahead of the weights: 0 samples and learns in
            turn; from 1 on both go on at the same time, and no token that is learned from is
            older than this many weight versions.
        straggler_steps: steps by which slow groups may exceed ``max_staleness`` instead of being
            waited for. No more are sampled ahead for it, so the others stay as fresh; 0 waits.
        zero_variance: groups whose rewards are all equal: ``keep`` (advantage 0), ``drop``, or
            ``resample`` other tasks instead.
        max_resample_rounds: bound on those further rounds; then the batch stays smaller.
        mask_truncated: episodes that the context or the length of a message cut off are compared
            within their group as ever, but none of their own tokens is learned from.
    """

    iterations: PositiveInt = 100
    groups_per_batch: PositiveInt = 16
    group_size: Annotated[int, Field(ge=2)] = 8
    updates_per_batch: PositiveInt = 1
    lr: PositiveFloat = 1e-6
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    lr_warmup_updates: Count = 0
    weight_decay: Amount = 0.0
    grad_clip: PositiveFloat = 1.0
    loss: str = "dapo"
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: PositiveFloat = 0.2
    advantage: Literal["group_mean", "group_std", "leave_one_out"] = "group_mean"
    advantage_eps: PositiveFloat = 1e-4
    length_constant: PositiveInt = 1024
    entropy_coeff: Amount = 0.0
    kl_coeff: Amount = 0.0
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    correction: Literal["none", "token_tis", "sequence_tis"] = "none"
    correction_cap: PositiveFloat = 2.0
    correction_mask: (
        Annotated[
            tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(gt=1)]],
            Field(strict=False),
        ]
        | None
    ) = None
    credit: Literal["trajectory", "turn"] = "trajectory"
    max_staleness: Count = 0
    straggler_steps: Count = 0
    zero_variance: Literal["keep", "drop", "resample"] = "keep"
    max_resample_rounds: Count = 2
    mask_truncated: bool = False

    @property
    def total_updates(self) -> int:
        """Optimizer steps of the run, where a falling schedule ends."""
        return self.iterations * self.updates_per_batch


class EvaluationSettings(_Frozen):
    """Held-out measurement.

    Attributes:
        evaluation_interval: training steps between evaluations; 0: never.
        evaluation_at_start: also measure before the first step.
        tasks: held-out tasks: a file or a bundled data set; null: the training file.
        split: keep only the tasks of this split; with ``tasks`` null it must be given.
        num_tasks: how many of them, the first in file order; null: all.
        temperatures: one pass each; 0 is greedy.
        samples_per_task: episodes per task and pass, n; a greedy pass plays each task once.
        pass_at: the k of ``pass_at_k``, the chance that one of k episodes succeeds, estimated from
            all n; each at most ``samples_per_task``.
        seed: sampling seed; the same at every evaluation, so that changes are the policy's.
    """

    evaluation_interval: Count = 0
    evaluation_at_start: bool = False
    tasks: str | None = None
    split: str | None = None
    num_tasks: PositiveInt | None = None
    temperatures: Annotated[
        tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...],
        Field(min_length=1, strict=False),
    ] = (1.0, 0.0)
    samples_per_task: PositiveInt = 1
    pass_at: Annotated[tuple[PositiveInt, ...], Field(min_length=1, strict=False)] = (1,)
    seed: Count = 0


class FaultToleranceSettings(_Frozen):
    """What happens when a runner dies.

    Attributes:
        restart_failed_env_runners: start a new one in its place.
        max_num_env_runner_restarts: over the whole run; then the run stops with an error.
        delay_between_env_runner_restarts_s: first delay; it doubles up to 30 s while restarts
            keep failing.
        env_runner_health_probe_timeout_s: a runner that does not answer a ping for this long is
            killed and replaced.
        env_runner_restore_timeout_s: time a new runner may take to load its model.
        max_group_attempts: times that one group is tried before the run stops with an error.
    """

    restart_failed_env_runners: bool = True
    max_num_env_runner_restarts: Count = 100
    delay_between_env_runner_restarts_s: Amount = 1.0
    env_runner_health_probe_timeout_s: PositiveFloat = 30.0
    env_runner_restore_timeout_s: PositiveFloat = 600.0
    max_group_attempts: PositiveInt = 5


class ReportingSettings(_Frozen):
    """What a run leaves behind.

    Attributes:
        log_dir: parent folder of run folders.
        run_name: the run's folder; null: the configuration file's name, numbered if taken.
        tensorboard: write ``RUN/tensorboard``.
        wandb_project: log to this project of Weights & Biases (needs the package ``wandb``);
            null: not at all.
        wandb_mode: ``online``, or ``offline``: files in ``RUN/wandb`` for ``wandb sync``.
        trace_steps: the newest training steps that ``RUN/trace.json`` shows on a time line (for
            ui.perfetto.dev or chrome://tracing); 0: no trace.
        store_rollouts: write every episode, tokens included, to ``RUN/rollouts.db``.
        checkpoint_interval: training steps between checkpoints; 0: only at the end and when
            interrupted.
        keep_checkpoints: the newest that stay; null: all.
    """

    log_dir: str = "runs"
    run_name: str | None = None
    tensorboard: bool = True
    wandb_project: str | None = None
    wandb_mode: Literal["online", "offline"] = "online"
    trace_steps: Count = 2
    store_rollouts: bool = True
    checkpoint_interval: Count = 10
    keep_checkpoints: PositiveInt | None = 3


class DebuggingSettings(_Frozen):
    """Reproduction and logs.

    Attributes:
        seed: of task order, environments and sampling.
        log_level: of this package's loggers.
    """

    seed: Count = 0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"


class SFTGroupSettings(_Frozen):
    """The supervised warm start (``orch sft``); at least one of its three bounds must be set.

    Attributes:
        model: the model to start from; null: ``model.path``.
        out: the run's folder, its model is ``OUT/model``; null: ``reporting.log_dir/NAME-sft``.
        tasks: tasks to demonstrate; null: those of ``environment.env_config``.
        num_tasks: how many of them, the first in file order; null: all.
        copies: demonstrations per task.
        corruption: share of demonstrations that contain one mistake, 0..1.
        mistakes: which ones: ``stopped_early``, ``wrong_tool``, ``wrong_argument``,
            ``repeated_call``.
        max_tokens: longer demonstrations are cut after the last message that fits; null:
            ``rollouts.max_context``.
        batch_size: demonstrations per optimizer step.
        lr: learning rate of AdamW.
        lr_warmup_updates: optimizer steps over which it rises from 0.
        weight_decay: decoupled weight decay.
        grad_clip: bound on the gradient's norm.
        max_steps: bound on optimizer steps.
        max_epochs: bound on passes over the demonstrations.
        max_seconds: bound on training time, evaluations apart.
        eval_every: optimizer steps between evaluations (see the group ``evaluation``); 0: never.
        eval_at_start: evaluate before the first step too.
        target_success: ``[low, high]``: stop at the first evaluation whose success, at the first of
            ``evaluation.temperatures``, is at or above low; null: never for this reason.
        seed: of the order and of the mistakes; null: ``debugging.seed``.
    """

    model: str | None = None
    out: str | None = None
    tasks: str | None = None
    num_tasks: PositiveInt | None = None
    copies: PositiveInt = 1
    corruption: Annotated[float, Field(ge=0, le=1)] = 0.0
    mistakes: Annotated[
        tuple[Literal["stopped_early", "wrong_tool", "wrong_argument", "repeated_call"], ...],
        Field(min_length=1, strict=False),
    ] = ("stopped_early", "wrong_tool", "wrong_argument", "repeated_call")
    max_tokens: Annotated[int, Field(ge=2)] | None = None
    batch_size: PositiveInt = 16
    lr: PositiveFloat = 1e-4
    lr_warmup_updates: Count = 0
    weight_decay: Amount = 0.0
    grad_clip: PositiveFloat = 1.0
    max_steps: PositiveInt | None = None
    max_epochs: PositiveFloat | None = 1.0
    max_seconds: PositiveFloat | None = None
    eval_every: Count = 0
    eval_at_start: bool = False
    target_success: (
        Annotated[
            tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]],
            Field(strict=False),
        ]
        | None
    ) = None
    seed: Count | None = None


class Settings(_Frozen):
    """A whole, checked configuration; what the rest of the package reads."""

    environment: EnvironmentSettings = EnvironmentSettings()
    model: ModelSettings = ModelSettings()
    rollouts: RolloutSettings = RolloutSettings()
    env_runners: EnvRunnerSettings = EnvRunnerSettings()
    learners: LearnerGroupSettings = LearnerGroupSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    fault_tolerance: FaultToleranceSettings = FaultToleranceSettings()
    reporting: ReportingSettings = ReportingSettings()
    debugging: DebuggingSettings = DebuggingSettings()
    sft: SFTGroupSettings = SFTGroupSettings()
