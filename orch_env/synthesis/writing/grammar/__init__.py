"""A grammar that puts plans into words, offline and always the same way."""

from orch_env.synthesis.writing.grammar.writer import GrammarWriter

__all__ = ["GrammarWriter"]
