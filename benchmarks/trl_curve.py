"""The curve of docs/adapters/trl.md, from what `examples.trl_grpo` measured.

    python -m benchmarks.trl_curve curve.json

Writes benchmarks/results/trl_curve.json and docs/adapters/trl-curve.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.report import machine, write_report

RESULT = Path("benchmarks/results/trl_curve.json")
PICTURE = Path("docs/adapters/trl-curve.png")


def main() -> None:
    """Write the report and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curve", type=Path, help="what examples.trl_grpo wrote")
    measured = json.loads(parser.parse_args().curve.read_text())
    # TRL ran in another environment than this one.
    where = {**machine(), "packages": "constraints-adapters.txt"}
    write_report(RESULT, {"benchmark": "trl_curve", "machine": where, **measured})

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    trained, held_out = measured["trained"], measured["held_out"]
    steps = [row["step"] for row in trained]
    axes.plot(steps, [row["reward"] for row in trained], color="#9aa7b4", label="reward, training")
    done = [row["eval_rewards/success/mean"] for row in held_out]
    axes.plot(
        [row["step"] for row in held_out], done, "o-", color="#1f6feb", label="success, held-out"
    )
    for row, value in zip(held_out, done, strict=True):
        place = (row["step"], value)
        axes.annotate(f"{value:.3f}", place, (-3, 8), textcoords="offset points", ha="right")
    axes.set(xlabel="GRPO step of TRL", xlim=(-3, 31), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=120)
    print(f"wrote {RESULT} and {PICTURE}")


if __name__ == "__main__":
    main()
