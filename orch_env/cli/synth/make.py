"""``orch synth sample``, ``write`` and ``run``: tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orch_env.cli.extras import load
from orch_env.cli.output import check_out, emit, json_option, next_command, number, say, table
from orch_env.cli.progress import progress_bar
from orch_env.cli.synth.options import RANGE, cache_of, from_option, hints_option, traces_option
from orch_env.types import OrchError


@click.command(
    "sample",
    short_help="Draw tasks of a wanted shape.",
    epilog="Example: orch synth sample --from cache harbour --calls 4 --count 100 --out t.jsonl",
)
@from_option
@traces_option
@hints_option
@click.option("--templates", type=click.Path(), help="Workflows to fill; grown if not given.")
@click.option("--calls", type=RANGE, required=True, help="Calls in a task: N or A:B.")
@click.option("--depth", type=RANGE, help="Calls on the longest path of dependencies.")
@click.option("--width", type=RANGE, help="Most calls at the same depth.")
@click.option("--edges", type=RANGE, help="Values read from earlier outputs.")
@click.option("--domains", type=RANGE, help="Domains that a task crosses.")
@click.option("--optional-arguments", type=RANGE, help="Arguments beyond the required ones.")
@click.option("--namesakes", is_flag=True, help="Also join parts that look up the same name.")
@click.option(
    "--distractors",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Offered tools that gold does not call.",
)
@click.option("--count", type=click.IntRange(min=1), required=True, help="Tasks to make.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything.")
@click.option(
    "--weights",
    type=click.Choice(["uniform", "balanced"]),
    default="balanced",
    show_default=True,
    help="Uniform over fillings, or less of what many fillings share.",
)
@click.option(
    "--entity-limit",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.05,
    show_default=True,
    help="Largest share of the tasks that one place or thing may be in.",
)
@click.option(
    "--exclude-benchmark",
    type=click.Path(),
    help="Task file whose recorded calls are left out, and traces that need them.",
)
@click.option("--traces-only", is_flag=True, help="Leave the requests to `orch synth write`.")
@click.option("--out", required=True, type=click.Path(), help="Task file to write.")
@json_option
@click.pass_context
def sample(ctx: click.Context, /, **given: Any) -> None:
    """Draw executable tasks of a wanted shape; each has a request, and its gold was replayed.

    The work is kept in OUT.job while it goes on: an interrupted command goes on where it was. If
    fewer tasks can be had than wanted, those are written, a line says why, and the exit code is 1.
    """
    import shutil

    from orch_env.tasks.files import save_tasks

    out: str = given["out"]
    check_out(out, *(given[k] for k in ("traces", "hints", "templates", "exclude_benchmark")))
    checked = load("orch_env.synthesis.pipeline.config", "checked", "`orch synth`", "synth")
    job_of = load("orch_env.synthesis.pipeline.job", "Job", "`orch synth`", "synth")
    shape = (
        "calls",
        "depth",
        "width",
        "edges",
        "domains",
        "optional_arguments",
        "namesakes",
        "distractors",
    )
    config = checked(
        {
            "source": {
                "cache": cache_of(given["source"]),
                "traces": given["traces"],
                "hints": given["hints"],
                "exclude_benchmark": given["exclude_benchmark"],
            },
            "shape": {name: given[name] for name in shape if given[name] is not None},
            "sampling": {
                "templates": given["templates"],
                "weights": given["weights"],
                "entity_limit": given["entity_limit"],
                "per_template": max(20, given["count"]),
            },
            "writing": {"writer": "none" if given["traces_only"] else "grammar"},
            "splits": {"all": given["count"]},
            "seed": given["seed"],
            "out": f"{out}.job",
            "processes": 1,
        },
        "orch synth sample",
    )
    with progress_bar() as report:
        job = job_of(config)
        result = job.run(lambda done, _workshop: {"stages": done.stages()}, report)
    tasks = [task.with_metadata(split=None) for task in job.tasks()["all"]]
    save_tasks(tasks, out)
    timing = job.timing()
    shutil.rmtree(job.folder)
    emit(
        {
            "tasks": len(tasks),
            "attempts": timing["attempts"],
            "accepted": timing["accepted"],
            "traces_per_s": timing["traces_per_s"],
        },
        as_json=given["as_json"],
        title=out,
    )
    if len(tasks) < given["count"]:
        why = {r: n for s in result["stages"] for r, n in s["reasons"].items()}
        told = ", ".join(f"{n} {r}" for r, n in sorted(why.items(), key=lambda x: -x[1])[:3])
        say(
            f"only {len(tasks)} of {given['count']} tasks could be made"
            + (f" (refused: {told})" if told else ""),
            err=True,
        )
        ctx.exit(1)
    cache = given["source"][1]
    next_command("synth", "validate", out, "--cache", cache, why="replay gold, check every value")


@click.command(
    "write",
    short_help="Write the requests of drawn tasks, again or for the first time.",
    epilog="Example: orch synth write traces.jsonl --cache harbour --out tasks.jsonl",
)
@click.argument("file", type=click.Path())
@click.option("--cache", required=True, help="The cache that the tasks were drawn from.")
@traces_option
@hints_option
@click.option("--writer", default="grammar", show_default=True, help="Who writes.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="What the writer takes, such as url=http://127.0.0.1:8000/v1; may be repeated.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the words.")
@click.option("--out", required=True, type=click.Path(), help="Task file to write.")
@json_option
@click.pass_context
def write(
    ctx: click.Context,
    file: str,
    cache: str,
    traces: str | None,
    hints: str | None,
    writer: str,
    options: tuple[str, ...],
    seed: int,
    out: str,
    as_json: bool,
) -> None:
    """Put the tasks of FILE into words; tasks whose words the checker refuses are left out.

    FILE comes from `orch synth sample --traces-only`. The exit code is 1 if a task was left out.
    """
    from orch_env.tasks.files import load_tasks, save_tasks

    check_out(out, hints, traces)
    rewrite = load("orch_env.synthesis.pipeline.rewrite", "rewrite", "`orch synth write`", "synth")
    settings = load("orch_env.synthesis.pipeline.config", "with_settings", "`orch synth`", "synth")
    taken = settings({}, options)
    if writer == "endpoint":  # so that a rerun asks only what is missing
        taken.setdefault("answers", f"{out}.answers.db")
    loaded = load_tasks(file)
    if not loaded:
        raise OrchError(f"{file!r} holds no tasks")
    with progress_bar() as report:
        written, refused = rewrite(
            loaded,
            cache=cache,
            traces=traces,
            hints=hints,
            writer=writer,
            options=taken,
            seed=seed,
            progress=report,
        )
    save_tasks(written, out)
    emit(
        {"tasks": len(written), "refused": [{"id": i, "reason": r} for i, r in refused]},
        as_json=as_json,
        title=out,
    )
    if refused:
        ctx.exit(1)


@click.command(
    "run",
    short_help="Run a whole job from a YAML file.",
    epilog="Example: orch synth run configs/synthesis.yaml out=tours seed=1",
)
@click.argument("config", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@click.pass_context
def run(ctx: click.Context, config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Mine, grow workflows, draw, write, check, replay, split: all stages, resumable.

    The folder `out` of the configuration gets a task file for each split, a report with the stage
    table, a data card with plots, and the graph. After an interruption the same command goes on.
    """
    load_config = load("orch_env.synthesis.pipeline.config", "load_config", "`orch synth`", "synth")
    run_job = load("orch_env.synthesis.pipeline.run", "run_job", "`orch synth`", "synth")
    settings = load_config(config, overrides)
    with progress_bar() as report:
        job, result = run_job(settings, report)
    wanted = sum(job.config.splits.values())
    if as_json:
        emit({k: result[k] for k in ("tasks", "stages", "path", "splits")}, as_json=True)
    else:
        rows = [
            (
                stage["name"],
                str(stage["in"]),
                str(stage["out"]),
                ", ".join(f"{n} {reason}" for reason, n in list(stage["reasons"].items())[:3]),
            )
            for stage in result["stages"]
        ]
        table(("stage", ">in", ">out", "refused"), rows)
        largest = number(result["counts"]["largest_entity_share"], ".3f")
        say(
            f"{result['tasks']} tasks in {job.folder} "
            f"({', '.join(f'{n} {s}' for s, n in result['splits'].items())}); "
            f"the most frequent entity is in {largest} of them"
        )
    if result["tasks"] < wanted:
        say(f"only {result['tasks']} of {wanted} tasks could be made", err=True)
        ctx.exit(1)
    next_command("synth", "stats", Path(result["path"]), why="what the set holds")
