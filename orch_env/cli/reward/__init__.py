"""``orch reward``: score trajectories, and question the rewards themselves."""

import click

from orch_env.cli.reward.score import score


@click.group()
def reward() -> None:
    """Score trajectories with a reward, and question the rewards themselves."""


reward.add_command(score)
