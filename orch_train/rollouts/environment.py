"""What a rollout needs of an environment."""

from __future__ import annotations

from typing import Any, Protocol


class RolloutEnv(Protocol):
    """The part of ``ToolOrchestrationEnv`` (or of a wrapper around it) that a rollout uses."""

    @property
    def unwrapped(self) -> Any:
        """The environment itself, with ``stop(reason, action)`` and ``episode``.

        If it has a ``set_training_step(step)``, that is called before each reset. It may tell
        ``tool_seconds``, the (tool, seconds) of the episode's calls, and the ``running_tool``.
        """
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the task ``options["task_id"]``; info has ``messages`` and ``tools``."""
        ...

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an assistant message; info has ``messages``, at the end ``success``."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...
