"""Rewards: pure functions of (task, episode). See ``make_reward``."""

from orch_env.rewards.compose.configuration import make_reward
from orch_env.rewards.presets.catalogue import PRESETS, Preset
from orch_env.rewards.protocol import Reward

__all__ = ["PRESETS", "Preset", "Reward", "make_reward"]
