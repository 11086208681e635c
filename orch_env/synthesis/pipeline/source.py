"""What tasks are made of: the recorded calls and traces that a job reads."""

from __future__ import annotations

from orch_env.cache import ResponseCache, open_cache
from orch_env.synthesis.checking.benchmark import without_benchmark
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.mining import Mined
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.tasks.files import bundled, load_tasks
from orch_env.types import OrchError


def corpus_of(config: SynthesisConfig) -> Corpus:
    """The recorded calls and traces that a job reads.

    Raises:
        OrchError: a file is missing or damaged, or the cache has nothing to make tasks of.
    """
    cache = open_source(config.source.cache)
    traces = load_tasks(config.source.traces) if config.source.traces else []
    corpus = read_corpus(cache, traces)
    if config.source.exclude_benchmark is None:
        return corpus
    return without_benchmark(corpus, load_tasks(config.source.exclude_benchmark))


def open_source(name: str) -> ResponseCache:
    """A cache by its path, or by a bundled data set's name."""
    return open_cache(bundled(name, "cache") or name)


def check_source(corpus: Corpus, mined: Mined) -> None:
    """Refuse what no workflow can be made of.

    Raises:
        OrchError: the cache has one tool, or no output feeds an argument.
    """
    if len(corpus.tools) < 2:
        [tool] = corpus.tools
        raise OrchError(
            f"the cache holds calls of one tool only, {tool!r}: a workflow needs a tool whose "
            "output another one reads; record more tools"
        )
    if not mined.attachments:
        raise OrchError(
            f"no output of the {len(corpus.tools)} tools feeds an argument of another: no workflow "
            "can be made; give recorded tasks with --traces, or record calls that follow each other"
        )
