"""ComplexFuncBench as a suite: recorded responses, its official conversation, and its score.

`scorer` says what a message earns, `expectation` what is expected when, `decisions` which calls
match. This module feeds them: recorded responses come out of the cache, and matched calls are
answered with the *golden* call's response, others with what is wrong or with the benchmark's
generic sentence. Tasks of any data set work, not only the benchmark's.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import cast

from orch_env.backends.arguments import checker_of
from orch_env.backends.protocol import BackendSession, UserTurn
from orch_env.backends.replay import ReplayBackend
from orch_env.cache import ResponseCache, open_cache
from orch_env.env.episode_machine import Limits
from orch_env.env.payout import Score
from orch_env.evaluation.complexfuncbench.decisions import Decision, ExactValues, Judge
from orch_env.evaluation.complexfuncbench.scorer import (
    CallVerdict,
    EpisodeScorer,
    FormatError,
    format_fault,
)
from orch_env.evaluation.suite import Suite
from orch_env.rewards.matching.calls import readable
from orch_env.tasks.files import bundled
from orch_env.tasks.resolved import OfferedTool, ResolvedTask
from orch_env.tasks.selection import load_split
from orch_env.types import (
    Episode,
    ErrorType,
    OrchError,
    RewardBreakdown,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
)
from orch_env.types.json import JsonObject

NAME = "complexfuncbench"
_ALL_CALLS = 1 << 20


def complexfuncbench(
    tasks: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    max_turns: int = 40,
    max_observation_chars: int | None = None,
    exact_match_values: str | os.PathLike[str] | None = None,
    strict: bool = False,
    judge: Judge | None = None,
) -> Suite[BenchmarkBackend]:
    """The benchmark over a task file.

    An episode's reward is 1.0 for success and 0.0 otherwise; the last ``info`` holds ``score``:
    ``{success, correct_calls, total_calls, turns_reached, total_turns, error, decided_by,
    format_errors}``.

    Args:
        tasks: path of a task file, or the name of a bundled data set.
        cache: path or URL of the response cache; may be left out for a bundled data set.
        split: keep only the tasks whose metadata names this split.
        max_turns: assistant messages per episode; truncates with the error ``max_turns``.
        max_observation_chars: characters of each result as the model reads it.
        exact_match_values: file ``{tool: [argument, ...]}`` of arguments that must match exactly;
            without it a rule of our own decides (see ``decisions``).
        strict: leave out the published code's two quirks (see ``expectation``).
        judge: asked last whether a call does what a golden call does; off by default.

    Raises:
        OrchError: an argument is wrong, or a file is missing or damaged.

    Examples:
        >>> env = complexfuncbench("harbour").env()
        >>> obs, info = env.reset(options={"task_index": 0})
        >>> *_, info = env.step("I would rather not.")
        >>> info["score"]["error"]
        'stop_early'
    """
    values = ExactValues() if exact_match_values is None else ExactValues.load(exact_match_values)
    limits = Limits(
        max_turns=max_turns,
        max_calls_per_turn=_ALL_CALLS,
        max_errors=None,
        max_observation_chars=max_observation_chars,
    )
    loaded = load_split(tasks, split)
    backend = BenchmarkBackend(_open(tasks, cache), values, strict=strict, judge=judge)
    return Suite(NAME, loaded, backend, score_of, limits)


def score_of(episode: Episode, session: BackendSession) -> Score:
    """The verdict of the session that answered an episode."""
    return cast(BenchmarkSession, session).score(episode.stop_reason)


class BenchmarkBackend:
    """Answers a message as the benchmark does, which depends on all calls of the message.

    Args:
        cache: an open cache. It is closed by :meth:`close`.
        exact_values: which arguments must match exactly.
        strict: leave out the published code's two quirks.
        judge: decides last, where there is one.
    """

    def __init__(
        self,
        cache: ResponseCache,
        exact_values: ExactValues | None = None,
        *,
        strict: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self._cache = cache
        self._recorded = ReplayBackend(cache)
        self._exact_values = exact_values or ExactValues()
        self._strict = strict
        self._judge = judge

    def resolve(self, task: Task) -> ResolvedTask:
        """The task with the specs it offers.

        Raises:
            OrchError: as :meth:`ReplayBackend.resolve`.
        """
        return self._recorded.resolve(task)

    def open(self, task: Task, *, seed: int) -> BenchmarkSession:
        """Start a conversation; it does not depend on the seed.

        Raises:
            OrchError: as :meth:`resolve`, or a golden response is not in the cache.
        """
        resolved = self.resolve(task)
        return BenchmarkSession(self._scorer(resolved), resolved.followups)

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()

    def score(self, task: Task, episode: Episode) -> JsonObject:
        """What the benchmark's rules say about the messages of an episode played elsewhere.

        No call is made again: the calls are read out of the record, in their order.

        Raises:
            OrchError: as :meth:`open`.
        """
        session = self.open(task, seed=0)
        for turn in episode.turns:
            if session.stop_reason is not None:
                break
            if turn is episode.turns[-1] and episode.stop_reason is StopReason.OUTPUT_TRUNCATED:
                break  # an incomplete message
            if turn.exchanges:
                session.whole_message([_as_written(call) for call in turn.calls])
            else:
                session.next_user_turn(turn.action)
        return session.score(episode.stop_reason).details

    def _scorer(self, task: ResolvedTask) -> EpisodeScorer:
        named = {n: tool for tool in task.offered for n in (*tool.spec.aliases, tool.spec.name)}
        return EpisodeScorer(
            task,
            specs={name: tool.spec for name, tool in named.items()},
            golden_responses=[self._golden_response(task, n) for n in range(len(task.gold_calls))],
            check_format=lambda call: _format_fault(call, named),
            responses=lambda call: [
                found.text for found in self._cache.variants(call.name, call.arguments)
            ],
            exact_values=self._exact_values,
            judge=self._judge,
            strict=self._strict,
        )

    def _golden_response(self, task: Task, number: int) -> str:
        call = task.gold_calls[number]
        try:
            digest = None if call.response is None else bytes.fromhex(call.response)
        except ValueError as problem:
            raise OrchError(
                f"task {task.id!r}: gold call {number} pins {call.response!r}, which is no digest"
            ) from problem
        found = self._recorded.response(self._cache.key(call.name, call.arguments), digest)
        if found is None:
            raise OrchError(
                f"task {task.id!r}: the response of gold call {number} ({call.name}) is not in "
                f"cache {self._cache.path!r}; import the tasks and the cache together"
            )
        return found.text


class BenchmarkSession:
    """One conversation: the scorer judges each message and says what answers its calls."""

    def __init__(self, scorer: EpisodeScorer, followups: Sequence[str]) -> None:
        self._scorer = scorer
        self._followups = followups
        self._messages: list[list[JsonObject]] = []
        self._user_turns = 0
        self._results: list[ToolResult] = []

    @property
    def stop_reason(self) -> StopReason | None:
        """The scorer found the model lost; of the reasons an episode may end for, it is this."""
        return None if self._scorer.error is None else StopReason.MAX_ERRORS

    def whole_message(self, calls: Sequence[ToolCall]) -> None:
        """Judge a message."""
        self._messages.append([call.to_dict() for call in calls])
        verdicts = self._scorer.take_calls(calls)
        self._results = [
            ToolResult(verdict.feedback, _error_of(verdict))
            for call, verdict in zip(calls, verdicts, strict=True)
            if call.error is None
        ]

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """What the verdicts of the message say."""
        return self._results

    def next_user_turn(self, answer: str | None) -> UserTurn | None:
        """The next follow-up; the last answer is scored."""
        self._user_turns += 1
        said = self._followups[self._user_turns - 1 : self._user_turns]
        if said:
            return UserTurn(said[0])
        self._scorer.take_answer()
        return None

    def score(self, reason: StopReason | None) -> Score:
        """The verdict on an episode that ended for this reason."""
        scorer, expectation = self._scorer, self._scorer.expectation
        if reason is not StopReason.ANSWERED and scorer.error is None:
            scorer.error = None if reason is None else reason.value
        calls, turns = expectation.total, expectation.total_turns
        reward = RewardBreakdown(
            total=float(scorer.success),
            components={
                "call_accuracy": expectation.made / calls if calls else 0.0,
                "turn_accuracy": expectation.turns_reached / turns if turns else 0.0,
            },
        )
        return Score(scorer.success, reward, scorer.to_dict())

    def snapshot(self) -> JsonObject:
        """The messages so far: the scorer's state follows from them."""
        return {"messages": copy.deepcopy(self._messages), "user_turns": self._user_turns}

    def restore(self, state: JsonObject) -> None:
        """Judge the messages of a snapshot again."""
        for calls in state["messages"]:
            self.whole_message([ToolCall.from_dict(call) for call in calls])
        self._user_turns = state["user_turns"]

    def close(self) -> None:
        """Nothing to free."""


def _as_written(call: ToolCall) -> ToolCall:
    """A recorded call without what became of it."""
    error = None if readable(call) else ErrorType.MALFORMED_CALL
    return ToolCall(call.name, call.arguments, error)


def _format_fault(
    call: ToolCall, tools: Mapping[str, OfferedTool]
) -> tuple[FormatError, str] | None:
    if call.error is not None:
        return FormatError.MALFORMED, "the call could not be read"
    tool = tools.get(call.name)
    if tool is None:
        known = sorted({t.spec.name for t in tools.values()})
        text = ToolResult.failure(
            ErrorType.UNKNOWN_TOOL,
            f"there is no tool {call.name[:80]!r} here. Available: {', '.join(known)}.",
            available=known,
        ).text
        return FormatError.UNKNOWN_FUNCTION, text
    problem = checker_of(tool).problem(call.arguments)
    kind = format_fault(problem.text) if problem is not None else None
    return (kind, problem.text) if kind is not None and problem is not None else None


def _error_of(verdict: CallVerdict) -> ErrorType | None:
    if verdict.matched is not None:
        return None
    if verdict.decision is not Decision.FORMAT:
        return ErrorType.TOOL_ERROR
    unknown = verdict.feedback.startswith('{"error": {"type": "unknown_tool"')
    return ErrorType.UNKNOWN_TOOL if unknown else ErrorType.INVALID_ARGUMENTS


def _open(tasks: str | os.PathLike[str], cache: str | os.PathLike[str] | None) -> ResponseCache:
    if cache is not None:
        return open_cache(cache)
    name = os.fspath(tasks).partition("/")[0]
    found = None if os.path.exists(tasks) else bundled(name, "cache")
    if found is None:
        raise OrchError(
            f"{os.fspath(tasks)!r} needs a response cache (cache=..., --cache DB): the scorer "
            "compares recorded responses"
        )
    return open_cache(found)
