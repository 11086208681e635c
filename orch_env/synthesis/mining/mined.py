"""What mining found: links between outputs and arguments, and what else templates rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from orch_env.types import OrchError
from orch_env.types.json import JsonObject

Slot = tuple[str, str]
"""(tool, argument pointer); ``*`` stands for a list index where a slot is a pattern."""


class LinkKind(StrEnum):
    """How an argument relates to the output that it is read from."""

    VALUE = "value"
    """Equal, and of the same JSON type."""
    TYPED = "typed"
    """Equal as a value, of another JSON type: a number and its text."""
    COMPOSITE = "composite"
    """One piece of a comma-joined text."""
    DERIVED = "derived"
    """A date or time at a constant distance from the output."""


@dataclass(frozen=True, slots=True)
class Link:
    """One edge of the dependency graph.

    Attributes:
        from_tool: the tool whose output is read.
        from_path: pointer pattern into its response, ``*`` for list indices and id-like keys.
        to_tool: the tool whose argument it feeds.
        to_path: pointer pattern of the argument, ``*`` for list indices.
        kind: see :class:`LinkKind`.
        support: traces in which it holds; 0 where only the cache shows it.
        values: distinct values that it carries.
        rate: share of the traces that set the argument after a call of ``from_tool`` in which it
            holds, 0..1; where there are none, share of the argument's values that the output has.
        strong: whether its values identify what they name. A weak link (a type word, a facility
            number) never joins two calls by itself.
        evidence: what speaks for it: ``traces``, ``cache``, ``name``, ``description``.
        offset: for ``DERIVED``, the distance in seconds.
    """

    from_tool: str
    from_path: str
    to_tool: str
    to_path: str
    kind: LinkKind = LinkKind.VALUE
    support: int = 0
    values: int = 0
    rate: float = 1.0
    strong: bool = True
    evidence: tuple[str, ...] = ()
    offset: float | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """Arguments that one element of an earlier output feeds together.

    Attributes:
        from_tool: the tool whose output is read.
        to_tool: the tool that is called with it.
        pairs: ``(argument pointer, output pattern)``, sorted. Argument pointers are concrete
            (``/legs/0/fromId``), output patterns have ``*``. All outputs of one draw lie in the
            same element of every list that their patterns share.
        support: traces in which it occurs; 0 where only the cache shows it.
        strong: whether at least one of its links is.
        kind: ``COMPOSITE`` where its one argument is a list of values of several elements.
    """

    from_tool: str
    to_tool: str
    pairs: tuple[tuple[str, str], ...]
    support: int = 0
    strong: bool = True
    kind: LinkKind = LinkKind.VALUE


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two independent arguments that traces keep equal: the dates of a search and of its filter.

    Attributes:
        left, right: ``(tool, argument pointer)``; ``left <= right``.
        chances: traces in which both arguments are set by calls that belong together.
        share: share of the chances in which they are equal, 0..1.
    """

    left: Slot
    right: Slot
    chances: int
    share: float


@dataclass(frozen=True, slots=True)
class Mined:
    """Everything that templates and draws rest on.

    Attributes:
        links: sorted by tools and paths.
        attachments: sorted likewise.
        agreements: sorted likewise.
        opaque: argument slots whose values no person would type (ids, tokens, coordinates): a call
            is drawn only if each of these that it sends is linked.
    """

    links: tuple[Link, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    opaque: frozenset[Slot] = field(default_factory=frozenset)

    def to_dict(self) -> JsonObject:
        """The JSON form, in ``mined.json`` of a synthesis folder."""
        return {
            "links": [asdict(link) for link in self.links],
            "attachments": [asdict(attachment) for attachment in self.attachments],
            "agreements": [asdict(agreement) for agreement in self.agreements],
            "opaque": [list(slot) for slot in sorted(self.opaque)],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Mined:
        """Read :meth:`to_dict`.

        Raises:
            OrchError: it is malformed.
        """
        try:
            return cls(
                tuple(
                    Link(**{**x, "kind": LinkKind(x["kind"]), "evidence": tuple(x["evidence"])})
                    for x in data["links"]
                ),
                tuple(
                    Attachment(**{**x, "kind": LinkKind(x["kind"]), "pairs": _pairs(x["pairs"])})
                    for x in data["attachments"]
                ),
                tuple(
                    Agreement(**{**x, "left": _pair(x["left"]), "right": _pair(x["right"])})
                    for x in data["agreements"]
                ),
                frozenset(_pairs(data["opaque"])),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise OrchError(
                f"this is no result of mining ({type(problem).__name__}: {problem}); mine again"
            ) from problem


def _pair(found: Sequence[str]) -> tuple[str, str]:
    left, right = found
    return left, right


def _pairs(found: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple(map(_pair, found))
