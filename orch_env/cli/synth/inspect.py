"""``orch synth validate``, ``split`` and ``stats``: what a set of tasks is worth."""

from __future__ import annotations

from pathlib import Path

import click

from orch_env.cli.output import check_out, emit, json_option, next_command, say
from orch_env.cli.progress import progress_bar
from orch_env.cli.synth.options import hints_option
from orch_env.types import OrchError, Task


def _loaded(file: str) -> list[Task]:
    from orch_env.tasks.files import load_tasks

    tasks = load_tasks(file)
    if not tasks:
        raise OrchError(f"{file!r} holds no tasks")
    return tasks


@click.command(
    "validate",
    short_help="Replay gold and check requests and sizes.",
    epilog="Example: orch synth validate tasks.jsonl --cache booking.db",
)
@click.argument("file", type=click.Path())
@click.option("--cache", required=True, help="The cache that answers the tasks' calls.")
@hints_option
@click.option("--no-requests", is_flag=True, help="Leave out the check of the requests.")
@json_option
@click.pass_context
def validate(
    ctx: click.Context, file: str, cache: str, hints: str | None, no_requests: bool, as_json: bool
) -> None:
    """Check every task of FILE; exit code 1 if one fails.

    As `orch tasks validate`: gold replays to success and to a reward of 1. Besides, each request
    says what its calls need and gives nothing away, and metadata tell the measured size.
    """
    from orch_env.backends.replay import ReplayBackend
    from orch_env.importers.validation import validate_tasks
    from orch_env.synthesis.checking.checker import check_request
    from orch_env.synthesis.checking.coverage import size_mismatches
    from orch_env.synthesis.pipeline.source import open_source
    from orch_env.synthesis.writing.hints import load_hints

    tasks = _loaded(file)
    opened = open_source(cache)
    words = load_hints(hints).words if hints is not None else None
    with progress_bar() as report:
        result = validate_tasks(tasks, ReplayBackend(opened), progress=report)
    failed = {failure["id"]: failure["reason"] for failure in result["failures"]}
    for name in size_mismatches(tasks):
        failed.setdefault(name, "the size in its metadata is not that of its gold")
    for task in tasks if not no_requests else ():
        if task.id in failed or task.metadata.get("writer") == "none":
            continue
        texts = [
            found.text if (found := opened.get(c.name, c.arguments, task=task)) else ""
            for c in task.gold_calls
        ]
        problems = check_request(task, texts, opened.catalogue, words)
        if problems:
            failed[task.id] = problems[0].message
    failures = [{"id": t.id, "reason": failed[t.id]} for t in tasks if t.id in failed]
    result = {"tasks": len(tasks), "ok": len(tasks) - len(failures), "failures": failures}
    if as_json:
        emit(result, as_json=True)
    else:
        for failure in failures:
            say(f"{failure['id']}: {failure['reason']}")
        say(f"{result['ok']} of {result['tasks']} tasks are valid")
    if failures:
        ctx.exit(1)
    next_command("synth", "stats", file, why="what the set holds")


@click.command(
    "split",
    short_help="Split tasks by workflow and entity, or report how apart they are.",
    epilog="Example: orch synth split tasks.jsonl --shares train=0.8,test=0.2 --out split.jsonl",
)
@click.argument("file", type=click.Path())
@click.option(
    "--shares",
    default="train=0.8,test=0.2",
    show_default=True,
    help="Splits and their shares of the tasks; used where tasks have no split yet.",
)
@click.option("--benchmark", type=click.Path(), help="Count what a benchmark's tasks share, too.")
@click.option("--seed", default=0, show_default=True, help="Which entities go where.")
@click.option("--out", type=click.Path(), help="Task file to write, with metadata.split.")
@json_option
@click.pass_context
def split(
    ctx: click.Context,
    file: str,
    shares: str,
    benchmark: str | None,
    seed: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Report what the splits of FILE share; exit code 1 if they are not apart.

    Tasks without a split are split first: no workflow and no entity is in two splits. Tasks that
    would join two splits are left out and counted. Shared runs of 13 words (places, dates and
    numbers masked) count as shared wording: one writer's tasks share them unless each split was
    written in its own words, as `orch synth run` does.
    """
    from orch_env.synthesis.checking.separation import against_benchmark, is_apart, separation
    from orch_env.synthesis.checking.splitting import shares_of, split_by_template_and_entity
    from orch_env.tasks.files import load_tasks, save_tasks

    check_out(out, benchmark)
    tasks = _loaded(file)
    lost = 0
    if any(task.metadata.get("split") is None for task in tasks):
        tasks, lost = split_by_template_and_entity(tasks, shares_of(shares), seed)
    splits: dict[str, list[Task]] = {}
    for task in tasks:
        splits.setdefault(str(task.metadata["split"]), []).append(task)
    report = separation(splits)
    result = {
        "splits": {name: len(found) for name, found in splits.items()},
        "disjoint": is_apart(report),
        "report": {"shared": report, "left_out": lost},
    }
    if benchmark is not None:
        result["report"]["benchmark"] = against_benchmark(tasks, load_tasks(benchmark))  # type: ignore[index]
    if out is not None:
        save_tasks(tasks, Path(out))
    emit(result, as_json=as_json, title=out or file)
    if not result["disjoint"]:
        ctx.exit(1)


@click.command(
    "stats",
    short_help="Count what a set of tasks holds.",
    epilog="Example: orch synth stats tasks.jsonl --json | jq .largest_entity_share",
)
@click.argument("file", type=click.Path())
@json_option
def stats(file: str, as_json: bool) -> None:
    """Sizes, domains, tools, entities and sources of arguments of the tasks of FILE."""
    from orch_env.synthesis.checking.coverage import counts_of

    emit(counts_of(_loaded(file)), as_json=as_json, title=file)
