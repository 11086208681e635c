"""verl: an agent loop that plays the episode of a row, token for token.

verl finds it by the file that ``actor_rollout_ref.rollout.agent.agent_loop_config_path`` names::

    - name: orch_env
      _target_: orch_env.adapters.verl.OrchAgentLoop
      source: {tasks: harbour, max_turns: 10}      # the arguments of EpisodeSource

The rows come from ``orch export-rows --for verl``; verl needs no reward function.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from time import perf_counter
from types import new_class
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from orch_env.adapters import require
from orch_env.env.session import EpisodeSession
from orch_env.session import EpisodeSource
from orch_env.types import OrchError

TRIES = 3
"""How often an episode is begun that infrastructure ends: verl cannot leave one sample out."""


@dataclass
class _Stream:
    """An episode as tokens: prompt and response in ``ids``, mask and log-probs of the response."""

    ids: list[int]
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None
    turns: int = 1
    said: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"generate_sequences": 0.0, "tool_calls": 0.0}
    )


class EpisodeLoop:
    """verl's agent loop over a session: ``OrchAgentLoop`` is this class with verl's as its base.

    Args:
        source: the arguments of :class:`~orch_env.EpisodeSource`.
        verl: what verl's ``AgentLoopBase`` takes.
    """

    if TYPE_CHECKING:  # what verl's class has

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, *, source: Mapping[str, Any], **verl: Any) -> None:
        super().__init__(**verl)
        self._source = EpisodeSource(**_plain(source))

    async def run(self, sampling_params: Mapping[str, Any], **row: Any) -> Any:
        """Play the episode of a row.

        Args:
            sampling_params: for the engine; ``max_tokens`` becomes what the response has left.
            row: ``raw_prompt``, and ``extra_info`` with ``task_id`` and, if need be, ``seed``.

        Returns:
            verl's ``AgentLoopOutput``: ids, mask and log-probs of equal length, ``reward_score``,
            ``stop_reason`` in ``extra_fields``, and the success as verl's ``acc``.

        Raises:
            OrchError: the row names no task of the source, its prompt does not fit, or
                infrastructure ended each of several tries.
        """
        info = row.get("extra_info") or {}
        task_id, seed = str(info.get("task_id") or ""), int(info.get("seed") or 0)
        if not task_id:
            raise OrchError("a row needs extra_info.task_id: `orch export-rows --for verl` has it")
        for _ in range(TRIES):
            with await to_thread(self._source.session) as session:
                await to_thread(session.reset, task_id, seed=seed)
                stream = await self._play(session, list(row["raw_prompt"]), sampling_params)
                if session.reward is not None:
                    return self._output(session, stream)
        raise OrchError(f"task {task_id!r}: infrastructure ended the episode in {TRIES} tries")

    async def _play(
        self, session: EpisodeSession, messages: list[Any], sampling: Mapping[str, Any]
    ) -> _Stream:
        tools, limits = [tool.to_openai() for tool in session.tools], self.rollout_config
        longest, request = getattr(limits, "max_model_len", None) or 1 << 62, uuid4().hex
        stream = _Stream(await self.ct_build_initial_tokens(messages, tools=tools))
        if len(stream.ids) >= min(limits.prompt_length, longest):
            raise OrchError(  # verl has cut it, and the tools come first
                f"task {session.task.id!r}: its prompt with the tools fills all "
                f"{limits.prompt_length} tokens of data.max_prompt_length: set that higher"
            )
        while not session.done:
            room = min(limits.response_length - len(stream.mask), longest - len(stream.ids))
            if room < 1:
                session.finish(reason="context_overflow")
                break
            text, cut = await self._say(stream, request, {**sampling, "max_tokens": room})
            if stream.said.stop_reason == "aborted":
                session.finish(reason="infrastructure")
            elif cut:
                session.finish(text, reason="output_truncated")
            else:
                before = [*messages, {"role": "assistant", "content": text}]
                began = perf_counter()
                messages = before + await to_thread(session.text, text)
                stream.seconds["tool_calls"] += perf_counter() - began
                if not session.done and not await self._read(stream, before, messages, tools):
                    session.finish(reason="context_overflow")
        return stream

    async def _say(
        self, stream: _Stream, request: str, sampling: dict[str, Any]
    ) -> tuple[str, bool]:
        """The model's next message, and whether it was cut."""
        began = perf_counter()
        said = stream.said = await self.server_manager.generate(
            request_id=request, prompt_ids=stream.ids, sampling_params=sampling
        )
        stream.seconds["generate_sequences"] += perf_counter() - began
        stream.extra = {**said.extra_fields, **stream.extra}
        if "max_global_steps" in said.extra_fields:
            stream.extra["max_global_steps"] = said.extra_fields["max_global_steps"]
        if said.log_probs and not stream.mask:
            stream.logprobs = []
        merged, stream.mask, stream.logprobs = await self.ct_merge_assistant_token(
            stream.ids,
            said.token_ids,
            stream.mask,
            stream.logprobs,
            assistant_logprobs=said.log_probs or None,
        )
        stream.ids, stream.turns = merged.token_ids, stream.turns + 1
        ids = list(said.token_ids)
        ended = bool(ids) and ids[-1] in self._special
        text = self.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
        return text, not ended and len(ids) >= sampling["max_tokens"]

    async def _read(
        self, stream: _Stream, before: list[Any], messages: list[Any], tools: list[Any]
    ) -> bool:
        """What the model reads next; whether it leaves room for an answer."""
        merged, mask, logprobs = await self.ct_merge_context_msg(
            before, messages, stream.ids, stream.mask, stream.logprobs, tools=tools
        )
        if len(mask) >= self.rollout_config.response_length:
            return False
        stream.ids, stream.mask, stream.logprobs = merged.token_ids, mask, logprobs
        stream.turns += 1
        return True

    def _output(self, session: EpisodeSession, stream: _Stream) -> Any:
        most, start = self.rollout_config.response_length, len(stream.ids) - len(stream.mask)
        preempted = stream.said.num_preempted
        return self.AgentLoopOutput(
            prompt_ids=stream.ids[:start],
            response_ids=stream.ids[start:][:most],
            response_mask=stream.mask[:most],
            response_logprobs=None if stream.logprobs is None else stream.logprobs[:most],
            routed_experts=stream.said.routed_experts,
            reward_score=session.reward,
            num_turns=stream.turns,
            metrics={**stream.seconds, "num_preempted": -1 if preempted is None else preempted},
            extra_fields={
                **stream.extra,
                "turn_scores": [],
                "tool_rewards": [],
                "stop_reason": str(session.stop_reason),
                "reward_extra_info": {"acc": float(session.success)},
            },
        )

    @cached_property
    def _special(self) -> set[int]:
        """Ids of the tokens that can end a message."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).items()
        return {*self.tokenizer.all_special_ids, *(i for i, token in added if token.special)}


def _plain(value: Any) -> Any:
    """Settings out of verl's configuration as plain data."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inside) for name, inside in value.items()}
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return [_plain(item) for item in value] if listed else value


@lru_cache(maxsize=1)
def _agent_loop() -> type:
    place = "verl.experimental.agent_loop.agent_loop"
    verl = require(place, extra="verl", package="verl", known=("0.9", "0.10"))
    shown = {"AgentLoopOutput": verl.AgentLoopOutput, "__module__": __name__}
    return new_class(
        "OrchAgentLoop", (EpisodeLoop, verl.AgentLoopBase), {}, lambda b: b.update(shown)
    )


def __getattr__(name: str) -> Any:
    """``OrchAgentLoop``, made when it is first asked for."""
    if name == "OrchAgentLoop":
        return _agent_loop()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
