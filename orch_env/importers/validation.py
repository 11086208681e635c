"""Checks tasks before training: every gold trace must do what the task says.

Order of the checks; the first failure is the task's reason:

1. the answer and the final state have their form;
2. the tools are known;
3. every gold call is offered and is answered without an error, in the pinned variant;
4. every source of an argument leads to an equal value in an earlier step;
5. no argument takes its value from a follow-up that the user says only after the call's step;
6. nothing depends on an optional call alone;
7. gold, played through the environment with its optional calls and without them, leads to the
   final state, to success and to a reward of exactly 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from orch_env.backends.protocol import ToolBackend
from orch_env.cache import ResponseCache
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits, shown_results
from orch_env.formats import get_format
from orch_env.importers.goal_checks import check_final_state, check_goals
from orch_env.importers.recording import parse_response
from orch_env.provenance.evidence import pieces_of
from orch_env.provenance.information import folded, occurs_in
from orch_env.replay.play import replay, turns_of_gold
from orch_env.replay.policies import GoldPolicy
from orch_env.rewards.matching.text_index import TextIndex
from orch_env.types import OrchError, Provenance, Task, ToolCall, ValueRef
from orch_env.types.json import Json, JsonObject, find
from orch_env.values import values_equal

_FORMAT = "hermes"
_NO_VALUE = object()


def validate_tasks(
    tasks: Sequence[Task],
    backend: ToolBackend,
    *,
    max_observation_chars: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> JsonObject:
    """Validate tasks.

    Args:
        tasks: the tasks.
        backend: what answers their calls.
        max_observation_chars: also report gold values that a cut at this length would hide.
        progress: called with (what, done, total).

    Returns:
        ``{tasks, ok, failures: [{id, reason}]}``; with ``max_observation_chars`` also ``hidden``:
        ``[{id, call, pointer}]``, arguments whose value no shown text holds.
    """
    failures: list[JsonObject] = []
    hidden: list[JsonObject] = []
    for number, task in enumerate(tasks, start=1):
        try:
            check_goals(task)
            texts = _run_gold(task, backend)
            _check_sources(task, texts)
            _check_times(task, texts)
            _check_optional(task, texts)
            _check_replay(task, task, backend, "gold")
            _check_without_optional(task, backend)
        except OrchError as problem:
            failures.append({"id": task.id, "reason": str(problem)})
        else:
            if max_observation_chars is not None:
                hidden.extend(_hidden(task, texts, max_observation_chars))
        if progress is not None:
            progress("validating", number, len(tasks))
    result: JsonObject = {
        "tasks": len(tasks),
        "ok": len(tasks) - len(failures),
        "failures": failures,
    }
    return result if max_observation_chars is None else {**result, "hidden": hidden}


def _run_gold(task: Task, backend: ToolBackend) -> list[str]:
    """Make every gold call once, in order, and return the texts of the results."""
    offered = {
        name
        for tool in backend.resolve(task).offered
        for name in (tool.spec.name, *tool.spec.aliases)
    }
    cache = getattr(backend, "cache", None)
    for number, call in enumerate(task.gold_calls):
        where = f"gold call {number} ({call.name})"
        if call.name not in offered:
            raise OrchError(f"{where}: the task does not offer this tool")
        if isinstance(cache, ResponseCache) and call.response is not None:
            known = cache.variants(call.name, call.arguments)
            if call.response not in {variant.digest for variant in known}:
                raise OrchError(
                    f"{where}: the pinned response {call.response} is not among the "
                    f"{len(known)} recorded ones"
                )
    session = backend.open(task, seed=task.seed or 0)
    texts = []
    try:
        for number, call in enumerate(task.gold_calls):
            where = f"gold call {number} ({call.name})"
            (result,) = session.answer([ToolCall(call.name, call.arguments)])
            if result.error is not None:
                raise OrchError(f"{where} is answered by an error: {result.text[:200]}")
            texts.append(result.text)
    finally:
        session.close()
    return texts


def _check_sources(task: Task, texts: Sequence[str]) -> None:
    step_of = _steps(task)
    outputs = [parse_response(text) for text in texts]
    for number, call in enumerate(task.gold_calls):
        for pointer, ref in call.provenance.items():
            where = f"gold call {number} ({call.name}), argument {pointer}"
            value = _at(call.arguments, pointer)
            if value is _NO_VALUE:
                raise OrchError(f"{where}: there is no such argument")
            undeclared = ref.producers() - set(call.depends_on)
            if undeclared:
                raise OrchError(f"{where}: depends_on lacks call {min(undeclared)}, its source")
            for piece, part in _parts(value, ref, where):
                _check_output(piece, part, where, outputs)
        for producer in call.depends_on:
            if step_of[producer] >= step_of[number]:
                raise OrchError(
                    f"gold call {number} ({call.name}) depends on call {producer} of its own step"
                )


def _parts(value: Json, ref: ValueRef, where: str) -> list[tuple[Json, ValueRef]]:
    """The sources of a leaf, each with the piece of the value that it must give."""
    if ref.kind is not Provenance.COMPOSITE:
        return [(value, ref)]
    pieces = pieces_of(value)
    if len(pieces) != len(ref.parts):
        raise OrchError(f"{where}: {len(ref.parts)} parts for a value of {len(pieces)} pieces")
    return list(zip(pieces, ref.parts, strict=True))


def _check_output(value: Json, ref: ValueRef, where: str, outputs: Sequence[Json]) -> None:
    if ref.kind is not Provenance.OUTPUT:
        return
    if ref.call is None or ref.path is None:
        raise OrchError(f"{where}: an output source needs 'call' and 'path'")
    found = _at(outputs[ref.call], ref.path)
    if found is _NO_VALUE:
        raise OrchError(f"{where}: call {ref.call} has nothing at {ref.path}")
    if not values_equal(found, value):
        raise OrchError(
            f"{where}: call {ref.call} has {found!r:.60} at {ref.path}, not {value!r:.60}"
        )


def _check_times(task: Task, texts: Sequence[str]) -> None:
    """Check that what a call takes from the user's words was said before its step."""
    if not task.followups:
        return
    seen = _Seen(task, dict(enumerate(texts)))
    for number, call in enumerate(task.gold_calls):
        for pointer, ref in call.provenance.items():
            where = f"gold call {number} ({call.name}), argument {pointer}"
            for value, part in _parts(_at(call.arguments, pointer), ref, where):
                if part.kind is not Provenance.QUERY:
                    continue
                for piece in pieces_of(value) or [value]:
                    said = seen.first_said(piece)
                    heard = task.followups_before(number)
                    if said > heard and not seen.shows(piece, before=number):
                        raise OrchError(
                            f"{where}: the user says {piece!r:.60} in follow-up {said}, but the "
                            f"step waits for {heard} follow-ups; its "
                            f"entry in 'after_followup' must be at least {said}"
                        )


def _check_optional(task: Task, texts: Sequence[str]) -> None:
    """Check that what other calls take from an optional call is visible without it."""
    calls = task.gold_calls
    optional = {number for number, call in enumerate(calls) if call.optional}
    if not optional:
        return
    seen = _Seen(task, {n: text for n, text in enumerate(texts) if n not in optional})
    for number, call in enumerate(calls):
        needed = optional & set(call.state_dependencies())
        if needed:
            raise OrchError(
                f"gold call {min(needed)} is optional, but call {number} ({call.name}) needs the "
                "state that it makes"
            )
        for pointer, ref in call.provenance.items():
            for piece, part in _parts(_at(call.arguments, pointer), ref, pointer):
                if part.call in optional and not seen.shows(piece, before=number):
                    raise OrchError(
                        f"gold call {part.call} is optional, but call {number} ({call.name}) takes "
                        f"{pointer} from it, which stands nowhere else"
                    )


def _check_replay(task: Task, played_as: Task, backend: ToolBackend, what: str) -> None:
    """Play the gold calls of ``played_as`` in ``task``: they must earn reward 1."""
    limits = Limits(max_turns=turns_of_gold(task))
    env = ToolOrchestrationEnv.from_backend([task], backend, limits=limits)
    (played,) = replay(env, GoldPolicy(get_format(_FORMAT)), [played_as])
    episode = played.stored.episode
    check_final_state(task, episode.state)
    total = episode.reward.total if episode.reward is not None else 0.0
    if not played.success:
        raise OrchError(f"{what}, replayed, does not end in success (reward {total:g})")
    if total != 1.0:
        raise OrchError(f"{what}, replayed, earns {total!r} and not 1")


def _check_without_optional(task: Task, backend: ToolBackend) -> None:
    """Check that leaving the optional calls out costs nothing: answer, state or a later call."""
    optional = [number for number, call in enumerate(task.gold_calls) if call.optional]
    if not optional:
        return
    what = f"gold without its optional calls ({', '.join(map(str, optional))})"
    kept = tuple(tuple(call for call in step if not call.optional) for step in task.gold)
    try:
        _check_replay(task, replace(task, gold=kept), backend, what)
    except OrchError as problem:
        raise OrchError(
            str(problem) if what in str(problem) else f"{what}, replayed: {problem}"
        ) from problem


def _hidden(task: Task, texts: Sequence[str], limit: int) -> Iterator[JsonObject]:
    """Arguments taken from an output whose shown part does not hold the value."""
    limits = Limits(max_observation_chars=limit)
    shown: list[str] = []
    for step in task.gold:  # the results of one message share its observation
        whole = texts[len(shown) : len(shown) + len(step)]
        shown += map(_before_cut, whole, shown_results(whole, limits))
    seen = _Seen(task, dict(enumerate(shown)))
    for number, call in enumerate(task.gold_calls):
        for pointer, ref in call.provenance.items():
            for piece, part in _parts(_at(call.arguments, pointer), ref, pointer):
                escaped = json.dumps(piece, ensure_ascii=False).strip('"')
                visible = any(seen.shows(text, before=number) for text in (piece, escaped))
                if part.kind is Provenance.OUTPUT and not visible:
                    yield {"id": task.id, "call": number, "pointer": pointer}


class _Seen:
    """What a model that makes the gold calls has read before each of them.

    Args:
        task: the task.
        results: number of a gold call -> the text of its result, for those that it makes.
    """

    def __init__(self, task: Task, results: Mapping[int, str]) -> None:
        self._texts = (task.opening_query, *task.followups)
        self._said = list(map(TextIndex, self._texts))
        self._heard = [task.followups_before(n) for n in range(len(task.gold_calls))]
        self._results = {number: TextIndex(text) for number, text in results.items()}
        self._step_of = _steps(task)

    def shows(self, value: Json, *, before: int) -> bool:
        """Whether what came before the step of call ``before`` shows a value.

        That is the user's words, as far as they are said by then, and results of earlier steps.
        """
        return any(index.shows(value) for index in self._said[: self._heard[before] + 1]) or any(
            index.shows(value)
            for number, index in self._results.items()
            if self._step_of[number] < self._step_of[before]
        )

    def first_said(self, value: Json) -> int:
        """Number of the first follow-up that says a value, 0 for the opening query or nothing."""
        for number, (text, index) in enumerate(zip(self._texts, self._said, strict=True)):
            if index.shows(value) or occurs_in(value, folded(text)):
                return number
        return 0


def _steps(task: Task) -> list[int]:
    """The step of each gold call."""
    return [step for step, calls in enumerate(task.gold) for _ in calls]


def _before_cut(whole: str, shown: str) -> str:
    """What a cut left of a result, without the marker, whose numbers are no values."""
    return shown if shown == whole else shown.rpartition("\n[cut: ")[0]


def _at(value: Json, pointer: str) -> Json:
    return find(value, pointer, _NO_VALUE)
