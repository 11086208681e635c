"""`GRPOConfig`: the fluent builder over the groups, in RLlib's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import Unpack

from orch_train.config import arguments as args
from orch_train.config.run_config import RunConfig

if TYPE_CHECKING:
    from orch_train.algorithms.grpo import GRPO


class GRPOConfig(RunConfig):
    """Configuration of a GRPO run: call groups in any order, then `build_algo`.

    Nothing is checked while the groups are filled; `validate` (and `build_algo`) raise one
    `OrchError` that lists every problem. Paths are relative to the current directory, in YAML
    files too.

        >>> config = (
        ...     GRPOConfig()
        ...     .environment(env_config={"tasks": "harbour"})
        ...     .training(lr=3e-4, group_size=8)
        ... )
        >>> config.settings.training.group_size
        8
    """

    # -- groups -----------------------------------------------------------------------------

    def environment(
        self, env: str | None = None, **kwargs: Unpack[args.EnvironmentArgs]
    ) -> GRPOConfig:
        """The environment: a Gymnasium id and ``env_config``, the arguments of ``gym.make``."""
        return self._set("environment", {"env": env} if env is not None else {}, kwargs)

    def model(self, path: str | None = None, **kwargs: Unpack[args.ModelArgs]) -> GRPOConfig:
        """The policy: a model folder or id, and ``dtype``."""
        return self._set("model", {"path": path} if path is not None else {}, kwargs)

    def rollouts(self, **kwargs: Unpack[args.RolloutArgs]) -> GRPOConfig:
        """Engine, temperature and the limits of an episode; see `RolloutSettings`."""
        return self._set("rollouts", kwargs)

    def env_runners(self, **kwargs: Unpack[args.EnvRunnerArgs]) -> GRPOConfig:
        """The rollout workers; see `EnvRunnerSettings`."""
        return self._set("env_runners", kwargs)

    def learners(self, **kwargs: Unpack[args.LearnerArgs]) -> GRPOConfig:
        """Device and memory of the update; see `LearnerGroupSettings`."""
        return self._set("learners", kwargs)

    def training(self, **kwargs: Unpack[args.TrainingArgs]) -> GRPOConfig:
        """The algorithm and its three batch numbers; see `TrainingSettings`."""
        return self._set("training", kwargs)

    def evaluation(self, **kwargs: Unpack[args.EvaluationArgs]) -> GRPOConfig:
        """Held-out measurement; see `EvaluationSettings`."""
        return self._set("evaluation", kwargs)

    def fault_tolerance(self, **kwargs: Unpack[args.FaultToleranceArgs]) -> GRPOConfig:
        """What happens when a runner dies; see `FaultToleranceSettings`."""
        return self._set("fault_tolerance", kwargs)

    def reporting(self, **kwargs: Unpack[args.ReportingArgs]) -> GRPOConfig:
        """What a run leaves behind; see `ReportingSettings`."""
        return self._set("reporting", kwargs)

    def debugging(self, **kwargs: Unpack[args.DebuggingArgs]) -> GRPOConfig:
        """Seed and log level."""
        return self._set("debugging", kwargs)

    def sft(self, **kwargs: Unpack[args.SFTArgs]) -> GRPOConfig:
        """The supervised warm start of ``orch sft``; see `SFTGroupSettings`."""
        return self._set("sft", kwargs)

    def build_algo(self) -> GRPO:
        """Check, freeze, and start the algorithm: model, learner and runners.

        Raises:
            OrchError: the configuration, a file it names or the model is not usable.
        """
        self.validate()
        self.freeze()
        from orch_train.algorithms.grpo import GRPO

        return GRPO(self)
