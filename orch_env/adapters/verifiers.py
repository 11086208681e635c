"""verifiers (v1): a taskset whose tools are a server per rollout, and whose reward is the trace's.

    vf-validate orch-env-vf --taskset.tasks harbour --runtime.type subprocess
    vf-eval orch-env-vf --taskset.tasks harbour --taskset.split heldout ...

The harness holds the conversation: what it does with a call that it cannot read, with long results
and with its own limits is its matter. The reward is that of the transcript which it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from types import SimpleNamespace
from typing import Any, get_type_hints

from orch_env.adapters import by_calls, require
from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_env.session import EpisodeSession, EpisodeSource
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from orch_env.types.tool_shapes import mcp

_OURS = ("OrchConfig", "OrchData", "OrchState", "OrchTask", "OrchTaskset", "OrchTools")
_SETTINGS = [field for field in fields(EpisodeSource) if field.init]


def score(trace: Any) -> Any:
    """The breakdown of a rollout: its reward, from the transcript.

    Raises:
        OrchError: the harness has rewritten the conversation, so that calls are missing in it.
    """
    if trace.num_branches > 1:
        raise OrchError(
            "the harness has rewritten the conversation (compaction), and its calls cannot be "
            "scored: turn compaction off"
        )
    data = trace.task.data
    source = EpisodeSource(**data.source)
    messages = [message.model_dump(exclude_none=True) for message in trace.messages]
    return source.score(
        data.id,
        messages,
        final_state=trace.state.final_state,
        stop_reason=_stop_reason(trace),
    )


def _opening(messages: list[JsonObject]) -> tuple[str | None, str | list[JsonObject]]:
    """System prompt and prompt; a text where it can be one, since some harnesses take no other."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    alone = len(rest) == 1 and rest[0]["role"] == "user"
    return "\n\n".join(system) or None, rest[0]["content"] if alone else rest


def _stop_reason(trace: Any) -> str:
    """Why the harness stopped, where the episode had not ended."""
    if trace.stop_condition == "max_turns":
        return "max_turns"
    cut = trace.stop_condition in ("max_input_tokens", "max_output_tokens", "max_total_tokens")
    return "context_overflow" if cut else "output_truncated"


def gold_succeeds(source: EpisodeSource, task_id: str) -> bool:
    """Whether the task's own solution, played from the start, does the task."""
    session, policy = source.session(), GoldPolicy(get_format(source.call_format))
    session.reset(task_id)
    policy.start(session.task)
    while not session.done:
        session.text(policy.act("", {}))
    return session.success


@cache
def _verifiers() -> SimpleNamespace:
    """Our classes over those of verifiers."""
    require("verifiers", extra="verifiers", package="verifiers", known=("0.4", "0.5"))
    import verifiers.v1 as vf
    from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
    from pydantic import create_model

    class OrchData(vf.TaskData):
        """A task's row: which task of which source; never its gold."""

        seed: int
        source: dict[str, Any]

    class OrchState(vf.State):
        """What tool servers have changed, for the scoring in another process."""

        final_state: dict[str, Any] | None = None

    class OrchTools(vf.Toolset[vf.ToolsetConfig, OrchState]):
        """The tools of one rollout with their whole schemas."""

        TOOL_PREFIX = None
        _session: EpisodeSession

        async def setup_task(self, task: OrchData) -> None:
            self._session = by_calls(EpisodeSource(**task.source)).session()
            self._session.reset(task.id, seed=task.seed)
            self._holds_state = self._session.episode.state is not None

        def register(self, mcp_server: Any) -> None:
            call = self._with_state(self.call)

            async def answer(context: Any, proceed: Any) -> Any:
                """Answer from the session, whatever the server would check of its own."""
                if context.method == "tools/list":
                    tools = [Tool.model_validate(mcp(tool)) for tool in self._session.tools]
                    return ListToolsResult(tools=tools)
                if context.method == "tools/call":
                    asked = context.params
                    return await call(asked.get("name"), asked.get("arguments") or {})
                return await proceed(context)

            mcp_server.middleware.append(answer)

        def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
            """Make one call; its effect on stateful servers goes to the task's process."""
            result = self._session.call(name, arguments)
            if self._holds_state:
                self.state.final_state = self._session.final_state()
            text = TextContent(type="text", text=result.text)
            return CallToolResult(content=[text], is_error=result.error is not None)

    class OrchTask(vf.Task[OrchData, OrchState, vf.TaskConfig]):
        """A task, rewarded by its trace."""

        @property
        def key(self) -> str:
            return str(self.data.id)

        @classmethod
        def toolsets(cls, config: Any) -> list[Any]:
            return [OrchTools(vf.ToolsetConfig())]

        @vf.reward
        async def orch_reward(self, trace: Any) -> float:
            return float(score(trace).total)

        @vf.metric
        async def components(self, trace: Any) -> dict[str, float]:
            return dict(score(trace).components)

        async def validate(self, runtime: Any) -> bool:
            return gold_succeeds(EpisodeSource(**self.data.source), self.data.id)

    hints = get_type_hints(EpisodeSource) | {"reward": str | dict[str, Any]}
    defaults = {field.name: field.default for field in _SETTINGS} | {"tasks": "harbour"}
    settings: dict[str, Any] = {name: (hints[name], value) for name, value in defaults.items()}
    OrchConfig = create_model(
        "OrchConfig",
        __base__=vf.TasksetConfig,
        __doc__="The settings of :class:`~orch_env.EpisodeSource`.",
        **settings,
    )

    class OrchTaskset(vf.Taskset[OrchTask, OrchConfig]):
        """The tasks of a source."""

        def load(self) -> Iterator[OrchTask]:
            given = self.config.model_dump(include=defaults.keys())
            source = EpisodeSource(**given)
            rules = {name: getattr(source, name) for name in given}
            for row in source.rows():
                system, prompt = _opening(row["messages"])
                data = OrchData(
                    id=row["task_id"],
                    name=row["task_id"],
                    system_prompt=system,
                    prompt=prompt,
                    seed=row["seed"],
                    source=rules,
                )
                yield OrchTask(data, self.config.task)

    made = {name: kind for name, kind in locals().items() if name in _OURS}
    for name, kind in made.items():  # found in this module, by other processes too
        kind.__module__, kind.__qualname__ = "orch_env.adapters.verifiers", name
    return SimpleNamespace(**made)


def __getattr__(name: str) -> Any:
    if name in _OURS:
        return getattr(_verifiers(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    _verifiers().OrchTools.run()
