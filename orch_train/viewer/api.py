"""The questions of the page: one function per question, plain data out.

Knows nothing of HTTP, so that the exported page and the tests ask the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from orch_env.types import OrchError
from orch_train.trajectory.store import unpack_tokens
from orch_train.viewer.rollout_queries import Query, whole
from orch_train.viewer.run_data import RunData
from orch_train.viewer.run_list import RunList, history


class NotFound(OrchError):
    """There is no such thing in these runs."""


class ViewerApi:
    """The questions of the page.

    Args:
        runs: one or two runs, in the order of the command line, or all runs of a folder: each
            question then names those that it is about, ``of`` and perhaps ``with``.
    """

    def __init__(self, runs: Sequence[RunData] | RunList) -> None:
        self._list = runs if isinstance(runs, RunList) else None
        self.runs = [] if isinstance(runs, RunList) else list(runs)
        self._routes: dict[str, Callable[[Query], Any]] = {
            "runs": self.overviews,
            "metrics": self.metrics,
            "rollouts": self.rollouts,
            "episode": self.episode,
            "tokens": self.tokens,
            "group": self.group,
            "task": self.task,
            "tasks": self.tasks,
            "history": self.history,
        }

    def answer(self, name: str, query: Query) -> Any:
        """Answer a question.

        Raises:
            NotFound: no such question, run or episode.
            OrchError: a parameter is wrong, or the run's files cannot be read.
        """
        if name not in self._routes:
            raise NotFound(f"there is no {name!r}")
        if self._list is not None:
            return self._answer_about(self._list, name, query)
        return self._routes[name](query)

    def _answer_about(self, runs: RunList, name: str, query: Query) -> Any:
        named = [query[key] for key in ("of", "with") if query.get(key)]
        answer = ViewerApi(runs.chosen(named)).answer(name, query)
        if name == "runs":
            folder = runs.folder
            about = {"name": folder.resolve().name, "path": str(folder)}
            answer["folder"] = about if named else runs.overview()
        return answer

    def overviews(self, query: Query) -> Any:
        """Every run: its name, state, metrics, settings, problems; the folder that holds them."""
        return {"runs": [run.overview() for run in self.runs], "folder": None}

    def history(self, query: Query) -> Any:
        """A run from the beginning of its warm start, see `run_list.history`."""
        return history(self._run(query))

    def metrics(self, query: Query) -> Any:
        """``names`` (comma-separated) of ``run`` as columns, from result ``after`` on."""
        run, after = self._run(query), whole(query, "after") or 0
        run.metrics.look()
        names = [name for name in query.get("names", "").split(",") if name]
        columns = run.metrics.columns(names)
        return {"columns": {name: values[after:] for name, values in columns.items()}}

    def rollouts(self, query: Query) -> Any:
        """A page of the list of episodes."""
        return self._run(query).rollouts.page(
            query,
            sort=query.get("sort", "step"),
            descending=query.get("order", "desc") == "desc",
            offset=whole(query, "offset") or 0,
            limit=whole(query, "limit") or 50,
        )

    def episode(self, query: Query) -> Any:
        """One episode, its task, its group's rewards and advantages, the prompt's exact text."""
        run, key = self._run(query), _key(query)
        found = run.rollouts.episode(*key)
        if found is None:
            raise NotFound(f"there is no episode {key[2]} of group {key[1]!r} in step {key[0]}")
        members = run.rollouts.rewards(key[0], key[1])
        _add_advantages(run, members)
        task = run.task(found["task"])
        return {
            **found,
            "members": members,
            "task_record": None if task is None else task.to_dict(),
            "prompt": None if task is not None else self._prompt(run, key),
        }

    def tokens(self, query: Query) -> Any:
        """The token streams of an episode: text, action mask, log-probability, weight version."""
        run, key = self._run(query), _key(query)
        packed = run.rollouts.tokens(*key)
        if packed is None:
            raise NotFound(f"there is no episode {key[2]} of group {key[1]!r} in step {key[0]}")
        sample, words = unpack_tokens(packed), run.token_text
        ids = sample.ids_T.tolist()
        return {
            "ids": ids,
            "text": None if words is None else [words.token(i) for i in ids],
            "turns": sample.turns.tolist(),
            "logprobs": [None if math.isnan(x) else x for x in sample.logprobs_T.tolist()],
            "versions": sample.versions_T.tolist(),
        }

    def group(self, query: Query) -> Any:
        """The members of a group side by side."""
        run, step, name = self._run(query), _need(query, "step"), query.get("group", "")
        members = run.rollouts.members(step, name)
        if not members:
            raise NotFound(f"there is no group {name!r} in step {step}")
        _add_advantages(run, members)
        task = run.task(members[0]["task"])
        return {
            "step": step,
            "group": name,
            "task": members[0]["task"],
            "task_record": None if task is None else task.to_dict(),
            "members": members,
        }

    def task(self, query: Query) -> Any:
        """The newest group of a task in every run, side by side."""
        name = query.get("task", "")
        groups: list[Any] = []
        for index, run in enumerate(self.runs):
            newest = run.rollouts.newest_group(name) if run.rollouts.exists else None
            if newest is None:
                groups.append(None)
            else:
                step, group = newest
                groups.append(self.group({"run": str(index), "step": str(step), "group": group}))
        if all(group is None for group in groups):
            raise NotFound(f"no run has an episode of task {name!r}")
        return {"task": name, "groups": groups}

    def tasks(self, query: Query) -> Any:
        """Mean reward and success of every task in every run."""
        found = [run.rollouts.by_task(query) if run.rollouts.exists else {} for run in self.runs]
        names = sorted({name for tasks in found for name in tasks})
        return {"tasks": [{"task": n, "runs": [tasks.get(n) for tasks in found]} for n in names]}

    def _run(self, query: Query) -> RunData:
        index = whole(query, "run") or 0
        if not 0 <= index < len(self.runs):
            raise NotFound(f"there is no run {index}")
        return self.runs[index]

    def _prompt(self, run: RunData, key: tuple[int, str, int]) -> str | None:
        """What the model read first, where the task itself is not at hand."""
        words, packed = run.token_text, run.rollouts.tokens(*key)
        if words is None or packed is None:
            return None
        sample = unpack_tokens(packed)
        prompt = sample.turns[0, 0] if len(sample.turns) else len(sample)
        return words.text(sample.ids_T[:prompt].tolist())


def _add_advantages(run: RunData, members: list[dict[str, Any]]) -> None:
    found = run.advantages([member["reward"] for member in members])
    for index, member in enumerate(members):
        member["advantage"] = None if found is None else found[index]


def _key(query: Query) -> tuple[int, str, int]:
    return _need(query, "step"), query.get("group", ""), _need(query, "member")


def _need(query: Query, name: str) -> int:
    if not query.get(name):
        raise OrchError(f"the parameter {name!r} is missing")
    return int(whole(query, name))
