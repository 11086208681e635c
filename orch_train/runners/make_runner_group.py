"""The runners that a configuration asks for: in this process, or Ray actors."""

from __future__ import annotations

from orch_train.config import Settings
from orch_train.rollouts.env_runner import EnvRunner
from orch_train.runners.runner_group import LocalRunnerGroup, RunnerGroup
from orch_train.weight_sync.protocol import NewWeights


def make_runner_group(settings: Settings, weights: NewWeights, version: int) -> RunnerGroup:
    """Start the runners of a configuration with these weights.

    Args:
        settings: the whole configuration.
        weights: served from the start.
        version: their version.

    Raises:
        OrchError: a runner cannot start.
    """
    if settings.env_runners.num_env_runners == 0:
        return LocalRunnerGroup(EnvRunner(settings), settings, weights, version)
    # Ray is imported for runners in processes of their own, and for nothing else.
    from orch_train.runners.ray_runner_group import RayRunnerGroup

    return RayRunnerGroup(settings, weights, version)
