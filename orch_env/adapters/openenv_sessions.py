"""OpenEnv's ``ResourceSession`` and its factory, for harnesses that call tools in this process.

factory = OrchResourceSessionFactory(EpisodeSource(tasks="harbour"))
session = factory.create("harbour-0")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from orch_env.adapters import by_calls
from orch_env.adapters.openenv_environment import every_tool, openenv
from orch_env.session import EpisodeSource
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from orch_env.types.tool_shapes import mcp


class OrchResourceSession:
    """One rollout of a harness, paid by its transcript under the source's limits."""

    def __init__(self, source: EpisodeSource, task: str | int | None, seed: int) -> None:
        self._source, self._openenv = source, _rollout()
        self._session = by_calls(source).session()
        named: JsonObject = {"index": task} if isinstance(task, int) else {"task_id": task}
        self._session.reset(seed=seed, **named)

    def initial_messages(self) -> list[JsonObject]:
        """The messages that open the task."""
        return self._session.initial_messages

    def list_tools(self) -> list[Any]:
        """The tools with their whole schemas."""
        return [
            self._openenv.Tool(
                name=tool.name, description=tool.description, input_schema=mcp(tool)["inputSchema"]
            )
            for tool in self._session.tools
        ]

    def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Make one call; what goes wrong is a text for the model and raises nothing."""
        result = self._session.call(name, arguments)
        return self._openenv.ToolResult(
            data=result.text, done=self._session.done, error=result.error
        )

    def verify(self, transcript: Sequence[Mapping[str, Any]], final_state: Any = None) -> Any:
        """Score the transcript; one that does not end with an answer was cut by the harness."""
        if any(message.get("role") == "assistant" for message in transcript):
            episode = self._session.episode
            breakdown = self._source.score(
                episode.task_id, transcript, final_state=episode.state, stop_reason="max_turns"
            )
        else:  # a harness that keeps its transcript to itself
            breakdown = self._session.finish()
        assert breakdown is not None
        metrics = dict(breakdown.components)
        return self._openenv.VerifyResult(env_reward=breakdown.total, done=True, metrics=metrics)

    def close(self) -> None:
        """Free what the episode holds."""
        self._session.close()


class OrchResourceSessionFactory:
    """Gives each rollout a session of its own; plain data, so that it can be sent to workers.

    Raises:
        ImportError: OpenEnv is missing.
        OrchError: a tool has a name that OpenEnv keeps for itself, or a file is missing.
    """

    def __init__(self, source: EpisodeSource) -> None:
        _rollout()
        every_tool(source)
        self._source = source

    def create(
        self, task: Any, seed: int | None = None, episode_id: str | None = None
    ) -> OrchResourceSession:
        """A session for one rollout.

        Args:
            task: a task's id or its place in the source; a row with a ``task_id``, or messages of
                which one has it; with ``None`` the seed draws one.
            seed: the episode's seed; rollouts of a group share it.
            episode_id: not used.

        Raises:
            OrchError: there is no such task.
        """
        if isinstance(task, list | Mapping):
            parts = task if isinstance(task, list) else [task]
            task = next((part["task_id"] for part in parts if "task_id" in part), None)
            if task is None:
                raise OrchError("a row or a prompt for OpenEnv needs a 'task_id'")
        return OrchResourceSession(self._source, task, seed or 0)


@cache
def _rollout() -> Any:
    openenv()
    from openenv.core.harness import rollout

    rollout.ResourceSession.register(OrchResourceSession)
    rollout.ResourceSessionFactory.register(OrchResourceSessionFactory)
    return rollout
