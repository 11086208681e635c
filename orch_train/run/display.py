"""What a person sees while a run goes on: a live panel, or one plain line per step.

The algorithm only tells an `Observer` what happens; whether and how that is shown is decided
here. The hard decision: everything goes to stderr and nothing to stdout, which belongs to the
result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from orch_train.sampling.observer import Observer, SilentObserver

if TYPE_CHECKING:
    from rich.console import Console

    from orch_train.trajectory.sample import Group

PHASES = {
    "idle_learner": "wait",
    "generate": "generate",
    "env": "env",
    "learner_update": "learn",
    "synch_weights": "sync",
    "evaluation": "evaluate",
}
"""Timers that add up to a step -> what they are called on the screen."""


class Display(Observer, Protocol):
    """An observer that also shows results; used as a context manager around a run."""

    def show(self, result: Mapping[str, Any]) -> None:
        """A training step is done."""
        ...

    def note(self, text: str) -> None:
        """Say something between steps."""
        ...

    def __enter__(self) -> Display:
        """Begin to draw."""
        ...

    def __exit__(self, *problem: object) -> None:
        """Stop drawing."""
        ...


class PlainDisplay(SilentObserver):
    """One line per training step, for logs and pipes.

    Args:
        iterations: training steps of the run, for the remaining time.
        stream: where lines go; stderr by default.
    """

    def __init__(self, iterations: int, stream: TextIO | None = None) -> None:
        self._iterations = iterations
        self._stream = stream if stream is not None else sys.stderr

    def show(self, result: Mapping[str, Any]) -> None:
        """Print the step's line, and one for its evaluation if there was one."""
        self.note(step_line(result, self._iterations))
        if result.get("evaluation"):
            self.note("  held out: " + evaluation_line(result["evaluation"]))

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *problem: object) -> None:
        return None


class LiveDisplay:
    """A panel that is redrawn in place: progress of the step, results so far, time by phase.

    Args:
        iterations: training steps of the run.
        console: where to draw; stderr by default.
    """

    def __init__(self, iterations: int, console: Console | None = None) -> None:
        from rich.console import Console as NewConsole
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._iterations = iterations
        self._console = console or NewConsole(stderr=True)
        self._expected = 0
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
        )
        self._run = self._bars.add_task("run", total=iterations, unit="steps")
        self._step = self._bars.add_task("starting", total=None, unit="")
        self._last: Mapping[str, Any] | None = None
        self._evaluation = ""
        self._rewards: list[float] = []
        self._live = Live(
            get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show the part of the step that runs."""
        self._bars.remove_task(self._step)
        self._step = self._bars.add_task(name, total=None, unit="")
        self._expected = 0
        yield

    def expect(self, groups: int) -> None:
        """Lengthen the bar."""
        self._expected += groups
        self._bars.update(self._step, total=self._expected, unit="groups")

    def sampled(self, group: Group) -> None:
        """Advance the bar."""
        self._bars.advance(self._step)

    def learned(self, done: int, total: int) -> None:
        """Advance the bar."""
        self._bars.update(self._step, completed=done, total=total, unit="tokens")

    def show(self, result: Mapping[str, Any]) -> None:
        """Take over a step's result."""
        self._last = result
        self._rewards.append(result["env_runners"]["episode_return_mean"])
        if result.get("evaluation"):
            self._evaluation = evaluation_line(result["evaluation"])
            self.note(f"step {result['training_iteration']}: held out: {self._evaluation}")
        self._bars.update(self._run, completed=result["training_iteration"])

    def note(self, text: str) -> None:
        """Print a line above the panel."""
        self._console.print(text, highlight=False, markup=False)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._live.stop()
        if self._last is not None:
            self.note(step_line(self._last, self._iterations))

    def _render(self) -> Any:
        from rich.console import Group as Stack
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        # Texts and no markup: a line that is printed without markup redraws the panel, too.
        table = Table.grid(padding=(0, 2))
        if self._last is not None:
            for name, value in _panel_rows(self._last, self._iterations, self._rewards):
                table.add_row(Text(name, style="bold"), Text(value))
        if self._evaluation:
            table.add_row(Text("held out", style="bold"), Text(self._evaluation))
        return Panel(Stack(self._bars, table), title="GRPO", title_align="left")


def make_display(iterations: int) -> Display:
    """The live panel on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        return LiveDisplay(iterations)
    return PlainDisplay(iterations)


def step_line(result: Mapping[str, Any], iterations: int) -> str:
    """A step in one line."""
    sampled, learned = result["env_runners"], result["learners"]["default_policy"]
    step = result["training_iteration"]
    parts = [
        f"step {step}/{iterations}",
        f"reward {sampled['episode_return_mean']:.3f}",
        f"success {sampled['success']:.2f}",
        f"turns {sampled['episode_len_mean']:.1f}",
        f"grad {learned.get('grad_norm', 0.0):.2g}",
        f"{sampled['tokens_per_s']:.0f} tok/s",
        time_split(result["timers"]),
        f"left {duration(_remaining(result, iterations))}",
    ]
    return "  ".join(parts)


def evaluation_line(evaluation: Mapping[str, Any]) -> str:
    """Held-out numbers in one line: the first pass, and greedy beside it."""
    names = {
        "success": "success",
        "reward_mean": "reward",
        "call_accuracy": "calls",
        "turn_accuracy": "turns",
    }
    parts = [f"{text} {evaluation[key]:.3f}" for key, text in names.items() if key in evaluation]
    parts[0] = " ".join([parts[0], *_rate_texts(evaluation)])
    greedy = evaluation.get("greedy")
    if greedy and greedy["success"] != evaluation.get("success"):
        parts.append(f"(greedy success {greedy['success']:.3f})")
    return "  ".join([*parts, f"n {evaluation['n']}"])


def _rate_texts(evaluation: Mapping[str, Any]) -> list[str]:
    """The interval of success, and pass@k for the k above 1."""
    texts = []
    for key, rate in evaluation.items():
        kind, _, number = key.partition("_at_")
        if kind == "avg":
            texts.append(f"[{rate['low']:.2f}, {rate['high']:.2f}]")
        elif kind == "pass" and int(number) > 1:
            interval = f"[{rate['low']:.2f}, {rate['high']:.2f}]"
            texts.append(f" pass@{number} {rate['mean']:.3f} {interval}")
    return texts


def time_split(timers: Mapping[str, float]) -> str:
    """Where a step's time went, largest first: ``learn 61% generate 37% ...``."""
    known = {text: timers.get(key, 0.0) for key, text in PHASES.items()}
    total = sum(known.values()) or 1.0
    shares = sorted(known.items(), key=lambda item: -item[1])
    return " ".join(f"{name} {value / total:.0%}" for name, value in shares if value > 0) or "-"


def duration(seconds: float) -> str:
    """``1h02m``, ``3m20s`` or ``12s``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def sparkline(values: list[float], width: int = 40) -> str:
    """The last values as a row of bars, scaled to their own range."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    bars = "▁▂▃▄▅▆▇█"
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] for value in shown)


def _remaining(result: Mapping[str, Any], iterations: int) -> float:
    step = int(result["training_iteration"])
    return float(result["time_total_s"]) / step * max(0, iterations - step)


def _panel_rows(
    result: Mapping[str, Any], iterations: int, rewards: list[float]
) -> list[tuple[str, str]]:
    sampled, learned = result["env_runners"], result["learners"]["default_policy"]
    groups, faults = sampled["groups"], result["fault_tolerance"]
    reward = sampled["episode_return_mean"]
    rows = [
        ("reward", f"{reward:.3f}  {sparkline(rewards)}  ({sampled['success']:.1%} success)"),
        (
            "episodes",
            f"{sampled['num_episodes']} of {sampled['episode_len_mean']:.1f} turns; "
            f"{groups['zero_variance']} of {sampled['num_groups']} groups without spread",
        ),
        (
            "policy",
            f"gradient {learned.get('grad_norm', 0.0):.3g}, entropy "
            f"{learned.get('entropy', 0.0):.3g}, mismatch KL {learned.get('mismatch_kl', 0.0):.2g}",
        ),
        (
            "speed",
            f"{sampled['tokens_per_s']:.0f} tokens/s sampled, "
            f"{learned.get('tokens_per_s', 0.0):.0f} learned",
        ),
        ("time", time_split(result["timers"])),
        ("left", duration(_remaining(result, iterations))),
    ]
    if stale := result.get("staleness"):
        rows.insert(
            3, ("staleness", f"{stale['mean']:.2f} weight versions, at most {stale['max']}")
        )
    if faults["num_groups_reissued"] or faults["num_env_runner_restarts"]:
        restarts, again = faults["num_env_runner_restarts"], faults["num_groups_reissued"]
        rows.append(("faults", f"{restarts} runners restarted, {again} groups sampled again"))
    return rows


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed seconds."""
        return time.perf_counter() - self._started
