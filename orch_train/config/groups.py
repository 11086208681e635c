"""The groups of a configuration: one frozen model each, every setting with its unit and reason.

This module imports neither torch nor ray, so a wrong key is found in a fraction of a second. There
are three batch numbers, ``groups_per_batch``, ``group_size`` and ``updates_per_batch``, and all of
them count episodes or groups of episodes. Memory is bounded by
``learners.max_tokens_per_microbatch``, which never changes a gradient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

OUR_ENV = "orch_env/ToolOrchestration-v0"
ENGINES = ("torch", "vllm", "scripted")
LOSSES = ("grpo", "dapo", "dr_grpo", "bnpo", "gspo", "cispo")
registered_losses: set[str] = set()
"""Losses that ``register_loss`` has added in this process."""


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"must be plain JSON data ({problem})") from problem
    return value


PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LearningRate = Annotated[
    float, Field(gt=0, allow_inf_nan=False, description="learning rate of AdamW.")
]
Share = Annotated[float, Field(ge=0, le=1)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_plain)]

RESERVED_TEMPLATE_KWARGS = (
    "messages",
    "conversation",
    "tools",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
)
"""What the renderer itself passes to a chat template, or what the tokenizer takes for its own."""


def check_template_kwargs(value: dict[str, Any]) -> dict[str, Any]:
    """Further variables of a chat template, which must not be ours.

    Raises:
        ValueError: one is set by the renderer, or is no name that a template can read.
    """
    for name in value:
        if name in RESERVED_TEMPLATE_KWARGS:
            raise ValueError(f"{name!r} is set by the renderer itself; leave it out")
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name that a template can read")
    return value


TemplateKwargs = Annotated[JsonObject, AfterValidator(check_template_kwargs)]
SystemTools = Literal["auto", "always", "never"]


class _Group(BaseModel):
    # The text below a field becomes its `description`, in the reference page and in editors.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    def _conflicts(self) -> Iterator[str]:
        """What is wrong between fields that are sound each by itself."""
        yield from ()

    @model_validator(mode="after")
    def _fields_fit_together(self, info: ValidationInfo) -> Self:
        """Refuse conflicts; a list that is given as the context collects them instead."""
        problems = list(self._conflicts())
        if info.context is not None:
            info.context.extend(problems)
        elif problems:
            raise ValueError("; ".join(problems))
        return self


class EnvironmentSettings(_Group):
    """The environment, and the arguments that it is made with."""

    env: str = OUR_ENV
    """a registered Gymnasium id. ``package.module:id`` imports the module first; runners in other
    processes need that for environments of your own."""
    env_config: JsonObject = Field(default_factory=dict)
    """keyword arguments of ``gym.make``: ``tasks``, ``cache``, ``reward``, ``call_format``, limits
    such as ``max_turns``, ...; paths are relative to the current directory."""
    task_weights: Literal["uniform", "pass_rate"] = "uniform"
    """how often a task is trained. ``uniform``: once an epoch. ``pass_rate``: an epoch has a task
    with the chance ``max(0.1, 4 p (1 - p))``, where ``p`` is the pass rate that `orch synth filter`
    stored with it; tasks without one are in every epoch."""
    num_tasks: PositiveInt | None = None
    """how many tasks an environment of your own has that offers no ``tasks``: task N is
    ``reset(seed=N)``, and held-out tasks are the seeds that follow. null: it has ``tasks``."""


class ModelSettings(_Group):
    """The policy."""

    path: str = ""
    """a folder with a Hugging Face model and its tokenizer, the name of a bundled model
    (``tiny`` or ``reader``), or a hub id (``org/name``)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the parameters and forward passes of learner and engine; log-probabilities are
    always computed in float32."""
    reference: str | None = None
    """reference policy of the KL penalty, given like ``path``; null: the model that training
    starts from. Needs a ``training.kl_coeff`` above 0."""
    lora_rank: Count = 0
    """rank of the adapters that are trained instead of the weights (LoRA; needs peft, the extra
    ``lora``); 0: the weights are trained. Engines and checkpoints get merged weights."""
    lora_alpha: PositiveFloat | None = None
    """the adapters' output is scaled by ``lora_alpha / lora_rank``; null: by 2."""
    lora_targets: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("all-linear",)
    """layers that get an adapter, by the last part of their name (``q_proj``); ``all-linear``:
    every linear layer except the output head."""

    @property
    def lora(self) -> dict[str, Any] | None:
        """``{rank, alpha, targets}`` of the adapters as checkpoints hold it; ``None`` without."""
        if not self.lora_rank:
            return None
        alpha = self.lora_alpha or 2.0 * self.lora_rank
        return {"rank": self.lora_rank, "alpha": alpha, "targets": list(self.lora_targets)}

    def _conflicts(self) -> Iterator[str]:
        if self.lora_alpha is not None and not self.lora_rank:
            yield "model.lora_alpha is only read with a model.lora_rank above 0"


class RolloutSettings(_Group):
    """How episodes are sampled, and what ends them."""

    engine: str = "torch"
    """inference engine of the runners: ``torch``, ``vllm``, ``scripted``, or a factory of your own,
    ``package.module:factory``."""
    engine_config: JsonObject = Field(default_factory=dict)
    """further keyword arguments of the engine."""
    temperature: PositiveFloat = 1.0
    """sampling temperature; above 0, because GRPO compares sampled episodes."""
    max_tokens_per_turn: PositiveInt = 512
    """most tokens in one message of the model."""
    max_context: PositiveInt = 4096
    """most tokens in an episode, prompt and tool outputs included."""
    min_tokens_per_turn: PositiveInt = 1
    """a turn starts only if at least this many tokens of ``max_context`` are left."""
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """further variables for the chat template, such as ``{enable_thinking: false}`` or a fixed
    ``date_string`` for templates that print today's date."""
    system_tools: SystemTools = "auto"
    """who offers the tools. ``auto``: the chat template, or the system message if the template
    ignores tools; ``always``: the system message, which has to be set where the template teaches
    another ``call_format``; ``never``: the template."""

    def _conflicts(self) -> Iterator[str]:
        if self.max_tokens_per_turn >= self.max_context:
            yield (
                f"rollouts.max_tokens_per_turn ({self.max_tokens_per_turn}) must be below "
                f"rollouts.max_context ({self.max_context}): the prompt needs room too"
            )
        if self.engine not in ENGINES and ":" not in self.engine:
            yield (
                f"rollouts.engine: no engine {self.engine!r} (there are: {', '.join(ENGINES)}, or "
                "package.module:factory)"
            )


class EnvRunnerSettings(_Group):
    """The rollout workers."""

    num_env_runners: Count = 1
    """Ray actors that sample. 0: this process samples, without Ray; a tool that never returns then
    stops the run, unless ``env_step_timeout_s`` is set."""
    num_envs_per_env_runner: PositiveInt = 32
    """episodes that one runner plays at the same time."""
    num_cpus_per_env_runner: PositiveFloat = 1.0
    """CPUs that Ray reserves for a runner; also the number of its compute threads."""
    num_gpus_per_env_runner: Amount = 0.0
    """GPUs that Ray reserves for a runner; a fraction shares one with other processes."""
    tensor_parallel_size: PositiveInt = 1
    """GPUs over which the engine of one runner splits its model (``vllm``); must be equal to
    ``num_gpus_per_env_runner`` if it is above 1."""
    placement: Literal["auto", "none", "separate", "colocated"] = "auto"
    """``separate`` reserves resources for every runner and learner, ``colocated`` puts runner i
    and learner i on one GPU, ``none`` leaves it to Ray; ``auto``: ``none`` without GPUs, else
    ``separate`` if it fits, else ``colocated``."""
    weight_sync: Literal["auto", "host", "collective"] = "auto"
    """how new weights reach the runners. ``host``: through host memory (Ray's object store).
    ``collective``: the learner broadcasts them to all runners at once (NCCL on GPUs, gloo on CPUs;
    ``torch`` and ``vllm`` engines). ``auto``: ``collective`` if learner actors and runners have
    whole GPUs of their own, else ``host``."""
    max_requests_in_flight_per_env_runner: PositiveInt | None = None
    """groups (of ``training.group_size`` episodes) queued at one runner; null: as many groups as
    its environments hold, plus one."""
    sample_timeout_s: PositiveFloat = 1800.0
    """seconds in which a runner must return a group. If it does not, it is replaced, and its groups
    are sampled by others."""
    env_step_timeout_s: PositiveFloat | None = None
    """null: environments run on the runner's event loop, which is right for recorded responses. A
    number: each environment has its own thread, so slow tools wait at the same time; if a call
    takes longer than these seconds, the group of its episode is dropped and sampled again."""
    ray_address: str = "local"
    """``local`` starts Ray on this machine; else the address of a cluster."""

    def _conflicts(self) -> Iterator[str]:
        parallel, gpus = self.tensor_parallel_size, self.num_gpus_per_env_runner
        if parallel > 1 and gpus != parallel:
            yield (
                f"env_runners.tensor_parallel_size ({parallel}) needs as many GPUs per runner: set "
                f"env_runners.num_gpus_per_env_runner to {parallel} (got {gpus:g})"
            )


class LearnerGroupSettings(_Group):
    """Where the update is computed, and in which portions."""

    num_learners: Count = 0
    """0: the driver process learns. 1 or more: that many Ray actors, whose CPUs and GPUs Ray
    reserves; several shard one model (FSDP2) and share the tokens of a batch."""
    num_cpus_per_learner: PositiveInt | None = None
    """compute threads of a learner, and the CPUs that Ray reserves for an actor; null: torch's own
    number of threads, and 1 CPU reserved."""
    num_gpus_per_learner: Annotated[int, Field(ge=0, le=1)] = 0
    """0: the learner computes on the CPU; 1: on a GPU."""
    learner_timeout_s: PositiveFloat = 1800.0
    """seconds that a call to learner actors (start, update, weights, checkpoint) may take; after
    them the run ends with an error."""
    max_tokens_per_microbatch: PositiveInt = 8192
    """tokens in one forward pass of a learner, padding included; bounds memory and never changes
    the result."""
    layout: Literal["rows", "packed"] = "packed"
    """``packed``: sequences end to end, without padding; ``rows``: padded, for models whose
    attention cannot take packed sequences."""
    gradient_checkpointing: bool = False
    """compute activations again in the backward pass: less memory, slower."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Torch device of a learner."""
        return "cuda" if self.num_gpus_per_learner else "cpu"


class OptimizerSettings(_Group):
    """AdamW, for GRPO and for the warm start alike."""

    lr: LearningRate
    lr_warmup_updates: Count = 0
    """optimizer steps over which the learning rate rises linearly to ``lr``."""
    weight_decay: Amount = 0.0
    """decoupled weight decay, on matrices only."""
    grad_clip: PositiveFloat = 1.0
    """largest norm of the gradient; a longer one is scaled down to it."""


class TrainingSettings(OptimizerSettings):
    """The algorithm."""

    lr: LearningRate = 1e-6
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """after the warm-up: ``constant``, or ``linear`` or ``cosine`` down to 0, which
    is reached after the last step. Steps without any signal, which change no weights, count."""
    iterations: PositiveInt = 100
    """training steps of a run; each samples one batch and learns from it."""
    groups_per_batch: PositiveInt = 16
    """tasks in a batch; each gives one group of episodes."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """episodes per task; at least 2, because they are compared with each other."""
    updates_per_batch: PositiveInt = 1
    """optimizer steps on one batch, each on all of it."""
    loss: str = "dapo"
    """``grpo`` (mean within each episode, then over episodes), ``dapo`` (mean over all action
    tokens), ``dr_grpo`` (constant length), ``bnpo`` (as ``dapo``), ``gspo`` (one ratio per
    episode), ``cispo`` (clipped weights), or a name given to ``register_loss``; docs/losses.md has
    the equations."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """the probability ratio is clipped below at ``1 - clip_low``."""
    clip_high: PositiveFloat = 0.2
    """the probability ratio is clipped above at ``1 + clip_high``."""
    advantage: Literal["group_mean", "group_std", "leave_one_out"] = "group_mean"
    """of an episode with reward r: ``group_mean``: r - mean of its group; ``group_std``: that,
    divided by (standard deviation + ``advantage_eps``); ``leave_one_out``: r - mean of the
    group's other episodes."""
    advantage_eps: PositiveFloat = 1e-4
    """added to the group's standard deviation, in reward units."""
    length_constant: PositiveInt = 1024
    """tokens per episode that ``dr_grpo`` divides by."""
    entropy_coeff: Amount = 0.0
    """weight of an entropy bonus."""
    kl_coeff: Amount = 0.0
    """weight of a KL penalty against the reference policy (``model.reference``)."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """estimator of that penalty: ``k1``, ``k2`` or ``k3``; docs/losses.md has the equations."""
    correction: Literal["none", "token_tis", "sequence_tis"] = "none"
    """importance weights for the gap between the policy that sampled a token and the learner's:
    ``none`` (only the clip of the ratio bounds it), or truncated ones per token (``token_tis``) or
    per episode (``sequence_tis``)."""
    correction_cap: PositiveFloat = 2.0
    """largest importance weight."""
    correction_mask: (
        Annotated[
            tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(gt=1)]],
            Field(strict=False),
        ]
        | None
    ) = None
    """``[low, high]`` around 1: an episode whose geometric mean ratio is outside is not learned
    from; null: all episodes are."""
    credit: Literal["trajectory", "turn"] = "trajectory"
    """``trajectory``: one advantage for the whole episode. ``turn``: the advantage of a message
    comes from the reward earned from it on, for rewards that say what each turn earned."""
    max_staleness: Count = 0
    """how many steps sampling may be ahead of the learner. 0: they take turns. 1 or more: both run
    at the same time, and no token that is learned from is older than this many weight versions."""
    straggler_steps: Count = 0
    """groups that are due may arrive up to this many steps late; the number of groups in flight
    does not change. 0: the learner waits for them."""
    zero_variance: Literal["keep", "drop", "resample"] = "keep"
    """groups whose rewards are all equal: ``keep`` (their advantage is 0, their tokens count in the
    loss's denominator), ``drop``, or ``resample`` other tasks instead."""
    max_resample_rounds: Count = 2
    """how often ``resample`` tries again in one step; then the batch stays smaller."""
    mask_truncated: bool = False
    """do not learn from the tokens of an episode that a token limit cut off; its group is still
    compared with it."""

    @property
    def total_updates(self) -> int:
        """Optimizer steps of the run, where a falling schedule ends."""
        return self.iterations * self.updates_per_batch

    def _conflicts(self) -> Iterator[str]:
        losses = (*LOSSES, *sorted(registered_losses))
        if self.loss not in losses:
            yield f"training.loss: no loss {self.loss!r} (there are: {', '.join(losses)})"
        if self.lr_schedule != "constant" and self.lr_warmup_updates >= self.total_updates:
            yield (
                f"training.lr_warmup_updates ({self.lr_warmup_updates}) must be below the run's "
                f"{self.total_updates} optimizer steps (training.iterations x "
                "training.updates_per_batch)"
            )
        if self.correction_mask is not None and self.correction == "none":
            yield "training.correction_mask needs training.correction to be switched on"
        if self.straggler_steps and not self.max_staleness:
            yield "training.straggler_steps needs a training.max_staleness above 0"
        episodes = self.groups_per_batch * self.group_size
        if self.updates_per_batch > episodes:
            yield (
                f"training.updates_per_batch ({self.updates_per_batch}) exceeds the batch's "
                f"{episodes} episodes (training.groups_per_batch x training.group_size)"
            )


class EvaluationSettings(_Group):
    """Measurement on held-out tasks."""

    evaluation_interval: Count = 0
    """training steps between evaluations; 0: never."""
    evaluation_at_start: bool = False
    """also evaluate before the first step."""
    tasks: str | None = None
    """held-out tasks: a file or a bundled data set; null: the training file."""
    split: str | None = None
    """only the tasks of this split; must be given if ``tasks`` is null."""
    num_tasks: PositiveInt | None = None
    """how many of them, spread evenly over their domains; the same ones in every run; null: all."""
    temperatures: Annotated[tuple[Amount, ...], Field(min_length=1, strict=False)] = (1.0, 0.0)
    """all tasks are played once at each of these temperatures; 0 is greedy."""
    samples_per_task: PositiveInt = 1
    """n, the episodes per task and temperature; a greedy one plays each task once."""
    pass_at: Annotated[tuple[PositiveInt, ...], Field(min_length=1, strict=False)] = (1,)
    """the k of ``pass_at_k``, the chance that one of k episodes succeeds, estimated from all n;
    each at most ``samples_per_task``."""
    seed: Count = 0
    """sampling seed; the same at every evaluation, so only the policy changes."""

    @property
    def is_on(self) -> bool:
        """Whether training measures on held-out tasks."""
        return self.evaluation_interval > 0 or self.evaluation_at_start

    def _conflicts(self) -> Iterator[str]:
        if max(self.pass_at) > self.samples_per_task:
            yield (
                f"evaluation.pass_at: pass@{max(self.pass_at)} needs evaluation.samples_per_task "
                f"of at least as many, got {self.samples_per_task}"
            )


class FaultToleranceSettings(_Group):
    """What happens when a runner dies."""

    restart_failed_env_runners: bool = True
    """start a new runner in place of a dead one."""
    max_num_env_runner_restarts: Count = 100
    """restarts in the whole run; one more ends it with an error."""
    delay_between_env_runner_restarts_s: Amount = 1.0
    """seconds before the first restart; they double up to 30 while restarts keep failing."""
    env_runner_health_probe_timeout_s: PositiveFloat = 30.0
    """seconds in which a runner must answer a ping, or it is killed and replaced."""
    env_runner_restore_timeout_s: PositiveFloat = 600.0
    """seconds that a new runner may take to load its model."""
    max_group_attempts: PositiveInt = 5
    """how often one group is tried before the run ends with an error."""


class ReportingSettings(_Group):
    """What a run leaves behind."""

    log_dir: str = "runs"
    """parent of the run folders."""
    run_name: str | None = None
    """name of the run's folder; null: that of the configuration file, numbered if it is taken."""
    tensorboard: bool = True
    """write ``RUN/tensorboard``."""
    wandb_project: str | None = None
    """log to this project of Weights & Biases (needs the package ``wandb``); null: do not."""
    wandb_mode: Literal["online", "offline"] = "online"
    """``online``, or ``offline``: files in ``RUN/wandb`` for ``wandb sync``."""
    trace_steps: Count = 2
    """the newest training steps that ``RUN/trace.json`` shows on a time line (for ui.perfetto.dev
    or chrome://tracing); 0: no such file."""
    store_rollouts: bool = True
    """write every episode, tokens included, to ``RUN/rollouts.db``."""
    checkpoint_interval: Count = 10
    """training steps between checkpoints; 0: only at the end and when interrupted."""
    keep_checkpoints: PositiveInt | None = 3
    """how many checkpoints stay, the newest; null: all."""


class DebuggingSettings(_Group):
    """Reproduction and logs."""

    seed: Count = 0
    """seed of task order, environments and sampling."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """level of this package's loggers."""


class SFTGroupSettings(OptimizerSettings):
    """The supervised warm start (``orch sft``); at least one of its three bounds must be set."""

    lr: LearningRate = 1e-4
    model: str | None = None
    """the model to start from; null: ``model.path``."""
    out: str | None = None
    """the run's folder, with the model in ``OUT/model``; null: ``reporting.log_dir/NAME-sft``."""
    tasks: str | None = None
    """tasks to demonstrate; null: those of ``environment.env_config``."""
    num_tasks: PositiveInt | None = None
    """how many of them, spread evenly over their domains; the same ones in every run; null: all."""
    copies: PositiveInt = 1
    """demonstrations per task."""
    corruption: Share = 0.0
    """share of demonstrations that contain one mistake, 0..1."""
    mistakes: Annotated[
        tuple[Literal["stopped_early", "wrong_tool", "wrong_argument", "repeated_call"], ...],
        Field(min_length=1, strict=False),
    ] = ("stopped_early", "wrong_tool", "wrong_argument", "repeated_call")
    """kinds of mistakes that are made."""
    max_tokens: Annotated[int, Field(ge=2)] | None = None
    """longer demonstrations end after the last message that fits; null:
    ``rollouts.max_context``."""
    batch_size: PositiveInt = 16
    """demonstrations per optimizer step."""
    max_steps: PositiveInt | None = None
    """most optimizer steps; null: no such bound."""
    max_epochs: PositiveFloat | None = 1.0
    """most passes over the demonstrations; null: no such bound."""
    max_seconds: PositiveFloat | None = None
    """most seconds of training, evaluations not counted; null: no such bound."""
    eval_every: Count = 0
    """optimizer steps between evaluations (as the group ``evaluation`` says); 0: never."""
    eval_at_start: bool = False
    """also evaluate before the first step."""
    target_success: Annotated[tuple[Share, Share], Field(strict=False)] | None = None
    """``[low, high]``: stop at the first evaluation whose success at the first of
    ``evaluation.temperatures`` is low or more; null: do not stop for this."""
    seed: Count | None = None
    """seed of the order and of the mistakes; null: ``debugging.seed``."""

    def _conflicts(self) -> Iterator[str]:
        if self.max_steps is None and self.max_epochs is None and self.max_seconds is None:
            yield "a bound is needed: sft.max_steps, sft.max_epochs or sft.max_seconds"
        if self.target_success is not None:
            low, high = self.target_success
            if low > high:
                yield f"sft.target_success: [{low}, {high}] is no band: low first"
            if not self.eval_every and not self.eval_at_start:
                yield "sft.target_success needs sft.eval_every: success must be measured"


class Settings(_Group):
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

    @property
    def has_held_out(self) -> bool:
        """Whether held-out tasks are configured."""
        evaluation = self.evaluation
        if evaluation.tasks is not None or evaluation.split is not None:
            return True
        return self.environment.num_tasks is not None and evaluation.is_on

    def _conflicts(self) -> Iterator[str]:
        if self.evaluation.is_on and not self.has_held_out:
            yield (
                "evaluation.tasks: held-out tasks (or evaluation.split) are needed, evaluation is "
                "on"
            )
        if self.environment.num_tasks is not None and self.environment.env == OUR_ENV:
            yield "environment.num_tasks is for environments of your own"


GROUPS: dict[str, type[BaseModel]] = {
    name: type(field.default) for name, field in Settings.model_fields.items()
}
"""The groups by name."""
