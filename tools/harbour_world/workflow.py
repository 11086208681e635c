"""Workflow templates: which calls, in which steps, and where each argument comes from.

A workflow says only where values come from. Running it on a live session gives the gold arguments,
provenance, dependencies and responses, so every task can be solved and no provenance is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from orch_env.types import GoldCall, Provenance, ToolResult, ValueRef
from orch_env.types.json import Json, JsonObject, escape, resolve


@dataclass(frozen=True, slots=True)
class Said:
    """An argument that the query states: the value of a slot."""

    slot: str


@dataclass(frozen=True, slots=True)
class Output:
    """An argument read from the response of an earlier call.

    Attributes:
        call: that call's number in the flattened workflow.
        path: JSON Pointer into its response.
    """

    call: int
    path: str


Source: TypeAlias = Said | Output


@dataclass(frozen=True, slots=True)
class CallPlan:
    """One call of a workflow: the tool, and a source for each argument."""

    tool: str
    sources: Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A kind of task.

    Attributes:
        name: becomes the task's ``domain``.
        steps: in order; the calls of one step may run in parallel.
        phrases: ways to ask for it, with ``{slot}`` for each value that the query states.
    """

    name: str
    steps: tuple[tuple[CallPlan, ...], ...]
    phrases: tuple[str, ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the values that the query must state, in order of use."""
        said = (
            source.slot
            for step in self.steps
            for plan in step
            for source in plan.sources.values()
            if isinstance(source, Said)
        )
        return tuple(dict.fromkeys(said))


@dataclass(frozen=True, slots=True)
class Trace:
    """A workflow that was run: gold without response digests, and the result of each call."""

    gold: tuple[tuple[GoldCall, ...], ...]
    results: tuple[ToolResult, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every call of the workflow ran without an error."""
        return all(r.error is None for r in self.results)


def run_workflow(
    workflow: Workflow, slots: Mapping[str, Json], call: Callable[[str, JsonObject], ToolResult]
) -> Trace:
    """Run a workflow up to the first call that fails.

    Args:
        workflow: what to run.
        slots: value of each slot.
        call: runs a tool, as a fresh session does.
    """
    gold: list[tuple[GoldCall, ...]] = []
    results: list[ToolResult] = []
    for step in workflow.steps:
        done: list[GoldCall] = []
        # Calls of one step may run in any order, so none sees the output of another.
        seen = [json.loads(result.text) for result in results]
        for plan in step:
            made = _gold_call(plan, slots, seen)
            done.append(made)
            results.append(call(made.name, made.arguments))
            if results[-1].error is not None:
                return Trace((*gold, tuple(done)), tuple(results))
        gold.append(tuple(done))
    return Trace(tuple(gold), tuple(results))


def _gold_call(plan: CallPlan, slots: Mapping[str, Json], seen: list[Json]) -> GoldCall:
    arguments: JsonObject = {}
    provenance: dict[str, ValueRef] = {}
    for name, source in plan.sources.items():
        pointer = f"/{escape(name)}"
        if isinstance(source, Said):
            arguments[name] = slots[source.slot]
            provenance[pointer] = ValueRef(Provenance.QUERY)
        else:
            arguments[name] = resolve(seen[source.call], source.path)
            provenance[pointer] = ValueRef(Provenance.OUTPUT, source.call, source.path)
    producers = {s.call for s in plan.sources.values() if isinstance(s, Output)}
    return GoldCall(
        plan.tool, arguments, depends_on=tuple(sorted(producers)), provenance=provenance
    )
