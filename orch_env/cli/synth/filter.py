"""``orch synth filter``: tasks that are neither too easy nor too hard for a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from orch_env.cli.extras import load
from orch_env.cli.output import check_out, emit, json_option, next_command, say
from orch_env.cli.progress import progress_bar
from orch_env.types import OrchError


class Shares(click.ParamType[Any]):
    """``0.05:0.95``: at least, and at most."""

    name = "LOW:HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition(":")
        try:
            found = (float(low), float(high))
        except ValueError:
            self.fail(f"{value!r} is no range such as 0.05:0.95", param, ctx)
        if not 0 <= found[0] <= found[1] <= 1:
            self.fail(f"{value!r}: the shares lie between 0 and 1, the least first", param, ctx)
        return found


@click.command(
    "filter",
    short_help="Keep tasks by how often a policy solves them.",
    epilog="Example: orch synth filter --tasks t.jsonl --cache harbour --model runs/sft/model "
    "--out kept.jsonl",
)
@click.option("--tasks", "file", required=True, type=click.Path(), help="Task file.")
@click.option("--cache", help="Cache that answers: a file, or a bundled data set's name.")
@click.option("--split", help="Only tasks of this split.")
@click.option("--model", help="A model folder, a run, a checkpoint, or a bundled name.")
@click.option("--endpoint", "url", help="An OpenAI-compatible endpoint, up to and with /v1.")
@click.option("--model-name", help="Name of the model behind the endpoint [default: its only one].")
@click.option("--k", type=click.IntRange(min=1), default=8, show_default=True, help="Episodes.")
@click.option(
    "--keep", type=Shares(), default="0.05:0.95", show_default=True, help="Pass rates to keep."
)
@click.option("--temperature", default=1.0, show_default=True, help="Of sampling.")
@click.option("--max-turns", default=20, show_default=True, help="Messages of an episode.")
@click.option("--max-tokens-per-turn", default=256, show_default=True, help="Of one message.")
@click.option("--max-context", default=4096, show_default=True, help="Tokens of an episode.")
@click.option("--spend-limit", type=float, help="What the endpoint may cost; needs the prices.")
@click.option("--price-in", default=0.0, help="Price of a million prompt tokens.")
@click.option("--price-out", default=0.0, help="Price of a million tokens of answers.")
@click.option("--seed", default=0, show_default=True, help="Sampling seed.")
@click.option("--out", type=click.Path(), help="Task file to write [default: FILE-kept.jsonl].")
@json_option
def filter_(**given: Any) -> None:
    """Play each task K times and keep those with a pass rate inside LOW:HIGH.

    The rate is stored in the task's metadata (`pass_rate`), where training can use it
    (`environment.task_weights=pass_rate`). Each episode's result is appended to OUT.rates as it
    ends: an interrupted command goes on, and what the file holds is not played again.
    """
    from orch_env.synthesis.pipeline.difficulty import PassRates, keep
    from orch_env.tasks.files import load_tasks, save_tasks

    if (given["model"] is None) == (given["url"] is None):
        raise OrchError("orch synth filter needs --model PATH or --endpoint URL, one of them")
    if given["url"] is not None and given["model_name"] is None:
        from orch_env.endpoint import only_model

        given["model_name"] = only_model(given["url"])
    out = given["out"] or f"{given['file'].removesuffix('.gz').removesuffix('.jsonl')}-kept.jsonl"
    check_out(out, given["file"])
    tasks = [
        task
        for task in load_tasks(given["file"])
        if given["split"] is None or task.metadata.get("split") == given["split"]
    ]
    if not tasks:
        raise OrchError(f"{given['file']!r} holds no such tasks")
    policy = given["model"] or f"{given['model_name']} at {given['url']}"
    rates = PassRates(Path(f"{out}.rates"), policy)
    env = _environment(given, tasks)
    try:
        play = _model_player(given, env) if given["model"] else _endpoint_player(given, env)
        with progress_bar() as report:
            found = rates.measure(tasks, given["k"], play, report)
    finally:
        env.close()
    low, high = given["keep"]
    kept = keep(tasks, found, given["k"], policy, low, high)
    save_tasks(kept, out)
    if given["as_json"]:
        emit({"tasks": len(tasks), "kept": len(kept), "rates": found}, as_json=True)
    else:
        say(
            f"{len(kept)} of {len(tasks)} tasks have a pass rate of {low} to {high}; "
            f"mean rate {sum(found.values()) / len(found):.3f}; written to {out}"
        )
    next_command("synth", "stats", out, why="what is left")


def _environment(given: dict[str, Any], tasks: Sequence[Any]) -> Any:
    from orch_env.env import ToolOrchestrationEnv
    from orch_env.tasks.files import bundled

    cache = given["cache"]
    return ToolOrchestrationEnv(
        tasks=given["file"],
        cache=str(bundled(cache, "cache") or cache) if cache else None,
        max_turns=given["max_turns"],
    )


def _model_player(given: dict[str, Any], env: Any) -> Any:
    """Plays with a model of ours."""
    # Named by a string: orch_env never imports orch_train.
    evaluate_model = load("orch_train.evaluation.policy", "evaluate_model", "--model")
    choose = load("orch_train.evaluation.policy", "call_format_of_model", "--model")
    call_format = choose(given["model"], None, chat_template_kwargs=None, system_tools=None)

    def play(names: Sequence[str], number: int) -> Iterator[tuple[str, bool]]:
        episodes = evaluate_model(
            given["model"],
            env.sibling,
            list(names),
            max_tokens_per_turn=given["max_tokens_per_turn"],
            max_context=given["max_context"],
            temperature=given["temperature"],
            seed=given["seed"] + number,
            call_format=call_format,
        )
        yield from zip(names, map(_succeeded, episodes), strict=True)

    return play


def _succeeded(episode: Any) -> bool:
    reward = episode.reward
    return reward is not None and float(reward.total) >= 1.0


def _endpoint_player(given: dict[str, Any], env: Any) -> Any:
    from orch_env.endpoint import Endpoint, EndpointSettings
    from orch_env.synthesis.pipeline.difficulty import endpoint_player

    settings = EndpointSettings(
        url=given["url"],
        model=given["model_name"],
        temperature=given["temperature"],
        max_tokens=given["max_tokens_per_turn"],
        spend_limit=given["spend_limit"],
        price_in=given["price_in"],
        price_out=given["price_out"],
    )
    return endpoint_player(Endpoint(settings), env, given["seed"])
