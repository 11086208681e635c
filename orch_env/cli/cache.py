"""``orch cache``: import recordings, show and verify a cache, and look a call up."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orch_env.cli.output import emit, json_option, next_command, say


@click.group()
def cache() -> None:
    """Import, inspect and verify caches of recorded API responses."""


@cache.command(
    "import",
    short_help="Store recorded responses in a cache.",
    epilog="Example: orch cache import recordings.json.gz --out booking.db",
)
@click.argument("sources", metavar="SRC...", nargs=-1, required=True, type=click.Path())
@click.option("--out", "out", required=True, type=click.Path(), help="Cache to make or add to.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["auto", "complexfuncbench", "reference-cache", "reference-pkl"]),
    default="auto",
    show_default=True,
    help="Layout of the sources; 'auto' looks at their content.",
)
@click.option(
    "--tools",
    "tools",
    type=click.Path(),
    help="Tool schemas (JSON, or JSON Lines) for sources that hold none.",
)
@json_option
def import_(
    sources: tuple[str, ...], out: str, format_: str, tools: str | None, as_json: bool
) -> None:
    """Store every response recorded in SRC in the cache --out.

    SRC is ComplexFuncBench JSON Lines, a response cache {function: [{arguments, response}]}, or a
    reference task .pkl; plain or gzipped. An existing cache is added to: several sources may go
    into one file, and importing the same source again changes nothing. Processes that read the
    old file go on reading it.
    """
    from orch_env.cache import open_cache
    from orch_env.cli.progress import progress_bar
    from orch_env.importers import read_source, read_tools, store

    with progress_bar() as report:
        specs = read_tools(Path(tools)) if tools else []
        loaded = [
            read_source(Path(s), format_, lambda done, total: report("reading", done, total))
            for s in sources
        ]
        with open_cache(out, write=True) as target:
            for recordings in loaded:
                store(recordings, target, specs, report)
    for recordings in loaded:
        for refusal in recordings.refused:
            say(f"left out {refusal.id}: {refusal.reason}", err=True)
    emit(open_cache(out).stats(), as_json=as_json, title=f"cache {out}")
    next_command("cache", "verify", out, why="hash everything again")


@cache.command("info", short_help="Show what a cache holds.")
@click.argument("db", type=click.Path())
@json_option
def info(db: str, as_json: bool) -> None:
    """Show what the cache DB holds.

    responses: recorded (call, response) pairs; payloads: distinct responses; tools: catalogue
    entries; variants: calls with more than one recorded response; key_version: of the calls' keys
    (`orch cache rekey` copies a cache with old ones); digest: of all content.
    """
    from orch_env.cache import open_cache

    emit(open_cache(db).stats(), as_json=as_json, title=f"cache {db}")
    next_command("cache", "verify", db, why="hash everything again")


@cache.command(
    "rekey",
    short_help="Copy a cache with old keys into one with new keys.",
    epilog="Example: orch cache rekey old.db --out new.db --tasks booking.jsonl",
)
@click.argument("src", metavar="SRC", type=click.Path())
@click.option("--out", "out", required=True, type=click.Path(), help="Cache to make.")
@click.option(
    "--tasks",
    "files",
    multiple=True,
    type=click.Path(),
    help="Task file that was imported with SRC; may be repeated.",
)
@json_option
def rekey(src: str, out: str, files: tuple[str, ...], as_json: bool) -> None:
    """Copy the cache SRC, whose keys are of version 1, to --out with keys of version 2.

    Version 2 compares arguments as the tool's schema says: another order of a comma-joined string
    is the same call only where the schema has "x-orch-set": ",", and an optional argument that is
    left out, null or equal to its default is one call. Calls that become one call keep all their
    responses as variants, and tasks keep those they were recorded with. SRC stays as it is.

    SRC has lost the order inside comma-joined strings (and the last zeros of "1.10"). Give --tasks,
    and their gold calls are stored as they were recorded; how many other calls have strings of
    unknown order is said.
    """
    from orch_env.cache import open_cache
    from orch_env.cache.rekey import rekey as copy_with_new_keys
    from orch_env.tasks.files import exists, load_tasks
    from orch_env.types import OrchError

    if "://" not in out and exists(out):
        raise OrchError(f"--out {out!r} exists already: name a new file")
    tasks = [task for file in files for task in load_tasks(file)]
    with open_cache(out, write=True) as target:
        done = copy_with_new_keys(open_cache(src), target, tasks)
    if done.order_unknown:
        say(
            f"{done.order_unknown} calls hold comma-joined strings whose order {src} does not "
            "keep: they are stored sorted, and a task that made one in another order will not find "
            "it (give all task files of this cache as --tasks)",
            err=True,
        )
    emit({**open_cache(out).stats(), **done.to_dict()}, as_json=as_json, title=f"cache {out}")


@cache.command("verify", short_help="Hash everything in a cache again.")
@click.argument("db", type=click.Path())
@json_option
@click.pass_context
def verify(ctx: click.Context, db: str, as_json: bool) -> None:
    """Hash everything in the cache DB again; exit code 1 if anything does not fit."""
    from orch_env.cache import open_cache

    found = open_cache(db).verify()
    if as_json:
        emit(found, as_json=True)
    else:
        for problem in found["problems"]:
            say(problem)
        say(f"cache {db}: {'ok' if found['ok'] else 'damaged'}")
    if not found["ok"]:
        ctx.exit(1)


@cache.command(
    "get",
    short_help="Print the recorded response of a call.",
    epilog="""Example: orch cache get booking.db Search_Car_Location '{"query": "Oslo"}'""",
)
@click.argument("db", type=click.Path())
@click.argument("tool")
@click.argument("arguments", metavar="ARGUMENTS_JSON")
@click.option("--task", "task", help="Task id: answer with the variant that this task pins.")
@json_option
@click.pass_context
def get(
    ctx: click.Context, db: str, tool: str, arguments: str, task: str | None, as_json: bool
) -> None:
    """Print the recorded response of a call, byte for byte; exit code 1 if there is none."""
    from orch_env.cache import open_cache
    from orch_env.cli.reward.options import json_object

    value = json_object(arguments, "ARGUMENTS_JSON")
    opened = open_cache(db)
    found = opened.get(tool, value, task=task)
    if found is None:
        known = opened.resolve(tool) is not None
        what = "no response recorded for these arguments" if known else "no such tool in the cache"
        say(f"orch cache get: {tool}: {what}", err=True)
        if as_json:
            emit(dict.fromkeys(("text", "is_error", "digest", "metadata")), as_json=True)
        ctx.exit(1)
        return
    if task is not None and not opened.is_pinned(tool, value, task):
        say(f"task {task!r} pins no variant of this call: the first one answers", err=True)
    if as_json:
        fields = {"text": found.text, "is_error": found.is_error, "digest": found.digest}
        emit({**fields, "metadata": found.metadata}, as_json=True)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(found.text.encode("utf-8", "surrogatepass"))
        sys.stdout.buffer.flush()
