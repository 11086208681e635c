"""The runners that a configuration asks for: in this process, or Ray actors."""

from __future__ import annotations

from orch_train.config import Settings
from orch_train.config.weight_route import weight_sync
from orch_train.rollouts.env_runner import EnvRunner
from orch_train.runners.runner_group import LocalRunnerGroup, RunnerGroup
from orch_train.weight_sync.buckets import Weights
from orch_train.weight_sync.protocol import WeightSender


def make_runner_group(
    settings: Settings, weights: Weights, version: int, sender: WeightSender | None = None
) -> RunnerGroup:
    """Start the runners of a configuration with these weights.

    Args:
        settings: the whole configuration.
        weights: served from the start.
        version: their version.
        sender: has the learner's later weights, for ``env_runners.weight_sync: collective``;
            ``None``: whoever calls `RunnerGroup.sync_weights` does.

    Raises:
        OrchError: a runner cannot start.
    """
    if settings.env_runners.num_env_runners == 0:
        return LocalRunnerGroup(EnvRunner(settings), settings, weights, version)
    # Ray is imported for runners in processes of their own, and for nothing else.
    from orch_train.runners.ray_runner_group import RayRunnerGroup

    if weight_sync(settings) == "host":
        return RayRunnerGroup(settings, weights, version)
    from orch_train.weight_sync.delivery import ThreadSender

    return RayRunnerGroup(settings, weights, version, sender=sender or ThreadSender())
