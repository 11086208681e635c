"""``orch export``: a trained model as a folder that other tools load."""

from __future__ import annotations

from pathlib import Path

import click

from orch_env.cli.output import emit, json_option
from orch_env.cli.progress import progress_bar
from orch_train.cli.next_commands import say_how_to_score
from orch_train.cli.run_arguments import quiet_libraries
from orch_train.storage.runs import trained_run

_EPILOG = """\b
Examples:
  orch export runs/quickstart --out models/mine              # the newest checkpoint
  orch export runs/booking --step 40 --out models/mine-40
  orch export runs/booking --out models/mine --dtype float32
  orch export runs/lora --merge-lora --out models/merged     # without it: the adapter alone

The weights are in the dtype of training (model.dtype); configuration and tokenizer are the files of
the model that training started from. A run may be exported while it trains."""


@click.command(epilog=_EPILOG)
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; default: the newest.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The new folder."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the weights; default: that of training.",
)
@click.option("--merge-lora", is_flag=True, help="Of a run with LoRA the whole model.")
@json_option
def export(
    run: Path, step: int | None, out: Path, dtype: str | None, merge_lora: bool, as_json: bool
) -> int:
    """Write the model of a run as a Hugging Face folder."""
    quiet_libraries()
    from orch_train.algorithms.export import export_model

    with progress_bar() as report:
        done = export_model(
            run,
            out,
            step=step,
            dtype=dtype,
            merge_lora=merge_lora,
            progress=lambda tensors, total: report("tensors", tensors, total),
        ).to_dict()
    if not as_json:
        done |= {"files": ", ".join(done["files"]), "step": done["step"] or "-"}
    emit(done, as_json=as_json, title="exported")
    say_how_to_score(out, trained_run(run))
    return 0
