"""``paper``: the published graduated reward, reproduced."""

from orch_env.rewards.presets.paper.reward import COMPONENTS, PaperReward

__all__ = ["COMPONENTS", "PaperReward"]
