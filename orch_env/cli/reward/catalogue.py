"""``orch reward list`` and ``orch reward show``: what rewards there are, and what they are made of.

The hard decision: nothing is written here about any reward; all of it is read from the catalogue
(:mod:`orch_env.rewards.presets.catalogue`), which tests hold against what the rewards report.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.output import json_option
from orch_env.types import OrchError

if TYPE_CHECKING:
    from orch_env.rewards import Preset

_WIDTH = 100
_MIX = {
    "name": "mix",
    "range": "as its parts",
    "summary": "a weighted sum of rewards and of their components",
    "source": "ours",
}
_OWN = {
    "name": "module:function",
    "range": "as it returns",
    "summary": "a function (task, episode) of your own",
    "source": "yours",
}


@click.command(name="list")
@json_option
def list_rewards(as_json: bool) -> None:
    r"""List the rewards: name, range, what each pays for, source.

    \b
    Examples:
      orch reward list
      orch reward show graduated
      orch reward list --json
    """
    from orch_env.rewards import PRESETS

    if as_json:
        rows = [_head(name, preset) for name, preset in PRESETS.items()]
        click.echo(json.dumps({"rewards": rows}, ensure_ascii=False, allow_nan=False))
        return
    table = [
        [name, _range(*preset.range), preset.summary, preset.source]
        for name, preset in PRESETS.items()
    ]
    table += [list(row.values()) for row in (_MIX, _OWN)]
    for line in _aligned(["name", "range", "pays for", "source"], table):
        click.echo(line)


@click.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    r"""Show what the reward NAME is made of: components, equations, ranges, sources, options.

    \b
    Examples:
      orch reward show prove
      orch reward show mix
      orch reward show graduated --json
    """
    from orch_env.rewards import PRESETS
    from orch_env.rewards.presets.catalogue import nearest

    known = [*PRESETS, "mix"]
    if name not in known:
        raise OrchError(
            f"there is no reward {name!r}{nearest(name, known)}; the names are {', '.join(known)}"
        )
    record = _mix() if name == "mix" else _whole(name, PRESETS[name])
    if as_json:
        click.echo(json.dumps(record, ensure_ascii=False, allow_nan=False))
        return
    span = _MIX["range"] if name == "mix" else _range(*PRESETS[name].range)
    click.secho(f"{name}  {span}", bold=True)
    for line in _described(record):
        click.echo(line)


def _head(name: str, preset: Preset) -> dict[str, Any]:
    return {
        "name": name,
        "range": _finite(*preset.range),
        "summary": preset.summary,
        "source": preset.source,
    }


def _whole(name: str, preset: Preset) -> dict[str, Any]:
    defaults = {option: setting.default for option, setting in preset.options.items()}
    return {
        **_head(name, preset),
        "equation": preset.equation,
        "symbols": preset.symbols,
        "components": [
            {
                "name": part.name,
                "range": _finite(part.low, part.high),
                "equation": part.equation,
                "source": part.source,
            }
            for part in preset.components
        ],
        "options": [
            {"name": option, "default": setting.default, "about": setting.about}
            for option, setting in preset.options.items()
        ],
        "example": {"name": name, **defaults},
    }


def _mix() -> dict[str, Any]:
    from orch_env.rewards.build.mix import EXAMPLE

    scheduled = {**EXAMPLE["components"], "my_rewards:politeness": [[0, 0.2], [100, 0.0]]}
    return {
        "name": "mix",
        "range": [None, None],
        "summary": _MIX["summary"],
        "source": _MIX["source"],
        "equation": "sum over keys of weight * value",
        "symbols": "value: as the reward reports it, neither clipped nor rescaled",
        "components": [],
        "options": [
            {
                "name": "components",
                "default": None,
                "about": "key -> weight; a key is PRESET, PRESET.COMPONENT or module:function, a "
                "weight is a number or [[step, value], ...] by training step",
            },
            {"name": "options", "default": {}, "about": "preset or module:function -> its options"},
            {
                "name": "attribute",
                "default": False,
                "about": "split the total over the turns (one scoring per turn more)",
            },
        ],
        "example": {**EXAMPLE, "components": scheduled},
    }


def _described(record: dict[str, Any]) -> Iterator[str]:
    """A reward's record for people, below its name."""
    yield from _wrapped(f"{record['summary']} ({record['source']})")
    yield from _wrapped(f"total = {record['equation']}")
    if record["symbols"]:
        yield from _wrapped(record["symbols"])
    if record["components"]:
        yield ""
        rows = [
            [part["name"], _shown_range(*part["range"]), part["equation"], part["source"]]
            for part in record["components"]
        ]
        yield from _aligned(["component", "range", "equation", "source"], rows)
    if record["options"]:
        yield ""
        rows = [
            [option["name"], json.dumps(option["default"]), option["about"]]
            for option in record["options"]
        ]
        yield from _aligned(["option", "default", "about"], rows)
    yield ""
    yield "example, as a configuration's environment.env_config.reward or in --reward:"
    yield f"  {json.dumps(record['example'])}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _aligned(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell, the last one ragged; only the head is bold."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for number, row in enumerate([head, *rows]):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  " + "  ".join(cells).rstrip()
        yield line if number else click.style(line, bold=True)


def _finite(low: float, high: float) -> list[float | None]:
    """A range for JSON, which has no infinity."""
    return [end if math.isfinite(end) else None for end in (low, high)]


def _range(low: float, high: float) -> str:
    return _shown_range(*_finite(low, high))


def _shown_range(low: float | None, high: float | None) -> str:
    return f"{'-inf' if low is None else f'{low:g}'}..{'inf' if high is None else f'{high:g}'}"
