"""``orch reward``: score trajectories, and check the rewards themselves."""

import click

from orch_env.cli.reward.attack import attack
from orch_env.cli.reward.audit import audit
from orch_env.cli.reward.catalogue import list_rewards, show
from orch_env.cli.reward.compare import compare
from orch_env.cli.reward.score import score


@click.group()
def reward() -> None:
    """Score trajectories with a reward, and check the rewards themselves."""


for command in (list_rewards, show, score, attack, audit, compare):
    reward.add_command(command)
