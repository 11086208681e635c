"""Draws the picture of an episode in README.md: ``python -m tools.episode_picture``.

A bundled task is played as its recording says. Arrows show where each argument's value was first
seen, and the last column what the reward says.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

from orch_env import ToolOrchestrationEnv

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "episode.svg"
TASK = "unloading-train-000"

COLUMN, BOX, LINE, TOP = 172, 148, 17, 74
STYLE = """
    .box { fill: #ffffff; stroke: #5b6b82; rx: 6 }
    .said { fill: #e3edfb; stroke: #3566a8; rx: 6 }
    .head { fill: #55617a; font: 13px Helvetica, Arial, sans-serif }
    .t { fill: #1c2430; font: bold 13px Helvetica, Arial, sans-serif }
    .n { fill: #1c2430; font: 13px Helvetica, Arial, sans-serif }
    .c { fill: #1c2430; font: 11.5px Menlo, Consolas, monospace }
    .r { fill: #1f7a4d; font: 11.5px Menlo, Consolas, monospace }
    .a { stroke: #3566a8; stroke-width: 1.6; fill: none; marker-end: url(#tip) }
    .q { stroke: #9aa5b8; stroke-width: 1.3; fill: none; marker-end: url(#grey) }
"""


@dataclass(frozen=True)
class Box:
    """Lines of text (class, text) in a column; ``y`` is the upper edge, in pixels."""

    column: int
    y: int
    lines: tuple[tuple[str, str], ...]
    kind: str = "box"

    @property
    def x(self) -> int:
        """The left edge."""
        return 12 + self.column * COLUMN

    @property
    def height(self) -> int:
        """Pixels from edge to edge."""
        return 14 + LINE * len(self.lines)

    def draw(self) -> str:
        """The box as SVG."""
        rows = [
            f'<text class="{kind}" x="{self.x + 9}" y="{self.y + 19 + LINE * n}">'
            f"{escape(text, quote=False)}</text>"
            for n, (kind, text) in enumerate(self.lines)
        ]
        edge = f'class="{self.kind}" x="{self.x}" y="{self.y}" width="{BOX}" height="{self.height}"'
        return "\n".join([f"<rect {edge}/>", *rows])


def arrow(start: Box, end: Box, line: int, kind: str, from_line: int) -> str:
    """A curve from a line of one box to a line of a box further right."""
    x1, y1 = start.x + BOX, start.y + 15 + LINE * from_line
    x2, y2 = end.x - 2, end.y + 15 + LINE * line
    bend = (x2 - x1) // 2
    path = f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    return f'<path class="{kind}" d="{path}"/>'


def picture() -> str:
    """The SVG: the same bytes each time."""
    env = ToolOrchestrationEnv("harbour")
    env.reset(seed=0, options={"task_id": TASK})
    task = env.task
    assert task is not None
    for step in task.gold:
        calls = [{"function": {"name": c.name, "arguments": c.arguments}} for c in step]
        env.step_message({"role": "assistant", "content": "", "tool_calls": calls})
    env.step("Unloaded.")
    episode = env.episode
    assert episode is not None and episode.reward is not None

    asked = textwrap.wrap(task.query, 19)
    question = Box(0, TOP, (("t", "user"), *(("n", line) for line in asked)), "said")
    boxes: list[Box] = []
    for turn, played in enumerate(episode.turns[:-1]):
        y = TOP
        for exchange in played.exchanges:
            arguments = exchange.call.arguments or {}
            sent = [("c", f"{name}: {value}") for name, value in arguments.items()]
            lines = (("t", exchange.call.name), *sent, ("r", exchange.result.text))
            boxes.append(Box(1 + turn, y, lines))
            y += boxes[-1].height + 26

    arrows = []
    for call, box in zip(task.gold_calls, boxes, strict=True):
        for line, pointer in enumerate(call.arguments, 1):
            source = call.provenance[f"/{pointer}"]
            if source.call is None:
                arrows.append(arrow(question, box, line, "q", len(asked)))
            else:
                producer = boxes[source.call]
                arrows.append(arrow(producer, box, line, "a", len(producer.lines) - 1))

    last = len(episode.turns)
    paid = [
        ("c", f"call {n}: +{account.credit:.2f}") for n, account in enumerate(episode.reward.calls)
    ]
    answer = Box(last, TOP, (("t", "answer"), ("n", episode.final or "")), "said")
    reward = Box(
        last,
        TOP + answer.height + 26,
        (("t", f"reward {episode.reward.total:.2f}"), *paid),
        "said",
    )
    heads = ["the task", *(f"message {n}" for n in range(1, last)), "the end"]
    every = [question, *boxes, answer, reward]
    width = 12 + COLUMN * last + BOX + 12
    height = max(box.y + box.height for box in every) + 14
    tips = "".join(
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="{colour}"/></marker>'
        for name, colour in (("tip", "#3566a8"), ("grey", "#9aa5b8"))
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f"<title>An episode of {TASK}: calls, where their values come from, reward</title>",
        f"<style>{STYLE}</style><defs>{tips}</defs>",
        f'<rect width="{width}" height="{height}" fill="#f6f7f9" rx="10"/>',
        '<text class="n" x="14" y="28">Each message may make several calls at once. '
        "Arrows: where a value was first seen (grey: in the request, blue: in a result).</text>",
        *(
            f'<text class="head" x="{14 + COLUMN * n}" y="{TOP - 14}">{head}</text>'
            for n, head in enumerate(heads)
        ),
        *arrows,
        *(box.draw() for box in every),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE.name)
