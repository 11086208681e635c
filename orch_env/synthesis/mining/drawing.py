"""A picture of the dependency graph: layers from left to right, one arrow a pair of tools."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orch_env.synthesis.mining.graph import layers
from orch_env.synthesis.mining.mined import Link, Mined
from orch_env.types import OrchError

_WIDTH, _HEIGHT = 3.9, 0.42
"""Inches that a layer and a tool take."""
_BOX, _THICK = 2.3, 0.26
_COLOURS = 20


def draw_graph(
    mined: Mined, tools: Iterable[str], path: Path, domains: Mapping[str, str] | None = None
) -> None:
    """Draw the tools and their links.

    The width of an arrow grows with the traces that show it; dashed arrows carry weak values only.

    Args:
        mined: the links.
        tools: the tools to draw.
        path: where to; ``.svg`` or ``.png`` says in which format.
        domains: tool -> domain, for the colours.

    Raises:
        OrchError: the path has another ending.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise OrchError(f"cannot draw into {str(path)!r}: its name must end with .svg or .png")
    import matplotlib

    from orch_env.synthesis.mining.graph import domains as found_domains

    rows = layers(mined, tools)
    shown = [tool for row in rows for tool in row]
    of = domains if domains is not None else found_domains(mined, shown)
    with matplotlib.rc_context({"svg.hashsalt": "orch", "font.size": 8, "svg.fonttype": "path"}):
        figure = _figure(mined, rows, of)
        path.parent.mkdir(parents=True, exist_ok=True)
        nothing = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=nothing, bbox_inches="tight")


def _figure(mined: Mined, rows: list[list[str]], of: Mapping[str, str]) -> Any:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyBboxPatch

    tallest = max(map(len, rows), default=1)
    figure = Figure(figsize=(_WIDTH * max(len(rows), 1), _HEIGHT * tallest + 1.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    places = {
        tool: (_WIDTH * at, -_HEIGHT * (i + (tallest - len(row)) / 2))
        for at, row in enumerate(rows)
        for i, tool in enumerate(row)
    }
    names = sorted({of[tool] for tool in places})
    colour = {name: colormaps["tab20"](2 * i % 19) for i, name in enumerate(names)}
    for (one, other), links in sorted(_by_pair(mined.links).items()):
        if one in places and other in places and one != other:
            _arrow(axes, places[one], places[other], links, colour[of[one]])
    for tool, (x, y) in places.items():
        box = FancyBboxPatch(
            (x, y - _THICK / 2),
            _BOX,
            _THICK,
            boxstyle="round,pad=0.02",
            facecolor=[0.35 * part + 0.65 for part in colour[of[tool]][:3]],
            edgecolor=colour[of[tool]],
            zorder=3,
        )
        axes.add_patch(box)
        size = min(8.0, 8.0 * 34 / max(len(tool), 34))
        axes.text(x + _BOX / 2, y, tool, ha="center", va="center", zorder=4, fontsize=size)
    keys = [Line2D([], [], color=colour[name], lw=5, label=name) for name in names[:_COLOURS]]
    keys.append(Line2D([], [], color="grey", ls="--", label="weak values only"))
    axes.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False)
    axes.set_xlim(-0.2, _WIDTH * (len(rows) - 1) + _BOX + 0.2)
    axes.set_ylim(-_HEIGHT * tallest, _HEIGHT)
    return figure


def _by_pair(links: Iterable[Link]) -> dict[tuple[str, str], list[Link]]:
    pairs: dict[tuple[str, str], list[Link]] = defaultdict(list)
    for link in links:
        pairs[link.from_tool, link.to_tool].append(link)
    return pairs


def _arrow(
    axes: Any, start: tuple[float, float], end: tuple[float, float], links: list[Link], colour: Any
) -> None:
    from matplotlib.patches import FancyArrowPatch

    back, beside = end[0] < start[0], end[0] == start[0]
    support = max(link.support for link in links)
    arrow = FancyArrowPatch(
        (start[0] + (0 if back else _BOX), start[1]),
        (end[0] + (_BOX if back or beside else 0), end[1]),
        connectionstyle=f"arc3,rad={-0.35 if beside else 0.2 if back else 0.06}",
        arrowstyle="-|>",
        mutation_scale=7,
        linewidth=0.5 + 0.6 * math.log2(1 + support) / 2,
        linestyle="-" if any(link.strong for link in links) else "--",
        color=(*colour[:3], 0.45 if back else 0.8),
        zorder=1 if back else 2,
    )
    axes.add_patch(arrow)
