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
from orch_train.rollouts.env_runner import EnvRunner, EnvRunnerActor
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from orch_train.trajectory.sample import TrainingSample
from orch_train.weight_sync.buckets import Weights
from tests.orch_train.replies import answer


class GatedRunner:
    """Stands in for `EnvRunner`: same calls, no model, no environment."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder, self._index = folder, index
        self._version = -1
        if (folder / f"bad-{index}").exists():
            raise OrchError("the task file is damaged")
        if (folder / f"crash-{index}").exists():
            os._exit(1)

    async def sample(self, request: SampleRequest) -> SampleReply | SampleFailure:
        with (self._folder / "attempts").open("a") as log:
            log.write(f"{request.id} {self._index} {os.getpid()} {self._version}\n")
        if (self._folder / f"hold-{self._index}").exists():
            await asyncio.Event().wait()
        if (self._folder / f"engine-{self._index}").exists():
            return SampleFailure("engine is broken", engine_failed=True)
        if (self._folder / f"fail-{request.id}").exists():
            return SampleFailure("environment is broken")
        episode = Episode(request.task_id, request.env_seed, stop_reason=StopReason.ANSWERED)
        samples = [_sample(self._version, float(member)) for member in range(request.size)]
        return answer(request, *((sample, episode) for sample in samples))

    async def serve(self, weights: Weights, version: int) -> int:
        (self._folder / f"weights-{os.getpid()}").write_text(
            f"{version} {weights['w'].tolist()} {weights['w'].dtype}"
        )
        self._version = version
        return version

    def stop(self) -> None:
        """Nothing is held."""


def _sample(version: int, reward: float) -> TrainingSample:
    sample = TrainingSample(reward=reward)
    sample.append_context([1, 2])
    sample.append_action([3], [-0.5], [version])
    return sample


class GatedActor(EnvRunnerActor):
    """The actor around it."""

    def build(self) -> EnvRunner:
        runner: Any = GatedRunner(
            Path(self._settings.environment.env_config["folder"]), self._index
        )
        return runner
