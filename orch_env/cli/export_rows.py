"""``orch export-rows``: tasks as the data set of another RL framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from orch_env.cli.output import check_out, emit, json_option
from orch_env.tasks.files import write_lines, write_whole
from orch_env.tasks.framework_rows import FRAMEWORKS, framework_rows
from orch_env.tasks.parquet import parquet_bytes
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from orch_env.types.text import readable_json

_EPILOG = """\b
Examples:
  orch export-rows --for verl --tasks harbour --split train --out train.parquet
  orch export-rows --for nemo_gym --tasks cfb.jsonl --cache booking.db --out rows.jsonl

The rows name the task and hold its messages (for NeMo Gym its tools too), never gold: the
adapter scores the episode from the same tasks."""


@click.command(epilog=_EPILOG)
@click.option(
    "--for",
    "framework",
    type=click.Choice(list(FRAMEWORKS)),
    required=True,
    help="The framework that reads the rows.",
)
@click.option("--tasks", required=True, help="Task file, or the name of a bundled data set.")
@click.option("--cache", help="Response cache; a bundled data set has its own.")
@click.option("--split", help="Only the tasks of this split.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    required=True,
    help="JSON Lines (.gz too); Parquet if the name ends in .parquet, which needs pyarrow.",
)
@json_option
def export_rows(
    framework: str, tasks: str, cache: str | None, split: str | None, out: str, as_json: bool
) -> int:
    """Write tasks as rows that another framework trains on; no row holds gold."""
    from orch_env.session import EpisodeSource

    check_out(out, tasks, cache)
    rows = list(framework_rows(framework, EpisodeSource(tasks, cache, split).rows()))
    if Path(out).suffix == ".parquet":
        write_whole(_parquet(framework, rows), Path(out))
    else:
        write_lines(map(readable_json, rows), Path(out))
    emit({"rows": len(rows), "path": out}, as_json=as_json, title=f"rows for {framework}")
    return 0


def _parquet(framework: str, rows: Sequence[JsonObject]) -> bytes:
    """The rows as a Parquet file.

    Raises:
        OrchError: pyarrow is missing, or the framework's rows hold schemas, which Parquet would
            merge into one.
    """
    if framework == "nemo_gym":
        raise OrchError(
            "rows for nemo_gym hold tools, whose schemas Parquet would mix: write to a .jsonl file"
        )
    return parquet_bytes(rows)
