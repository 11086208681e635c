"""``orch replay``: run a scripted policy over tasks, or verify stored episodes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import click

from orch_env.cli.output import check_out, emit, json_option, mcp_option, next_command, option, say
from orch_env.cli.progress import progress_bar
from orch_env.types import OrchError, Task

_T = TypeVar("_T")
_LISTED = 20

_EPILOG = """\b
Examples:
  orch replay --tasks harbour --policy gold
  orch replay --tasks cfb.jsonl --cache booking.db --policy random --out episodes.jsonl
  orch replay --verify episodes.jsonl --cache booking.db

A policy FILE is JSON Lines, one line per task: {"task_id": "...", "actions": ["...", ...]}.
Stored episodes carry their task and settings, so --verify needs nothing but the cache."""


@click.command(epilog=_EPILOG)
@click.option("--tasks", help="Task file, or the name of a bundled data set.")
@click.option("--cache", help="Response cache; a bundled data set has its own.")
@mcp_option
@click.option("--split", help="Only the tasks of this split.")
@click.option(
    "--policy",
    default="gold",
    show_default=True,
    help="gold, noop, random, or a FILE of actions.",
)
@click.option(
    "--reward",
    default="graduated",
    show_default=True,
    help="A name of `orch reward list`, module:function, or a JSON object {name, options}.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the episodes here.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of every episode and the policy.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N tasks.")
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    help="Messages per episode [default: 20; gold gets as many as it needs].",
)
@click.option(
    "--max-observation-chars", type=click.IntRange(min=64), help="Cut each result to N characters."
)
@click.option(
    "--verify",
    type=click.Path(dir_okay=False),
    metavar="EPISODES",
    help="Run stored episodes again and compare every byte; exit 1 where one differs.",
)
@json_option
@click.pass_context
def replay(
    context: click.Context,
    /,
    tasks: str | None,
    cache: str | None,
    mcp: str | None,
    verify: str | None,
    as_json: bool,
    **play_options: Any,
) -> int:
    """Run a scripted policy over tasks and print success, reward and steps/s, or verify episodes.

    The digest covers all trajectories in task order: the same tasks, policy and seed give the
    same digest on every machine. With the gold policy, a task that does not replay to success is
    named on stderr and the exit code is 1.
    """
    if verify is not None:
        given = [name for name in ("policy", "reward", "out", "split") if _given(context, name)]
        if given:
            raise click.UsageError(
                f"--verify takes --cache, --mcp and --tasks, not --{given[0]}", context
            )
        return _verify(verify, cache, mcp, tasks, as_json)
    if tasks is None:
        raise click.UsageError("give --tasks FILE, or --verify EPISODES", context)
    return _play(tasks, cache, mcp, as_json, **play_options)


def _given(context: click.Context, name: str) -> bool:
    """Whether the user wrote the option."""
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _play(
    tasks: str,
    cache: str | None,
    mcp: str | None,
    as_json: bool,
    *,
    split: str | None,
    policy: str,
    reward: str,
    out: str | None,
    seed: int,
    limit: int | None,
    max_turns: int | None,
    max_observation_chars: int | None,
) -> int:
    from orch_env.cli.reward.options import reward_spec
    from orch_env.env import ToolOrchestrationEnv
    from orch_env.episodes import write_episodes
    from orch_env.replay.play import replay as play
    from orch_env.replay.play import summarise, turns_of_gold
    from orch_env.replay.policies import make_policy
    from orch_env.tasks.selection import load_split

    check_out(out, tasks, cache, policy)
    chosen: Sequence[Task] = load_split(tasks, split)[:limit]
    if not chosen:
        raise OrchError(f"{tasks!r} holds no tasks")
    player = make_policy(policy, seed=seed)
    if max_turns is None:
        needed = max(map(turns_of_gold, chosen)) if policy == "gold" else 0
        max_turns = max(20, needed)
    env = ToolOrchestrationEnv(
        tasks,
        cache,
        mcp=mcp,
        split=split,
        reward=reward_spec(reward),
        max_turns=max_turns,
        max_observation_chars=max_observation_chars,
    )
    try:
        started = time.perf_counter()
        played = list(
            _with_progress(play(env, player, chosen, seed=seed), len(chosen), "replaying")
        )
        seconds = time.perf_counter() - started
    finally:
        env.close()
    if out is not None:
        write_episodes((one.stored for one in played), out)
    emit(summarise(played, seconds), as_json=as_json, title=f"{policy} on {tasks}")
    data = ("--tasks", tasks, *option("--cache", cache), *option("--mcp", mcp))
    if out is not None:
        next_command("replay", "--verify", out, *data[2:], why="run the episodes again")
    if mcp is None and out is not None:
        next_command("reward", "audit", out, "--reward", reward, *data, why="what its parts say")
    elif mcp is None:  # the audits of rewards ask no MCP server
        few = (*option("--split", split), "--limit", limit or 10)
        next_command("reward", "attack", "--reward", reward, *data, *few, why="what cheats earn")
    if policy != "gold":
        return 0
    failed = [one.stored.episode.task_id for one in played if not one.success]
    for task_id in failed[:_LISTED]:
        say(f"gold did not replay to success: {task_id}", err=True)
    if len(failed) > _LISTED:
        say(f"... and {len(failed) - _LISTED} more", err=True)
    return 1 if failed else 0


def _verify(
    episodes: str, cache: str | None, mcp: str | None, tasks: str | None, as_json: bool
) -> int:
    from orch_env.episodes import read_episodes
    from orch_env.replay.verify import Divergence, Verifier
    from orch_env.tasks.files import load_tasks

    stored = read_episodes(episodes, check=False)
    if not stored:
        raise OrchError(f"{episodes!r} holds no episodes")
    named = None if tasks is None else {task.id: task for task in load_tasks(tasks)}
    if cache is not None:
        from orch_env.backends.replay import ReplayBackend
        from orch_env.cache import open_cache

        opened = open_cache(cache)
        verifier = Verifier(ReplayBackend(opened), opened, named)
    else:
        from orch_env.backends.open import make_backend

        known = list(named.values()) if named else [e.task for e in stored if e.task is not None]
        backend = make_backend(tasks or episodes, None, known, mcp=mcp)
        verifier = Verifier(backend, None, named)
    divergence: Divergence | None = None
    for one in _with_progress(stored, len(stored), "verifying"):
        divergence = verifier.check(one)
        if divergence is not None:
            break
    result = {
        "episodes": len(stored),
        "ok": divergence is None,
        "divergence": divergence.to_dict() if divergence is not None else None,
    }
    emit(result, as_json=as_json, title=f"verification of {episodes}")
    if mcp is None:
        data = (*option("--tasks", tasks), *option("--cache", cache))
        next_command("reward", "audit", episodes, *data, why="what a reward's parts say about them")
    return 0 if divergence is None else 1


def _with_progress(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Yield the items and show a progress bar on a terminal."""
    with progress_bar() as report:
        for done, item in enumerate(items, start=1):
            report(what, done, total)
            yield item
