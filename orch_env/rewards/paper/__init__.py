"""``paper``: the published graduated reward, reproduced, with the layout of its cases."""

from orch_env.rewards.paper.reward import COMPONENTS, PaperReward

__all__ = ["COMPONENTS", "PaperReward"]
