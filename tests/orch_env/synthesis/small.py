"""Small caches, small enough to enumerate every filling by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from orch_env import ToolSpec, open_cache
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import Attachment, LinkKind, Mined
from orch_env.synthesis.templates.template import Template
from orch_env.types.json import Json, JsonObject

HARBOUR = Path(__file__).parents[3] / "orch_env" / "data" / "harbour" / "cache.db"

Answers = Sequence[tuple[str, JsonObject, Json]]


def corpus_of(path: Path, answers: Answers) -> Corpus:
    """A corpus of these (tool, arguments, response)."""
    names = sorted({tool for tool, _, _ in answers})
    with open_cache(path, write=True) as cache:
        for name in names:
            keys = sorted({k for tool, a, _ in answers if tool == name for k in a})
            properties = {k: {} for k in keys}
            cache.put_tool(
                ToolSpec(name, f"The {name}.", {"type": "object", "properties": properties})
            )
        for tool, arguments, response in answers:
            cache.put(tool, arguments, json.dumps(response))
        cache.commit()
    return read_corpus(open_cache(path))


def feeds(
    parent: str, child: str, *pairs: tuple[str, str], strong: bool = True, composite: bool = False
) -> Attachment:
    """An attachment."""
    kind = LinkKind.COMPOSITE if composite else LinkKind.VALUE
    return Attachment(parent, child, tuple(sorted(pairs)), 2, strong, kind)


def index_of(corpus: Corpus, *attachments: Attachment) -> Index:
    """An index in which every fed argument is one that no person types."""
    opaque = frozenset((a.to_tool, p) for a in attachments for p, _ in a.pairs)
    return Index(corpus, Mined(attachments=tuple(attachments), opaque=opaque))


def fillings(index: Index, template: Template) -> list[tuple[int, ...]]:
    """All fillings of a template with different calls, by trying every combination of rows."""
    corpus = index.corpus
    domains = [corpus.rows_of.get(tool, ()) for tool in template.tools]
    found = []
    for rows in product(*domains):
        calls = {corpus.rows[row].key for row in rows}
        if len(calls) == len(rows) and holds(index, template, rows):
            found.append(rows)
    return found


def holds(index: Index, template: Template, rows: tuple[int, ...]) -> bool:
    """Whether rows fill a template, read plainly from arguments and responses."""
    for e in template.edges:
        if not _fed(index.corpus, rows[e.parent], rows[e.child], e.pairs, e.composite):
            return False
    for q in template.equalities:
        left = index.corpus.rows[rows[q.left[0]]].arguments.get(q.left[1][1:])
        right = index.corpus.rows[rows[q.right[0]]].arguments.get(q.right[1][1:])
        if left != right:
            return False
    for node, row in enumerate(rows):
        fed = {p for e in template.edges if e.child == node for p, _ in e.pairs}
        sent = {f"/{name}" for name in index.corpus.rows[row].arguments}
        tool = index.corpus.rows[row].tool
        if not fed <= sent or {p for p in sent if (tool, p) in index.mined.opaque} - fed:
            return False
    return True


def _fed(
    corpus: Corpus,
    parent: int,
    child: int,
    pairs: Sequence[tuple[str, str]],
    composite: bool,
) -> bool:
    """Whether one element of the parent's response holds all values, read plainly."""
    response, arguments = corpus.response(parent), corpus.rows[child].arguments
    values = [arguments.get(p[1:]) for p, _ in pairs]
    elements: list[Mapping[str, Json]] = (
        response["items"] if isinstance(response, dict) and "items" in response else [response]
    )
    keys = [pattern.rsplit("/", 1)[-1] for _, pattern in pairs]
    if composite:
        held = {str(e.get(keys[0])) for e in elements}
        return all(piece in held for piece in str(values[0]).split(","))
    return any(
        all(str(e.get(k)) == str(v) for k, v in zip(keys, values, strict=True)) for e in elements
    )
