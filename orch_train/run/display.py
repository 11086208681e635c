"""What a person sees while a run goes on: a live panel, or one plain line per step.

Everything goes to stderr: stdout belongs to the result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

from orch_train.run.trace import PhaseRecorder

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


class PlainDisplay(PhaseRecorder):
    """One line per training step, for logs and pipes; a context manager around a run.

    Args:
        iterations: training steps of the run, for the remaining time.
        stream: where lines go; stderr by default.
    """

    def __init__(self, iterations: int, stream: TextIO | None = None) -> None:
        super().__init__()
        self._iterations = iterations
        self._stream = stream if stream is not None else sys.stderr

    def show(self, result: Mapping[str, Any]) -> None:
        """Show a step's result, and its evaluation if there was one."""
        self.note(step_line(result, self._iterations))
        if result.get("evaluation"):
            self.note("  held out: " + evaluation_line(result["evaluation"]))

    def note(self, text: str) -> None:
        """Print a line between steps."""
        print(text, file=self._stream, flush=True)

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *problem: object) -> None:
        return None


class LiveDisplay(PlainDisplay):
    """A panel that is redrawn in place: progress, the newest results, time by phase.

    Args:
        iterations: training steps of the run.
        console: where to draw; stderr by default.
    """

    def __init__(self, iterations: int, console: Console | None = None) -> None:
        from rich import progress
        from rich.console import Console as NewConsole
        from rich.live import Live

        super().__init__(iterations)
        self._console = console or NewConsole(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<9}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[unit]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            # A training step may take many minutes.
            speed_estimate_period=24 * 3600.0,
        )
        self._run = self._bars.add_task("run", total=iterations, unit="steps")
        self._step = self._bars.add_task("starting", total=None, unit="")
        self._last: Mapping[str, Any] | None = None
        self._evaluation = ""
        self._live = Live(
            get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show the part of the step that runs."""
        self._bars.remove_task(self._step)
        self._step = self._bars.add_task(name, total=None, unit="")
        with super().phase(name):
            yield

    def expect(self, groups: int) -> None:
        """Lengthen the bar."""
        total = (self._bars.tasks[-1].total or 0) + groups
        self._bars.update(self._step, total=total, unit="groups")

    def sampled(self, group: Group) -> None:
        """Advance the bar by a group."""
        self._bars.advance(self._step)

    def learned(self, done: int, total: int) -> None:
        """Set the bar to the tokens that were learned from."""
        self._bars.update(self._step, completed=done, total=total, unit="tokens")

    def show(self, result: Mapping[str, Any]) -> None:
        """Show a step's result in the panel, and its evaluation above it, too."""
        self._last = result
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
        rows = {} if self._last is None else _facts(self._last) | _details(self._last)
        if self._evaluation:
            rows["held out"] = self._evaluation
        for name, value in rows.items():
            table.add_row(Text(name, style="bold"), Text(value))
        return Panel(Stack(self._bars, table), title="GRPO", title_align="left")


def make_display(iterations: int) -> PlainDisplay:
    """The live panel on a terminal, plain lines elsewhere."""
    return LiveDisplay(iterations) if sys.stderr.isatty() else PlainDisplay(iterations)


def step_line(result: Mapping[str, Any], iterations: int) -> str:
    """A step in one line."""
    step = int(result["training_iteration"])
    left = float(result["time_total_s"]) / step * max(0, iterations - step)
    facts = {"step": f"{step}/{iterations}", **_facts(result), "left": duration(left)}
    return "  ".join(f"{name} {value}" for name, value in facts.items())


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
    """Hours, minutes and seconds: ``0:03:20``."""
    return str(timedelta(seconds=round(seconds)))


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    """What a person watches at every step; staleness and faults only where there are any."""
    sampled, learned = result["env_runners"], result["learners"]["default_policy"]
    facts = {
        "reward": f"{sampled['episode_return_mean']:.3f}",
        "success": f"{sampled['success']:.2f}",
        "turns": f"{sampled['episode_len_mean']:.1f}",
        "grad": f"{learned.get('grad_norm', 0.0):.2g}",
        "tok/s": f"{sampled['tokens_per_s']:.0f}",
        "time": time_split(result["timers"]),
    }
    if stale := result.get("staleness"):
        facts["staleness"] = f"{stale['mean']:.2f} (at most {stale['max']})"
    faults = result["fault_tolerance"]
    restarts, again = faults["num_env_runner_restarts"], faults["num_groups_reissued"]
    if restarts or again:
        facts["faults"] = f"{restarts} runners restarted, {again} groups sampled again"
    return facts


def _details(result: Mapping[str, Any]) -> dict[str, str]:
    """What the panel has room for besides."""
    sampled, learned = result["env_runners"], result["learners"]["default_policy"]
    flat = sampled["groups"]["zero_variance"]
    return {
        "groups": f"{flat} of {sampled['num_groups']} without spread",
        "policy": (
            f"entropy {learned.get('entropy', 0.0):.3g}, "
            f"mismatch KL {learned.get('mismatch_kl', 0.0):.2g}, "
            f"{learned.get('tokens_per_s', 0.0):.0f} tok/s learned"
        ),
    }
