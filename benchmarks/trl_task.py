"""The work that both sides of the TRL comparison do, and the job that describes a run.

Nothing but the standard library: this file is read in both environments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Job:
    """One run of one side.

    Attributes:
        model: folder with model and tokenizer.
        prompts: prompts of a step; every step has the same ones.
        group_size: completions of a prompt.
        new_tokens: tokens of a completion, always as many.
        steps: training steps.
        lr: learning rate, constant.
        threads: compute threads of the process.
        seed: of the sampling.
    """

    model: str
    prompts: int
    group_size: int
    new_tokens: int
    steps: int
    lr: float
    threads: int
    seed: int

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job file."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Write a job file."""
        path.write_text(json.dumps(asdict(self)))


def prompt(letter: str) -> list[dict[str, str]]:
    """The chat of one task."""
    return [{"role": "user", "content": f"Write the letter {letter}."}]


def reward(text: str) -> float:
    """Share of the digits below five: about 0.5 at first, graded, and soon learned."""
    digits = [c for c in text if c.isdigit()]
    return sum(c < "5" for c in digits) / max(len(digits), 1)


def write_steps(path: Path, steps: list[dict[str, float]], versions: dict[str, str]) -> None:
    """What a side has measured, with the most memory that its process ever held, in bytes."""
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    report: dict[str, Any] = {
        "steps": steps,
        "peak_bytes": int(peak.split()[1]) * 1024,
        "versions": versions,
    }
    path.write_text(json.dumps(report))
