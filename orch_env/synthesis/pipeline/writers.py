"""Writers by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

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


def make_writer(
    config: WritingConfig, hints: Hints | None = None, folder: Path | None = None
) -> Writer:
    """The writer that a configuration names.

    Args:
        config: the name and the options.
        hints: words for the API, for the grammar.
        folder: of the job; an endpoint's answers are kept there unless the options name a file.

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
    if config.writer == "endpoint":
        return _endpoint_writer(config.options, folder)
    if ":" in config.writer or config.writer in NAMED:
        return _named_writer(config)
    raise OrchError(
        f"there is no writer {config.writer!r}: take grammar, endpoint, engine, none, or "
        "module:Class of your own"
    )


NAMED = {"engine": "orch_train.synthesis.engine_writer:EngineWriter"}
"""Writers of other packages, by strings: orch_env never imports orch_train."""


def _endpoint_writer(options: Mapping[str, Any], folder: Path | None) -> Writer:
    from orch_env.endpoint import Endpoint, EndpointSettings
    from orch_env.synthesis.writing.endpoint import EndpointWriter

    known = {field.name for field in fields(EndpointSettings)}
    unknown = sorted(set(options) - known)
    if unknown or not {"url", "model"} <= set(options):
        wrong = f"there is no option {unknown[0]!r}" if unknown else "it needs url and model"
        raise OrchError(f"writer endpoint: {wrong}; options: {', '.join(sorted(known))}")
    answers = {"answers": str(folder / "answers.db")} if folder is not None else {}
    try:
        return EndpointWriter(Endpoint(EndpointSettings(**{**answers, **options})))
    except TypeError as problem:
        raise OrchError(f"writer endpoint: an option has a wrong type ({problem})") from problem


def _named_writer(config: WritingConfig) -> Writer:
    module, _, name = NAMED.get(config.writer, config.writer).partition(":")
    try:
        made: Writer = getattr(importlib.import_module(module), name)(**config.options)
    except (ImportError, AttributeError, TypeError) as problem:
        raise OrchError(f"writer {config.writer!r} cannot be made: {problem}") from problem
    return made
