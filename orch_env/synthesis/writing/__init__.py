"""Requests in words, behind one protocol: a grammar, or a language model."""
