"""The Gymnasium environment: one class, alone and in batches, and the episode behind it."""

from orch_env.env.environment import ToolOrchestrationEnv

__all__ = ["ToolOrchestrationEnv"]
