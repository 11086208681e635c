"""A draw: recorded calls that fill a template, and gold calls made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.templates.template import Template
from orch_env.types import GoldCall, ValueRef


@dataclass(frozen=True, slots=True)
class Draw:
    """One executable trace.

    Attributes:
        template: what it fills.
        rows: for each node, the number of a recorded call.
        sources: for each node, argument pointer -> where its value is read (``output`` or
            ``composite``, with concrete pointers); independent arguments are not in it.
    """

    template: Template
    rows: tuple[int, ...]
    sources: tuple[Mapping[str, ValueRef], ...]


def gold_of(
    draw: Draw, corpus: Corpus, independent: Mapping[tuple[int, str], ValueRef]
) -> tuple[tuple[GoldCall, ...], ...]:
    """The gold steps of a draw: one step per depth of the graph, calls in node order inside it.

    Args:
        draw: the trace.
        corpus: what it was drawn from.
        independent: ``(node, argument pointer)`` -> source of each argument that no output feeds.
    """
    raise NotImplementedError
