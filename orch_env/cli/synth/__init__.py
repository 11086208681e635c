"""``orch synth``: tasks from a cache of recorded responses."""

import click

from orch_env.cli.synth.export import export
from orch_env.cli.synth.filter import filter_
from orch_env.cli.synth.inspect import split, stats, validate
from orch_env.cli.synth.make import run, sample, write
from orch_env.cli.synth.mined import graph, templates


@click.group(
    epilog="Start with: orch synth graph --from cache harbour   ·   orch synth COMMAND --help"
)
def synth() -> None:
    """Make tasks from a cache of recorded API responses.

    What can be executed is drawn first: workflows whose calls read each other's outputs, filled
    with recorded calls. Then each gets a request in words, is checked, and its gold is replayed.
    """


for command in (graph, templates, sample, write, validate, split, filter_, stats, export, run):
    synth.add_command(command)
