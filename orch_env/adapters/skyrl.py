"""SkyRL: ``skyrl_gym.make("orch_env", ...)`` gives one episode as SkyRL's generator drives it.

SkyRL hands no tools to the chat template, so ``init`` puts them into the system message. What the
tools answered comes as a user's message in the source's ``call_format``: SkyRL may put it through
any chat template, or through none.

    from orch_env.adapters import skyrl
    skyrl.register(tasks="harbour", split="train")      # in the process that runs the generator
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import index
from typing import Any

from orch_env.adapters import require
from orch_env.session import EpisodeSource
from orch_env.types import OrchError
from orch_env.types.json import JsonObject


def register(name: str = "orch_env", **source: Any) -> None:
    """Make tasks known to SkyRL-gym under a name, which is the ``env_class`` of their rows.

    SkyRL looks names up in the process that runs the generator: call it there. Calling it again
    replaces the name's settings.

    Args:
        name: what rows call it.
        source: the arguments of :class:`~orch_env.EpisodeSource`, plain data.

    Raises:
        ImportError: skyrl-gym is not installed.
        OrchError: an argument is wrong, or skyrl-gym is of an unknown version.
    """
    gym = _require("skyrl_gym")
    EpisodeSource(**source)
    gym.registry.pop(name, None)
    gym.register(name, entry_point=f"{__name__}:OrchEnv", kwargs={"source": source})


class SkyRLEpisode:
    """SkyRL's ``BaseTextEnv`` over a session: ``OrchEnv`` is this class with SkyRL's as its base.

    Args:
        env_config: SkyRL's settings for this environment; not used.
        extras: the other columns of the row: ``task_id``, optionally ``seed``. SkyRL adds
            ``max_turns``, which ends the episode where it is below the source's own limit.
        source: the arguments of :class:`~orch_env.EpisodeSource`.

    Raises:
        OrchError: the row names no task, or the source is wrong.
    """

    def __init__(
        self,
        env_config: Any = None,
        extras: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        row = extras or {}
        if "task_id" not in row:
            raise OrchError(
                "a row for SkyRL needs the column 'task_id'; `orch export-rows --for skyrl` "
                "writes such rows"
            )
        given = EpisodeSource(**source or {})
        try:
            self._seed, most = index(row.get("seed", 0)), index(row.get("max_turns", sys.maxsize))
        except TypeError as problem:
            raise OrchError(
                f"'seed' and 'max_turns' of a row are whole numbers, got {row.get('seed')!r} and "
                f"{row.get('max_turns')!r} for task {row['task_id']!r}"
            ) from problem
        self.turns, self.max_turns = 0, min(given.max_turns, most)
        self._source = replace(given, max_turns=self.max_turns)
        self._task_id = row["task_id"]
        self._session = self._source.session()

    def init(self, prompt: Sequence[JsonObject] = ()) -> tuple[list[JsonObject], JsonObject]:
        """Start the episode.

        Args:
            prompt: the row's messages, which may differ from the task's; empty for the task's.

        Returns:
            The messages with the tools in the system message, and ``{"task_id": ...}``.
        """
        session = self._session
        messages = session.reset(self._task_id, seed=self._seed)
        self.turns = 0
        opening = self._source.with_tools(list(prompt) or messages, session.tools)
        return opening, {"task_id": self._task_id}

    def step(self, action: str) -> JsonObject:
        """Take one assistant message, markup included.

        Returns:
            SkyRL's ``observations``, ``reward`` (all of it at the end), ``done`` and ``metadata``,
            which has ``stop_reason`` at the end.
        """
        session, over = self._session, self._session.done
        session.text(action)
        read = "" if over else session.observation
        self.turns += 1
        return {
            "observations": [{"role": "user", "content": read}] if read else [],
            "reward": session.reward or 0.0 if session.done and not over else 0.0,
            "done": session.done,
            "metadata": {"stop_reason": str(session.stop_reason)} if session.done else {},
        }

    def get_metrics(self) -> JsonObject:
        """What the episode earned; SkyRL asks once it will take no further step.

        An episode that has not ended is ended here, as ``context_overflow``.
        """
        self._session.finish(reason="context_overflow")
        return {
            "reward": self._session.reward,
            "success": self._session.success,
            "turns": self.turns,
            "stop_reason": str(self._session.stop_reason),
        }

    def close(self) -> None:
        """Free what the episode holds; may be called twice."""
        self._session.close()


def _require(module: str) -> Any:
    return require(module, extra="skyrl", package="skyrl-gym", known=("0.4", "0.5"))


@lru_cache(maxsize=1)
def _env_class() -> type[Any]:
    base = _require("skyrl_gym.envs.base_text_env").BaseTextEnv
    return type("OrchEnv", (SkyRLEpisode, base), {"__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "OrchEnv":
        return _env_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
