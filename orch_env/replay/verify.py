"""Do stored episodes still happen the same way? Re-run their actions and compare every byte.

Where the task is at hand (stored with the episode, or given) the whole episode is run again:
calls, results, observations, end. Without it, what can be checked is checked: each action still
reads as the stored calls, each successful call has the stored text among its recordings, each
failed one shows an error of the documented shape, and the observation is made of these results.

An episode that was stored with the state it left must leave the same one; one stored without it
(by tools that hold none, or before states were stored) is not asked for it.

The stored digest is compared last, so that a change is reported at the turn where it shows; a
change that no re-run can show (blanks in an action, say) is reported without a turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from orch_env.backends.protocol import ToolBackend
from orch_env.env.episode_machine import EpisodeMachine, Limits, shown_results
from orch_env.episodes import StoredEpisode
from orch_env.formats import CallFormat, ParsedMessage, get_format
from orch_env.formats.openai import reread
from orch_env.types import (
    Episode,
    ErrorType,
    OrchError,
    Task,
    ToolCall,
    ToolSpec,
    Turn,
    error_of_text,
)
from orch_env.types.json import Json, JsonObject

if TYPE_CHECKING:
    from orch_env.cache import ResponseCache

_WINDOW = 120


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference found.

    Attributes:
        task_id: the episode's task.
        turn: index of the turn, ``None`` if it shows in no single turn.
        expected: what the file says (texts: the part around the first difference).
        got: what happened now.
    """

    task_id: str
    turn: int | None
    expected: Json
    got: Json

    def to_dict(self) -> JsonObject:
        """The JSON form of INTERFACE."""
        return {
            "task_id": self.task_id,
            "turn": self.turn,
            "expected": self.expected,
            "got": self.got,
        }


class Verifier:
    """Checks episodes one by one.

    Args:
        backend: what answered, or should answer, the calls.
        cache: the cache behind it, for episodes without a task; ``None`` if there is none.
        tasks: tasks by id that take the place of those stored with the episodes.

    Raises:
        OrchError: (from :meth:`check`) the episode cannot be checked with what is at hand.
    """

    def __init__(
        self,
        backend: ToolBackend,
        cache: ResponseCache | None = None,
        tasks: Mapping[str, Task] | None = None,
    ) -> None:
        self._backend = backend
        self._cache = cache
        self._tasks = tasks

    def check(self, stored: StoredEpisode) -> Divergence | None:
        """Compare one episode with what happens now; ``None`` if nothing differs."""
        episode = stored.episode
        task = stored.task
        if self._tasks is not None:
            task = self._tasks.get(episode.task_id)
            if task is None:
                raise OrchError(f"the tasks file has no task {episode.task_id!r}")
        call_format, limits = _settings(stored)
        if task is not None:
            found = self._run_again(stored, task, call_format, limits)
        else:
            found = self._look_up(stored, call_format, limits)
        if found is None and not stored.intact:
            found = Divergence(episode.task_id, None, stored.digest, episode.digest)
        return found

    def _run_again(
        self, stored: StoredEpisode, task: Task, call_format: CallFormat, limits: Limits
    ) -> Divergence | None:
        episode = stored.episode
        seed = episode.seed or 0
        resolved = self._backend.resolve(task)
        running = EpisodeMachine(
            resolved, self._backend.open(resolved, seed=seed), call_format, limits, seed
        )
        stopped = episode.stop_reason if _stopped_outside(episode) else None
        try:
            for index, expected in enumerate(episode.turns):
                if running.stop_reason is not None:
                    return Divergence(
                        task.id, index, expected.action, f"ended: {running.stop_reason.value}"
                    )
                message = _message(expected, call_format, running.tools)
                last = index == len(episode.turns) - 1
                if last and stopped is not None and not expected.observation:
                    running.stop(stopped, message)
                else:
                    running.take(message)
                difference = _difference(expected, running.turns[-1])
                if difference is not None:
                    return Divergence(task.id, index, *difference)
            if running.stop_reason is None and stopped is not None:
                running.stop(stopped)
            state = running.final_state()
        finally:
            running.close()
        end = {"final": episode.final, "stop_reason": episode.stop_reason}
        now = {"final": running.final, "stop_reason": running.stop_reason}
        if end != now:
            last_turn = len(episode.turns) - 1 if episode.turns else None
            return Divergence(task.id, last_turn, end, now)
        if episode.state is not None and _plain(episode.state) != _plain(state):
            return Divergence(task.id, None, *windows(_plain(episode.state), _plain(state)))
        return None

    def _look_up(
        self, stored: StoredEpisode, call_format: CallFormat, limits: Limits
    ) -> Divergence | None:
        episode = stored.episode
        if self._cache is None:
            raise OrchError(
                f"episode of task {episode.task_id!r} is stored without its task: give a cache "
                "(--cache) or the tasks (--tasks)"
            )
        for index, turn in enumerate(episode.turns):
            difference = self._turn_difference(turn, call_format, limits)
            if difference is not None:
                return Divergence(episode.task_id, index, *difference)
        if episode.state is not None:  # a cache holds no state
            return Divergence(episode.task_id, None, _plain(episode.state)[:_WINDOW], None)
        return None

    def _turn_difference(
        self, turn: Turn, call_format: CallFormat, limits: Limits
    ) -> tuple[Json, Json] | None:
        assert self._cache is not None
        tools = tuple(self._cache.catalogue.values())
        stored_calls, made = _named(turn.calls), _named(_message(turn, call_format, tools).calls)
        if made != stored_calls:
            return stored_calls, made
        for exchange in turn.exchanges:
            call, text = exchange.call, exchange.result.text
            if call.error not in (None, ErrorType.TOOL_ERROR):
                if error_of_text(text) is not call.error:
                    return call.error.value, text[:_WINDOW]
                continue
            recorded = [r.text for r in self._cache.variants(call.name, call.arguments)]
            if text not in recorded:
                now = recorded[0] if recorded else f"no recording of {call.name}"
                return windows(text, now)
        if turn.calls and turn.observation:
            names = [call.name for call in turn.calls]
            shown = shown_results(turn.results, limits)
            observation = call_format.render_results(shown, names)
            if observation != turn.observation:
                return windows(turn.observation, observation)
        return None


def verify(verifier: Verifier, episodes: Iterable[StoredEpisode]) -> Divergence | None:
    """The first divergence among episodes, ``None`` if all happen again as stored."""
    return next((d for e in episodes if (d := verifier.check(e)) is not None), None)


def _stopped_outside(episode: Episode) -> bool:
    return episode.stop_reason is not None and episode.stop_reason.external


def _message(turn: Turn, call_format: CallFormat, tools: Sequence[ToolSpec]) -> ParsedMessage:
    """A stored action as the message that it was: text, or JSON that no text could hold."""
    parsed = call_format.parse(turn.action, tools)
    if _named(parsed.calls) == _named(turn.calls):
        return parsed
    return reread(turn.action, call_format, tools) or parsed


def _named(calls: Sequence[ToolCall]) -> list[list[Json]]:
    return [[call.name, call.arguments] for call in calls]


def _settings(stored: StoredEpisode) -> tuple[CallFormat, Limits]:
    settings = stored.settings
    known = {f.name for f in fields(Limits)}
    limits = Limits(**{k: v for k, v in settings.items() if k in known})
    return get_format(str(settings.get("call_format", "hermes"))), limits


def _difference(expected: Turn, got: Turn) -> tuple[Json, Json] | None:
    """The first part in which two turns differ, calls first."""
    for old, new in zip(expected.exchanges, got.exchanges, strict=False):
        if _plain(old.call.to_dict()) != _plain(new.call.to_dict()):
            return old.call.to_dict(), new.call.to_dict()
    if len(expected.exchanges) != len(got.exchanges):
        return f"{len(expected.exchanges)} calls", f"{len(got.exchanges)} calls"
    for old, new in zip(expected.exchanges, got.exchanges, strict=True):
        if old.result.text != new.result.text:
            return windows(old.result.text, new.result.text)
    if expected.observation != got.observation:
        return windows(expected.observation, got.observation)
    return None


def _plain(value: Json) -> str:
    # 1, 1.0 and true compare equal in Python; their JSON texts do not.
    return json.dumps(value, sort_keys=True)


def windows(old: str, new: str) -> tuple[str, str]:
    """Two texts cut to the neighbourhood of their first difference."""
    shorter = min(len(old), len(new))
    at = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    start = max(0, at - _WINDOW // 2)
    return old[start : at + _WINDOW], new[start : at + _WINDOW]
