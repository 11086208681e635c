"""Many episodes over 64 connections at once: each is paid its own, and nothing is left behind.

    python -m tests.adapters.openenv_crowd 10000

The server is a process of its own, so that its memory and handles are measured alone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from itertools import cycle, islice
from typing import Any

import httpx
import psutil
from openenv import GenericEnvClient

from tests.adapters.two_hundred import Case, cases

AT_ONCE = 64
PER_CONNECTION = 20
"""Episodes of one connection, so that connections come and go as well."""


async def play(client: Any, case: Case) -> list[Any]:
    """What is wrong with an episode, empty if nothing is."""
    opened = await client.reset(task_id=case.task_id, seed=case.seed)
    if not opened.observation["new_tools"]:
        return [case.task_id, "no tools"]
    paid = 0.0
    for action in case.actions:
        last = await client.step({"message": action})
        paid += last.reward
    got = [paid, last.done, last.observation["stop_reason"]]
    return [] if got == [case.total, True, case.stop_reason] else [case.policy, case.task_id, *got]


async def crowd(address: str, count: int) -> list[Any]:
    """Plays so many episodes; what went wrong."""
    waiting = iter(list(islice(cycle(cases()), count)))
    wrong: list[Any] = []

    async def worker() -> None:
        while mine := list(islice(waiting, PER_CONNECTION)):
            async with GenericEnvClient(base_url=address) as client:
                for case in mine:
                    if found := await play(client, case):
                        wrong.append(found)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return wrong


def measured(server: psutil.Process) -> tuple[int, int, float]:
    """Open handles, threads and megabytes of the server."""
    return server.num_fds(), server.num_threads(), server.memory_info().rss / 2**20


def refused(address: str) -> int:
    """How many of 64 new connections the server refuses: sessions that were left open."""

    async def connect() -> int:
        clients = [GenericEnvClient(base_url=address) for _ in range(AT_ONCE)]
        left = 0
        for client in clients:
            await client.connect()
            try:
                await client.state()
            except RuntimeError:
                left += 1
        for client in clients:
            await client.close()
        return left

    return asyncio.run(connect())


def main(count: str) -> None:
    command = [sys.executable, "-m", "orch_env.adapters.openenv", "--port", "0"]
    with subprocess.Popen(
        [*command, "--max-sessions", str(AT_ONCE)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            httpx.get(f"{address}/health", timeout=60)
            process = psutil.Process(server.pid)
            wrong = asyncio.run(crowd(address, min(int(count), 2 * AT_ONCE * PER_CONNECTION)))
            before = measured(process)  # caches are full by now
            start = time.perf_counter()
            wrong += asyncio.run(crowd(address, int(count)))
            seconds = time.perf_counter() - start
            left = refused(address)
            after = measured(process)
        finally:
            server.terminate()
    found = {
        "episodes": int(count),
        "at_once": AT_ONCE,
        "wrong": wrong[:5],
        "sessions_left": left,
        "seconds": round(seconds, 1),
        "handles": [before[0], after[0]],
        "threads": [before[1], after[1]],
        "megabytes": [round(before[2]), round(after[2])],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
