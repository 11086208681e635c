"""A corpus without what a named benchmark holds."""

from __future__ import annotations

from collections.abc import Sequence

from orch_env.synthesis.corpus import Corpus
from orch_env.types import OrchError, Task


def without_benchmark(corpus: Corpus, benchmark: Sequence[Task]) -> Corpus:
    """The corpus without the recorded calls of a benchmark's gold, in all their variants.

    Traces that need one of these calls go with them. A benchmark whose calls make up the cache
    cannot be left out: separation from it can then be counted, not had.

    Raises:
        OrchError: fewer than two tools are left.
    """
    key = corpus.cache.key
    theirs = {key(call.name, call.arguments) for task in benchmark for call in task.gold_calls}
    kept = [row.number for row in corpus.rows if row.key not in theirs]
    tools = {corpus.rows[number].tool for number in kept}
    if len(tools) < 2:
        raise OrchError(
            f"the benchmark holds all but {len(kept)} of the {len(corpus.rows)} recorded calls, "
            f"and those are of {len(tools)} tools: too few to make tasks of. Leave out a part of "
            "it, or let the report count what is shared"
        )
    return corpus.only(kept)
