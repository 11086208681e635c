"""Requests for synthesised tasks, written by a local model."""

from orch_train.writing.engine_writer import EngineWriter

__all__ = ["EngineWriter"]
