"""A workflow: which tools are called, and which output feeds which argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.types.json import JsonObject


@dataclass(frozen=True, slots=True)
class Edge:
    """One call reads one element of another call's response.

    Attributes:
        parent: node whose response is read; smaller than ``child``.
        child: node that is called with it.
        pairs: as in :class:`~orch_env.synthesis.mining.mined.Attachment`.
        composite: whether the one argument joins values of several elements by commas.
    """

    parent: int
    child: int
    pairs: tuple[tuple[str, str], ...]
    composite: bool = False


@dataclass(frozen=True, slots=True)
class Equality:
    """Two independent arguments must be equal.

    Attributes:
        left, right: ``(node, argument pointer)``; ``left < right``.
    """

    left: tuple[int, str]
    right: tuple[int, str]


@dataclass(frozen=True, slots=True)
class Template:
    """Calls in a topological order, with the flows of data between them.

    Two templates are the same workflow iff their :attr:`id` is equal: the id is that of the graph
    up to isomorphism.

    Attributes:
        tools: for each node, the tool that it calls.
        edges: sorted.
        equalities: sorted; co-reference constraints of the fillings, no edges of the graph.
    """

    tools: tuple[str, ...]
    edges: tuple[Edge, ...] = ()
    equalities: tuple[Equality, ...] = ()

    @property
    def id(self) -> str:
        """16 hex digits, equal for isomorphic templates only."""
        raise NotImplementedError

    def to_dict(self) -> JsonObject:
        """The JSON form: ``{id, tools, edges, equalities}``."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Template:
        """Read :meth:`to_dict`.

        Raises:
            OrchError: it is malformed.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Size:
    """How complex a template is; the words mean the same in a task's metadata.

    Attributes:
        calls: number of calls.
        depth: calls on the longest path of dependencies.
        width: most calls at the same depth.
        edges: values read from earlier outputs.
        domains: domains of its tools; 1 where no domains are known.
    """

    calls: int
    depth: int
    width: int
    edges: int
    domains: int
