"""Options that the commands of ``orch synth`` share."""

from __future__ import annotations

from typing import Any

import click

from orch_env.types import OrchError

from_option = click.option(
    "--from",
    "source",
    nargs=2,
    required=True,
    metavar="cache DB",
    help="What to read: `cache DB`, a cache file or a bundled data set's name.",
)
traces_option = click.option(
    "--traces",
    type=click.Path(),
    help="Recorded tasks on that cache (JSON Lines): they show which output feeds which argument.",
)
hints_option = click.option(
    "--hints",
    type=click.Path(),
    help="Words for the API (YAML); see examples/synthesis/booking.yaml.",
)


class RangeType(click.ParamType[Any]):
    """``3``, or ``2:6`` for at least 2 and at most 6."""

    name = "N or A:B"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        low, colon, high = str(value).partition(":")
        try:
            found = (int(low), int(high if colon else low))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor a range such as 2:6", param, ctx)
        if not 0 <= found[0] <= found[1]:
            self.fail(f"{value!r}: the least comes first", param, ctx)
        return found


RANGE = RangeType()


def cache_of(source: tuple[str, str]) -> str:
    """The cache that ``--from`` names.

    Raises:
        OrchError: it names something else.
    """
    kind, name = source
    if kind == "cache":
        return name
    if kind in ("servers", "mcp"):
        raise OrchError(
            f"--from {kind} is not there yet: record the tools' answers into a cache, and use "
            "--from cache DB"
        )
    raise OrchError(f"--from takes `cache DB`, got `{kind} {name}`")
