"""Rollouts of whole messages for TRL's `rollout_func`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orch_env.session import EpisodeSource
from orch_env.types import StopReason


def roll_out(
    source: EpisodeSource, tokenizer: Any, end: int, prompts: Sequence[Any], trainer: Any
) -> dict[str, Any]:
    """Play an episode for each prompt, all of them turn by turn.

    Args:
        source: the tasks and their rules.
        tokenizer: the policy's.
        end: the token that ends a message.
        prompts: messages that carry ``task_id`` and ``seed``.
        trainer: TRL's; its engine writes the messages.

    Returns:
        What TRL takes from a ``rollout_func``, and ``orch_reward``: ``None`` where a tool broke.
    """
    runs = [_Rollout(source, tokenizer, end, trainer, prompt) for prompt in prompts]
    while going := [run for run in runs if not run.session.done]:
        histories = [run.prompt_ids + run.ids for run in going]
        turns, logprobs = trainer._generate_single_turn(histories, None, {}, num_generations=1)
        for run, ids, logs in zip(going, turns, logprobs or [None] * len(turns), strict=True):
            run.take(ids, logs)
    known = all(run.logprobs is not None for run in runs)
    return {
        "prompt_ids": [run.prompt_ids for run in runs],
        "completion_ids": [run.ids for run in runs],
        "logprobs": [run.logprobs for run in runs] if known else None,
        "env_mask": [run.mask for run in runs],
        "orch_reward": [run.session.reward for run in runs],
    }


class _Rollout:
    """One episode of `roll_out` in tokens; ``mask`` is 1 for those of the model."""

    def __init__(
        self, source: EpisodeSource, tokenizer: Any, end: int, trainer: Any, prompt: Sequence[Any]
    ) -> None:
        self.session = source.session()
        self._end, self._tokenizer = end, tokenizer
        self._render = partial(tokenizer.apply_chat_template, **trainer.chat_template_kwargs)
        messages = self.session.reset(prompt[0]["task_id"], seed=prompt[0]["seed"])
        tools = [tool.to_openai() for tool in self.session.tools]
        text = self._render(messages, tools=tools, add_generation_prompt=True, tokenize=False)
        self.prompt_ids = self._encode(text)
        context = trainer.model.config.max_position_embeddings - len(self.prompt_ids)
        self._most = min(trainer.max_completion_length, context)
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.logprobs: list[float] | None = []

    def take(self, ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
        """Take what the model wrote, and add what it reads next."""
        ids = ids[: self._most - len(self.ids)]
        self._add(ids, 1, logprobs and logprobs[: len(ids)])
        whole = bool(ids) and ids[-1] == self._end
        text = self._tokenizer.decode(ids[: len(ids) - whole])
        try:
            read = self.session.text(text) if whole else []
        except Exception:  # whatever a tool server raises is no fault of the model
            self.session.finish(reason=StopReason.INFRASTRUCTURE)
        if self.session.done:
            return
        if not whole:
            self.session.finish(text, reason=StopReason.OUTPUT_TRUNCATED)
            return
        added = self._suffix(read)
        if len(self.ids) + len(added) >= self._most:
            self.session.finish(reason=StopReason.CONTEXT_OVERFLOW)
            return
        self._add(added, 0, [0.0] * len(added))

    def _add(self, ids: Sequence[int], mask: int, logprobs: Sequence[float] | None) -> None:
        self.ids += ids
        self.mask += [mask] * len(ids)
        if self.logprobs is not None:
            self.logprobs = None if logprobs is None else [*self.logprobs, *logprobs]

    def _suffix(self, read: Sequence[Mapping[str, Any]]) -> list[int]:
        """The tokens of messages that come after one of the model, which has its end already."""
        said: dict[str, Any] = {"role": "assistant", "content": "said"}
        if read[0]["role"] == "tool":
            function: dict[str, Any] = {"name": read[0].get("name") or "tool", "arguments": {}}
            said["tool_calls"] = [{"type": "function", "function": function}]
        talk = [{"role": "user", "content": "said"}, said]
        before = self._render(talk, tokenize=False)
        after = self._render([*talk, *read], tokenize=False, add_generation_prompt=True)
        end = self._tokenizer.decode([self._end])
        return self._encode(after[before.rindex(end) + len(end) :])

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
