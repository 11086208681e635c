"""gem: ``gem.make`` and ``gem.make_vec`` over the tasks of a source.

gem hands no tools to the model, so the first observation offers them, in the source's
``call_format``.

    from orch_env.adapters import gem as orch_gem
    orch_gem.register(tasks="harbour", split="train")
    env = gem.make("orch_env", seed=0)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from orch_env.adapters import require
from orch_env.formats import get_format
from orch_env.replay.policies import RandomPolicy
from orch_env.session import EpisodeSource
from orch_env.types.json import JsonObject
from orch_env.types.text import message_text


def register(name: str = "orch_env", **source: Any) -> None:
    """Make tasks known to gem under a name; calling it again replaces the name's settings.

    Args:
        name: for ``gem.make`` and ``gem.make_vec``.
        source: the arguments of :class:`~orch_env.EpisodeSource`, plain data.

    Raises:
        ImportError: gem-llm is not installed.
        OrchError: an argument is wrong, or gem-llm is of an unknown version.
    """
    gem = _gem()
    EpisodeSource(**source)
    gem.envs.registration.ENV_REGISTRY.pop(name, None)
    gem.register(name, f"{__name__}:OrchEnv", **source)


class GemEpisode:
    """gem's ``Env`` over a session: ``OrchEnv`` is this class with gem's as its base.

    All state is private: gem's wrappers copy public attributes once, when they are made.

    Args:
        seed: of the tasks that episodes draw; each copy of a vector environment gets its own.
        source: the arguments of :class:`~orch_env.EpisodeSource`.
    """

    def __init__(self, seed: int = 0, **source: Any) -> None:
        super().__init__()
        self._arguments = {"seed": seed, **source}
        self._source = EpisodeSource(**source)
        self._session = self._source.session()
        self._rng = np.random.default_rng(seed)
        self._policy = RandomPolicy(get_format(self._source.call_format), seed)
        self._seen: tuple[str, JsonObject] = ("", {})

    def reset(
        self, seed: int | None = None, task_id: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: the episode's seed, from which later episodes without one are drawn too.
            task_id: the task; without one the seed draws it.

        Returns:
            The texts of the opening messages, tools included, and ``info`` with ``task_id``,
            ``messages`` and ``tools``, the last two in OpenAI's shape.
        """
        if seed is None:
            seed = int(self._rng.integers(2**31))
        else:
            self._rng = np.random.default_rng(seed)
        session = self._session
        messages = session.reset(task_id, seed=seed)
        self._policy.start(session.task)
        opening = self._source.with_tools(messages, session.tools)
        read = "\n\n".join(filter(None, (message_text(m.get("content")) for m in opening)))
        tools = [tool.to_openai() for tool in session.tools]
        info = {"task_id": session.task.id, "messages": messages, "tools": tools}
        self._seen = (read, dict(info))
        return read, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one assistant message, markup included; the reward is paid at the end.

        After the end nothing happens, until :meth:`reset`.
        """
        session, over = self._session, self._session.done
        info: dict[str, Any] = {"messages": session.text(action)}
        why, read = session.stop_reason, "" if over else session.observation
        self._seen = (read, {})
        if why is None:
            return read, 0.0, False, False, info
        info |= {"stop_reason": str(why), "success": session.success}
        reward = 0.0 if over else session.reward or 0.0
        return read, reward, why.terminated, not why.terminated, info

    def finish(self, reason: str = "output_truncated") -> float | None:
        """The reward, of an episode that the loop cuts too; ``None`` for ``infrastructure``."""
        self._session.finish(reason=reason)
        return self._session.reward

    def sample_random_action(self) -> str:
        """Random calls of the offered tools, or a closing sentence."""
        return self._policy.act(*self._seen)

    def spawn(self, same_state: bool = False, **changed: Any) -> GemEpisode:
        """Make a second one, with some arguments changed; with ``same_state``, go on from here."""
        twin = type(self)(**{**self._arguments, **changed})
        if same_state:
            twin.set_state(self.get_state())
        return twin

    def get_state(self) -> dict[str, Any]:
        """The episode in the middle and the random generator, as plain data."""
        return {"session": self._session.get_state(), "rng": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a state of :meth:`get_state`."""
        self._session.set_state(state["session"])
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Free what the episode holds; may be called twice."""
        self._session.close()


def _gem() -> Any:
    return require("gem", extra="gem", package="gem-llm", known=("0.1", "0.2"))


@lru_cache(maxsize=1)
def _env_class() -> type[Any]:
    return type("OrchEnv", (GemEpisode, _gem().Env), {"__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "OrchEnv":
        return _env_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
