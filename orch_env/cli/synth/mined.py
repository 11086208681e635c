"""``orch synth graph`` and ``templates``: what a cache shows about its tools."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from orch_env.cli.extras import load
from orch_env.cli.output import check_out, emit, json_option, next_command, say, table
from orch_env.cli.progress import progress_bar
from orch_env.cli.synth.options import RANGE, cache_of, from_option, hints_option, traces_option
from orch_env.types.text import readable_json


@click.command(
    "graph",
    short_help="Show which output feeds which argument.",
    epilog="Example: orch synth graph --from cache harbour --out graph.svg",
)
@from_option
@traces_option
@hints_option
@click.option("--out", type=click.Path(), help="Picture to write: .svg or .png; or .json.")
@json_option
def graph(
    source: tuple[str, str], traces: str | None, hints: str | None, out: str | None, as_json: bool
) -> None:
    """Find which output path of which tool feeds which argument of which tool.

    Evidence comes from recorded tasks where there are any (--traces), and from the cache itself:
    values that an argument takes and that an output holds, with names, types and descriptions that
    fit. `support` is the number of traces that show a link; 0 means that only the cache does.
    """
    from orch_env.synthesis.corpus import read_corpus
    from orch_env.synthesis.pipeline.source import open_source
    from orch_env.tasks.files import load_tasks, write_whole

    check_out(out)
    edges_json = load("orch_env.synthesis.mining", "edges_json", "`orch synth graph`", "synth")
    mine = load("orch_env.synthesis.mining", "mine", "`orch synth graph`", "synth")
    corpus = read_corpus(open_source(cache_of(source)), load_tasks(traces) if traces else [])
    mined = mine(corpus)
    edges = edges_json(mined)
    result = {"tools": len(corpus.tools), "edges": edges}
    if out is not None:
        if Path(out).suffix == ".json":
            write_whole((readable_json(result, indent=1) + "\n").encode(), Path(out))
        else:
            from orch_env.synthesis.mining import domains, draw_graph

            given = None
            if hints is not None:
                from orch_env.synthesis.writing.hints import load_hints

                given = load_hints(hints).domains()
            draw_graph(mined, corpus.tools, Path(out), domains(mined, corpus.tools, given))
    if as_json:
        emit(result, as_json=True)
        return
    rows = [
        (
            f"{edge['from_tool']} {edge['from_path']}",
            f"{edge['to_tool']} {edge['to_path']}",
            str(edge["kind"]),
            str(edge["support"]),
        )
        for edge in edges
    ]
    table(("from", "to", "kind", ">support"), rows)
    say(f"{len(corpus.tools)} tools, {len(edges)} links" + (f"; drawn in {out}" if out else ""))
    if edges:
        next_command(
            "synth", "sample", "--from", *source, "--calls", 3, "--count", 20, "--out", "t.jsonl",
            why="20 tasks of three calls",
        )  # fmt: skip


@click.command(
    "templates",
    short_help="List the workflows that a cache can fill.",
    epilog="Example: orch synth templates --from cache harbour --calls 2:5 --out workflows.jsonl",
)
@from_option
@traces_option
@hints_option
@click.option(
    "--calls", type=RANGE, default="2:5", show_default=True, help="Calls in a workflow: N or A:B."
)
@click.option(
    "--novel", is_flag=True, help="Only workflows whose edges no recorded trace has together."
)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Tries to grow a workflow, for each round and number of calls.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rounds of growing; more find more.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--out", required=True, type=click.Path(), help="JSON Lines file to write.")
@json_option
def templates(
    source: tuple[str, str],
    traces: str | None,
    hints: str | None,
    calls: tuple[int, int],
    novel: bool,
    tries: int,
    rounds: int,
    seed: int,
    out: str,
    as_json: bool,
) -> None:
    """Write the workflows of the recorded traces, and new ones that grow from the cache.

    Each line has the tools, the edges with the values that they carry, the number of fillings, and
    where it comes from: the traces that have it, or `grown`.
    """
    from orch_env.synthesis.pipeline.config import checked
    from orch_env.synthesis.pipeline.source import check_source
    from orch_env.synthesis.pipeline.workshop import Workshop
    from orch_env.synthesis.sampling.prepared import Prepared
    from orch_env.synthesis.templates.from_traces import templates_of
    from orch_env.tasks.files import write_lines

    check_out(out, traces, hints)
    config = checked(
        {
            "source": {"cache": cache_of(source), "traces": traces, "hints": hints},
            "shape": {"calls": list(calls)},
            "sampling": {"growth_tries": tries},
            "splits": {"all": 1},
            "seed": seed,
        },
        "orch synth templates",
    )
    workshop = Workshop(config)
    check_source(workshop.corpus, workshop.mined)
    why: Counter[str] = Counter()
    lines, ids, kinds = [], set[str](), set[object]()
    traced = templates_of(workshop.joining, why)
    for found in traced:
        ids.add(found.template.id)
        kinds.add(found.template.kinds)
        if not novel and workshop.fits(found.template):
            count = Prepared(workshop.index, found.template).count
            lines.append(
                {
                    **found.template.to_dict(),
                    "fillings": count,
                    "traces": len(found.traces),
                    "from": "traces",
                }
            )
    grown = 0
    with progress_bar() as report:
        for round_ in range(rounds):
            report("growing workflows", round_, rounds)
            for template, count in workshop.grow("all", round_):
                fresh = template.kinds not in kinds if novel else template.id not in ids
                if fresh:
                    grown += 1
                    ids.add(template.id)
                    kinds.add(template.kinds)
                    lines.append(
                        {**template.to_dict(), "fillings": count, "traces": 0, "from": "grown"}
                    )
    write_lines([readable_json(line) for line in lines], Path(out))
    emit(
        {"templates": len(lines), "from_traces": len(lines) - grown, "grown": grown, "path": out},
        as_json=as_json,
        title=out,
    )
    for reason, times in sorted(why.items()):
        say(f"{times} traces give no workflow: {reason}", err=True)
