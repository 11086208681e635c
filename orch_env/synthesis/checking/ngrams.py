"""Runs of words that texts share, with what differs by nature masked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orch_env.provenance.evidence import argument_leaves
from orch_env.types import Task

_TOKEN = re.compile(r"<\w+>|[^\W_]+(?:['\u2019][^\W_]+)*")
_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DAYS = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_DATE = re.compile(
    rf"\b(?:{_DAYS},?\s+)?(?:{_MONTHS}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?|\d{{1,2}}(?:st|nd|rd|th)?"
    rf"(?:\s+of)?\s+{_MONTHS})\b(?:,?\s+\d{{4}})?|\b\d{{4}}-\d{{2}}-\d{{2}}\b|\btoday\b|\btomorrow\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\b\d{1,2}(?::\d{2})?\s*[ap]\.?m\b\.?|\b\d{1,2}:\d{2}\b|\bnoon\b", re.IGNORECASE
)
_NUMBER = re.compile(
    r"\b\d[\d,.]*\b|\b(?:one|two|three|four|five|six|seven|eight|nine|ten)\b", re.IGNORECASE
)


def masked(task: Task) -> list[str]:
    """The words of a task's request, with its places, dates, times and numbers masked.

    Places are the texts that its gold calls say, and whatever stands in the request with a
    capital letter inside a sentence.
    """
    text = "\n".join([task.opening_query, *task.followups])
    names = {
        value
        for call in task.gold_calls
        for _, value in argument_leaves(call.arguments)
        if isinstance(value, str) and any(c.isalpha() for c in value)
    }
    low = text.casefold()
    for name in sorted(names, key=lambda name: (-len(name), name)):
        if name.casefold() in low:
            text = re.sub(re.escape(name), "<name>", text, flags=re.IGNORECASE)
    for pattern, mark in ((_DATE, "<date>"), (_TIME, "<time>"), (_NUMBER, "<number>")):
        text = pattern.sub(mark, text)
    text = re.sub(
        r"(?<=[a-z,>] )(?:[A-Z][\w'\u2019.&-]*(?:[ ,&-]+(?=[A-Z0-9(]))?)+", "<name> ", text
    )
    words = [word.casefold() for word in _TOKEN.findall(text)]
    kept: list[str] = []
    for word in words:
        if word.startswith("<") and kept and kept[-1] == word:
            continue
        kept.append(word)
    return kept


def ngrams(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """All runs of ``size`` words."""
    return {tuple(words[n : n + size]) for n in range(len(words) - size + 1)}


def ngrams_of(tasks: Iterable[Task], size: int) -> set[tuple[str, ...]]:
    """The masked runs of all tasks."""
    found: set[tuple[str, ...]] = set()
    for task in tasks:
        found |= ngrams(masked(task), size)
    return found
