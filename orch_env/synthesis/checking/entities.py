"""What recorded calls are about: the places, people and things that their requests name.

A call that nothing feeds names something by a text. Two calls are about the same entity if their
texts are equal, whatever the tool. Two entities belong to one group if their calls lead to the same
id: that is what splits keep together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import folded, is_temporal
from orch_env.provenance.names import with_wildcards
from orch_env.synthesis.index import Index, is_composite

_FEWEST_TEXTS = 8
"""Distinct values of an argument that names things; with fewer it is a choice among options."""


class Entities:
    """The entities of a corpus.

    Args:
        index: the rows.

    Attributes:
        of: row -> its entities; rows that are fed by others have none of their own.
        group_of: entity -> name of its group, the least of its entities.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        naming = _naming_slots(index)
        of: dict[int, tuple[str, ...]] = {}
        for row in index.corpus.rows:
            texts = {
                folded(value)
                for pointer, value in argument_leaves(row.arguments)
                if (row.tool, with_wildcards(pointer)) in naming and isinstance(value, str)
            }
            if texts:
                of[row.number] = tuple(sorted(texts))
        self.of: Mapping[int, tuple[str, ...]] = of
        self.group_of: Mapping[str, str] = self._groups()

    def of_rows(self, rows: Sequence[int]) -> frozenset[str]:
        """The entities of a draw."""
        return frozenset(entity for row in rows for entity in self.of.get(row, ()))

    def groups_of_rows(self, rows: Sequence[int]) -> frozenset[str]:
        """The groups of a draw's entities."""
        return frozenset(self.group_of[entity] for entity in self.of_rows(rows))

    def _groups(self) -> dict[str, str]:
        parent: dict[str, str] = {e: e for es in self.of.values() for e in es}

        def root(entity: str) -> str:
            while parent[entity] != entity:
                parent[entity] = parent[parent[entity]]
                entity = parent[entity]
            return entity

        def join(one: str, other: str) -> None:
            low, high = sorted((root(one), root(other)))
            parent[high] = low

        for entities in self.of.values():
            for entity in entities[1:]:
                join(entities[0], entity)
        index = self._index
        for attachment in index.mined.attachments:
            if not attachment.strong or is_composite(attachment):
                continue
            relation = index.relation(attachment.from_tool, attachment.to_tool, attachment.pairs)
            holder: dict[tuple[object, ...], str] = {}
            for child, parents in relation.parents.items():
                key = tuple(index.sent[child][pointer] for pointer, _ in attachment.pairs)
                for row in parents:
                    for entity in self.of.get(row, ())[:1]:
                        join(holder.setdefault(key, entity), entity)
        return {entity: root(entity) for entity in parent}


def _naming_slots(index: Index) -> set[tuple[str, str]]:
    """Arguments whose texts name things: many different ones, no dates, no options."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in index.corpus.rows:
        for pointer, value in argument_leaves(row.arguments):
            slot = (row.tool, with_wildcards(pointer))
            if (
                isinstance(value, str)
                and slot not in index.mined.opaque
                and not is_temporal(value)
                and any(c.isalpha() for c in value)
            ):
                values[slot].add(folded(value))
    return {slot for slot, seen in values.items() if len(seen) >= _FEWEST_TEXTS}
