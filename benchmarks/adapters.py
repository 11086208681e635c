"""What an adapter adds to a step of `EpisodeSession`: no framework's loop, thread or socket.

The same gold messages go through a session and through the adapter, episode by episode in turn. Of
each step the fastest of all rounds counts, on both sides; the overhead is the median over the steps
of the difference. Only the step is timed: messages are made before, and episodes begun.

Each adapter runs in its framework's environment (`make adapters`); one whose environment is missing
is left out, with the reason.

    python -m benchmarks.adapters
    python -m benchmarks.adapters --only skyrl gem --rounds 5 --out here.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from types import SimpleNamespace, coroutine
from typing import Any

from benchmarks.report import machine, write_report
from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.play import play
from orch_env.replay.policies import make_policy
from orch_env.session import EpisodeSource
from orch_env.tasks.selection import spread
from orch_env.types.json import JsonObject

RESULTS = Path("benchmarks/results/adapters.json")
ROOT = Path(__file__).resolve().parent.parent
SOURCE = EpisodeSource("harbour")
MOST_US = 50.0
"""What an adapter may add to a step."""

Step = Callable[[], object]
Begin = Callable[[str, Sequence[str]], list[Step]]
"""Begins an episode of a task; gives what sends each of these messages, which is what is timed.

It may stop before the last ones."""


def _session() -> Begin:
    session = SOURCE.session()

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        session.reset(task_id)
        return [lambda action=action: session.text(action) for action in actions]

    return begin


def _skyrl() -> Begin:
    import skyrl_gym

    from orch_env.adapters import skyrl

    skyrl.register(tasks=SOURCE.tasks)

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        env = skyrl_gym.make("orch_env", env_config={}, extras={"task_id": task_id})
        env.init()
        return [lambda action=action: env.step(action) for action in actions]

    return begin


def _gem() -> Begin:
    import gem

    from orch_env.adapters import gem as orch_gem

    orch_gem.register(tasks=SOURCE.tasks)
    env = gem.make("orch_env", seed=0)

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        env.reset(0, task_id=task_id)
        return [lambda action=action: env.step(action) for action in actions]

    return begin


def _rllib(view: str) -> Begin:
    from orch_env.adapters import rllib

    env: Any = rllib.make_env({"view": view, "tasks": SOURCE.tasks})

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        _, info = env.reset(seed=0, options={"task_id": task_id})
        said = info.get("candidates", ())
        sent = [said.index(a) if view == "indexed" else env.encode(a) for a in actions]
        return [lambda action=action: env.step(action) for action in sent]

    return begin


def _openenv() -> Begin:
    from orch_env.adapters import openenv

    env = openenv.OrchEnvironment(SOURCE)

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        env.reset(seed=0, task_id=task_id)
        sent = [openenv.OrchAction(message=action) for action in actions]
        return [lambda action=action: env.step(action) for action in sent]

    return begin


def _openenv_harness() -> Begin:
    from orch_env.adapters import openenv

    factory = openenv.OrchResourceSessionFactory(SOURCE)

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        rollout = factory.create(task_id)
        return _calls(actions, rollout.call_tool)

    return begin


def _verifiers() -> Begin:
    from verifiers.v1 import ToolsetConfig

    from orch_env.adapters import verifiers

    rows = {task.data.id: task.data for task in verifiers.OrchTaskset(verifiers.OrchConfig())}

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        tools = verifiers.OrchTools(ToolsetConfig())
        asyncio.run(tools.setup_task(rows[task_id]))
        return _calls(actions, tools.call)

    return begin


def _trl() -> Begin:
    from orch_env.adapters import trl

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        env = trl.Factory(SOURCE, task_id)()
        env.reset(task_id=task_id)
        tools = {tool.__name__: tool for name, tool in vars(env).items() if "tool_" in name}
        return _calls(actions, lambda name, arguments: tools[name](**arguments))

    return begin


def _calls(actions: Sequence[str], call: Callable[[str, JsonObject], object]) -> list[Step]:
    """For an adapter that is told calls: the first messages, as long as each makes one call."""
    read = [get_format("hermes").parse(action).calls for action in actions]
    single = list(takewhile(lambda calls: len(calls) == 1, read))
    return [
        lambda made=made: call(made.name, made.arguments)  # type: ignore[misc]
        for [made] in single
    ]


def _verl() -> Begin:
    """From one message of the engine to the next question; verl's tokens are left out."""
    from orch_env.adapters import verl

    actions: list[str] = []

    async def merged(ids: Any, *rest: Any, **_: Any) -> Any:
        return SimpleNamespace(token_ids=ids), [], None

    async def prompt(*_: Any, **__: Any) -> list[int]:
        return []

    @coroutine
    def generate(**_: Any) -> Any:
        return (yield)

    loop: Any = object.__new__(verl.OrchAgentLoop)
    loop.rollout_config = SimpleNamespace(prompt_length=9, response_length=9)
    loop.server_manager = SimpleNamespace(generate=generate)
    loop.ct_build_initial_tokens = prompt
    loop.ct_merge_assistant_token = loop.ct_merge_context_msg = merged
    loop.tokenizer = SimpleNamespace(
        all_special_ids=(), added_tokens_decoder={}, decode=lambda ids, **_: actions[ids[0]]
    )
    verl.to_thread = _at_once
    said = {"log_probs": None, "stop_reason": "completed", "extra_fields": {}}

    def begin(task_id: str, texts: Sequence[str]) -> list[Step]:
        actions[:] = texts
        session = SOURCE.session()
        played = loop._play(session, session.reset(task_id), {})
        played.send(None)
        outputs = [SimpleNamespace(token_ids=[number], **said) for number in range(len(texts))]
        return [lambda output=output: _send(played, output) for output in outputs]

    return begin


def _nemo_gym() -> Begin:
    """From NeMo's parsed response to the reply, without HTTP."""
    from nemo_gym.openai_utils import NeMoGymResponse

    from orch_env.adapters import nemo_gym_rollouts
    from tests.adapters.conformance import message_of
    from tests.adapters.nemo_gym_conformance import response_to, server

    nemo_gym_rollouts.to_thread = _at_once
    served = server()

    def begin(task_id: str, actions: Sequence[str]) -> list[Step]:
        row = {"verifier_metadata": {"task_id": task_id}}
        _send(served.reset(row, "cookie"), None)
        said = [response_to(message_of(action)) for action in actions]
        responses = [NeMoGymResponse.model_validate(one) for one in said]
        return [lambda one=one: _send(served.step(one, row, "cookie"), None) for one in responses]

    return begin


async def _at_once(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Stands where work goes to a thread."""
    return work(*given, **named)


def _send(running: Coroutine[Any, Any, Any], value: Any) -> None:
    """Let a coroutine go on; it waits for nothing but what is sent."""
    with suppress(StopIteration):
        running.send(value)


ADAPTERS: dict[str, tuple[str, Callable[[], Begin]]] = {
    "trl": ("adapters", _trl),
    "skyrl": ("adapters", _skyrl),
    "gem": ("adapters", _gem),
    "rllib indexed": ("adapters", lambda: _rllib("indexed")),
    "rllib bytes": ("adapters", lambda: _rllib("bytes")),
    "openenv": ("adapters", _openenv),
    "openenv harness": ("adapters", _openenv_harness),
    "verifiers": ("verifiers", _verifiers),
    "verl": ("verl", _verl),
    "nemo_gym": ("nemo", _nemo_gym),
}
"""Name -> the environment `.venv-NAME` that it needs, and what makes its side."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each adapter in a process of its own, print the table and write the JSON."""
    given = _arguments(arguments)
    if given.here:
        print(json.dumps(overhead(ADAPTERS[given.here][1](), given.tasks, given.rounds)))
        return
    rows: dict[str, Any] = {}
    for name in given.only or ADAPTERS:
        rows[name] = _elsewhere(name, given)
        print(f"{name:14} {_line(rows[name])}", flush=True)
    report = {"most_us": MOST_US, "adapters": rows, "machine": machine()}
    if given.out or not given.only:
        write_report(given.out or RESULTS, report)
    if any(row.get("overhead_us", 0.0) > MOST_US for row in rows.values()):
        sys.exit(1)


def overhead(made: Begin, tasks: int, rounds: int) -> dict[str, Any]:
    """Microseconds of a step with and without the adapter.

    Args:
        made: the adapter's side.
        tasks: how many of the bundled tasks are played.
        rounds: how often each is played.
    """
    env = ToolOrchestrationEnv(SOURCE.tasks)
    episodes: list[tuple[str, list[str]]] = []
    for task in spread(env.tasks, tasks):
        play(env, make_policy("gold"), task)
        episodes.append((task.id, [turn.action for turn in env.episode.turns]))
    sides = (_session(), made)
    best: dict[tuple[str, int], list[int]] = {}
    for _ in range(rounds):
        for task_id, actions in episodes:
            for side, begin in enumerate(sides):
                for number, step in enumerate(begin(task_id, actions)):
                    started = perf_counter_ns()
                    step()
                    taken = perf_counter_ns() - started
                    fastest = best.setdefault((task_id, number), [sys.maxsize, sys.maxsize])
                    fastest[side] = min(fastest[side], taken)
    both = [pair for pair in best.values() if sys.maxsize not in pair]
    session, adapter = zip(*both, strict=True)
    added = [(a - s) / 1000 for s, a in both]
    return {
        "steps": len(added),
        "rounds": rounds,
        "session_us": round(median(session) / 1000, 2),
        "adapter_us": round(median(adapter) / 1000, 2),
        "overhead_us": round(median(added), 2),
        "overhead_most_us": round(max(added), 2),
    }


def _elsewhere(name: str, given: argparse.Namespace) -> dict[str, Any]:
    environment = ADAPTERS[name][0]
    python = ROOT / f".venv-{environment}" / "bin" / "python"
    if not python.exists():
        return {"left_out": f".venv-{environment} is missing: run `make adapters`"}
    command = [python, "-m", "benchmarks.adapters", "--here", name]
    command += ["--tasks", str(given.tasks), "--rounds", str(given.rounds)]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _line(row: dict[str, Any]) -> str:
    if "left_out" in row:
        return f"left out: {row['left_out']}"
    return (
        f"{row['overhead_us']:6.1f} us over {row['session_us']:.1f} us "
        f"(at most {row['overhead_most_us']:.1f}; {row['steps']} steps)"
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ADAPTERS, help="these adapters")
    parser.add_argument("--tasks", type=int, default=60, help="tasks that are played")
    parser.add_argument("--rounds", type=int, default=20, help="times that each is played")
    parser.add_argument("--out", type=Path, help=f"default {RESULTS}, of a whole run")
    parser.add_argument("--here", choices=ADAPTERS, help="one adapter in this process, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
