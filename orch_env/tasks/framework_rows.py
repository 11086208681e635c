"""Tasks as the data sets of other RL frameworks.

A row holds what a model may see and what names the episode. Gold, the answer and the final state
stay behind: the adapter opens the task by its id and scores it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from orch_env.types import OrchError
from orch_env.types.json import JsonObject

NAME = "orch_env"
"""How rows call the environment: verl's agent, SkyRL's class, NeMo's agent ``orch_env_agent``."""


def framework_rows(framework: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[JsonObject]:
    """The rows of a source in the columns that a framework reads.

    Args:
        framework: one of :data:`FRAMEWORKS`.
        rows: those of :meth:`orch_env.EpisodeSource.rows`.

    Raises:
        OrchError: an unknown framework.

    Example:
        >>> from orch_env import EpisodeSource
        >>> row = next(framework_rows("trl", EpisodeSource("harbour").rows()))
        >>> sorted(row)
        ['prompt', 'seed', 'task_id']
    """
    columns = FRAMEWORKS.get(framework)
    if columns is None:
        raise OrchError(f"rows are written for {', '.join(FRAMEWORKS)}; got {framework!r}")
    return map(columns, rows)


def _trl(row: Mapping[str, Any]) -> JsonObject:
    # A `rollout_func` is handed the messages alone, so that these have to name the episode too.
    named = {"task_id": row["task_id"], "seed": row["seed"]}
    return {"prompt": [{**message, **named} for message in row["messages"]], **named}


def _verl(row: Mapping[str, Any]) -> JsonObject:
    return {
        "data_source": NAME,
        "agent_name": NAME,
        "prompt": row["messages"],
        "ability": row["domain"],
        # verl wants the column; the agent loop brings the reward.
        "reward_model": {"style": "rule"},
        "extra_info": {name: row[name] for name in ("index", "task_id", "seed", "split")},
    }


def _skyrl(row: Mapping[str, Any]) -> JsonObject:
    return {
        "data_source": NAME,
        "env_class": NAME,
        "prompt": row["messages"],
        "task_id": row["task_id"],
        "seed": row["seed"],
    }


def _nemo_gym(row: Mapping[str, Any]) -> JsonObject:
    tools = [{"type": "function", **tool["function"], "strict": False} for tool in row["tools"]]
    return {
        "responses_create_params": {"input": row["messages"], "tools": tools},
        "verifier_metadata": {"task_id": row["task_id"], "seed": row["seed"]},
        "agent_ref": {"type": "responses_api_agents", "name": f"{NAME}_agent"},
    }


FRAMEWORKS: dict[str, Callable[[Mapping[str, Any]], JsonObject]] = {
    "trl": _trl,
    "verl": _verl,
    "skyrl": _skyrl,
    "nemo_gym": _nemo_gym,
}
"""Who rows are written for; each entry turns a source's row into the framework's."""
