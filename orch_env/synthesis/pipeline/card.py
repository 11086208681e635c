"""The data card beside a set: counts, plots, stages, where it comes from, what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orch_env.synthesis.mining import draw_graph
from orch_env.tasks.files import write_whole
from orch_env.types.json import Json, JsonObject

if TYPE_CHECKING:
    from orch_env.synthesis.pipeline.job import Job
    from orch_env.synthesis.pipeline.workshop import Workshop


def write_card(job: Job, workshop: Workshop, report: JsonObject) -> None:
    """Write ``README.md``, ``graph.svg``, ``sizes.png`` and ``tools.png`` into the job's folder."""
    draw_graph(workshop.mined, workshop.corpus.tools, job.folder / "graph.svg", workshop.domains)
    counts = report["counts"]
    _bars(
        [(name, counts[name]) for name in ("calls", "depth", "width", "edges")],
        job.folder / "sizes.png",
    )
    _bars([("calls of each tool", counts["tools"])], job.folder / "tools.png", sideways=True)
    write_whole(_text(job, report).encode(), job.folder / "README.md")


def _text(job: Job, report: JsonObject) -> str:
    from orch_env import __version__

    counts, cache, config = report["counts"], report["cache"], job.config
    stages = _table(
        ("stage", "in", "out", "refused"),
        [
            (
                s["name"],
                s["in"],
                s["out"],
                ", ".join(f"{n} {reason}" for reason, n in s["reasons"].items()) or "none",
            )
            for s in report["stages"]
        ],
    )
    shared = _table(
        ("splits", "workflows", "entities", "calls", "texts", "runs of 13 words"),
        [
            (pair, s["templates"], s["entities"], s["calls"], s["texts"], s["ngrams"])
            for pair, s in report["shared_by_splits"].items()
        ],
    )
    sizes = _table(
        ("", *sorted(counts["calls"], key=int)),
        [("tasks", *(counts["calls"][n] for n in sorted(counts["calls"], key=int)))],
    )
    frequent = ", ".join(f"{e} ({n})" for e, n in counts["most_frequent_entities"].items())
    facts = _table(
        ("", ""),
        [
            ("cache", f"{cache['name']}, digest `{cache['digest']}`"),
            ("recorded calls, tools", f"{report['recorded_calls']}, {cache['tools']}"),
            ("recorded calls that a benchmark has, left out", report["excluded_calls"]),
            ("requests by", config.writing.writer),
            ("workflows", counts["templates"]),
            ("user turns", _pairs(counts["turns"])),
            ("domains crossed", _pairs(counts["domains"])),
            ("tools that occur in no task", ", ".join(report["unused_tools"]) or "none"),
            ("most frequent entities", frequent),
            (
                "largest share of one entity",
                f"{counts['largest_entity_share']:.3f} (bound {config.sampling.entity_limit})",
            ),
            ("tasks that repeat a call", counts["repeated_calls"]),
        ],
    )
    replayed = "was replayed and earned 1 in every task" if config.replay else "was not replayed"
    return "\n".join(
        [
            "# Synthesised tasks\n",
            f"{report['tasks']} tasks made by orch-rl {__version__} with seed {config.seed}, from",
            f"recorded responses. Every gold call is in the cache; gold {replayed}.\n",
            f"{facts}\n",
            f"## Calls in a task\n\n{sizes}\n",
            "![Sizes of the tasks](sizes.png)\n",
            "![Calls of each tool](tools.png)\n",
            "![Which output feeds which argument](graph.svg)\n",
            f"## Stages\n\n{stages}\n",
            f"## Splits\n\n{_pairs(report['splits'])}. Shared by two splits:\n\n{shared}\n",
            _beside(report["benchmark"]),
            _LIMITS,
        ]
    )


_LIMITS = """## Known limits

- Answers are those that were recorded. Dates lie where the recordings were made; each task has a
  `today` of its own.
- Gold is one right way. The rewards accept another order of independent calls; they may not accept
  other calls that lead to the same answer.
- A grammar's texts are more regular than people's. A request whose values the checker cannot read
  out of the text is left out, so nothing has to be guessed.
- The licence of the responses is that of their source: name it here before you publish the set.
"""


def _beside(benchmark: JsonObject | None) -> str:
    if benchmark is None:
        return ""
    return (
        "## Beside the recorded tasks\n\n"
        f"Of {benchmark['calls']} distinct calls here, {benchmark['calls_shared']} are calls of\n"
        f"the {benchmark['tasks']} recorded tasks; {benchmark['entities_shared']} of "
        f"{benchmark['entities']} entities occur there.\n{benchmark['texts']} texts and "
        f"{benchmark['ngrams']} runs of 13 words (names, dates and numbers masked) are shared.\n"
    )


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[Json]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _bars(
    charts: Sequence[tuple[str, Mapping[str, int]]], path: Path, *, sideways: bool = False
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = max(len(values) for _, values in charts)
    size = (8, 1 + 0.25 * rows) if sideways else (3 * len(charts), 3)
    figure, axes = pyplot.subplots(1, len(charts), figsize=size, squeeze=False)
    for axis, (title, values) in zip(axes[0], charts, strict=True):
        if sideways:
            ordered = sorted(values, key=lambda name: (values[name], name))
            axis.barh(ordered, [values[n] for n in ordered], color="#3566a8")
        else:
            ordered = sorted(values, key=int)
            axis.bar(ordered, [values[n] for n in ordered], color="#3566a8")
        axis.set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
