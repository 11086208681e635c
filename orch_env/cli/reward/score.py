"""``orch reward score``: score stored trajectories, one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.output import say
from orch_env.cli.reward.options import TaskFinder, reward_spec
from orch_env.types import OrchError, RewardBreakdown

if TYPE_CHECKING:
    from orch_env.rewards.presets.paper.completion import ReferenceCase
    from orch_env.rewards.protocol import Reward


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--reward",
    "name",
    required=True,
    metavar="NAME",
    help="A preset (`orch reward list`), or a JSON object {name, options}.",
)
@click.option(
    "--weights",
    metavar="JSON",
    help='Weights for all lines, such as \'{"atomic": 0.3, "orchestration": 0.7}\'.',
)
@click.option(
    "--tasks",
    "tasks_file",
    metavar="FILE",
    help="Take the episodes' tasks from this file or bundled data set, not from their lines.",
)
@click.option(
    "--cache",
    metavar="DB",
    help="Take the tools' schemas of stored episodes from this cache; bundled data has its own.",
)
@click.option("--json", "as_json", is_flag=True, help="Accepted; the output is JSON in any case.")
def score(
    file: Path,
    name: str,
    weights: str | None,
    tasks_file: str | None,
    cache: str | None,
    as_json: bool,
) -> None:
    r"""Score every trajectory in FILE (JSON Lines, plain or .gz).

    Prints one JSON line {id, total, components} per input line, in the same order. A line is
    either a stored episode (of `orch replay --out`, or any with --tasks), or a scored case of the
    published layout {id, weights, task: {query, tools, steps}, completion}; a case's own weights
    apply unless --weights is given. Tasks that run on servers take their tools' schemas from there;
    other tasks that only name their tools want --cache.

    \b
    Examples:
      orch reward score --reward paper cases.jsonl.gz
      orch reward score --reward graduated episodes.jsonl
      orch reward score --reward graduated --weights '{"atomic": 1, "orchestration": 0}' \
          --tasks harbour episodes.jsonl
    """
    from orch_env.tasks.files import read_records

    finder = TaskFinder(tasks_file, cache)
    scorer = LineScorer(reward_spec(name, weights), finder)
    for number, data in read_records(file):
        try:
            line_id, breakdown = scorer.score(data)
        except OrchError as problem:
            raise OrchError(f"{file}: line {number}: {problem}") from problem
        components = dict(breakdown.components)
        result = {"id": line_id, "total": breakdown.total, "components": components}
        click.echo(json.dumps(result, ensure_ascii=True, allow_nan=False))
    if finder.note is not None:
        say(finder.note, err=True)


class LineScorer:
    """Scores records of both layouts: stored episodes and published cases.

    Args:
        spec: the reward's configuration, with ``weights`` where the user gave them.
        finder: finds the tasks of stored episodes.
    """

    def __init__(self, spec: Mapping[str, Any], finder: TaskFinder) -> None:
        from orch_env.rewards import make_reward

        self._spec = dict(spec)
        self._finder = finder
        self._make = make_reward
        self._reward = make_reward(self._spec)
        self._weighted: dict[tuple[float, float], Reward] = {}

    def score(self, data: Mapping[str, Any]) -> tuple[str, RewardBreakdown]:
        """The record's id and its breakdown.

        Raises:
            OrchError: it has neither layout, or its task is not known.
        """
        from orch_env.rewards.presets.paper.completion import ReferenceCase

        if ReferenceCase.is_one(data):
            case = ReferenceCase.from_dict(data)
            return case.id, self._score_case(case)
        if "turns" not in data:
            raise OrchError(
                "neither a stored episode {task_id, turns, ...} nor a case {task, completion, ...}"
            )
        from orch_env.episodes import StoredEpisode

        stored = StoredEpisode.from_dict(data, check=True)
        breakdown = self._reward(self._finder.task_of(stored), stored.episode)
        line_id = data.get("id")
        return line_id if isinstance(line_id, str) else stored.episode.task_id, breakdown

    def _score_case(self, case: ReferenceCase) -> RewardBreakdown:
        from orch_env.rewards.presets.paper import PaperReward
        from orch_env.rewards.presets.paper.completion import episode_of_completion

        reward = self._reward_for(case)
        if isinstance(reward, PaperReward):
            return reward.score_completion(case.task, case.completion)
        return reward(case.task, episode_of_completion(case.task, case.completion))

    def _reward_for(self, case: ReferenceCase) -> Reward:
        """The reward with the case's own weights, where the user gave none and it takes weights."""
        if case.weights is None or "weights" in self._spec or not self._takes_weights():
            return self._reward
        key = (case.weights.atomic, case.weights.orchestration)
        if key not in self._weighted:
            own = {"atomic": key[0], "orchestration": key[1]}
            self._weighted[key] = self._make({**self._spec, "weights": own})
        return self._weighted[key]

    def _takes_weights(self) -> bool:
        """Whether the reward has the two parts that a case weighs."""
        from orch_env.rewards import PRESETS

        preset = PRESETS.get(self._spec["name"])
        option = preset.options.get("weights") if preset is not None else None
        return option is not None and set(option.default) == {"atomic", "orchestration"}
