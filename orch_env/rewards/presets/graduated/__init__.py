"""``graduated``, the default reward: partial credit per call, gold the only maximum."""

from orch_env.rewards.presets.graduated.reward import COMPONENTS, GraduatedReward

__all__ = ["COMPONENTS", "GraduatedReward"]
