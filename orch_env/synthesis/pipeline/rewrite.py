"""New words for tasks that are there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.pipeline.assemble import task_of
from orch_env.synthesis.pipeline.config import checked
from orch_env.synthesis.pipeline.workshop import Workshop
from orch_env.synthesis.sampling.draw import Draw, draw_of
from orch_env.synthesis.templates.template import Template
from orch_env.synthesis.writing.plan import Plan
from orch_env.synthesis.writing.planning import Refusal
from orch_env.types import OrchError, Task


def rewrite(
    tasks: Sequence[Task],
    *,
    cache: str,
    traces: str | None = None,
    hints: str | None = None,
    writer: str = "grammar",
    seed: int = 0,
    options: dict[str, object] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Task], list[tuple[str, str]]]:
    """Write a request for each task.

    Args:
        tasks: tasks of `orch synth`, with their workflow in the metadata.
        cache: the cache that they were drawn from.
        traces: recorded tasks that were mined with it.
        hints: words for the API.
        writer: who writes.
        seed: seed of the words.
        options: what the writer takes.
        progress: called with (what, done, total).

    Returns:
        The tasks with their new words, and ``(id, reason)`` of those that have none.

    Raises:
        OrchError: a task has no workflow in its metadata, or the cache does not hold its calls.
    """
    source = {"cache": cache, "traces": traces, "hints": hints}
    writing = {"writer": writer, "options": options or {}}
    config = checked(
        {"source": source, "splits": {"all": 1}, "seed": seed, "writing": writing},
        "orch synth write",
    )
    workshop = Workshop(config)
    chance = Chance(f"{seed}/rewrite")
    refused: list[tuple[str, str]] = []
    planned: list[tuple[Task, Draw, Plan]] = []
    names = sorted({str(t.metadata.get("split")) for t in tasks})
    for task in tasks:
        draw = _draw_of(task, workshop)
        pool = names.index(str(task.metadata.get("split")))
        plan = workshop.planner.plan(draw, chance.between(0, 2**31), pool, len(names))
        if isinstance(plan, Refusal):
            refused.append((task.id, plan.reason))
        else:
            planned.append((task, draw, plan))
    author = workshop.writer
    try:
        written = author.write([plan for _, _, plan in planned])
    finally:
        workshop.close()
    done: list[Task] = []
    for number, ((task, draw, plan), text) in enumerate(zip(planned, written, strict=True), 1):
        if progress is not None:
            progress("writing", number, len(planned))
        if text.text is None:
            refused.append((task.id, text.reason or "refused"))
            continue
        kept = {k: v for k, v in task.metadata.items() if k != "workflow"}
        made = task_of(
            draw,
            plan,
            text,
            workshop.corpus,
            name=task.id,
            offered=list(task.tool_names),
            metadata={**kept, "writer": author.name},
        )
        problems = workshop.problems(made)
        if problems:
            refused.append((task.id, problems[0].kind))
        else:
            done.append(made)
    return done, refused


def _draw_of(task: Task, workshop: Workshop) -> Draw:
    stored = task.metadata.get("workflow")
    if not isinstance(stored, dict):
        raise OrchError(
            f"task {task.id!r} has no workflow in its metadata: draw it with "
            "`orch synth sample --traces-only`"
        )
    template = Template.from_dict(stored)
    template.check(workshop.corpus)
    return draw_of(workshop.index, template, tuple(workshop.rows_of(task)))
