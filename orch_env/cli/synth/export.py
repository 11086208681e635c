"""``orch synth export``: tasks for other trainers."""

from __future__ import annotations

from pathlib import Path

import click

from orch_env.cli.output import check_out, emit, json_option
from orch_env.cli.progress import progress_bar
from orch_env.types import OrchError
from orch_env.types.text import readable_json

_EPILOG = """\b
Examples:
  orch synth export tasks.jsonl --for parquet --out tasks.parquet
  orch synth export tasks.jsonl --for datasets --out folder
  orch synth export tasks.jsonl --for sft --cache harbour --split train --out chats.jsonl"""


@click.command("export", short_help="Write tasks for other trainers.", epilog=_EPILOG)
@click.argument("file", type=click.Path())
@click.option(
    "--for",
    "form",
    type=click.Choice(["parquet", "datasets", "sft"]),
    required=True,
    help="A Parquet file, a folder for datasets.load_dataset, or chats to imitate.",
)
@click.option("--cache", help="The cache that answers the tasks' calls; for sft.")
@click.option("--split", help="Only the tasks of this split.")
@click.option(
    "--max-observation-chars",
    type=click.IntRange(min=1),
    help="Cut longer results, as the environment does; for sft.",
)
@click.option("--out", required=True, type=click.Path(), help="File or folder to write.")
@json_option
def export(
    file: str,
    form: str,
    cache: str | None,
    split: str | None,
    max_observation_chars: int | None,
    out: str,
    as_json: bool,
) -> None:
    """Write the tasks of FILE as rows, or their gold as conversations.

    Rows (parquet, datasets) have what a model is told, and the whole task as JSON text in `task`.
    Conversations (sft) are one JSON object a line: messages with tool calls and their results, and
    the tools, in OpenAI's shape; gold is played for them, so each must succeed.
    """
    from orch_env.backends.replay import ReplayBackend
    from orch_env.synthesis.pipeline.export import conversations, save_dataset, task_row
    from orch_env.synthesis.pipeline.source import open_source
    from orch_env.tasks.files import write_lines, write_whole
    from orch_env.tasks.parquet import parquet_bytes
    from orch_env.tasks.selection import load_split

    tasks = load_split(file, split)
    if form == "datasets":
        emit({"rows": save_dataset(tasks, Path(out)), "path": out}, as_json=as_json, title=out)
        return
    check_out(out, file, cache)
    if form == "parquet":
        write_whole(parquet_bytes([task_row(task) for task in tasks]), Path(out))
    else:
        if cache is None:
            raise OrchError("chats hold the tools' answers: name their cache by --cache")
        lines = []
        with progress_bar() as report:
            backend = ReplayBackend(open_source(cache))
            chats = conversations(tasks, backend, max_observation_chars=max_observation_chars)
            for number, chat in enumerate(chats, start=1):
                lines.append(readable_json(chat))
                report("playing gold", number, len(tasks))
        write_lines(lines, Path(out))
    emit({"rows": len(tasks), "path": out}, as_json=as_json, title=out)
