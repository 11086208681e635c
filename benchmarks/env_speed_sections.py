"""The sections of `env_speed`: each is run in a process of its own, over one world."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgpack
import zstandard

import orch_env
from benchmarks.env_speed_episodes import (
    Script,
    answers,
    answers_of_five,
    counts,
    goes_on,
    gold_scripts,
    median_us,
    message_scripts,
    play,
    spread,
    steps_us,
    with_calls,
)
from orch_env import GoldCall, Task, ToolOrchestrationEnv, load_tasks, open_cache, save_tasks

LOOK_UPS = {
    "find_ship",
    "find_pilot",
    "ship_berth",
    "ship_cargo",
    "ship_agent",
    "berth_crane",
    "cargo_permit",
}
"""Tools of the harbour that change nothing, so that a call of theirs succeeds every time."""
LIVE_TURNS, LIVE_EPISODES, LIVE_LOOK_UPS = 200, 5, 20
"""Turns of an episode on the server, episodes of a pass, and look-ups to go round."""
BLOCK = 200
"""Look-ups in a row before the other way of reading has its turn."""
BARE = (
    "SELECT p.digest, p.data FROM responses r JOIN payloads p ON p.id = r.payload "
    "WHERE r.key = ? AND r.variant = 0"
)
"""What a look-up costs at least: the cache's own statement, by a key that is ready."""

Found = dict[str, Any]
"""One section: ``counts``, and ``figures``, each a number or the spread over the passes."""


@dataclass(frozen=True)
class World:
    """What a section's environment is opened with: a task file and its cache, both by name."""

    tasks: str
    cache: str


def measure_replay(world: World, passes: int) -> Found:
    """Gold over recorded responses: a first pass, then later ones, and where the time goes."""
    env, open_s = _open(world)
    scripts = gold_scripts(env.tasks)
    first = play(env, scripts)
    later = [play(env, scripts) for _ in range(passes)]
    env.close()
    figures = {
        "open_s": open_s,
        "first_pass_steps_per_s": first.steps_per_s,
        "later_steps_per_s": spread(one.steps_per_s for one in later),
        "reset_us": spread(median_us(one.resets) for one in later),
        "call_step_us": steps_us(scripts, later, with_calls),
        "last_step_us": steps_us(scripts, later, answers),
        "last_step_of_5_calls_us": steps_us(scripts, later, answers_of_five),
    }
    return {
        "counts": counts(scripts),
        "figures": {name: figure for name, figure in figures.items() if figure is not None},
    }


def _open(world: World) -> tuple[ToolOrchestrationEnv, float]:
    """The environment, and the seconds of loading its tasks and opening its cache."""
    started = time.perf_counter()
    env = ToolOrchestrationEnv(world.tasks, world.cache)
    return env, time.perf_counter() - started


def measure_tenfold(world: World, passes: int) -> Found:
    """Tasks written ten times under other ids: speed, and the memory that playing adds."""
    env, open_s = _open(world)
    scripts = gold_scripts(env.tasks)
    opened = _memory_mb()
    # The clock's readings are let go at once: memory is compared below.
    first = play(env, scripts).steps_per_s
    later = [play(env, scripts).steps_per_s for _ in range(passes)]
    played = _memory_mb()
    env.close()
    figures: Found = {
        "open_s": open_s,
        "first_pass_steps_per_s": first,
        "later_steps_per_s": spread(later),
    }
    if opened and played:
        figures["open_resident_mb"] = opened["VmRSS"]
        figures["added_resident_mb"] = played["VmRSS"] - opened["VmRSS"]
        figures["added_anonymous_mb"] = played["RssAnon"] - opened["RssAnon"]
    return {"counts": counts(scripts), "figures": figures}


def _memory_mb() -> dict[str, float]:
    """Resident memory of this process, and its anonymous part; empty where Linux does not say."""
    gc.collect()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    values = dict(line.split(":", 1) for line in lines)
    return {
        name: int(values[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon") if name in values
    }


def measure_live(world: World, passes: int) -> Found:
    """Episodes of 200 turns with one call each on the server that runs in this process."""
    tasks = load_tasks(world.tasks)
    task = replace(max(tasks, key=lambda task: len(task.gold_calls)), servers=("harbour",), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.jsonl"
        save_tasks([task], path)
        # Tasks that name their servers, without a cache: the servers answer.
        env = ToolOrchestrationEnv(str(path), max_turns=10_000)
    actions = live_actions(task, tasks)
    env.reset(seed=0, options={"task_id": task.id})
    for action in actions:
        observation = env.step(action)[0]
        if '{"error"' in observation:
            raise SystemExit(f"the server refuses {action}: {observation}")
    scripts = [Script(task.id, actions, LIVE_TURNS, LIVE_TURNS)] * LIVE_EPISODES
    # The first and the last round of the look-ups: the same calls, early and late in an episode.
    early = range(len(task.gold_calls), len(task.gold_calls) + LIVE_LOOK_UPS)
    late = range(LIVE_TURNS - LIVE_LOOK_UPS, LIVE_TURNS)
    made = [play(env, scripts, ended=goes_on) for _ in range(passes)]
    env.close()
    return {
        "counts": {
            "episodes": LIVE_EPISODES,
            "turns": LIVE_TURNS,
            "different_calls": len(set(actions)),
        },
        "figures": {
            "reset_us": spread(median_us(one.resets) for one in made),
            "step_us": steps_us(scripts, made, with_calls),
            "early_steps_us": steps_us(scripts, made, lambda _, at: at in early),
            "late_steps_us": steps_us(scripts, made, lambda _, at: at in late),
        },
    }


def live_actions(task: Task, tasks: Iterable[Task]) -> tuple[str, ...]:
    """The task's gold calls, then look-ups that succeed, over and over; one call a message."""
    look_ups = {
        (call.name, json.dumps(dict(call.arguments), sort_keys=True)): call
        for other in (task, *tasks)
        for call in other.gold_calls
        if call.name in LOOK_UPS
    }
    again = itertools.cycle(list(look_ups.values())[:LIVE_LOOK_UPS])
    calls = itertools.islice(itertools.chain(task.gold_calls, again), LIVE_TURNS)
    gold = tuple((GoldCall(call.name, call.arguments),) for call in calls)
    (script,) = gold_scripts([replace(task, gold=gold)])
    return script.actions[: script.calling]


def measure_cache_get(world: World, passes: int) -> Found:
    """Every recorded call, looked up by `get` and by a bare SELECT in turns; keys; JSON."""
    cache = open_cache(world.cache)
    recorded = [(c.tool, c.arguments) for c in cache.calls() if c.variant == 0]
    keys = [cache.key(tool, arguments) for tool, arguments in recorded]
    bare = BareReader(Path(cache.path))
    get = cache.get

    def by_get(at: slice) -> None:
        for tool, arguments in recorded[at]:
            get(tool, arguments).text  # type: ignore[union-attr]  # noqa: B018

    def by_select(at: slice) -> None:
        for key in keys[at]:
            bare.text(key)

    works = (by_get, by_select)
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(passes):
        seconds = [0.0, 0.0]
        gc.collect()
        for begin in range(0, len(recorded), BLOCK):
            # Who comes second finds the rows in the processor's cache: each does as often.
            for which in (0, 1) if (begin // BLOCK + number) % 2 else (1, 0):
                started = time.perf_counter()
                works[which](slice(begin, begin + BLOCK))
                seconds[which] += time.perf_counter() - started
        for which, spent in enumerate(seconds):
            rates[which].append(len(recorded) / spent)
    texts = [bare.text(key) for key in keys]
    found = [cache.get(tool, arguments) for tool, arguments in recorded]
    if [one and one.text for one in found] != texts:
        raise SystemExit("cache.get and the bare SELECT read different texts")
    cache.close()
    readable = [text for text in texts if _is_json(text)]
    return {
        "counts": {"calls": len(recorded), "json_texts": len(readable)},
        "figures": {
            "get_per_s": spread(rates[0]),
            "bare_per_s": spread(rates[1]),
            "get_over_bare": spread(one / other for one, other in zip(*rates, strict=True)),
            "call_key_us": _mean_us(lambda pair: cache.key(*pair), recorded, passes),
            "json_loads_us": _mean_us(json.loads, readable, passes),
        },
    }


class BareReader:
    """The least that reading a response takes: one SELECT by a ready key, and unpacking."""

    def __init__(self, path: Path) -> None:
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._execute = sqlite3.connect(uri, uri=True).execute
        self._execute(f"PRAGMA mmap_size = {path.stat().st_size}")
        self._decompress = zstandard.ZstdDecompressor().decompress

    def text(self, key: bytes) -> str:
        """The text recorded first for a call."""
        _, data = self._execute(BARE, (key,)).fetchone()
        body = msgpack.unpackb(self._decompress(data), unicode_errors="surrogatepass")
        return body["text"]  # type: ignore[no-any-return]


def _mean_us(work: Callable[[Any], Any], items: Sequence[Any], passes: int) -> Found:
    """Microseconds an item, by passes over all of them."""
    means = []
    for _ in range(passes):
        gc.collect()
        started = time.perf_counter()
        for item in items:
            work(item)
        means.append(1e6 * (time.perf_counter() - started) / len(items))
    return spread(means)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def measure_calls_and_files(world: World, passes: int) -> Found:
    """What a warm step with one gold call runs, and what the answer does, score included."""
    env = ToolOrchestrationEnv(world.tasks, world.cache)
    able = [task for task in env.tasks if task.gold and len(task.gold[0]) == 1]
    scripts = gold_scripts([max(able, key=lambda task: len(task.gold_calls))])
    play(env, scripts)
    play(env, scripts)
    codes: list[set[CodeType]] = []
    play(env, scripts, lambda action: _profiled(lambda: env.step(action), codes))
    env.close()
    package = Path(orch_env.__file__).parent
    figures, ran = {}, {}
    for name, found in (("call_step", codes[0]), ("last_step", codes[-1])):
        figures[f"{name}_functions"] = len(found)
        figures[f"{name}_files"] = len({code.co_filename for code in found})
        ran[name] = sorted(
            f"{Path(code.co_filename).relative_to(package).as_posix()}: {code.co_qualname}"
            for code in found
        )
    return {"counts": counts(scripts), "figures": figures, "ran": ran}


def _profiled(work: Callable[[], Any], codes: list[set[CodeType]]) -> Any:
    """Add the set of the package's code objects that ``work`` runs."""
    package = str(Path(orch_env.__file__).parent) + os.sep
    found: set[CodeType] = set()

    def see(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            found.add(frame.f_code)

    sys.setprofile(see)
    try:
        return work()
    finally:
        sys.setprofile(None)
        codes.append(found)


def measure_step_message(world: World, passes: int) -> Found:
    """A step with calls given as an OpenAI message against the same step given as text."""
    env = ToolOrchestrationEnv(world.tasks, world.cache)
    if not hasattr(env.unwrapped, "step_message"):
        return {"left_out": "the environment has no step_message"}
    return compare_messages(env, passes)


def compare_messages(env: ToolOrchestrationEnv, passes: int) -> Found:
    """Play the same episodes by text and by message in turns, after one pass of each."""
    step_message: Callable[[Any], Any] = env.unwrapped.step_message  # type: ignore[attr-defined]
    texts, messages = gold_scripts(env.tasks), message_scripts(env.tasks)
    play(env, texts)
    play(env, messages, step_message)
    by_text, by_message = [], []
    for _ in range(passes):
        by_text.append(play(env, texts))
        by_message.append(play(env, messages, step_message))
    env.close()
    return {
        "counts": counts(texts),
        "figures": {
            "text_step_us": steps_us(texts, by_text, with_calls),
            "message_step_us": steps_us(messages, by_message, with_calls),
        },
    }


MEASURES: Mapping[str, Callable[[World, int], Found]] = {
    "replay": measure_replay,
    "tenfold": measure_tenfold,
    "live": measure_live,
    "cache_get": measure_cache_get,
    "calls_and_files": measure_calls_and_files,
    "step_message": measure_step_message,
}
