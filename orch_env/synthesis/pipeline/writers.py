"""Writers by name."""

from __future__ import annotations

from collections.abc import Sequence

from orch_env.synthesis.pipeline.config import WritingConfig
from orch_env.synthesis.writing.hints import Hints
from orch_env.synthesis.writing.plan import Plan, Writer, Written
from orch_env.types import OrchError


class NoWriter:
    """Leaves requests to a later `orch synth write`: a task then says what it is a trace of."""

    name = "none"

    def write(self, plans: Sequence[Plan]) -> list[Written]:
        """A note in place of each request."""
        return [Written(f"(no request yet: {len(plan.calls)} calls)") for plan in plans]


def make_writer(config: WritingConfig, hints: Hints | None = None) -> Writer:
    """The writer that a configuration names.

    Args:
        config: the name and the options.
        hints: words for the API, for the grammar.

    Raises:
        OrchError: there is no such writer, or it does not take these options.
    """
    if config.writer == "none":
        return NoWriter()
    if config.writer == "grammar":
        from orch_env.synthesis.writing.grammar import GrammarWriter

        if config.options:
            raise OrchError(f"the grammar takes no options, got {', '.join(config.options)}")
        return GrammarWriter(hints)
    raise OrchError(f"there is no writer {config.writer!r}: take grammar or none")
