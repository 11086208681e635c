"""``paper``: the published graduated reward, reproduced, with the layout of its cases."""

from orch_env.rewards.presets.paper.reward import COMPONENTS, PaperReward

__all__ = ["COMPONENTS", "PaperReward"]
