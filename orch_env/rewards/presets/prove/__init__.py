"""``prove``: validity, coverage in order, and a call budget."""

from orch_env.rewards.presets.prove.reward import COMPONENTS, ProveReward, ProveWeights

__all__ = ["COMPONENTS", "ProveReward", "ProveWeights"]
