"""A runner actor whose groups are made up and which hangs, fails or dies when a file says so.

Files in the folder ``environment.env_config["folder"]`` are the switches, because the actors are
other processes: ``hold-I`` makes runner I hang on every group, ``fail-G`` makes group G fail in
the environment, ``engine-I`` makes runner I's engine fail. Every attempt leaves a line in
``attempts``.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from orch_env.types import Episode, OrchError, StopReason
from orch_train.rollouts.env_runner import EnvRunner, EnvRunnerActor, SampleReply, SampleRequest
from orch_train.trajectory.token_trace import TokenTrace
from orch_train.trajectory.trajectory import Group, Trajectory
from orch_train.weight_sync.buckets import Weights


class GatedRunner:
    """Stands in for `EnvRunner`: same calls, no model, no environment."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder, self._index = folder, index
        self._version = -1
        if (folder / f"bad-{index}").exists():
            raise OrchError("the task file is damaged")
        if (folder / f"crash-{index}").exists():
            os._exit(1)

    async def sample(self, request: SampleRequest) -> SampleReply:
        group = request.group
        with (self._folder / "attempts").open("a") as log:
            log.write(f"{group.id} {self._index} {os.getpid()} {self._version}\n")
        if (self._folder / f"hold-{self._index}").exists():
            await asyncio.Event().wait()
        if (self._folder / f"engine-{self._index}").exists():
            return SampleReply(failure="engine is broken", engine_failed=True)
        if (self._folder / f"fail-{group.id}").exists():
            return SampleReply(failure="environment is broken")
        trajectories = [
            Trajectory(
                group.id,
                member,
                group.task_id,
                Episode(group.task_id, group.env_seed, stop_reason=StopReason.ANSWERED),
                _trace(self._version),
                reward=float(member),
                success=False,
            )
            for member in range(group.size)
        ]
        return SampleReply(Group(group.id, group.task_id, group.env_seed, trajectories))

    async def serve(self, weights: Weights, version: int) -> int:
        (self._folder / f"weights-{os.getpid()}").write_text(
            f"{version} {weights['w'].tolist()} {weights['w'].dtype}"
        )
        self._version = version
        return version

    def stop(self) -> None:
        """Nothing is held."""


def _trace(version: int) -> TokenTrace:
    trace = TokenTrace()
    trace.append_context([1, 2])
    trace.append_action([3], [-0.5], [version])
    return trace


class GatedActor(EnvRunnerActor):
    """The actor around it."""

    def build(self) -> EnvRunner:
        runner: Any = GatedRunner(
            Path(self._settings.environment.env_config["folder"]), self._index
        )
        return runner
