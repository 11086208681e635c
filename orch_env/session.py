"""Episodes for programs that have a loop of their own: what every adapter is built on.

An :class:`EpisodeSource` says which tasks, under which rules. It is plain data: it can be hashed
and pickled, and each process opens its files when it is first used. It gives
:class:`EpisodeSession` objects, one per rollout, whose verbs are those of OpenEnv's
``ResourceSession``: reset, call, finish. No framework is imported here.

Threads: a session has one caller at a time, from any thread; a second one at the same time gets an
error. Sessions of one source may be used in parallel. A source may be used from anywhere.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypedDict

from orch_env.env.environment import ToolOrchestrationEnv
from orch_env.env.episode_machine import EpisodeMachine, Limits
from orch_env.env.payout import Payout
from orch_env.env.session import EpisodeSession, reason_of
from orch_env.env.transcript import ToldSession, read_transcript
from orch_env.formats import get_format
from orch_env.tasks.files import located
from orch_env.tasks.resolved import ResolvedTask
from orch_env.types import (
    OrchError,
    RewardBreakdown,
    StopReason,
    ToolSpec,
)
from orch_env.types.json import JsonObject

_KEPT = 16
"""Sources that a process keeps open."""


class Row(TypedDict):
    """One task as a line of a framework's data set. It never holds gold or the answer.

    ``messages`` and ``tools`` are in OpenAI's shape; ``index`` is the task's place in the source.
    """

    task_id: str
    index: int
    messages: list[JsonObject]
    tools: list[JsonObject]
    seed: int
    domain: str | None
    split: str | None


@dataclass(frozen=True, eq=False)
class EpisodeSource:
    """Which tasks, under which rules.

    Two sources of equal settings are equal, have one hash, and share one opened environment in a
    process; after a fork, and where a file has changed, it is opened again.

    Args:
        tasks: path of a task file, or the name of a bundled data set; without one, the servers can
            be played freely.
        cache: path or URL of the response cache; may be left out for a bundled data set.
        split: keep only the tasks whose metadata names this split.
        reward: a reward's name, ``"module:function"``, or its configuration as a dict.
        call_format: how :meth:`EpisodeSession.text` reads calls.
        max_turns: as in :class:`ToolOrchestrationEnv`; so are the other limits.
        servers: stateful servers whose tools join those of the tasks, as distractors.
        mcp: path of an ``mcpServers`` file: its servers answer the calls.

    Raises:
        OrchError: an argument is wrong. A missing or damaged file is found on first use.

    Examples:
        >>> from orch_env import EpisodeSource
        >>> session = EpisodeSource(tasks="harbour").session()
        >>> messages = session.reset(index=0, seed=0)
        >>> session.call("no_such_tool", {}).error.value
        'unknown_tool'
        >>> breakdown = session.finish("I do not know.")
        >>> session.stop_reason
        <StopReason.ANSWERED: 'answered'>
    """

    tasks: str | None = None
    cache: str | None = None
    split: str | None = None
    reward: str | Mapping[str, Any] = "graduated"
    call_format: str = "hermes"
    max_turns: int = 20
    max_tool_calls: int | None = None
    max_calls_per_turn: int = 32
    max_errors: int | None = 5
    max_observation_chars: int | None = None
    cut_observations: Literal["text", "json"] = "text"
    servers: Sequence[str] = ()
    mcp: str | None = None
    _key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in _PATHS:
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else located(path))
        object.__setattr__(self, "servers", tuple(self.servers))
        if self.tasks is None and not self.servers and self.mcp is None:
            raise OrchError("name tasks=..., servers=[...] or mcp=FILE: there is nothing to play")
        get_format(self.call_format)
        self._limits()
        settings = {name: getattr(self, name) for name in _SETTINGS}
        try:
            key = json.dumps(settings, sort_keys=True)
        except (TypeError, ValueError) as problem:
            raise OrchError(
                f"a source is plain data, and its reward is not ({problem}): name it, as "
                "'graduated' or 'my_package.rewards:polite', or give its configuration"
            ) from problem
        object.__setattr__(self, "reward", json.loads(key)["reward"])
        object.__setattr__(self, "_key", key)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, EpisodeSource) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def session(self) -> EpisodeSession:
        """A new session without an episode; costs some 50 microseconds.

        Raises:
            OrchError: a file is missing or damaged, or there are no tasks.
        """
        return EpisodeSession(_opened(self).env.sibling(), self.call_format)

    def rows(self, split: str | None = None) -> Iterator[Row]:
        """The tasks as lines for a framework's data set, in their order.

        Args:
            split: only the tasks of this split, in place of the source's own.
        """
        source = self if split is None else replace(self, split=split)
        env = _opened(source).env
        for index, task in enumerate(env.tasks):
            _, messages, tools = env.backend.resolve(task).opening()
            yield Row(
                task_id=task.id,
                index=index,
                messages=messages,
                tools=tools,
                seed=task.seed or 0,
                domain=_text(task.metadata.get("domain")),
                split=_text(task.metadata.get("split")),
            )

    def tools(self, task_id: str) -> tuple[ToolSpec, ...]:
        """The tools that a task offers from the start.

        Raises:
            OrchError: there is no such task.
        """
        return tuple(tool.spec for tool in _opened(self).task(task_id).opening_tools)

    def prompt(
        self, task_id: str, tools: Literal["native", "system"] = "native"
    ) -> list[JsonObject]:
        """The messages that open a task.

        Args:
            task_id: the task.
            tools: ``"system"`` puts the tools into the system message, in the words of the
                source's ``call_format``, for loops that hand no ``tools`` to the chat template.

        Raises:
            OrchError: there is no such task, or ``tools`` is neither of the two.
        """
        if tools not in ("native", "system"):
            raise OrchError(f"tools must be 'native' or 'system', got {tools!r}")
        task = _opened(self).task(task_id)
        _, messages, _ = task.opening()
        return messages if tools == "native" else self.with_tools(messages, self.tools(task_id))

    def with_tools(
        self, messages: Sequence[JsonObject], tools: Sequence[ToolSpec]
    ) -> list[JsonObject]:
        """Messages whose system message also offers tools, in the source's ``call_format``."""
        offered = get_format(self.call_format).render_tools(tools)
        first, rest = (messages[:1], messages[1:])
        if first and first[0].get("role") == "system" and isinstance(first[0]["content"], str):
            said = f"{first[0]['content']}\n\n{offered}"
            return [{**first[0], "content": said}, *rest]
        return [{"role": "system", "content": offered}, *messages]

    def score(
        self,
        task_id: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        final_state: JsonObject | None = None,
        stop_reason: str | StopReason | None = None,
    ) -> RewardBreakdown | None:
        """The reward of a transcript, to the bit what its episode is paid.

        The messages go through the environment's own rules: what comes after its limits is not
        counted. Where ``max_observation_chars`` cuts results, the reward sees them cut.

        Args:
            task_id: the task.
            messages: the conversation in OpenAI's shape, nested, flat or Responses; system and
                user messages are passed over. A text that holds calls in the source's
                ``call_format`` is read as those calls. Calls without a result were not run.
            final_state: what the calls changed in stateful servers, see
                :meth:`EpisodeSession.final_state`.
            stop_reason: why the caller ended an episode that had not ended by itself; without one,
                ``output_truncated``.

        Returns:
            The breakdown, ``None`` for ``infrastructure``, which is never scored.

        Raises:
            OrchError: no such task, no such reason, or a message is of a form that is not read.
        """
        reason = reason_of(stop_reason)
        opened = _opened(self)
        task = opened.task(task_id)
        if reason is StopReason.INFRASTRUCTURE:
            return None
        style = get_format(self.call_format)
        told = ToldSession([tool.spec for tool in task.offered])
        machine = EpisodeMachine(task, told, style, self._limits(), task.seed or 0)
        said = read_transcript(task.id, messages, style, machine.tools)
        for number, (message, results) in enumerate(said):
            told.results = results
            if reason is not None and number == len(said) - 1 and results and not any(results):
                machine.stop(reason, message)
            else:
                machine.take(message)
            if machine.stop_reason is not None:
                break
        else:
            machine.stop(reason or StopReason.OUTPUT_TRUNCATED)
        payout = opened.payout.fresh(0)
        payout.pay(task, replace(machine.episode(), state=final_state), told)
        return payout.breakdown

    def _limits(self) -> Limits:
        return Limits(
            self.max_turns,
            self.max_tool_calls,
            self.max_calls_per_turn,
            self.max_errors,
            self.max_observation_chars,
            self.cut_observations,
        )


_PATHS = ("tasks", "cache", "mcp")
_SETTINGS = tuple(name for name in EpisodeSource.__dataclass_fields__ if name != "_key")


@dataclass(frozen=True)
class _Opened:
    """A source's files in this process."""

    env: ToolOrchestrationEnv
    payout: Payout

    def task(self, task_id: str) -> ResolvedTask:
        return self.env.backend.resolve(self.env.named(task_id))


_kept: OrderedDict[object, _Opened] = OrderedDict()
_opening = threading.Lock()


def _forget() -> None:
    """After a fork: files are opened anew, and the lock may have been held."""
    global _opening
    _kept.clear()
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _opened(source: EpisodeSource) -> _Opened:
    """The source's files, opened once for all its equals as long as none of them changes."""
    key = (source._key, *(_stamp(getattr(source, name)) for name in _PATHS))
    with _opening:
        found = _kept.get(key)
        if found is None:
            settings = asdict(source)
            del settings["_key"]
            reward = settings["reward"]
            found = _Opened(ToolOrchestrationEnv(**settings), Payout.from_names(reward, "terminal"))
            _kept[key] = found
            while len(_kept) > _KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return found


def _stamp(path: str | None) -> tuple[int, int] | None:
    """When a file last changed and how long it is; ``None`` where there is no file."""
    try:
        status = os.stat(path or "")
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


__all__ = ["EpisodeSession", "EpisodeSource", "Row"]
