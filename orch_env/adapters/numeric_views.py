"""The environment in numbers, for libraries whose policies take arrays: RLlib, Stable-Baselines3.

:class:`IndexedView` chooses one of k messages, :class:`ByteView` passes texts as bytes. Both are
plain Gymnasium wrappers and need no other library.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.play import turns_of_gold
from orch_env.replay.policies import GoldPolicy
from orch_env.types import OrchError, Task
from orch_env.types.json import leaves

_FEATURES = 4
_HEAD = 4  # bytes in front of a text that say how many follow


def _check(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OrchError(f"{name} must be a whole number, at least {least}, got {value!r}")


class IndexedView(gym.Wrapper[Any, Any, Any, Any]):
    """Choose one of k candidate messages by its number; read k times four features and two more.

    By default the candidates are the messages that gold writes for the task, among those that it
    writes for other tasks, in an order that the episode's seed decides. They show gold: use them
    to check a training set-up, never to train a language model.

    Features, each from 0 to 1. Of a candidate: it is there; it makes calls; it was sent before; the
    share of its arguments' values that stand in what was read so far. Then the share of the
    episode's messages that is used up, and whether the last message had a failed call.

    Args:
        env: a :class:`~orch_env.ToolOrchestrationEnv`, wrapped or not.
        num_candidates: k, at least 2. A number without a candidate sends an empty message.
        candidates: ``candidates(task, seed)`` gives at most k messages, in place of gold's.

    Raises:
        OrchError: k is below 2, or gold needs more than k messages for a task.
    """

    def __init__(
        self,
        env: gym.Env[str, str],
        num_candidates: int = 16,
        candidates: Callable[[Task, int], Sequence[str]] | None = None,
    ) -> None:
        super().__init__(env)
        self._inner = cast(ToolOrchestrationEnv, env.unwrapped)
        self._count = num_candidates
        self._format = get_format(self._inner.settings["call_format"])
        self._candidates = candidates or self._gold_among_others
        longest = 2 if candidates else max(map(turns_of_gold, self._inner.tasks))
        _check("num_candidates", num_candidates, max(2, longest))
        self.action_space = Discrete(num_candidates)
        self.observation_space = Box(0.0, 1.0, (num_candidates * _FEATURES + 2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; ``info`` also has its ``candidates``.

        Raises:
            OrchError: there are more than k candidates, or as the environment does.
        """
        read, info = self.env.reset(seed=seed, options=options)
        said = list(self._candidates(self._inner.task, self._inner.episode.seed or 0))
        if len(said) > self._count:
            raise OrchError(f"candidates() gave {len(said)} messages, more than {self._count}")
        self._said = [*said, *[""] * (self._count - len(said))]
        self._features = np.zeros((self._count, _FEATURES), np.float32)
        self._unread: dict[str, list[int]] = {}
        self._share = np.zeros(self._count, np.float32)
        for number, message in enumerate(said):
            calls = self._format.parse(message).calls
            values = {str(value) for call in calls for _, value in leaves(dict(call.arguments))}
            self._features[number] = (1, len(calls) > 0, 0, not values)
            self._share[number] = 1 / max(1, len(values))
            for value in values:
                self._unread.setdefault(value, []).append(number)
        return self._observed(read, 0.0, False), {**info, "candidates": said}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], Any, bool, bool, dict[str, Any]]:
        """Send the candidate of this number."""
        read, reward, terminated, truncated, info = self.env.step(self._said[action])
        turns = self._inner.episode.turns
        self._features[action, 2] = 1
        used = len(turns) / self._inner.settings["max_turns"]
        failed = any(call.error is not None for call in turns[-1].calls)
        return self._observed(read, used, failed), reward, terminated, truncated, info

    def _observed(self, read: str, used: float, failed: bool) -> NDArray[np.float32]:
        for value in [value for value in self._unread if value in read]:
            numbers = self._unread.pop(value)
            self._features[numbers, 3] += self._share[numbers]
        features = np.empty(self._count * _FEATURES + 2, np.float32)
        features[:-2] = self._features.ravel()
        features[-2:] = used, failed
        return features.clip(0, 1)

    def _gold_among_others(self, task: Task, seed: int) -> list[str]:
        rng = random.Random(f"{seed}\x1f{task.id}")
        tasks = self._inner.tasks
        others = rng.sample(tasks, min(len(tasks), self._count))
        said = dict.fromkeys(message for one in (task, *others) for message in self._gold(one))
        chosen = list(said)[: self._count]
        rng.shuffle(chosen)
        return chosen

    def _gold(self, task: Task) -> list[str]:
        policy = GoldPolicy(self._format)
        policy.start(task)
        return [policy.act("", {}) for _ in range(turns_of_gold(task))]


class ByteView(gym.Wrapper[Any, Any, Any, Any]):
    """Texts as bytes, for modules that read and write tokens of their own.

    Observations and actions are arrays of ``max_bytes`` bytes: four that say how many follow
    (big-endian), the text in UTF-8, zeros. :meth:`encode` and :meth:`decode` are the two ways.

    Args:
        env: a :class:`~orch_env.ToolOrchestrationEnv`, wrapped or not.
        max_bytes: of an array. What does not fit of an observation is cut at the end;
            ``info["cut_bytes"]`` says how much.
    """

    def __init__(self, env: gym.Env[str, str], max_bytes: int = 1 << 14) -> None:
        super().__init__(env)
        _check("max_bytes", max_bytes, _HEAD + 1)
        self._room = max_bytes - _HEAD
        self.action_space = self.observation_space = Box(0, 255, (max_bytes,), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode."""
        return self._observed(*self.env.reset(seed=seed, options=options))

    def step(
        self, action: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], Any, bool, bool, dict[str, Any]]:
        """Send the text that the bytes hold."""
        read, reward, terminated, truncated, info = self.env.step(self.decode(action))
        observed, info = self._observed(read, info)
        return observed, reward, terminated, truncated, info

    def encode(self, text: str) -> NDArray[np.uint8]:
        """A text as an array; what does not fit is cut, a lone surrogate becomes ``?``."""
        data = text.encode("utf-8", "replace")
        if len(data) > self._room:
            data = data[: self._room].decode("utf-8", "ignore").encode()
        filled = (len(data).to_bytes(_HEAD, "big") + data).ljust(_HEAD + self._room, b"\0")
        return np.frombuffer(bytearray(filled), np.uint8)

    def decode(self, array: NDArray[Any]) -> str:
        """The text of any array of numbers; what is no UTF-8 becomes U+FFFD."""
        data: bytes = np.nan_to_num(np.ravel(array)).clip(0, 255).astype(np.uint8).tobytes()
        return data[_HEAD:][: int.from_bytes(data[:_HEAD], "big")].decode("utf-8", "replace")

    def _observed(
        self, read: str, info: dict[str, Any]
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        array = self.encode(read)
        cut = len(read.encode("utf-8", "replace")) - int.from_bytes(array[:_HEAD].tobytes(), "big")
        return array, {**info, "cut_bytes": cut} if cut else info
