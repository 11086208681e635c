"""``orch reward list`` and ``orch reward show``: the rewards, and what each is made of.

What is printed about a preset comes from :mod:`orch_env.rewards.presets.catalogue`, which tests
compare with what the rewards report.
"""

from __future__ import annotations

import json
import math
import textwrap
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.output import emit, json_option, say, table
from orch_env.types import OrchError
from orch_env.types.text import did_you_mean

if TYPE_CHECKING:
    from orch_env.rewards import Preset

_WIDTH = 100
_MIX = ("mix", "as its parts", "a weighted sum of rewards and of their components", "ours")
_OWN = ("module:function", "as it returns", "a function (task, episode) of your own", "yours")


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
        emit({"rewards": [_head(*item) for item in PRESETS.items()]}, as_json=True)
        return
    rows = [(name, _span(*p.range), p.summary, p.source) for name, p in PRESETS.items()]
    table(("name", "range", "pays for", "source"), [*rows, _MIX, _OWN])


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

    known = [*PRESETS, "mix"]
    if name not in known:
        hint = did_you_mean(name, known)
        raise OrchError(f"there is no reward {name!r}{hint}; the names are {', '.join(known)}")
    record = _mix() if name == "mix" else _record(name, PRESETS[name])
    if as_json:
        emit(record, as_json=True)
        return
    say(f"{name}  {_MIX[1] if name == 'mix' else _span(*PRESETS[name].range)}", bold=True)
    _show(record)


def _head(name: str, preset: Preset) -> dict[str, Any]:
    return {
        "name": name,
        "range": _finite(*preset.range),
        "summary": preset.summary,
        "source": preset.source,
    }


def _record(name: str, preset: Preset) -> dict[str, Any]:
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
    from orch_env.rewards.compose.mix import EXAMPLE

    scheduled = {**EXAMPLE["components"], "my_rewards:politeness": [[0, 0.2], [100, 0.0]]}
    return {
        "name": "mix",
        "range": [None, None],
        "summary": _MIX[2],
        "source": _MIX[3],
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


def _show(record: dict[str, Any]) -> None:
    """Print a reward's record for people, without its name."""
    paragraphs = (
        f"{record['summary']} ({record['source']})",
        f"total = {record['equation']}",
        record["symbols"],
    )
    for text in paragraphs:
        for line in textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    "):
            say(line)
    if record["components"]:
        say("")
        rows = [
            (part["name"], _span(*part["range"]), part["equation"], part["source"])
            for part in record["components"]
        ]
        table(("component", "range", "equation", "source"), rows)
    if record["options"]:
        say("")
        options = [(o["name"], json.dumps(o["default"]), o["about"]) for o in record["options"]]
        table(("option", "default", "about"), options)
    say("")
    say("example, as a configuration's environment.env_config.reward or in --reward:")
    say(f"  {json.dumps(record['example'])}")


def _finite(low: float, high: float) -> list[float | None]:
    """A range for JSON, which has no infinity."""
    return [end if math.isfinite(end) else None for end in (low, high)]


def _span(low: float | None, high: float | None) -> str:
    return f"{-math.inf if low is None else low:g}..{math.inf if high is None else high:g}"
