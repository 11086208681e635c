"""TRL: train on the tasks of a source with `GRPOTrainer`.

TRL calls tools one by one and never shows an environment the last message. So the environment only
answers calls; the reward, and the limits that count messages, are those of the transcript.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from orch_env.adapters import require
from orch_env.adapters.trl_rollouts import roll_out
from orch_env.session import EpisodeSource, Row
from orch_env.types import OrchError, StopReason, ToolSpec


class OrchSpec:
    """A source as TRL's trainers take it.

    Args:
        source: the tasks and their rules.
        tokenizer: the policy's. It gets a ``response_template`` if it has none: without one TRL
            takes every call for plain text.

    Attributes:
        end: the token that ends a message.
        environment_factory: for the trainer; a dict by tool set where tasks offer different tools.
        reward_funcs: the same, also for :attr:`rollout_func`.

    Raises:
        ImportError: TRL is not installed.
        OrchError: a version of it that is not known, or TRL cannot read this tokenizer's calls.
    """

    def __init__(self, source: EpisodeSource, tokenizer: Any) -> None:
        require("trl", extra="trl", package="trl", known=("1.16", "2"))
        self.source, self.tokenizer = source, tokenizer
        self.end = _learn_calls(tokenizer, source.call_format)
        offers = {_offer(row["tools"]): row["task_id"] for row in source.rows()}
        factories = {name: Factory(source, task_id) for name, task_id in offers.items()}
        self._many = len(factories) > 1
        self.environment_factory = factories if self._many else next(iter(factories.values()))
        self.reward_funcs = [TranscriptReward(source, self.end)]

    @property
    def train_dataset(self) -> Any:
        """A ``datasets.Dataset`` of all tasks of the source."""
        return self.dataset()

    def dataset(self, split: str | None = None) -> Any:
        """A ``datasets.Dataset`` of the tasks of a split, without gold."""
        rows = [
            {
                # `rollout_func` is handed nothing but prompts: they say which episode they open.
                "prompt": [{**m, **_episode(row)} for m in row["messages"]],
                **_episode(row),
                **({"environment": _offer(row["tools"])} if self._many else {}),
            }
            for row in self.source.rows(split)
        ]
        return importlib.import_module("datasets").Dataset.from_list(rows)

    def rollout_func(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        """Roll out whole messages: for follow-ups and malformed calls, which TRL's loop cannot do.

        The reward functions get its scores as the column ``orch_reward``.
        """
        return roll_out(self.source, self.tokenizer, self.end, prompts, trainer)


@dataclass(frozen=True)
class TranscriptReward:
    """Scores completions; ``None``, which TRL masks, where a tool broke.

    Args:
        source: says the reward; another one than the trained one measures without training.
        end: the token that ends a message.
        name: in TRL's logs.
    """

    source: EpisodeSource
    end: int
    name: str = "orch_reward"

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(
        self,
        completions: Sequence[Sequence[Mapping[str, Any]]],
        completion_ids: Sequence[Sequence[int]],
        task_id: Sequence[str],
        environments: Sequence[Environment] | None = None,
        orch_reward: list[float | None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """One reward per completion."""
        if orch_reward is not None:
            return orch_reward
        played: Sequence[Environment | None] = environments or [None] * len(completions)
        return list(map(self._score, completions, completion_ids, task_id, played))

    def _score(
        self,
        completion: Sequence[Mapping[str, Any]],
        ids: Sequence[int],
        task_id: str,
        environment: Environment | None,
    ) -> float | None:
        if environment is not None and environment.broken:
            return None
        messages = list(completion)
        cut = not ids or ids[-1] != self.end
        last = messages[-1] if cut and messages else {}
        if last.get("role") == "assistant" and not last.get("tool_calls"):
            del messages[-1]  # an answer that was cut is none
        state = None if environment is None else environment.session.episode.state
        breakdown = self.source.score(
            task_id, messages, final_state=state, stop_reason=StopReason.OUTPUT_TRUNCATED
        )
        return None if breakdown is None else breakdown.total


@dataclass(frozen=True)
class Factory:
    """Makes environments whose tasks offer the same tools as one of them; can be pickled."""

    source: EpisodeSource
    task_id: str

    def __call__(self) -> Environment:
        """A new environment, with a session of its own."""
        specs = self.source.tools(self.task_id)
        return _class_with(len(specs))(self.source, specs)


class Environment:
    """Answers the calls of one rollout at a time.

    Limits that count messages are the transcript's: TRL does not say which calls are one message.
    """

    def __init__(self, source: EpisodeSource, specs: Sequence[ToolSpec]) -> None:
        self.session = replace(source, max_turns=sys.maxsize, max_errors=None).session()
        self.broken = False
        vars(self).update({_member(n): _Tool(spec, self) for n, spec in enumerate(specs)})

    def reset(self, task_id: str, seed: int = 0, **_: Any) -> None:
        """Start the episode of a row.

        Raises:
            OrchError: the user of this task goes on after the first answer.
        """
        self.broken = False
        self.session.reset(task_id, seed=seed)
        if self.session.task.followups:
            raise OrchError(
                f"task {task_id!r} has more than one user turn, and TRL's tool loop ends at the "
                "first answer: pass rollout_func=spec.rollout_func, without environment_factory"
            )


class _Tool(dict[str, Any]):
    """A tool as the chat template reads it, exactly, and as TRL calls it."""

    def __init__(self, spec: ToolSpec, environment: Environment) -> None:
        super().__init__(spec.to_openai())
        self.__name__ = spec.name
        self._environment = environment

    def __call__(self, /, **arguments: Any) -> str:
        try:
            return self._environment.session.call(self.__name__, arguments).text
        except Exception:  # whatever a tool server raises; TRL would make it a result and score it
            self._environment.broken = True
            raise


@cache
def _class_with(tools: int) -> type[Environment]:
    """TRL looks for functions of the class, then takes what an instance has under their names."""

    def hidden(self: Environment) -> None: ...

    return type("OrchEnvironment", (Environment,), {_member(n): hidden for n in range(tools)})


def _member(number: int) -> str:
    return f"tool_{number:04}"


def _learn_calls(tokenizer: Any, call_format: str) -> int:
    """See that TRL reads the calls that the chat template writes; the token that ends a message."""
    trl = importlib.import_module("trl.chat_template_utils")
    if not (tokenizer.response_template or getattr(tokenizer, "response_schema", None)):
        try:
            trl.add_response_schema(tokenizer)
        except ValueError:  # a template that TRL does not know word for word
            known = {"hermes": trl.qwen3_template, "qwen3_coder": trl.qwen3_5_template}
            tokenizer.response_template = known.get(call_format)
    call = {"type": "function", "function": {"name": "find", "arguments": {"text": "one"}}}
    talk = [
        {"role": "user", "content": "Find it."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    render = partial(tokenizer.apply_chat_template, tokenize=True, return_dict=False)
    asked, whole = render(talk[:1], add_generation_prompt=True), render(talk)
    while not tokenizer.decode(whole[-1:]).strip():  # the line break after a message
        whole.pop()
    read = trl.parse_response(tokenizer, whole[len(asked) :], prefix=asked, tools=[])
    if read.get("tool_calls") != [call]:
        raise OrchError(
            "TRL reads the calls of this tokenizer's chat template as plain text: set "
            "tokenizer.response_template; trl.chat_template_utils has those of known templates"
        )
    end: int = whole[-1]
    return end


def _episode(row: Row) -> dict[str, Any]:
    return {"task_id": row["task_id"], "seed": row["seed"]}


def _offer(tools: Sequence[Mapping[str, Any]]) -> str:
    """A short name for a set of tools."""
    return hashlib.sha256(json.dumps(tools, sort_keys=True).encode()).hexdigest()[:12]
