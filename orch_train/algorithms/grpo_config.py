"""`GRPOConfig`: the fluent builder over the groups, in RLlib's words."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from typing_extensions import Unpack

from orch_env.types import OrchError
from orch_train.config import arguments as args
from orch_train.config.groups import Settings
from orch_train.config.reading import merged, parse_override, read_yaml, set_path
from orch_train.config.validation import GROUPS, resolve

if TYPE_CHECKING:
    from orch_train.algorithms.grpo import GRPO


class GRPOConfig:
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

    def __init__(self) -> None:
        self._given: dict[str, dict[str, Any]] = {}
        self._frozen = False

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

    # -- plain data -------------------------------------------------------------------------

    def from_yaml(self, path: str | PathLike[str]) -> GRPOConfig:
        """Lay a YAML file over what is set so far; its layout is ``{group: {key: value}}``.

        Raises:
            OrchError: the file is missing, not YAML, or repeats a key.
        """
        return self.from_dict(read_yaml(Path(path)))

    def from_dict(self, data: Mapping[str, Any]) -> GRPOConfig:
        """Lay ``{group: {key: value}}`` over what is set so far."""
        self._check_open()
        self._given = merged(self._given, copy.deepcopy(dict(data)))
        return self

    def with_overrides(self, overrides: Iterable[str]) -> GRPOConfig:
        """Apply ``group.key=value`` texts, as in ``training.lr=2e-6``; values are YAML.

        Raises:
            OrchError: a text is not of that form.
        """
        self._check_open()
        for text in overrides:
            keys, value = parse_override(text)
            set_path(self._given, keys, value)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Every group with every key, defaults filled in, as plain data."""
        data: dict[str, Any] = self.settings.model_dump(mode="json")
        return data

    def to_yaml(self) -> str:
        """`to_dict` as YAML; `from_yaml` reads it back to the same configuration."""
        # PyYAML's own reader takes 1e-06 for text, so it quotes strings of that look only; floats
        # are written with a dot and stay floats for every reader.
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    # -- use --------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The typed, frozen groups.

        Raises:
            OrchError: one message with every problem; named files are not looked at.
        """
        return resolve(self._given, files=False)

    def validate(self) -> Settings:
        """Check everything, files included.

        Raises:
            OrchError: one message with every problem.
        """
        return resolve(self._given, files=True)

    def freeze(self) -> GRPOConfig:
        """Refuse further changes."""
        self._frozen = True
        return self

    def copy(self) -> GRPOConfig:
        """An independent copy that may be changed."""
        return GRPOConfig().from_dict(self._given)

    def build_algo(self) -> GRPO:
        """Check, freeze, and start the algorithm: model, learner and runners.

        Raises:
            OrchError: the configuration, a file it names or the model is not usable.
        """
        self.validate()
        self.freeze()
        from orch_train.algorithms.grpo import GRPO

        return GRPO(self)

    def _set(self, group: str, *values: Mapping[str, Any]) -> GRPOConfig:
        self._check_open()
        assert group in GROUPS
        for given in values:
            self._given = merged(self._given, {group: copy.deepcopy(dict(given))})
        return self

    def _check_open(self) -> None:
        if self._frozen:
            raise OrchError("this configuration is frozen: an algorithm was built; use copy()")
