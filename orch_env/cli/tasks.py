"""``orch tasks``: import, split, show and validate task files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

from orch_env.cli.output import check_out, emit, json_option, mcp_option, next_command, option, say
from orch_env.types import OrchError, Task
from orch_env.types.text import nearest, readable_json, shortened


@click.group()
def tasks() -> None:
    """Import, show and validate task files."""


@tasks.command(
    "import",
    short_help="Make a task file and a cache of recorded conversations.",
    epilog="Example: orch tasks import ComplexFuncBench.jsonl --cache booking.db --out cfb.jsonl",
)
@click.argument("source", metavar="SRC", type=click.Path())
@click.option("--cache", "cache", required=True, type=click.Path(), help="Cache to make or add to.")
@click.option("--out", "out", required=True, type=click.Path(), help="Task file to write.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["auto", "complexfuncbench", "reference-pkl"]),
    default="auto",
    show_default=True,
    help="Layout of SRC; 'auto' looks at its content.",
)
@click.option(
    "--tools", "tools", type=click.Path(), help="Tool schemas for a source that holds none."
)
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    source: str,
    cache: str,
    out: str,
    format_: str,
    tools: str | None,
    as_json: bool,
) -> None:
    """Make a task file of SRC and store every response that it recorded in --cache.

    Where each argument comes from (the query, or which path of which earlier output) is found from
    all tasks together. A task whose gold trace would not replay is refused with the reason; the
    others are imported. Exit code 1 if none could be.
    """
    from orch_env.cache import open_cache
    from orch_env.cli.progress import progress_bar
    from orch_env.importers import TASK_FORMATS, import_tasks, read_source, read_tools
    from orch_env.tasks.files import save_tasks

    check_out(out, source, cache, tools)
    with progress_bar() as report:
        specs = read_tools(Path(tools)) if tools else []
        recordings = read_source(
            Path(source), format_, lambda done, total: report("reading", done, total)
        )
        if recordings.format not in TASK_FORMATS:
            raise OrchError(
                f"{source!r} holds responses but no tasks: use `orch cache import` for it"
            )
        with open_cache(cache, write=True) as target:
            result = import_tasks(recordings, target, specs, report)
        save_tasks(result.tasks, out)
    summary = result.summary()
    if result.unpinned:
        say(
            f"{result.unpinned} gold calls have no response in {source}: the cache answers them",
            err=True,
        )
    if result.unknown_tools:
        say(
            f"tools without a schema are left out of the tasks (give --tools): "
            f"{', '.join(sorted(result.unknown_tools))}",
            err=True,
        )
    emit(summary, as_json=as_json, title=f"{out}  (responses in {cache})")
    if not result.tasks:
        say(f"no task of {source} could be imported", err=True)
        ctx.exit(1)
    next_command("tasks", "validate", out, "--cache", cache, why="replay gold, check every value")


@tasks.command(
    "validate",
    short_help="Check that tasks can be solved as their gold says.",
    epilog="Example: orch tasks validate cfb.jsonl --cache booking.db",
)
@click.argument("file", type=click.Path())
@click.option("--cache", "cache", type=click.Path(), help="Cache that answers the tasks' calls.")
@mcp_option
@click.option(
    "--max-observation-chars",
    "limit",
    type=click.IntRange(min=64),
    help="Also report gold values that come after this many characters of an observation.",
)
@json_option
@click.pass_context
def validate(
    ctx: click.Context,
    file: str,
    cache: str | None,
    mcp: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Check that every task of FILE can be solved as its gold says; exit code 1 if one cannot.

    Checked: structure, tools, a recorded answer for every gold call, provenance paths that lead
    to equal values, values that the user says before the call's step, optional calls that nothing
    needs and that may be left out, the form of answers and final states, and gold replayed to that
    state, to success and to reward 1.
    """
    from orch_env.backends.open import make_backend
    from orch_env.cli.progress import progress_bar
    from orch_env.importers.validation import validate_tasks
    from orch_env.tasks.files import load_tasks

    loaded = load_tasks(file)
    if not loaded:
        raise OrchError(f"{file!r} holds no tasks")
    backend = make_backend(file, cache, loaded, mcp=mcp)
    with progress_bar() as report:
        result = validate_tasks(loaded, backend, max_observation_chars=limit, progress=report)
    if as_json:
        emit(result, as_json=True)
    else:
        for failure in result["failures"]:
            say(f"{failure['id']}: {failure['reason']}")
        say(f"{result['ok']} of {result['tasks']} tasks are valid")
        for entry in result.get("hidden", ()):
            say(f"hidden: {entry['id']} call {entry['call']} {entry['pointer']}")
    if result["failures"]:
        next_command("tasks", "show", result["failures"][0]["id"], file, why="a task that fails")
        ctx.exit(1)
    data = (*option("--cache", cache), *option("--mcp", mcp))
    next_command("replay", "--tasks", file, *data, why="play gold for a reward")


@tasks.command(
    "perturb",
    short_help="Make harder variants: distractors, no enums, tools that come late.",
    epilog="Example: orch tasks perturb bank.jsonl --distractors 8 --withhold --out hard.jsonl",
)
@click.argument("file", type=click.Path())
@click.option("--out", "out", required=True, type=click.Path(), help="Task file to write.")
@click.option("--cache", "cache", type=click.Path(), help="Cache that answers the tasks' calls.")
@mcp_option
@click.option(
    "--distractors",
    type=click.IntRange(min=0),
    default=0,
    help="Tools of other servers to add; for tasks on servers.",
)
@click.option(
    "--from",
    "servers",
    metavar="NAME,NAME",
    help="Servers that distractors come from [default: all].",
)
@click.option(
    "--strip-enums",
    type=click.FloatRange(0.0, 1.0),
    default=0.0,
    help="Share of the tools whose schemas lose their enums.",
)
@click.option(
    "--withhold",
    is_flag=True,
    help="Offer one needed tool only after the model has answered without it.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@json_option
def perturb(
    file: str,
    out: str,
    cache: str | None,
    mcp: str | None,
    distractors: int,
    servers: str | None,
    strip_enums: float,
    withhold: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Write a harder variant of each task of FILE; its gold still earns 1.

    What was changed stands in the task's metadata under `perturbed`. With --withhold, a tool that
    gold needs is missing at first: a model that says so instead of guessing reads next that the
    tool is there. Tasks that have follow-ups already are left out then.
    """
    from orch_env.backends.open import make_backend
    from orch_env.servers import server_names, server_type
    from orch_env.tasks.files import load_tasks, save_tasks
    from orch_env.tasks.perturb import Perturbation, perturb

    check_out(out, file, cache)
    loaded = load_tasks(file)
    if not loaded:
        raise OrchError(f"{file!r} holds no tasks")
    if distractors and not all(task.servers for task in loaded):
        raise OrchError("--distractors needs tasks that all run on servers")
    how = Perturbation(distractors, strip_enums, withhold, seed)
    own = [name for task in loaded for name in task.servers]
    wanted = servers.split(",") if servers else server_names()
    catalogue = {
        name: [tool.spec for tool in server_type(name).tools.values()]
        for name in ((*wanted, *own) if distractors else ())
    }
    fitting = [t for t in loaded if not withhold or (t.gold_calls and not t.followups)]
    backend = make_backend(file, cache, loaded, mcp=mcp)
    try:
        made = [perturb(backend.resolve(task), how, catalogue) for task in fitting]
    finally:
        backend.close()
    save_tasks(made, out)
    emit({"tasks": len(made), "left_out": len(loaded) - len(made)}, as_json=as_json, title=out)
    data = (*option("--cache", cache), *option("--mcp", mcp))
    next_command("tasks", "validate", out, *data, why="gold still earns 1")


@tasks.command(
    "split",
    epilog="Example: orch tasks split cfb.jsonl --domain Attraction --heldout 0.3 --out tour.jsonl",
)
@click.argument("file", type=click.Path())
@click.option("--out", "out", required=True, type=click.Path(), help="Task file to write.")
@click.option(
    "--heldout", default=0.2, show_default=True, help="Share of tasks that is held out, 0 to 1."
)
@click.option("--domain", "domains", multiple=True, help="Keep only this domain; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Which tasks are held out.")
@json_option
def split(
    file: str, out: str, heldout: float, domains: tuple[str, ...], seed: int, as_json: bool
) -> None:
    """Mark the tasks of FILE as train or held-out; no gold call is in both splits.

    Tasks that make an identical call stay together. An environment takes one split by
    `split="train"` or `split="heldout"`.
    """
    from orch_env.tasks.files import load_tasks, save_tasks
    from orch_env.tasks.splits import linked_groups, split_tasks

    check_out(out)
    loaded = load_tasks(file)
    there = sorted({str(task.metadata.get("domain")) for task in loaded})
    unknown = [name for name in domains if name not in there]
    if unknown:
        raise OrchError(f"{file!r} has no domain {unknown[0]!r} (domains: {', '.join(there)})")
    kept = [t for t in loaded if not domains or str(t.metadata.get("domain")) in domains]
    train, held = split_tasks(kept, heldout=heldout, seed=seed)
    order = {task.id: index for index, task in enumerate(kept)}
    save_tasks(sorted([*train, *held], key=lambda task: order[task.id]), out)
    result = {"train": len(train), "heldout": len(held), "groups": len(linked_groups(kept))}
    emit(result, as_json=as_json, title=out)
    next_command("tasks", "stats", out, why="count what it holds")


@tasks.command("stats", short_help="Count what a task file holds.")
@click.argument("file", type=click.Path())
@json_option
def stats(file: str, as_json: bool) -> None:
    """Count what FILE holds: tasks, calls, tools, domains, sizes, and where values come from."""
    from orch_env.tasks.files import load_tasks

    loaded = load_tasks(file)
    emit(_stats(loaded), as_json=as_json, title=file)
    for task in loaded[:1]:
        next_command("tasks", "show", task.id, file, why="one task with its data flow")


@tasks.command(
    "show",
    short_help="Show one task with its data flow.",
    epilog="Example: orch tasks show Car-Rental-0 cfb.jsonl",
)
@click.argument("first", metavar="ID")
@click.argument("second", metavar="FILE", required=False)
@click.option("--tasks", "file", type=click.Path(), help="Task file, instead of the argument.")
@json_option
def show(first: str, second: str | None, file: str | None, as_json: bool) -> None:
    """Show the task ID of FILE: the request, the tools, and gold with its data flow.

    ID and FILE may come in either order.
    """
    from orch_env.tasks.files import load_tasks

    task_id, path = _id_and_file(first, second, file)
    loaded = load_tasks(path)
    found = next((task for task in loaded if task.id == task_id), None)
    if found is None:
        near = nearest(task_id, [task.id for task in loaded], most=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise OrchError(f"{path!r} has no task {task_id!r}{hint}")
    if as_json:
        say(readable_json(found.to_dict(), allow_nan=True))
    else:
        _show(found)


def _id_and_file(first: str, second: str | None, file: str | None) -> tuple[str, str]:
    if file is not None:
        if second is not None:
            raise OrchError("give the task file once: as an argument or as --tasks")
        return first, file
    if second is None:
        raise OrchError("name the task and its file: orch tasks show ID FILE")
    from orch_env.tasks.files import bundled

    def is_file(text: str) -> bool:
        return os.path.isfile(text) or bundled(text, "tasks") is not None

    return (second, first) if is_file(first) and not is_file(second) else (first, second)


def _stats(loaded: list[Task]) -> dict[str, Any]:
    from orch_env.provenance import count_sources, graph_size

    calls = [call for task in loaded for call in task.gold_calls]
    sizes = [graph_size(task.gold) for task in loaded]
    domains = Counter(str(task.metadata.get("domain")) for task in loaded)
    splits = Counter(str(task.metadata.get("split")) for task in loaded)
    count = max(len(loaded), 1)
    return {
        "tasks": len(loaded),
        "calls": len(calls),
        "steps": sum(len(task.gold) for task in loaded),
        "tools": len({name for task in loaded for name in task.tool_names}),
        "edges": sum(size["edges"] for size in sizes),
        "calls_per_task": _count_sorted(size["calls"] for size in sizes),
        "depth": _count_sorted(size["depth"] for size in sizes),
        "width": _count_sorted(size["width"] for size in sizes),
        "tools_offered_mean": sum(len(task.tools) for task in loaded) / count,
        "domains": dict(domains.most_common()),
        "splits": dict(splits.most_common()),
        "gold_tools": dict(Counter(call.name for call in calls).most_common()),
        "provenance": count_sources(calls),
    }


def _count_sorted(values: Any) -> dict[str, int]:
    """Value -> how often it occurs, by rising value."""
    return {str(value): n for value, n in sorted(Counter(values).items())}


def _show(task: Task) -> None:
    say(task.id, bold=True)
    for message in task.messages:
        say(f"{message['role']}: {message.get('content')}")
    for count, text in enumerate(task.followups, start=1):
        say(f"follow-up {count}: {text}")
    say(f"tools: {', '.join(task.tool_names)}")
    number = 0
    for index, step in enumerate(task.gold):
        due = task.after_followup[index] if task.after_followup else 0
        say(f"step {index}" + (f"  (after follow-up {due})" if due else ""), bold=True)
        for call in step:
            optional = "  (optional)" if call.optional else ""
            say(f"  [{number}] {call.name}{optional}")
            for pointer, ref in call.provenance.items():
                say(f"      {pointer}  {_source(call.arguments, pointer, ref)}")
            number += 1
    say(f"metadata: {readable_json(task.metadata, allow_nan=True)}")


def _source(arguments: dict[str, Any], pointer: str, ref: Any) -> str:
    from orch_env.types.json import resolve

    try:
        value = readable_json(resolve(arguments, pointer), allow_nan=True)
    except KeyError:
        value = "?"
    where = f"call {ref.call} {ref.path}" if ref.call is not None else ref.kind.value
    if ref.parts:
        where += ": " + ", ".join(f"call {p.call} {p.path}" for p in ref.parts if p.path)
    return f"= {shortened(value, 60)}   from {where}"
