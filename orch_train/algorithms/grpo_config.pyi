# Made by `python -m tools.settings_reference`; edit orch_train/config/groups.py.

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from orch_train.algorithms.grpo import GRPO
from orch_train.config.run_config import RunConfig

class GRPOConfig(RunConfig):
    def environment(
        self,
        env: str = ...,
        *,
        env_config: Mapping[str, Any] = ...,
        task_weights: Literal["uniform", "pass_rate"] = ...,
        num_tasks: int | None = ...,
    ) -> Self:
        """The environment, and the arguments that it is made with.

        Args:
            env: a registered Gymnasium id. `package.module:id` imports the module first; runners in
                other processes need that for environments of your own.
            env_config: keyword arguments of `gym.make`: `tasks`, `cache`, `reward`, `call_format`,
                limits such as `max_turns`, ...; paths are relative to the current directory.
            task_weights: how often a task is trained. `uniform`: once an epoch. `pass_rate`: an
                epoch has a task with the chance `max(0.1, 4 p (1 - p))`, where `p` is the pass rate
                that `orch synth filter` stored with it; tasks without one are in every epoch.
            num_tasks: how many tasks an environment of your own has that offers no `tasks`: task N
                is `reset(seed=N)`, and held-out tasks are the seeds that follow. null: it has
                `tasks`.
        """

    def model(
        self,
        path: str = ...,
        *,
        dtype: Literal["float32", "bfloat16"] = ...,
        reference: str | None = ...,
        lora_rank: int = ...,
        lora_alpha: float | None = ...,
        lora_targets: Sequence[str] = ...,
    ) -> Self:
        """The policy.

        Args:
            path: a folder with a Hugging Face model and its tokenizer, the name of a bundled model
                (`tiny` or `reader`), or a hub id (`org/name`).
            dtype: type of the parameters and forward passes of learner and engine;
                log-probabilities are always computed in float32.
            reference: reference policy of the KL penalty, given like `path`; null: the model that
                training starts from. Needs a `training.kl_coeff` above 0.
            lora_rank: rank of the adapters that are trained instead of the weights (LoRA; needs
                peft, the extra `lora`); 0: the weights are trained. Engines and checkpoints get
                merged weights.
            lora_alpha: the adapters' output is scaled by `lora_alpha / lora_rank`; null: by 2.
            lora_targets: layers that get an adapter, by the last part of their name (`q_proj`);
                `all-linear`: every linear layer except the output head.
        """

    def rollouts(
        self,
        *,
        engine: str = ...,
        engine_config: Mapping[str, Any] = ...,
        temperature: float = ...,
        max_tokens_per_turn: int = ...,
        max_context: int = ...,
        min_tokens_per_turn: int = ...,
        chat_template_kwargs: Mapping[str, Any] = ...,
        system_tools: Literal["auto", "always", "never"] = ...,
    ) -> Self:
        """How episodes are sampled, and what ends them.

        Args:
            engine: inference engine of the runners: `torch`, `vllm`, `scripted`, or a factory of
                your own, `package.module:factory`.
            engine_config: further keyword arguments of the engine.
            temperature: sampling temperature; above 0, because GRPO compares sampled episodes.
            max_tokens_per_turn: most tokens in one message of the model.
            max_context: most tokens in an episode, prompt and tool outputs included.
            min_tokens_per_turn: a turn starts only if at least this many tokens of `max_context`
                are left.
            chat_template_kwargs: further variables for the chat template, such as
                `{enable_thinking: false}` or a fixed `date_string` for templates that print today's
                date.
            system_tools: who offers the tools. `auto`: the chat template, or the system message if
                the template ignores tools; `always`: the system message, which has to be set where
                the template teaches another `call_format`; `never`: the template.
        """

    def env_runners(
        self,
        *,
        num_env_runners: int = ...,
        num_envs_per_env_runner: int = ...,
        num_cpus_per_env_runner: float = ...,
        num_gpus_per_env_runner: float = ...,
        tensor_parallel_size: int = ...,
        placement: Literal["auto", "none", "separate", "colocated"] = ...,
        weight_sync: Literal["auto", "host", "collective"] = ...,
        max_requests_in_flight_per_env_runner: int | None = ...,
        sample_timeout_s: float = ...,
        env_step_timeout_s: float | None = ...,
        ray_address: str = ...,
    ) -> Self:
        """The rollout workers.

        Args:
            num_env_runners: Ray actors that sample. 0: this process samples, without Ray; a tool
                that never returns then stops the run, unless `env_step_timeout_s` is set.
            num_envs_per_env_runner: episodes that one runner plays at the same time.
            num_cpus_per_env_runner: CPUs that Ray reserves for a runner; also the number of its
                compute threads.
            num_gpus_per_env_runner: GPUs that Ray reserves for a runner; a fraction shares one with
                other processes.
            tensor_parallel_size: GPUs over which the engine of one runner splits its model
                (`vllm`); must be equal to `num_gpus_per_env_runner` if it is above 1.
            placement: `separate` reserves resources for every runner and learner, `colocated` puts
                runner i and learner i on one GPU, `none` leaves it to Ray; `auto`: `none` without
                GPUs, else `separate` if it fits, else `colocated`.
            weight_sync: how new weights reach the runners. `host`: through host memory (Ray's
                object store). `collective`: the learner broadcasts them to all runners at once
                (NCCL on GPUs, gloo on CPUs; `torch` and `vllm` engines). `auto`: `collective` if
                learner actors and runners have whole GPUs of their own, else `host`.
            max_requests_in_flight_per_env_runner: groups (of `training.group_size` episodes) queued
                at one runner; null: as many groups as its environments hold, plus one.
            sample_timeout_s: seconds in which a runner must return a group. If it does not, it is
                replaced, and its groups are sampled by others.
            env_step_timeout_s: null: environments run on the runner's event loop, which is right
                for recorded responses. A number: each environment has its own thread, so slow tools
                wait at the same time; if a call takes longer than these seconds, the group of its
                episode is dropped and sampled again.
            ray_address: `local` starts Ray on this machine; else the address of a cluster.
        """

    def learners(
        self,
        *,
        num_learners: int = ...,
        num_cpus_per_learner: int | None = ...,
        num_gpus_per_learner: int = ...,
        learner_timeout_s: float = ...,
        max_tokens_per_microbatch: int = ...,
        layout: Literal["rows", "packed"] = ...,
        gradient_checkpointing: bool = ...,
    ) -> Self:
        """Where the update is computed, and in which portions.

        Args:
            num_learners: 0: the driver process learns. 1 or more: that many Ray actors, whose CPUs
                and GPUs Ray reserves; several shard one model (FSDP2) and share the tokens of a
                batch.
            num_cpus_per_learner: compute threads of a learner, and the CPUs that Ray reserves for
                an actor; null: torch's own number of threads, and 1 CPU reserved.
            num_gpus_per_learner: 0: the learner computes on the CPU; 1: on a GPU.
            learner_timeout_s: seconds that a call to learner actors (start, update, weights,
                checkpoint) may take; after them the run ends with an error.
            max_tokens_per_microbatch: tokens in one forward pass of a learner, padding included;
                bounds memory and never changes the result.
            layout: `packed`: sequences end to end, without padding; `rows`: padded, for models
                whose attention cannot take packed sequences.
            gradient_checkpointing: compute activations again in the backward pass: less memory,
                slower.
        """

    def training(
        self,
        *,
        lr: float = ...,
        lr_warmup_updates: int = ...,
        weight_decay: float = ...,
        grad_clip: float = ...,
        lr_schedule: Literal["constant", "linear", "cosine"] = ...,
        iterations: int = ...,
        groups_per_batch: int = ...,
        group_size: int = ...,
        updates_per_batch: int = ...,
        loss: str = ...,
        clip_low: float = ...,
        clip_high: float = ...,
        advantage: Literal["group_mean", "group_std", "leave_one_out"] = ...,
        advantage_eps: float = ...,
        length_constant: int = ...,
        entropy_coeff: float = ...,
        kl_coeff: float = ...,
        kl_estimator: Literal["k1", "k2", "k3"] = ...,
        correction: Literal["none", "token_tis", "sequence_tis"] = ...,
        correction_cap: float = ...,
        correction_mask: Sequence[float] | None = ...,
        credit: Literal["trajectory", "turn"] = ...,
        max_staleness: int = ...,
        straggler_steps: int = ...,
        zero_variance: Literal["keep", "drop", "resample"] = ...,
        max_resample_rounds: int = ...,
        mask_truncated: bool = ...,
    ) -> Self:
        """The algorithm.

        Args:
            lr: learning rate of AdamW.
            lr_warmup_updates: optimizer steps over which the learning rate rises linearly to `lr`.
            weight_decay: decoupled weight decay, on matrices only.
            grad_clip: largest norm of the gradient; a longer one is scaled down to it.
            lr_schedule: after the warm-up: `constant`, or `linear` or `cosine` down to 0, which is
                reached after the last step. Steps without any signal, which change no weights,
                count.
            iterations: training steps of a run; each samples one batch and learns from it.
            groups_per_batch: tasks in a batch; each gives one group of episodes.
            group_size: episodes per task; at least 2, because they are compared with each other.
            updates_per_batch: optimizer steps on one batch, each on all of it.
            loss: `grpo` (mean within each episode, then over episodes), `dapo` (mean over all
                action tokens), `dr_grpo` (constant length), `bnpo` (as `dapo`), `gspo` (one ratio
                per episode), `cispo` (clipped weights), or a name given to `register_loss`;
                docs/losses.md has the equations.
            clip_low: the probability ratio is clipped below at `1 - clip_low`.
            clip_high: the probability ratio is clipped above at `1 + clip_high`.
            advantage: of an episode with reward r: `group_mean`: r - mean of its group;
                `group_std`: that, divided by (standard deviation + `advantage_eps`);
                `leave_one_out`: r - mean of the group's other episodes.
            advantage_eps: added to the group's standard deviation, in reward units.
            length_constant: tokens per episode that `dr_grpo` divides by.
            entropy_coeff: weight of an entropy bonus.
            kl_coeff: weight of a KL penalty against the reference policy (`model.reference`).
            kl_estimator: estimator of that penalty: `k1`, `k2` or `k3`; docs/losses.md has the
                equations.
            correction: importance weights for the gap between the policy that sampled a token and
                the learner's: `none` (only the clip of the ratio bounds it), or truncated ones per
                token (`token_tis`) or per episode (`sequence_tis`).
            correction_cap: largest importance weight.
            correction_mask: `[low, high]` around 1: an episode whose geometric mean ratio is
                outside is not learned from; null: all episodes are.
            credit: `trajectory`: one advantage for the whole episode. `turn`: the advantage of a
                message comes from the reward earned from it on, for rewards that say what each turn
                earned.
            max_staleness: how many steps sampling may be ahead of the learner. 0: they take turns.
                1 or more: both run at the same time, and no token that is learned from is older
                than this many weight versions.
            straggler_steps: groups that are due may arrive up to this many steps late; the number
                of groups in flight does not change. 0: the learner waits for them.
            zero_variance: groups whose rewards are all equal: `keep` (their advantage is 0, their
                tokens count in the loss's denominator), `drop`, or `resample` other tasks instead.
            max_resample_rounds: how often `resample` tries again in one step; then the batch stays
                smaller.
            mask_truncated: do not learn from the tokens of an episode that a token limit cut off;
                its group is still compared with it.
        """

    def evaluation(
        self,
        *,
        evaluation_interval: int = ...,
        evaluation_at_start: bool = ...,
        tasks: str | None = ...,
        split: str | None = ...,
        num_tasks: int | None = ...,
        temperatures: Sequence[float] = ...,
        samples_per_task: int = ...,
        pass_at: Sequence[int] = ...,
        seed: int = ...,
    ) -> Self:
        """Measurement on held-out tasks.

        Args:
            evaluation_interval: training steps between evaluations; 0: never.
            evaluation_at_start: also evaluate before the first step.
            tasks: held-out tasks: a file or a bundled data set; null: the training file.
            split: only the tasks of this split; must be given if `tasks` is null.
            num_tasks: how many of them, spread evenly over their domains; the same ones in every
                run; null: all.
            temperatures: all tasks are played once at each of these temperatures; 0 is greedy.
            samples_per_task: n, the episodes per task and temperature; a greedy one plays each task
                once.
            pass_at: the k of `pass_at_k`, the chance that one of k episodes succeeds, estimated
                from all n; each at most `samples_per_task`.
            seed: sampling seed; the same at every evaluation, so only the policy changes.
        """

    def fault_tolerance(
        self,
        *,
        restart_failed_env_runners: bool = ...,
        max_num_env_runner_restarts: int = ...,
        delay_between_env_runner_restarts_s: float = ...,
        env_runner_health_probe_timeout_s: float = ...,
        env_runner_restore_timeout_s: float = ...,
        max_group_attempts: int = ...,
    ) -> Self:
        """What happens when a runner dies.

        Args:
            restart_failed_env_runners: start a new runner in place of a dead one.
            max_num_env_runner_restarts: restarts in the whole run; one more ends it with an error.
            delay_between_env_runner_restarts_s: seconds before the first restart; they double up to
                30 while restarts keep failing.
            env_runner_health_probe_timeout_s: seconds in which a runner must answer a ping, or it
                is killed and replaced.
            env_runner_restore_timeout_s: seconds that a new runner may take to load its model.
            max_group_attempts: how often one group is tried before the run ends with an error.
        """

    def reporting(
        self,
        *,
        log_dir: str = ...,
        run_name: str | None = ...,
        tensorboard: bool = ...,
        wandb_project: str | None = ...,
        wandb_mode: Literal["online", "offline"] = ...,
        trace_steps: int = ...,
        store_rollouts: bool = ...,
        checkpoint_interval: int = ...,
        keep_checkpoints: int | None = ...,
    ) -> Self:
        """What a run leaves behind.

        Args:
            log_dir: parent of the run folders.
            run_name: name of the run's folder; null: that of the configuration file, numbered if it
                is taken.
            tensorboard: write `RUN/tensorboard`.
            wandb_project: log to this project of Weights & Biases (needs the package `wandb`);
                null: do not.
            wandb_mode: `online`, or `offline`: files in `RUN/wandb` for `wandb sync`.
            trace_steps: the newest training steps that `RUN/trace.json` shows on a time line (for
                ui.perfetto.dev or chrome://tracing); 0: no such file.
            store_rollouts: write every episode, tokens included, to `RUN/rollouts.db`.
            checkpoint_interval: training steps between checkpoints; 0: only at the end and when
                interrupted.
            keep_checkpoints: how many checkpoints stay, the newest; null: all.
        """

    def debugging(
        self,
        *,
        seed: int = ...,
        log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = ...,
    ) -> Self:
        """Reproduction and logs.

        Args:
            seed: seed of task order, environments and sampling.
            log_level: level of this package's loggers.
        """

    def sft(
        self,
        *,
        lr: float = ...,
        lr_warmup_updates: int = ...,
        weight_decay: float = ...,
        grad_clip: float = ...,
        model: str | None = ...,
        out: str | None = ...,
        tasks: str | None = ...,
        num_tasks: int | None = ...,
        copies: int = ...,
        corruption: float = ...,
        mistakes: Sequence[
            Literal["stopped_early", "wrong_tool", "wrong_argument", "repeated_call"]
        ] = ...,
        max_tokens: int | None = ...,
        batch_size: int = ...,
        max_steps: int | None = ...,
        max_epochs: float | None = ...,
        max_seconds: float | None = ...,
        eval_every: int = ...,
        eval_at_start: bool = ...,
        target_success: Sequence[float] | None = ...,
        seed: int | None = ...,
    ) -> Self:
        """The supervised warm start (`orch sft`); at least one of its three bounds must be set.

        Args:
            lr: learning rate of AdamW.
            lr_warmup_updates: optimizer steps over which the learning rate rises linearly to `lr`.
            weight_decay: decoupled weight decay, on matrices only.
            grad_clip: largest norm of the gradient; a longer one is scaled down to it.
            model: the model to start from; null: `model.path`.
            out: the run's folder, with the model in `OUT/model`; null:
                `reporting.log_dir/NAME-sft`.
            tasks: tasks to demonstrate; null: those of `environment.env_config`.
            num_tasks: how many of them, spread evenly over their domains; the same ones in every
                run; null: all.
            copies: demonstrations per task.
            corruption: share of demonstrations that contain one mistake, 0..1.
            mistakes: kinds of mistakes that are made.
            max_tokens: longer demonstrations end after the last message that fits; null:
                `rollouts.max_context`.
            batch_size: demonstrations per optimizer step.
            max_steps: most optimizer steps; null: no such bound.
            max_epochs: most passes over the demonstrations; null: no such bound.
            max_seconds: most seconds of training, evaluations not counted; null: no such bound.
            eval_every: optimizer steps between evaluations (as the group `evaluation` says); 0:
                never.
            eval_at_start: also evaluate before the first step.
            target_success: `[low, high]`: stop at the first evaluation whose success at the first
                of `evaluation.temperatures` is low or more; null: do not stop for this.
            seed: seed of the order and of the mistakes; null: `debugging.seed`.
        """

    def build_algo(self) -> GRPO: ...
