"""The warm start as a run: demonstrations, training, held-out measurement, and its folder.

    OUT/config.yaml  demonstrations.json  metrics.jsonl  summary.json  model/

Held-out success is measured by the same runners and the same code as in GRPO, on the weights of
the moment; so the number that stops the warm start is the number that GRPO starts from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from orch_env.cli.output import say
from orch_env.cli.progress import progress_bar
from orch_env.tasks.selection import spread
from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.chat.renderer import make_chat
from orch_train.chat.taught_format import choice_line
from orch_train.config import Settings
from orch_train.evaluation.policy import evaluate_policy, open_benchmark
from orch_train.learner.training_mode import snapshot
from orch_train.models.load import load_model
from orch_train.models.small_files import check_small_files, read_small_files
from orch_train.rollouts.environments import EnvFactory, TaskIds, demonstrated_tasks
from orch_train.run.display import duration
from orch_train.run.metrics_file import flatten, plain
from orch_train.run.stop_signal import stop_signal
from orch_train.runners.make_runner_group import make_runner_group
from orch_train.sft.demonstrations import DemonstrationSet, make_demonstrations
from orch_train.sft.mistakes import DemonstrationKind
from orch_train.sft.trainer import SFTStop, SFTTrainer, sft_seed
from orch_train.storage.run_folder import own_new, write_text
from orch_train.storage.runs import DEMONSTRATIONS

_SAY_EVERY_S = 5.0
"""Steps are said at most this often; evaluations always."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a warm start left behind.

    Attributes:
        model: the model's folder.
        summary: what ``summary.json`` holds.
        interrupted: whether a signal ended it.
    """

    model: Path
    summary: dict[str, Any]
    interrupted: bool


def run_warm_start(
    config: GRPOConfig, settings: Settings, tasks: TaskIds, folder: Path, *, numbered: bool = False
) -> WarmStart:
    """Train on demonstrations; lines on stderr say how it goes.

    Args:
        config: the configuration, to be written down.
        settings: its checked form.
        tasks: the environment's tasks.
        folder: the run's folder, which must not be used yet.
        numbered: take ``NAME-2``, ``NAME-3``, ... if the folder's name is taken.

    Raises:
        OrchError: a task without gold, nothing that fits, or a model that is not supported; or the
            folder is used or cannot be written, which is found first.
    """
    with own_new(folder, "choose another sft.out", numbered=numbered) as owned:
        return _run(config, settings, tasks, owned)


def _run(config: GRPOConfig, settings: Settings, tasks: TaskIds, folder: Path) -> WarmStart:
    check_small_files(settings.model.path)
    demonstrations = _demonstrate(settings)
    write_text(folder / "config.yaml", config.to_yaml())
    made = demonstrations.summary()
    write_text(folder / DEMONSTRATIONS, json.dumps(plain(made), indent=2))
    say(
        f"{folder}: {made['demonstrations']} demonstrations, {made['tokens']} tokens, "
        f"{made['success']:.0%} succeed; kinds {made['kinds']}",
        err=True,
    )
    path = settings.model.path
    trainer = SFTTrainer(load_model(path), settings, read_small_files(path))
    with (
        _evaluator(settings, tasks) as evaluate,
        stop_signal(lambda name: say(f"{name}: stopping after this step", err=True)) as stopped,
        (folder / "metrics.jsonl").open("w", encoding="utf-8") as lines,
    ):
        said = 0.0

        def on_metrics(metrics: Mapping[str, Any]) -> None:
            nonlocal said
            try:
                lines.write(json.dumps(plain(metrics), allow_nan=False) + "\n")
                lines.flush()
            except OSError as problem:
                raise OrchError(
                    f"{folder / 'metrics.jsonl'} cannot be written: {problem}"
                ) from None
            if "evaluation/success" in metrics or time.monotonic() - said >= _SAY_EVERY_S:
                say(_line(metrics), err=True)
                said = time.monotonic()

        try:
            done = trainer.train(
                [d.sample for d in demonstrations.demonstrations],
                evaluate=evaluate,
                on_metrics=on_metrics,
                should_stop=stopped,
            )
        except BaseException:
            if trainer.num_updates:
                say(_saved_anyway(trainer, folder), err=True)
            raise
    model = trainer.save(folder / "model")
    summary = dict(plain({"demonstrations": made, **done.to_dict()}))
    write_text(folder / "summary.json", json.dumps(summary, indent=2))
    return WarmStart(model, summary, summary["stop"] == SFTStop.INTERRUPTED.value)


def _saved_anyway(trainer: SFTTrainer, folder: Path) -> str:
    """Keep the weights of a warm start that an error or a second Ctrl-C ends; says where."""
    try:
        saved = trainer.save(folder / "model")
        return f"the model as of step {trainer.num_updates} was saved in {saved}"
    except OrchError as problem:
        return str(problem)


def _demonstrate(settings: Settings) -> DemonstrationSet:
    sft = settings.sft
    chat = make_chat(settings)
    chat.warn_of_unread_kwargs()
    if (choice := choice_line(settings)) is not None:
        say(choice, err=True)
    env = EnvFactory(settings, held_out=False, tasks=sft.tasks)()
    try:
        known = demonstrated_tasks(settings, env)
        with progress_bar() as report:
            return make_demonstrations(
                env,
                chat,
                spread(known, sft.num_tasks),
                corruption=sft.corruption,
                kinds=[DemonstrationKind(name) for name in sft.mistakes],
                copies=sft.copies,
                max_tokens=sft.max_tokens or settings.rollouts.max_context,
                call_format=chat.call_format,
                seed=sft_seed(settings),
                progress=lambda done, total: report("demonstrating", done, total),
            )
    finally:
        env.close()


@contextmanager
def _evaluator(
    settings: Settings, tasks: TaskIds
) -> Iterator[Callable[[PreTrainedModel], Mapping[str, float]] | None]:
    """Runners that measure the model of the moment; ``None`` if nothing is to be measured."""
    held_out = tasks.held_out
    if held_out is None or not (settings.sft.eval_every or settings.sft.eval_at_start):
        yield None
        return
    benchmark = open_benchmark(settings, tasks)
    first = load_model(settings.model.path, settings.model.dtype)
    runners = make_runner_group(settings, snapshot(first), 0)
    del first
    version = 0

    def evaluate(model: PreTrainedModel) -> Mapping[str, float]:
        nonlocal version
        version += 1
        runners.sync_weights(snapshot(model), version)
        measured = evaluate_policy(
            settings,
            runners,
            held_out,
            benchmark=benchmark,
            strata=tasks.strata,
        )
        by_stratum = ("by_domain", "by_gold_calls")
        return flatten({key: value for key, value in measured.items() if key not in by_stratum})

    try:
        yield evaluate
    finally:
        runners.stop()
        if benchmark is not None:
            benchmark.close()


def _line(metrics: Mapping[str, Any]) -> str:
    text = (
        f"step {metrics['step']:.0f}  epoch {metrics['epoch']:.2f}  loss {metrics['loss']:.4f}  "
        f"grad {metrics['grad_norm']:.2g}  {metrics['tokens_per_s']:.0f} tok/s  "
        f"{duration(metrics['seconds'])}"
    )
    if "evaluation/success" in metrics:
        text += f"  held out: success {metrics['evaluation/success']:.3f}"
        if "evaluation/greedy/success" in metrics:
            text += f" (greedy {metrics['evaluation/greedy/success']:.3f})"
    return text
