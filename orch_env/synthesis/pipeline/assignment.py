"""Which split each workflow belongs to, and files of workflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.workshop import Workshop
from orch_env.synthesis.templates.from_traces import templates_of
from orch_env.synthesis.templates.template import Template
from orch_env.tasks.files import read_records
from orch_env.types import OrchError


def homes_of(
    templates: Mapping[str, Template],
    fillings: Mapping[str, Mapping[str, float]],
    config: SynthesisConfig,
) -> dict[str, str]:
    """Template -> split. The smallest splits choose first, among what they can fill.

    Each takes templates of every number of calls until it has fillings for twice its tasks, but no
    more than half as many as the largest split could fill; the largest split gets what is left, and
    keeps at least one template with each kind of edge: what is measured elsewhere is a new
    workflow, not a tool that nobody trained.
    """
    order = sorted(config.splits, key=lambda name: (config.splits[name], name))
    last = order[-1]
    holders = Counter(kind for t in templates if last in fillings[t] for kind in templates[t].kinds)
    home: dict[str, str] = {}
    chance = Chance(f"{config.seed}/templates")
    for name in order[:-1]:
        mine = [t for t in sorted(templates) if t not in home and name in fillings[t]]
        by_size: dict[int, list[str]] = {}
        for t in chance.shuffled(mine):
            by_size.setdefault(len(templates[t].tools), []).append(t)
        stock = Counter(
            len(templates[t].tools) for t in templates if t not in home and last in fillings[t]
        )
        wanted = 2.0 * config.splits[name] / max(1, len(by_size))
        for size in sorted(by_size):
            there = 0.0
            most = max(1, stock[size] // 2)  # the largest split needs some, too
            for t in by_size[size][:most]:
                if there >= wanted:
                    break
                if last in fillings[t]:
                    if any(holders[kind] <= 1 for kind in templates[t].kinds):
                        continue
                    holders.subtract(templates[t].kinds)
                home[t] = name
                there += min(config.sampling.per_template, fillings[t][name])
    home.update({t: last for t in templates if t not in home and last in fillings[t]})
    return home


def traced_templates(workshop: Workshop) -> set[str]:
    """The ids of the workflows that the traces have."""
    return {found.template.id for found in templates_of(workshop.joining)}


def load_templates(path: str) -> list[Template]:
    """Read a file of templates.

    Raises:
        OrchError: it is missing or malformed; the message names the line.
    """
    found = []
    for number, entry in read_records(Path(path)):
        try:
            found.append(Template.from_dict(entry))
        except OrchError as problem:
            raise OrchError(f"{path}: line {number}: {problem}") from problem
    return found
