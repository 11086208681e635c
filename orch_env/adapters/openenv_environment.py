"""OpenEnv's ``Environment`` over a session; each connection of the server has one of its own.

``step`` takes a whole assistant message; the route ``/mcp`` takes calls, each as a message of its
own. The reward comes with the step that ends the episode.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any, Literal

from orch_env.adapters import require
from orch_env.session import EpisodeSession, EpisodeSource, Row
from orch_env.types import OrchError, ToolResult, ToolSpec
from orch_env.types.json import JsonObject
from orch_env.types.tool_shapes import mcp

RESERVED = frozenset({"reset", "step", "state", "close"})
"""Names of tools that OpenEnv keeps for itself."""

_OURS = ("OrchAction", "OrchEnvironment", "OrchObservation", "OrchState")


class Episodes:
    """OpenEnv's ``Environment`` over a session: ``OrchEnvironment`` has both as its bases.

    Args:
        source: which tasks, under which rules.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, source: EpisodeSource) -> None:
        super().__init__()
        self._source = source
        self._session: EpisodeSession | None = None
        self._state = openenv().OrchState()
        self._closed = self._paid = False
        self._tools: Sequence[ToolSpec] = ()
        self._alone = threading.Lock()  # /mcp calls come from other threads than /ws steps

    def reset(self, seed: int | None = None, episode_id: str | None = None, **task: Any) -> Any:
        """Start an episode.

        Args:
            seed: its seed; a random one if there is none.
            episode_id: a name for it, which ``state`` repeats.
            task: ``task_id``, or ``index`` and ``split``; without either, the seed draws one.

        Raises:
            OrchError: there is no such task, or the server has closed this session.
        """
        self._open()
        if unknown := sorted(task.keys() - {"task_id", "index", "split"}):
            raise OrchError(
                f"reset takes seed, episode_id, task_id, index, split; not {unknown[0]}"
            )
        with self._alone:
            session = _of_split(self._source, task.pop("split", None)).session()
            seed = random.randrange(1 << 31) if seed is None else seed
            messages = session.reset(**task, seed=seed)
            self._free()
            self._session, self._paid, self._tools = session, False, ()
            self._state = openenv().OrchState(episode_id=episode_id, task_id=session.task.id)
            return self._observed(messages, reward=None)

    def step(self, action: Any, timeout_s: float | None = None) -> Any:
        """Take one assistant message; after the end nothing more is paid.

        Raises:
            OrchError: no episode was started.
        """
        with self._alone:
            session = self._started()
            self._state.step_count += 1
            if action.stop is None:
                messages = session.message(action.message, action.tool_calls)
            else:
                messages = []
                said = {"content": action.message, "tool_calls": action.tool_calls}
                session.finish(said, reason=action.stop)
            due, self._paid = session.done and not self._paid, session.done
            return self._observed(messages, session.reward if due else 0.0)

    def close(self) -> None:
        """End this session for good."""
        self._free()
        self._closed = True

    @property
    def state(self) -> Any:
        """``episode_id``, ``step_count`` and ``task_id``."""
        return self._state

    def _free(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> None:
        if self._closed:
            raise OrchError("this session was closed after a time without use: connect again")

    def _started(self) -> EpisodeSession:
        self._open()
        if self._session is None:
            raise OrchError("no episode runs in this session: send 'reset' over /ws first")
        return self._session

    def _observed(self, messages: list[JsonObject], reward: float | None) -> Any:
        session = self._started()
        before, self._tools = self._tools, session.tools
        reason = session.stop_reason
        return openenv().OrchObservation(
            messages=messages,
            new_tools=[] if self._tools == before else [spec.to_openai() for spec in self._tools],
            done=session.done,
            reward=reward,
            truncated=reason is not None and not reason.terminated,
            stop_reason=reason,
        )

    # What the /mcp route asks of `environment.mcp_client`.

    @property
    def mcp_client(self) -> Episodes:
        """Itself: it lists and calls its tools."""
        return self

    async def __aenter__(self) -> Episodes:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    def is_connected(self) -> bool:
        """Always."""
        return True

    async def list_tools(self) -> list[JsonObject]:
        """The tools of the episode; before there is one, those of all tasks."""
        return [mcp(spec) for spec in self._tools or every_tool(self._source)]

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> JsonObject:
        """Make one call, as MCP answers it."""
        result = await asyncio.to_thread(self._call, name, arguments)
        content = [{"type": "text", "text": result.text}]
        return {"content": content, "data": result.text, "isError": result.error is not None}

    def _call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        with self._alone:
            self._state.step_count += 1
            return self._started().call(name, arguments)

    # The tasks, for OpenEnv's task routes.

    def list_splits(self) -> list[str]:
        """``all``, and the splits that tasks name."""
        return ["all", *sorted({row["split"] for row in _rows(self._source) if row["split"]})]

    def list_tasks(self, split: str) -> list[JsonObject]:
        """The tasks of a split, without their messages and tools."""
        rows = _rows(_of_split(self._source, split))
        return [{k: v for k, v in row.items() if k not in ("messages", "tools")} for row in rows]

    def num_tasks(self, split: str) -> int:
        """How many tasks a split has."""
        return len(_rows(_of_split(self._source, split)))

    def get_task(self, split: str, index: int) -> Row:
        """One task with its messages and tools, without its gold."""
        return _rows(_of_split(self._source, split))[index]

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[JsonObject]:
        """A slice of :meth:`list_tasks`."""
        return self.list_tasks(split)[start:stop]


@lru_cache(maxsize=16)
def every_tool(source: EpisodeSource) -> tuple[ToolSpec, ...]:
    """The tools of all tasks of a source, by name.

    Raises:
        OrchError: OpenEnv keeps the name of one for itself, or a file is missing.
    """
    found = {tool.name: tool for row in _rows(source) for tool in source.tools(row["task_id"])}
    if taken := sorted(RESERVED & found.keys()):
        raise OrchError(
            f"OpenEnv keeps the name {taken[0]!r} for itself, and {source.tasks} has a tool of "
            "that name: rename the tool"
        )
    return tuple(found.values())


@lru_cache(maxsize=16)
def _rows(source: EpisodeSource) -> tuple[Row, ...]:
    return tuple(source.rows())


def _of_split(source: EpisodeSource, split: str | None) -> EpisodeSource:
    return source if split in (None, "all") else replace(source, split=split)


@cache
def openenv() -> SimpleNamespace:
    """OpenEnv's types and ours over them."""
    require("openenv", extra="openenv", package="openenv", known=("0.10", "0.11"))
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, Observation, State

    class OrchAction(Action):
        """One assistant message.

        Attributes:
            message: its text; without ``tool_calls``, calls that stand in it are read.
            tool_calls: its calls in OpenAI's shape.
            stop: why the caller ends the episode here, with this incomplete message.
        """

        message: str
        tool_calls: list[Any] = []  # noqa: RUF012 (pydantic copies it)
        stop: Literal["context_overflow", "output_truncated", "infrastructure"] | None = None

    class OrchObservation(Observation):
        """What the model reads next.

        Attributes:
            messages: tool and user messages in OpenAI's shape.
            new_tools: the tools in OpenAI's shape, where they are new; else empty.
            truncated: whether a limit ended the episode.
            stop_reason: why it ended.
        """

        messages: list[Any] = []  # noqa: RUF012
        new_tools: list[Any] = []  # noqa: RUF012
        truncated: bool = False
        stop_reason: str | None = None

    class OrchState(State):
        """Where a session stands."""

        task_id: str | None = None

    OrchEnvironment = type("OrchEnvironment", (Episodes, Environment), {})
    made = dict(locals())
    for name in _OURS:  # found in this module, also by pickle
        made[name].__module__, made[name].__qualname__ = __name__, name
    return SimpleNamespace(**made)


def __getattr__(name: str) -> Any:
    if name in _OURS:
        return getattr(openenv(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
