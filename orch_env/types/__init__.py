"""The records that all packages share: frozen dataclasses that read and write JSON."""

from orch_env.types.episode import (
    CallAccount,
    Episode,
    Exchange,
    RewardBreakdown,
    StopReason,
    Turn,
    error_of_text,
)
from orch_env.types.errors import ErrorType, InfrastructureError, OrchError
from orch_env.types.task import GoldCall, Provenance, Task, ValueRef
from orch_env.types.tools import ToolCall, ToolResult, ToolSpec

__all__ = [
    "CallAccount",
    "Episode",
    "ErrorType",
    "Exchange",
    "GoldCall",
    "InfrastructureError",
    "OrchError",
    "Provenance",
    "RewardBreakdown",
    "StopReason",
    "Task",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "ValueRef",
    "error_of_text",
]
