"""The smallest change from one list of lines to another, in the form that `diff -d` prints.

Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), in linear space: both ends are
searched at once, and where they meet the problem falls into two smaller ones. Of equally small
changes this takes the one that `diff` takes: runs are moved down as far as they go, unless they can
stand beside a run in the other list.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from orch_env.servers.domains.filesystem.expressions import Budget

Run = tuple[int, int, int, int]
"""First and end of the lines that go, first and end of the lines that come, from 0."""


def changed_runs(old: Sequence[str], new: Sequence[str], budget: Budget) -> list[Run]:
    """The runs of lines to replace, in order."""
    gone, come = [False] * len(old), [False] * len(new)
    _compare(old, new, (0, len(old)), (0, len(new)), gone, come, budget)
    _slide(old, gone, come)
    _slide(new, come, gone)
    runs: list[Run] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and not gone[i] and j < len(new) and not come[j]:
            i, j = i + 1, j + 1
            continue
        first, other = i, j
        while i < len(old) and gone[i]:
            i += 1
        while j < len(new) and come[j]:
            j += 1
        runs.append((first, i, other, j))
    return runs


def normal_diff(old: Sequence[str], new: Sequence[str], budget: Budget) -> str:
    """What `diff` prints for two lists of lines that keep their newlines."""
    parts: list[str] = []
    for first, end, other, other_end in changed_runs(old, new, budget):
        sign = "a" if first == end else "d" if other == other_end else "c"
        parts.append(f"{_numbers(first, end)}{sign}{_numbers(other, other_end)}\n")
        parts += [_shown("<", line) for line in old[first:end]]
        parts += ["---\n"] if sign == "c" else []
        parts += [_shown(">", line) for line in new[other:other_end]]
    return "".join(parts)


def _numbers(first: int, end: int) -> str:
    return str(end) if end - first < 2 else f"{first + 1},{end}"


def _shown(mark: str, line: str) -> str:
    missing = "" if line.endswith("\n") else "\n\\ No newline at end of file\n"
    return f"{mark} {line}{missing}"


def _compare(
    old: Sequence[str],
    new: Sequence[str],
    olds: tuple[int, int],
    news: tuple[int, int],
    gone: list[bool],
    come: list[bool],
    budget: Budget,
) -> None:
    """Mark what goes and comes between two ranges of lines."""
    todo = [(*olds, *news)]
    while todo:
        a, a_end, b, b_end = todo.pop()
        while a < a_end and b < b_end and old[a] == new[b]:
            a, b = a + 1, b + 1
        while a < a_end and b < b_end and old[a_end - 1] == new[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
        if a == a_end or b == b_end:
            gone[a:a_end] = [True] * (a_end - a)
            come[b:b_end] = [True] * (b_end - b)
            continue
        x, y = _meeting(old, new, a, a_end, b, b_end, budget)
        todo += [(x, a_end, y, b_end), (a, x, b, y)]


def _meeting(
    old: Sequence[str], new: Sequence[str], a: int, a_end: int, b: int, b_end: int, budget: Budget
) -> tuple[int, int]:
    """A point on a shortest path, where the search from the start meets that from the end.

    Diagonal d holds the points with x - y = d.
    """
    low, high = a - b_end, a_end - b
    start, goal = a - b, a_end - b_end
    odd = (start - goal) % 2 == 1
    ahead, back = {start: a}, {goal: a_end}
    ahead_low = ahead_high = start
    back_low = back_high = goal
    while True:
        ahead_low, ahead_high = _widened(ahead, ahead_low, ahead_high, low, high, -1)
        for d in range(ahead_high, ahead_low - 1, -2):
            x = max(ahead[d - 1] + 1, ahead[d + 1])
            begin = x
            while x < a_end and x - d < b_end and old[x] == new[x - d]:
                x += 1
            budget.spend(1 + x - begin)
            ahead[d] = x
            if odd and back_low <= d <= back_high and back[d] <= x:
                return x, x - d
        back_low, back_high = _widened(back, back_low, back_high, low, high, a_end + b_end + 1)
        for d in range(back_high, back_low - 1, -2):
            x = min(back[d - 1], back[d + 1] - 1)
            begin = x
            while a < x and b < x - d and old[x - 1] == new[x - d - 1]:
                x -= 1
            budget.spend(1 + begin - x)
            back[d] = x
            if not odd and ahead_low <= d <= ahead_high and x <= ahead[d]:
                return x, x - d


def _widened(
    reached: dict[int, int], lowest: int, highest: int, low: int, high: int, never: int
) -> tuple[int, int]:
    """One more diagonal on either side, or one fewer where the edge is reached."""
    if lowest > low:
        lowest -= 1
        reached[lowest - 1] = never
    else:
        lowest += 1
    if highest < high:
        highest += 1
        reached[highest + 1] = never
    else:
        highest -= 1
    return lowest, highest


def _slide(lines: Sequence[str], changed: list[bool], other: list[bool]) -> None:
    """Move runs of changed lines to where `diff` shows them."""
    # `other_gaps[k]`: whether the other list has changed lines just before its k-th unchanged one.
    other_gaps = [False]
    for is_changed, run in groupby(other):
        if is_changed:
            other_gaps[-1] = True
        else:
            other_gaps += [False] * len(list(run))
    at = 0
    while at < len(lines):
        if not changed[at]:
            at += 1
            continue
        first, end = at, _end_of(changed, at)
        while True:
            length = end - first
            while first and lines[first - 1] == lines[end - 1]:
                first, end = first - 1, end - 1
                changed[first], changed[end] = True, False
                while first and changed[first - 1]:
                    first -= 1
            beside = end if other_gaps[changed[:first].count(False)] else None
            while end < len(lines) and lines[first] == lines[end]:
                changed[first], changed[end] = False, True
                first, end = first + 1, _end_of(changed, end)
                if other_gaps[changed[:first].count(False)]:
                    beside = end
            if length == end - first:
                break
        while beside is not None and beside < end:
            first, end = first - 1, end - 1
            changed[first], changed[end] = True, False
        at = end


def _end_of(changed: list[bool], at: int) -> int:
    while at < len(changed) and changed[at]:
        at += 1
    return at
