"""``orch eval``: score a model or a scripted policy on a benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.extras import load
from orch_env.cli.output import check_out, emit, json_option, next_command, say, table
from orch_env.types import Episode, OrchError, Task

if TYPE_CHECKING:
    from orch_env.env import ToolOrchestrationEnv

_EPILOG = """\b
Examples:
  orch eval --benchmark complexfuncbench --tasks cfb.jsonl --cache booking.db --policy gold
  orch eval --tasks harbour/heldout --model runs/quickstart
  orch eval --tasks cfb.jsonl --cache booking.db --model PATH --limit 50 --out scores.jsonl
  orch eval --tasks harbour/heldout --model PATH --temperature 1 --samples 8 --pass-at 1 --pass-at 8

The benchmark's live API and its judge model are not used: responses are compared through the
cache, and `decided_by` counts which rule decided how many calls. --policy FILE is JSON Lines, one
line per task: {"task_id": "...", "actions": ["...", ...]}."""

Report = Callable[[str, int, int], None]


def _json_object(
    context: click.Context, option: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    from orch_env.cli.reward.options import json_object

    return None if value is None else json_object(value, "--chat-template-kwargs")


@click.command(epilog=_EPILOG)
@click.option(
    "--benchmark",
    type=click.Choice(["complexfuncbench"]),
    default="complexfuncbench",
    show_default=True,
    help="Whose rules to score by.",
)
@click.option("--tasks", required=True, help="Task file, or the name of a bundled data set.")
@click.option("--cache", help="Response cache; a bundled data set has its own.")
@click.option("--split", help="Only the tasks of this split.")
@click.option("--model", metavar="PATH", help="A model folder, a run, or a checkpoint.")
@click.option("--policy", help="gold, noop, random, or a FILE of actions, instead of a model.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N tasks.")
@click.option(
    "--exact-match-values",
    metavar="FILE",
    help="The benchmark's table {tool: [argument, ...]} of arguments that must match exactly; "
    "without it, all but free wording must.",
)
@click.option("--strict", is_flag=True, help="Leave out the two quirks of the published scorer.")
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Messages per episode.",
)
@click.option(
    "--max-observation-chars", type=click.IntRange(min=64), help="Cut each result to N characters."
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="Sampling temperature of the model; 0 is greedy.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Episodes per task, for --pass-at; needs a temperature above 0.",
)
@click.option(
    "--pass-at",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="K",
    help="Chance that one of K episodes succeeds (at most --samples); may be repeated.",
)
@click.option(
    "--max-tokens-per-turn",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Tokens of one message.",
)
@click.option(
    "--max-context",
    type=click.IntRange(min=2),
    default=4096,
    show_default=True,
    help="Tokens of a whole conversation.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What the model computes in.",
)
@click.option(
    "--chat-template-kwargs",
    metavar="JSON",
    callback=_json_object,
    help='Variables of the chat template, as {"enable_thinking": false}; by default those '
    "that a checkpoint was trained with.",
)
@click.option(
    "--call-format",
    metavar="NAME",
    help="How calls are written: a format's name, or auto (what the model's chat template "
    "teaches); by default as a checkpoint was trained, auto for other models.",
)
@click.option(
    "--system-tools",
    type=click.Choice(["auto", "always", "never"]),
    help="Who offers the tools, as rollouts.system_tools; by default as a checkpoint was trained.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of sampling and of the policy.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write each task's score here."
)
@json_option
def evaluate(
    benchmark: str,
    tasks: str,
    cache: str | None,
    split: str | None,
    model: str | None,
    policy: str | None,
    limit: int | None,
    exact_match_values: str | None,
    strict: bool,
    max_turns: int,
    max_observation_chars: int | None,
    temperature: float,
    samples: int,
    pass_at: tuple[int, ...],
    seed: int,
    call_format: str | None,
    out: Path | None,
    as_json: bool,
    **model_options: Any,
) -> None:
    """Score a model or a scripted policy on a benchmark: success, call and turn accuracy."""
    if (model is None) == (policy is None):
        raise OrchError("orch eval needs --model PATH or --policy NAME, one of them")
    _check_samples(samples, pass_at, None if model is None else temperature)
    check_out(out, tasks, cache, policy, exact_match_values)
    from orch_env.cli.progress import progress_bar
    from orch_env.evaluation import complexfuncbench, summarise

    suite = complexfuncbench(
        tasks,
        cache,
        split=split,
        max_turns=max_turns,
        max_observation_chars=max_observation_chars,
        exact_match_values=exact_match_values,
        strict=strict,
    )
    if model is not None:
        call_format = _call_format(model, call_format, model_options)
    env = suite.env(call_format=call_format or "hermes")
    try:
        chosen = suite.tasks[:limit]
        with progress_bar() as report:
            if policy is not None:
                episodes = _play(env, chosen, policy, seed, report)
            else:
                model_options |= {"temperature": temperature, "samples": samples, "seed": seed}
                model_options["call_format"] = call_format
                episodes = _evaluate_model(str(model), env, chosen, report, **model_options)
        played = [*chosen] * samples
        scores = [suite.backend.score(t, e) for t, e in zip(played, episodes, strict=True)]
    finally:
        env.close()
        suite.close()
    if out is not None:
        _write_scores(out, episodes, scores)
    result = summarise(scores, played) | _rates(scores, len(chosen), samples, pass_at)
    if as_json:
        emit(result, as_json=True)
    else:
        _show(result, f"{benchmark}: {model or policy} on {tasks}")
    failed = [task.id for task, score in zip(played, scores, strict=True) if not score["success"]]
    for task_id in failed[:1]:
        next_command("tasks", "show", task_id, tasks, why="a task that failed")


def _check_samples(samples: int, pass_at: Sequence[int], temperature: float | None) -> None:
    if samples > 1 and not temperature:
        raise OrchError("--samples above 1 needs --model and a --temperature above 0")
    if pass_at and max(pass_at) > samples:
        raise OrchError(f"--pass-at {max(pass_at)} needs --samples of at least as many")


def _rates(
    scores: Sequence[Mapping[str, Any]], tasks: int, samples: int, pass_at: Sequence[int]
) -> dict[str, Any]:
    """avg@n, and pass@k for each ``k`` of ``pass_at``, with intervals."""
    from orch_env.evaluation.pass_rates import PassCount, rates

    passed = [bool(score["success"]) for score in scores]
    counts = [PassCount(samples, sum(passed[number::tasks])) for number in range(tasks)]
    return {name: rate for name, rate in rates(counts, pass_at).items() if name != "n"}


def _show(result: Mapping[str, Any], title: str) -> None:
    """Print a table by domain, then why episodes failed and which rules decided about calls."""
    say(title, bold=True)
    shares = ("success", "call_accuracy", "turn_accuracy")
    rows = [
        (name, *(f"{rates[share]:.1%}" for share in shares), str(rates["n"]))
        for name, rates in (*result["by_domain"].items(), ("all", result))
    ]
    table(("domain", ">success", ">calls", ">turns", ">n"), rows)
    for key, rate in result.items():
        name, _, k = key.partition("_at_")
        if k:
            interval = f"{rate['low']:.1%} to {rate['high']:.1%}"
            say(f"  {name}@{k}: {rate['mean']:.1%}  (95%: {interval})")
    for key, what in (
        ("errors", "episodes failed by"),
        ("decided_by", "calls decided by"),
        ("format_errors", "calls of a wrong form"),
    ):
        counts = "  ".join(f"{name} {count}" for name, count in result[key].items())
        say(f"  {what}: {counts or 'none'}")


def _play(
    env: ToolOrchestrationEnv, tasks: Sequence[Task], policy: str, seed: int, report: Report
) -> list[Episode]:
    """One episode per task."""
    from orch_env.replay.play import play
    from orch_env.replay.policies import make_policy

    player = make_policy(policy, call_format=env.settings["call_format"], seed=seed)
    episodes: list[Episode] = []
    for number, task in enumerate(tasks, start=1):
        play(env, player, task, seed=seed)
        episodes.append(env.episode)
        report("evaluating", number, len(tasks))
    return episodes


def _call_format(model: str, asked: str | None, options: Mapping[str, Any]) -> str:
    """How the model writes calls; said, where it was not named."""
    # Named by a string: orch_env never imports orch_train.
    choose = load("orch_train.evaluation.policy", "call_format_of_model", "--model")
    named = {key: options[key] for key in ("chat_template_kwargs", "system_tools")}
    chosen: str = choose(model, asked, **named)
    if asked != chosen:
        click.echo(f"call format: {chosen}", err=True)
    return chosen


def _evaluate_model(
    model: str, env: ToolOrchestrationEnv, tasks: Sequence[Task], report: Report, **sampling: Any
) -> list[Episode]:
    """The episodes that the model plays: all tasks once, then all again."""
    # Named by a string: orch_env never imports orch_train.
    evaluate_model = load("orch_train.evaluation.policy", "evaluate_model", "--model")
    episodes: list[Episode] = evaluate_model(
        model,
        env.sibling,
        [task.id for task in tasks],
        progress=lambda done, total: report("evaluating", done, total),
        **sampling,
    )
    return episodes


def _write_scores(
    path: Path, episodes: Sequence[Episode], scores: Sequence[Mapping[str, Any]]
) -> None:
    from orch_env.tasks.files import write_lines

    lines = (
        {"task_id": episode.task_id, "stop_reason": episode.stop_reason, "score": score}
        for episode, score in zip(episodes, scores, strict=True)
    )
    write_lines(map(json.dumps, lines), path)
