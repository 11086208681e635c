"""Harder variants of tasks: more tools to choose from, less help in schemas, tools that come late.

Each variant is a task like any other, whose gold still replays to a reward of 1; what was changed
stands in ``metadata["perturbed"]``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from orch_env.tasks.resolved import ResolvedTask
from orch_env.types import OrchError, Task, ToolSpec
from orch_env.types.json import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What to change in each task.

    Attributes:
        distractors: tools added from other servers.
        strip_enums: share of the offered tools, 0..1, whose schemas lose their enums, so that the
            model has to learn the values from elsewhere.
        withhold: whether one tool that gold needs is offered only after the model has answered
            without it: the user then says that it is there.
        seed: of the draws; with the task's id it decides them.
    """

    distractors: int = 0
    strip_enums: float = 0.0
    withhold: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.distractors < 0 or not 0.0 <= self.strip_enums <= 1.0:
            raise OrchError("distractors must be at least 0, and strip_enums a share from 0 to 1")


def perturb(
    task: ResolvedTask, how: Perturbation, catalogue: Mapping[str, Sequence[ToolSpec]] | None = None
) -> Task:
    """A variant of a task.

    Args:
        task: the task with its tools resolved.
        how: what to change.
        catalogue: server -> all of its tools, the task's own servers among them; distractors are
            drawn from the others.

    Raises:
        OrchError: a tool is to be withheld in a task that has follow-ups already, or whose gold
            makes no call.
    """
    random = Random(json.dumps([how.seed, task.id]))
    tools = [tool.spec for tool in task.offered]
    servers = list(task.servers)
    done: JsonObject = {}
    if how.distractors:
        free = _distractors(task, catalogue or {}, random)
        drawn = random.sample(free, min(how.distractors, len(free)))
        tools += [spec for _, spec in drawn]
        servers += dict.fromkeys(server for server, _ in drawn)
        random.shuffle(tools)
        done["distractors"] = [spec.name for _, spec in drawn]
    if how.strip_enums:
        with_enums = [
            spec.name for spec in tools if _without_enums(spec.parameters) != spec.parameters
        ]
        stripped = set(random.sample(with_enums, round(how.strip_enums * len(with_enums))))
        tools = [
            replace(spec, parameters=_without_enums(spec.parameters))
            if spec.name in stripped
            else spec
            for spec in tools
        ]
        done["strip_enums"] = sorted(stripped)
    made = replace(task.source, tools=tuple(tools), servers=tuple(servers))
    if how.withhold:
        made, late = _withhold(made, random)
        done["withhold"] = late
    return made.with_metadata(perturbed=done)


def _distractors(
    task: Task, catalogue: Mapping[str, Sequence[ToolSpec]], random: Random
) -> list[tuple[str, ToolSpec]]:
    """(server, tool) of servers that share no tool name with the task's or with each other.

    Tools of one name get longer names, and gold would have to change.
    """
    taken = {*task.tool_names, *(t.name for s in task.servers for t in catalogue.get(s, ()))}
    free: list[tuple[str, ToolSpec]] = []
    others = sorted(set(catalogue) - set(task.servers))
    for server in random.sample(others, len(others)):
        names = {tool.name for tool in catalogue[server]}
        if taken.isdisjoint(names):
            taken |= names
            free += [(server, tool) for tool in catalogue[server]]
    return free


def _withhold(task: Task, random: Random) -> tuple[Task, str]:
    """The task with one needed tool offered by a follow-up; gold waits for it."""
    if task.followups or not task.gold_calls:
        raise OrchError(
            f"task {task.id!r}: a tool can be withheld only where gold calls one and the user has "
            "no follow-up"
        )
    names = {
        name: spec
        for spec in task.tools
        if isinstance(spec, ToolSpec)
        for name in (spec.name, *spec.aliases)
    }
    late = names[random.choice(sorted({call.name for call in task.gold_calls}))]
    first = next(n for n, step in enumerate(task.gold) if any(names[c.name] is late for c in step))
    said = (
        f"You can call one more tool now: {json.dumps(late.to_openai()['function'])} Please go on."
    )
    return replace(
        task,
        followups=(said,),
        after_followup=tuple(int(step >= first) for step in range(len(task.gold))),
        tools_at_followup=((late.name,),),
    ), late.name


def _without_enums(schema: Json) -> Json:
    """A schema without ``enum``, at every depth; an argument may have that name."""
    if isinstance(schema, list):
        return [_without_enums(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: JsonObject = {}
    for word, value in schema.items():
        if word == "properties" and isinstance(value, dict):
            kept[word] = {name: _without_enums(inner) for name, inner in value.items()}
        elif word != "enum":
            kept[word] = _without_enums(value)
    return kept
