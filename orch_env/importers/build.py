"""From recordings to a cache and to tasks.

A task whose gold trace would not replay is refused with the reason: a call has no recorded
response, or its response is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orch_env.cache import ResponseCache
from orch_env.importers.recording import (
    RecordedResponse,
    RecordedTrace,
    Recordings,
    Refusal,
    parse_response,
)
from orch_env.importers.schemas import infer_tool
from orch_env.provenance import (
    Trace,
    TraceCall,
    count_sources,
    find_provenance,
    gold_steps,
    graph_size,
)
from orch_env.types import OrchError, Task, ToolSpec, error_of_text
from orch_env.types.json import JsonObject

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


@dataclass(slots=True)
class ImportResult:
    """The tasks and the numbers of an import.

    Attributes:
        tasks: imported tasks in the source's order.
        refused: tasks left out, with reasons.
        responses: distinct (call, response) pairs that the source recorded.
        variants: calls for which it recorded more than one response.
        unpinned: gold calls whose response came from the cache and not from the source.
        unknown_tools: offered tools with neither a schema nor a recorded call; the tasks do not
            offer them.
    """

    tasks: list[Task] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    responses: int = 0
    variants: int = 0
    unpinned: int = 0
    unknown_tools: set[str] = field(default_factory=set)

    def summary(self) -> JsonObject:
        """The JSON object of ``orch tasks import``."""
        calls = [call for task in self.tasks for call in task.gold_calls]
        tools = {name for task in self.tasks for name in task.tool_names}
        return {
            "tasks": len(self.tasks),
            "refused": [refusal.to_dict() for refusal in self.refused],
            "calls": len(calls),
            "tools": len(tools),
            "responses": self.responses,
            "variants": self.variants,
            "provenance": count_sources(calls),
        }


def store(
    recordings: Recordings,
    cache: ResponseCache,
    tools: Iterable[ToolSpec] = (),
    progress: Progress | None = None,
) -> dict[bytes, set[str]]:
    """Write tools and every recorded response of a source into a cache open for writing.

    Args:
        recordings: what was read.
        cache: open for writing; the caller commits.
        tools: further specs; a tool without one gets a permissive one from its recorded arguments.
        progress: see :data:`Progress`.

    Returns:
        Call key -> digests of the responses that this source recorded for it.
    """
    given = {spec.name: spec for spec in tools}
    for trace in recordings.traces:
        for spec in trace.specs:
            given.setdefault(spec.name, spec)
    for spec in given.values():
        cache.put_tool(spec)
    all_calls = [c for t in recordings.traces for c in t.calls] + recordings.responses
    examples: dict[str, list[JsonObject]] = defaultdict(list)
    for call in all_calls:
        if cache.resolve(call.name) is None:
            examples[call.name].append(call.arguments)
    for name, seen in examples.items():
        cache.put_tool(infer_tool(name, seen), inferred=True)
    stored: dict[bytes, set[str]] = defaultdict(set)
    for number, call in enumerate(all_calls, start=1):
        if call.text is not None:
            digest = _put(cache, call)
            stored[cache.key(call.name, call.arguments)].add(digest)
        if progress is not None:
            progress("storing responses", number, len(all_calls))
    return stored


def import_tasks(
    recordings: Recordings,
    cache: ResponseCache,
    tools: Iterable[ToolSpec] = (),
    progress: Progress | None = None,
) -> ImportResult:
    """Store a source's responses, find the data flow of its traces, and make tasks of them.

    Args:
        recordings: what was read.
        cache: open for writing; the caller commits.
        tools: specs for all tasks; they are used instead of those that a task came with.
        progress: see :data:`Progress`.
    """
    tools = list(tools)
    stored = store(recordings, cache, tools, progress)
    result = ImportResult(
        refused=list(recordings.refused),
        responses=sum(map(len, stored.values())),
        variants=sum(len(digests) > 1 for digests in stored.values()),
    )
    ready: list[tuple[RecordedTrace, Trace, list[str | None]]] = []
    for recorded in recordings.traces:
        try:
            ready.append((recorded, *_with_responses(recorded, cache)))
        except OrchError as problem:
            result.refused.append(Refusal(recorded.id, str(problem)))
    if progress is not None:
        progress("finding where arguments come from", 0, len(ready))
    sources = find_provenance([trace for _, trace, _ in ready])
    if progress is not None:
        progress("finding where arguments come from", len(ready), len(ready))
    given = {spec.name: spec for spec in tools}
    for number, ((recorded, trace, digests), refs) in enumerate(
        zip(ready, sources, strict=True), start=1
    ):
        gold = gold_steps(trace, refs, digests)
        task = Task(
            id=recorded.id,
            messages=recorded.messages,
            tools=_offered(recorded, cache, given, result.unknown_tools),
            gold=gold,
            today=recorded.today,
            followups=recorded.followups,
            after_followup=recorded.after_followup,
            metadata={**recorded.metadata, "template": None, "split": None, **graph_size(gold)},
        )
        cache.pin(task)
        result.unpinned += digests.count(None)
        result.tasks.append(task)
        if progress is not None:
            progress("writing tasks", number, len(ready))
    return result


def _put(cache: ResponseCache, call: RecordedResponse) -> str:
    assert call.text is not None
    failed = error_of_text(call.text) is not None
    return cache.put(call.name, call.arguments, call.text, is_error=failed)


def _with_responses(
    recorded: RecordedTrace, cache: ResponseCache
) -> tuple[Trace, list[str | None]]:
    """The trace with a response for every call, and each call's digest to pin, if any.

    Raises:
        OrchError: a call has no response, or its response is an error.
    """
    steps, digests = [], []
    for number, step in enumerate(recorded.steps):
        calls = []
        for call in step:
            text, digest = call.text, None
            if text is None:
                found = cache.get(call.name, call.arguments)
                if found is None:
                    raise OrchError(
                        f"step {number}: the response of {call.name} was not recorded, and the "
                        "cache does not have it either"
                    )
                text = found.text
            else:
                digest = _put(cache, call)
            if error_of_text(text) is not None:
                raise OrchError(f"step {number}: the recorded response of {call.name} is an error")
            calls.append(TraceCall(call.name, call.arguments, parse_response(text)))
            digests.append(digest)
        steps.append(tuple(calls))
    said = [str(m["content"]) for m in recorded.messages if m["role"] == "user"]
    specs = {spec.name: spec for spec in recorded.specs}
    for name in recorded.tools:
        if name not in specs and cache.resolve(name) is not None:
            specs[name] = cache.catalogue[name]
    trace = Trace("\n".join(said), tuple(steps), specs, recorded.followups, recorded.after_followup)
    return trace, digests


def _offered(
    recorded: RecordedTrace, cache: ResponseCache, given: dict[str, ToolSpec], unknown: set[str]
) -> tuple[str | ToolSpec, ...]:
    """The task's tools: the name where the catalogue has the same spec, else the whole spec."""
    own = {spec.name: spec for spec in recorded.specs}
    offered: list[str | ToolSpec] = []
    for name in recorded.tools:
        spec = given.get(name, own.get(name))
        if spec is not None:
            offered.append(cache.put_tool(spec))
        elif cache.resolve(name) is not None:
            offered.append(name)
        else:
            unknown.add(name)
    return tuple(offered)
