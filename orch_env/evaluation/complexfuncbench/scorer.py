"""ComplexFuncBench's scorer for one episode: what each message's calls earn and when it is over.

For a message with calls, in this order:

1. everything is done already -> the episode ends with ``func_hallucination``;
2. the form of each call is checked; a call equal to any golden call passes, since a recording is
   the truth even where the tool's schema disagrees with it;
3. calls equal to an expected call are matched, then calls equal to a free call of the task;
4. the remaining calls are paired with the remaining expected ones by similarity, and each pair is
   decided by the rules of ``decisions``;
5. nothing matched and no call had a wrong form -> the episode ends with ``value_error`` (the right
   tool with wrong values) or ``func_error`` (a tool that is not expected now);
6. else the expectation moves on (``expectation``).

A message without calls is the answer: ``stop_early`` unless everything is done.

There is no I/O here. What the tools would answer comes in as a function, so that every rule can be
tested on its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from orch_env.evaluation.complexfuncbench.decisions import (
    Decision,
    ExactValues,
    Judge,
    Responses,
    decide,
    equal_by_rule,
)
from orch_env.evaluation.complexfuncbench.expectation import Expectation, GoldenCall, golden_calls
from orch_env.evaluation.complexfuncbench.similarity import pair_up
from orch_env.types import Task, ToolCall, ToolSpec
from orch_env.types.json import JsonObject

GENERIC_FEEDBACK = (
    "There is a problem with your api call, please double-check for possible problems."
)
"""What an unmatched call of the right form gets: the benchmark's own sentence."""


class EpisodeError(StrEnum):
    """Why an episode failed by the scorer's rules; limits of the run have their own names."""

    FUNC_ERROR = "func_error"
    """No call matched, and no tool of the message was expected."""
    VALUE_ERROR = "value_error"
    """No call matched; a tool was right, its values were not."""
    FUNC_HALLUCINATION = "func_hallucination"
    """A call after everything was done."""
    STOP_EARLY = "stop_early"
    """An answer before everything was done."""


class FormatError(StrEnum):
    """What is wrong with a call's form. The model reads it, and the episode goes on."""

    MALFORMED = "malformed_call"
    UNKNOWN_FUNCTION = "unknown_function"
    PARAM_MISSING = "param_missing"
    PARAM_UNKNOWN = "param_unknown"
    PARAM_TYPE = "param_type"


FormatCheck = Callable[[ToolCall], "tuple[FormatError, str] | None"]
"""The first fault of a call's form with the text that the model reads, ``None`` if it has none."""


@dataclass(frozen=True, slots=True)
class CallVerdict:
    """What one call of a message earned.

    Attributes:
        matched: number of the golden call it was matched with, ``None`` if with none.
        decision: what decided.
        feedback: the text that the model reads as its result.
    """

    matched: int | None
    decision: Decision
    feedback: str


class EpisodeScorer:
    """Scores one episode, message by message.

    Args:
        task: the task.
        specs: the offered tools by name and alias.
        golden_responses: the recorded response of each golden call, by number.
        check_format: says what is wrong with a call's form.
        responses: the texts with which a call could be answered.
        exact_values: which arguments must match exactly.
        judge: the last instance, off by default.
        strict: leave the published code's quirks out.

    Attributes:
        success: everything done, then an answer.
        error: why the episode failed, ``None`` while it runs and on success.
        decided_by: decision -> number of calls.
        format_errors: kind -> number of calls.
        expectation: the golden calls that are expected now.
    """

    def __init__(
        self,
        task: Task,
        *,
        specs: Mapping[str, ToolSpec],
        golden_responses: Sequence[str],
        check_format: FormatCheck,
        responses: Responses,
        exact_values: ExactValues | None = None,
        judge: Judge | None = None,
        strict: bool = False,
    ) -> None:
        self.task = task
        self.success = False
        self.error: str | None = None
        self.decided_by: Counter[str] = Counter()
        self.format_errors: Counter[str] = Counter()
        self._specs = specs
        self._gold = task.gold_calls
        self._golden = golden_calls(task)
        self._golden_responses = golden_responses
        self._check_format = check_format
        self._responses = responses
        self._exact_values = exact_values or ExactValues()
        self._judge = judge
        self.expectation = Expectation(self._golden, strict=strict)

    def take_calls(self, calls: Sequence[ToolCall]) -> list[CallVerdict]:
        """Score a message with calls; ``error`` says if it ended the episode."""
        if self.expectation.exhausted:
            self.error = EpisodeError.FUNC_HALLUCINATION
            self.decided_by[Decision.OTHER_TOOL] += len(calls)
            return [CallVerdict(None, Decision.OTHER_TOOL, GENERIC_FEEDBACK) for _ in calls]
        named = [self._with_canonical_name(call) for call in calls]
        verdicts = self._verdicts(named)
        self.decided_by.update(v.decision.value for v in verdicts)
        matched = [v.matched for v in verdicts if v.matched is not None]
        if matched:
            self.expectation.accept(matched)
        elif not any(v.decision is Decision.FORMAT for v in verdicts):
            self.error = self._why_nothing_matched(verdicts)
        return verdicts

    def take_answer(self) -> None:
        """Score the closing answer."""
        self.success = self.expectation.done
        self.error = None if self.success else EpisodeError.STOP_EARLY

    def to_dict(self) -> JsonObject:
        """The score as ``info["score"]`` holds it."""
        return {
            "success": self.success,
            "correct_calls": self.expectation.made,
            "total_calls": self.expectation.total,
            "turns_reached": self.expectation.turns_reached,
            "total_turns": self.expectation.total_turns,
            "error": None if self.error is None else str(self.error),
            "decided_by": dict(sorted(self.decided_by.items())),
            "format_errors": dict(sorted(self.format_errors.items())),
        }

    def _with_canonical_name(self, call: ToolCall) -> ToolCall:
        spec = self._specs.get(call.name)
        return call if spec is None or spec.name == call.name else replace(call, name=spec.name)

    def _verdicts(self, calls: Sequence[ToolCall]) -> list[CallVerdict]:
        verdicts: dict[int, CallVerdict] = {}
        for index, call in enumerate(calls):
            fault = self._format_fault(call)
            if fault is not None:
                self.format_errors[fault[0].value] += 1
                verdicts[index] = CallVerdict(None, Decision.FORMAT, fault[1])
        open_calls = list(self.expectation.expected)
        for index, call in enumerate(calls):
            if index in verdicts:
                continue
            equal = next((g for g in open_calls if _identical(call, g)), None)
            if equal is not None:
                open_calls.remove(equal)
                verdicts[index] = self._match(equal, Decision.EXACT)
        for index, call in enumerate(calls):
            free = self._free_call(call, verdicts) if index not in verdicts else None
            if free is not None:
                if free in open_calls:
                    open_calls.remove(free)
                verdicts[index] = self._match(free, Decision.FREE)
        rest = [index for index in range(len(calls)) if index not in verdicts]
        pairs = pair_up([calls[index] for index in rest], open_calls)
        for position, index in enumerate(rest):
            gold = open_calls[pairs[position]] if position in pairs else None
            verdicts[index] = self._decide(calls[index], gold)
        return [verdicts[index] for index in range(len(calls))]

    def _format_fault(self, call: ToolCall) -> tuple[FormatError, str] | None:
        if call.error is None and any(_equal(call, g) for g in self._golden):
            return None
        return self._check_format(call)

    def _free_call(self, call: ToolCall, verdicts: Mapping[int, CallVerdict]) -> GoldenCall | None:
        """A free golden call that this one equals: one not made yet, if there is such a one."""
        equal = [g for g in self._golden if g.free and _equal(call, g)]
        taken = {v.matched for v in verdicts.values()}
        waiting = [g for g in equal if g.number not in taken and not self.expectation.was_made(g)]
        return next(iter(waiting or equal), None)

    def _decide(self, call: ToolCall, gold: GoldenCall | None) -> CallVerdict:
        if gold is None:
            return CallVerdict(None, Decision.OTHER_TOOL, GENERIC_FEEDBACK)
        accepted, decision = decide(
            self.task,
            call,
            self._gold[gold.number],
            self._golden_responses[gold.number],
            spec=self._specs.get(gold.name),
            exact_values=self._exact_values,
            responses=self._responses,
            judge=self._judge,
        )
        if accepted:
            return self._match(gold, decision)
        return CallVerdict(None, decision, GENERIC_FEEDBACK)

    def _match(self, gold: GoldenCall, decision: Decision) -> CallVerdict:
        return CallVerdict(gold.number, decision, self._golden_responses[gold.number])

    def _why_nothing_matched(self, verdicts: Sequence[CallVerdict]) -> EpisodeError:
        if all(v.decision is Decision.OTHER_TOOL for v in verdicts):
            if self.expectation.done:
                return EpisodeError.FUNC_HALLUCINATION
            return EpisodeError.FUNC_ERROR
        return EpisodeError.VALUE_ERROR


def _equal(call: ToolCall, gold: GoldenCall) -> bool:
    return call.name == gold.name and equal_by_rule(call.arguments, gold.arguments)


def _identical(call: ToolCall, gold: GoldenCall) -> bool:
    """Equal to the letter; what is equal only as a value is left to the rules."""
    return call.name == gold.name and _text(call.arguments) == _text(gold.arguments)


def _text(arguments: JsonObject) -> str:
    return json.dumps(arguments, sort_keys=True)


def format_fault(details: str) -> FormatError | None:
    """The kind of an ``invalid_arguments`` error; ``None`` if only a value is not allowed.

    The benchmark checks names, required parameters and JSON types; a value outside of an
    enumeration is left to the comparison with gold.

    Args:
        details: the error's JSON text.
    """
    found = json.loads(details)["error"]["details"]
    for key, kind in (
        ("missing", FormatError.PARAM_MISSING),
        ("unknown", FormatError.PARAM_UNKNOWN),
        ("wrong_type", FormatError.PARAM_TYPE),
    ):
        if key in found:
            return kind
    return None
