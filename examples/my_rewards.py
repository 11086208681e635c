"""A file of docs/tutorials/reward_audit.md."""

from orch_env import make_reward

graduated = make_reward("graduated")


def tools_used(task, episode):
    """The share of gold's tools that were called without an error."""
    asked = {call.name for call in task.gold_calls}
    made = [exchange for turn in episode.turns for exchange in turn.exchanges]
    used = {exchange.call.name for exchange in made if exchange.result.error is None}
    return len(asked & used) / len(asked)


def mended(task, episode):
    """What `graduated` pays, and a tenth less where not all tools were used."""
    return graduated(task, episode).total * (0.9 + 0.1 * tools_used(task, episode))
