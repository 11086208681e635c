"""Configuration of a run: typed groups, their checks, YAML and dotted overrides.

Imports without torch and without ray.
"""

from orch_train.config.groups import (
    DebuggingSettings,
    EnvironmentSettings,
    EnvRunnerSettings,
    EvaluationSettings,
    FaultToleranceSettings,
    LearnerGroupSettings,
    ModelSettings,
    OptimizerSettings,
    ReportingSettings,
    RolloutSettings,
    Settings,
    SFTGroupSettings,
    TrainingSettings,
)
from orch_train.config.run_config import RunConfig

__all__ = [
    "DebuggingSettings",
    "EnvRunnerSettings",
    "EnvironmentSettings",
    "EvaluationSettings",
    "FaultToleranceSettings",
    "LearnerGroupSettings",
    "ModelSettings",
    "OptimizerSettings",
    "ReportingSettings",
    "RolloutSettings",
    "RunConfig",
    "SFTGroupSettings",
    "Settings",
    "TrainingSettings",
]
