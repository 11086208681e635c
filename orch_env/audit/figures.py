"""Figures of the reward checks. matplotlib is imported only when a figure is drawn."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.tasks.files import write_whole
from orch_env.types import OrchError

if TYPE_CHECKING:
    from orch_env.audit.compare import CompareReport
    from orch_env.audit.report import AttackReport, Cell

BLUE, RUST, INK, PALE = "#3566a8", "#b0602f", "#1c1e21", "#f7f5f1"
"""Colours: agreement or honest pay, what is suspicious, text, and values near 0."""


def draw_attack(report: AttackReport, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw exploits by rewards: what each reward pays, as a share of what it pays for gold.

    Raises:
        OrchError: matplotlib is not installed, or the file cannot be written.
    """
    figure_class, colour_map = _matplotlib()
    rewards = report.rewards
    exploits = [e for e in report.exploits if any((r, e.name) in report.cells for r in rewards)]
    honest = colour_map("honest", [PALE, BLUE])
    suspicious = colour_map("suspicious", [PALE, "#e8cdb5", RUST])
    figure = figure_class(figsize=(2.6 + 1.35 * len(rewards), 0.3 * len(exploits) + 1.5))
    axis = figure.add_subplot()
    shares = [[_share(report.cells.get((r, e.name))) for r in rewards] for e in exploits]
    references = [not e.kind.is_exploit for e in exploits]
    axis.imshow(
        [
            [(honest if reference else suspicious)(share) for share in row]
            for row, reference in zip(shares, references, strict=True)
        ],
        aspect="auto",
    )
    for row, exploit in enumerate(exploits):
        for column, reward in enumerate(rewards):
            cell = report.cells.get((reward, exploit.name))
            caught = cell is not None and cell.not_below_gold > 0 and not references[row]
            axis.text(
                column, row, _label(cell, references[row]),
                ha="center", va="center", fontsize=8, weight="bold" if caught else "normal",
                color="white" if shares[row][column] > 0.7 else INK,
            )  # fmt: skip
    axis.set_xticks(range(len(rewards)), rewards)
    axis.set_yticks(range(len(exploits)), [e.name.replace("_", " ") for e in exploits])
    _draw_lines_between_kinds(axis, [e.kind.value for e in exploits])
    axis.xaxis.tick_top()
    _hide_frame(axis)
    figure.suptitle(
        f"{title + ': ' if title else ''}mean reward over {report.tasks} tasks\n"
        "colour: share of what gold earns   ·   * share of tasks where it earns as much as gold, "
        "or more",
        fontsize=9,
    )
    _save(figure, path)


def draw_comparison(report: CompareReport, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw two matrices of Kendall's tau-b: over all episodes, and within groups.

    Raises:
        OrchError: matplotlib is not installed, or the file cannot be written.
    """
    figure_class, colour_map = _matplotlib()
    names = report.rewards
    side = 1.6 + 0.8 * len(names)
    figure = figure_class(figsize=(2 * side, side + 0.6))
    panels = (("all pairs of episodes", False), ("pairs within groups", True))
    for number, (what, within) in enumerate(panels, start=1):
        axis = figure.add_subplot(1, 2, number)
        taus = [[_tau(report, a, b, within) for b in names] for a in names]
        axis.imshow(
            [[0.0 if t is None else t for t in row] for row in taus],
            cmap=colour_map("tau", [RUST, PALE, BLUE]), vmin=-1, vmax=1,
        )  # fmt: skip
        for row, values in enumerate(taus):
            for column, tau in enumerate(values):
                text = "-" if tau is None else f"{tau:.2f}"
                dark = tau is not None and abs(tau) > 0.7
                axis.text(column, row, text, ha="center", va="center", fontsize=9,
                          color="white" if dark else INK)  # fmt: skip
        axis.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axis.set_yticks(range(len(names)), names if number == 1 else [])
        axis.set_title(what, fontsize=9)
        _hide_frame(axis)
    figure.suptitle(
        f"{title + ': ' if title else ''}rank agreement (Kendall's tau-b), "
        f"{report.episodes} episodes in {report.groups} groups",
        fontsize=9,
    )
    _save(figure, path)


def require_matplotlib() -> None:
    """Check, before long work, that its figure can be drawn.

    Raises:
        OrchError: matplotlib is not installed.
    """
    _matplotlib()


def _share(cell: Cell | None) -> float:
    if cell is None or cell.gold_mean <= 0:
        return 0.0
    return min(1.0, max(0.0, cell.mean / cell.gold_mean))


def _label(cell: Cell | None, reference: bool) -> str:
    if cell is None:
        return "-"
    if reference or not cell.not_below_gold:
        return f"{cell.mean:.2f}"
    return f"{cell.mean:.2f}  *{cell.not_below_gold:.0%}"


def _tau(report: CompareReport, first: str, second: str, within: bool) -> float | None:
    if first == second:
        return 1.0
    found = report.between(first, second)
    return (found.within if within else found.overall).tau


def _draw_lines_between_kinds(axis: Any, kinds: Sequence[str]) -> None:
    for row in range(1, len(kinds)):
        if kinds[row] != kinds[row - 1]:
            axis.axhline(row - 0.5, color=INK, lw=1)


def _hide_frame(axis: Any) -> None:
    axis.tick_params(length=0, labelsize=9)
    for side in axis.spines.values():
        side.set_visible(False)


def _matplotlib() -> tuple[Any, Any]:
    """The figure class (no window, no global state), and the function that makes colour maps."""
    try:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
    except ModuleNotFoundError as problem:
        raise OrchError(
            f"drawing needs the package {problem.name!r}: pip install 'orch-rl[eval]'"
        ) from problem
    return Figure, LinearSegmentedColormap.from_list


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a PNG through a temporary file and a rename."""
    drawn = io.BytesIO()
    figure.tight_layout()
    figure.savefig(drawn, format="png", dpi=130)
    write_whole(drawn.getvalue(), Path(path))
