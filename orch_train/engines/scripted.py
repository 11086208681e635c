"""An engine that answers with a given script: for tests, demonstrations and replays.

A script answers by request and turn, so the outcome does not depend on the order in which
concurrent episodes reach the engine. Failures are part of the script.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orch_train.engines.protocol import EngineError, SamplingParams, TokenOutput
from orch_train.weight_sync.buckets import Weights

Line: TypeAlias = str | Sequence[int] | Exception
"""One message: text (encoded by the engine's ``encode``), token ids as they are, or a failure."""
Script: TypeAlias = Mapping[str, Sequence[Line]] | Callable[[str, int], Line]


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A request as the engine received it."""

    request_id: str
    turn: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    version: int


@dataclass
class ScriptedEngine:
    """Returns given messages, and keeps every request in ``calls``.

    Args:
        script: for each request id its messages in turn order, or a function of request id and
            turn (from 0). An exception in place of a message is raised.
        encode: ids of a text, stop token included; needed only for scripts of text.
        logprob: log-probability reported for every token.

    A message longer than ``max_tokens`` is cut there, with finish reason ``length``. A request
    that the script does not know raises :class:`EngineError`.
    """

    script: Script
    encode: Callable[[str], Sequence[int]] | None = None
    logprob: float = -0.5
    calls: list[ScriptedCall] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    _version: int = 0
    _turns: dict[str, int] = field(default_factory=dict)
    _closed: bool = False

    @property
    def version(self) -> int:
        return self._version

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
    ) -> TokenOutput:
        if self._closed:
            raise EngineError("the scripted engine is closed")
        await asyncio.sleep(0)
        turn = self._turns.get(request_id, 0)
        self._turns[request_id] = turn + 1
        self.calls.append(
            ScriptedCall(request_id, turn, tuple(prompt_ids), sampling, self._version)
        )
        ids = self._ids(self._line(request_id, turn))
        complete = bool(ids) and ids[-1] in sampling.stop_token_ids
        cut = ids[: sampling.max_tokens]
        return TokenOutput(
            token_ids=tuple(cut),
            logprobs=(self.logprob,) * len(cut),
            finish_reason="stop" if complete and len(cut) == len(ids) else "length",
            versions=(self._version,) * len(cut),
        )

    def release(self, request_id: str) -> None:
        """Note that the episode is over; its script starts again if it asks once more."""
        self.released.append(request_id)
        self._turns.pop(request_id, None)

    async def sync(self, weights: Weights, version: int) -> None:
        """Take a version; the weights are not looked at."""
        self._version = version

    def close(self) -> None:
        self._closed = True

    def _line(self, request_id: str, turn: int) -> Line:
        if callable(self.script):
            return self.script(request_id, turn)
        lines = self.script.get(request_id)
        if lines is None or turn >= len(lines):
            raise EngineError(f"the script has no turn {turn} for request {request_id!r}")
        return lines[turn]

    def _ids(self, line: Line) -> list[int]:
        if isinstance(line, Exception):
            raise line
        if isinstance(line, str):
            if self.encode is None:
                raise EngineError("a script of text needs an 'encode' function")
            return [int(i) for i in self.encode(line)]
        return [int(i) for i in line]
