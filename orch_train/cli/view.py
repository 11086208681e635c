"""``orch view``: look at a run, or at two, in a local web page."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click

from orch_env.cli.output import emit, json_option
from orch_env.types import OrchError

DEFAULT_PORT = 8477

_EPILOG = """\b
Examples:
  orch view runs/quickstart                      # its warm start and GRPO, every trajectory
  orch view runs                                 # a list of all runs below the folder
  orch view runs/quickstart runs/quickstart-2    # two runs side by side
  orch view runs/quickstart --open               # and open the browser
  orch view runs/quickstart --export run.html    # one file to pass on; nothing is served
  ssh -L 8477:localhost:8477 HOST                # then `orch view` there, the browser here

The run is only read, also while it is still training. Nothing is loaded from the network, and
only this machine can connect unless --host says otherwise. Ctrl-C ends it."""


@click.command(epilog=_EPILOG)
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN [RUN2]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port; 0 takes a free one. Default: {DEFAULT_PORT}, or a free one if that is taken.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--export",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write one self-contained page instead of serving.",
)
@click.option(
    "--episodes",
    type=click.IntRange(0, 5000),
    default=200,
    show_default=True,
    help="Trajectories in an exported page: the newest groups of each run.",
)
@json_option
def view(
    runs: tuple[Path, ...],
    host: str,
    port: int | None,
    open_page: bool,
    out: Path | None,
    episodes: int,
    as_json: bool,
) -> int:
    """Show a training run, or two side by side: curves, time, every trajectory and its tokens.

    RUN is a run's folder, or one that holds runs: these are shown as a list.
    """
    from orch_train.storage.runs import is_run, one_run
    from orch_train.viewer.run_data import RunData
    from orch_train.viewer.run_list import RunList

    if len(runs) > 2:
        raise OrchError(f"at most two runs fit side by side, got {len(runs)}")
    read: list[RunData] | RunList
    shown = list(runs)
    if len(runs) == 1 and not is_run(runs[0]):
        read = RunList(runs[0])
    else:
        shown = [folder if is_run(folder) else one_run(folder) for folder in runs]
        read = [RunData(folder) for folder in shown]
    if out is not None:
        from orch_train.viewer.export import export_page

        emit(export_page(read, out, episodes=episodes), as_json=as_json, title="exported")
        return 0
    from orch_train.viewer.server import ViewServer

    try:
        server = ViewServer(read, host=host, port=DEFAULT_PORT if port is None else port)
    except OrchError:
        if port is not None:
            raise
        server = ViewServer(read, host=host, port=0)
    emit(
        {"url": server.url, "runs": [str(folder) for folder in shown]},
        as_json=as_json,
        title="viewing (Ctrl-C ends it)",
    )
    sys.stdout.flush()
    if open_page:
        webbrowser.open(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 130
    finally:
        server.stop()
    return 0
