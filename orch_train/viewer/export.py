"""One self-contained page of a run, for passing on: no server, no network, no other file.

It is the served page, with the answers it may ask for as JSON in a data block. Its policy allows
exactly the scripts and the style sheets that were put in (by hash) and no connection at all, so
that a mailed page can do nothing but show itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.run.metrics_file import plain
from orch_train.storage.run_folder import write_text
from orch_train.viewer.api import ViewerApi
from orch_train.viewer.rollout_queries import MAX_PAGE
from orch_train.viewer.run_data import RunData
from orch_train.viewer.run_list import RunList
from orch_train.viewer.server import PAGE, SCRIPTS, STYLES

MOST_RUNS = 8
"""Runs of a folder that fit into one page."""


def export_page(
    runs: Sequence[RunData] | RunList, out: Path, *, episodes: int = 200
) -> dict[str, Any]:
    """Write the page.

    Args:
        runs: one or two runs, or the runs of a folder, `MOST_RUNS` at most.
        out: the file; overwritten if it is there.
        episodes: trajectories of each run that are carried, with their tokens: its newest groups,
            as many whole ones as fit.

    Returns:
        ``{file, bytes, runs, episodes}``.

    Raises:
        OrchError: too many runs, the rollouts cannot be read, or the file cannot be written.
    """
    folder = None
    if isinstance(runs, RunList):
        folder = runs.overview()
        runs = runs.chosen([entry["name"] for entry in folder["runs"]])
        if len(runs) > MOST_RUNS:
            raise OrchError(
                f"{folder['path']!r} holds {len(runs)} runs, and a page holds {MOST_RUNS} at most: "
                "export one of them, or two"
            )
    api = ViewerApi(runs)
    carried = [_run(api, index, episodes) for index in range(len(api.runs))]
    data = {"runs": carried, "tasks": api.tasks({}), "folder": folder}
    text = _page(json.dumps(plain(data), ensure_ascii=True, allow_nan=False))
    write_text(out, text)
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "runs": [str(run.folder) for run in api.runs],
        "episodes": sum(len(run["rows"]) for run in carried),
    }


def _run(api: ViewerApi, index: int, episodes: int) -> dict[str, Any]:
    run, number = api.runs[index], str(index)
    overview = run.overview()
    rows = _newest(run, episodes) if run.rollouts.exists else []
    keys = {f"{r['step']}/{r['group']}/{r['member']}": _query(number, r) for r in rows}
    groups = {f"{r['step']}/{r['group']}": _query(number, r) for r in rows}
    return {
        "overview": overview,
        "history": api.history({"run": number}),
        "columns": run.metrics.columns(overview["metrics"]),
        "rows": rows,
        "episodes": {key: api.episode(query) for key, query in keys.items()},
        "tokens": {key: api.tokens(query) for key, query in keys.items()},
        "groups": {key: api.group(query) for key, query in groups.items()},
    }


def _newest(run: RunData, episodes: int) -> list[dict[str, Any]]:
    """The newest groups, whole, at most so many episodes."""
    rows: list[dict[str, Any]] = []
    while len(rows) <= episodes:
        page = run.rollouts.page(
            {}, sort="step", descending=True, offset=len(rows), limit=MAX_PAGE
        )["rows"]
        if not page:
            return rows
        rows += page
    cut = rows[episodes]
    kept = rows[:episodes]
    return [r for r in kept if (r["step"], r["group"]) != (cut["step"], cut["group"])]


def _query(run: str, row: dict[str, Any]) -> dict[str, str]:
    return {"run": run, **{name: str(row[name]) for name in ("step", "group", "member")}}


def _page(data: str) -> str:
    style, script = (
        "\n".join((PAGE / name).read_text(encoding="utf-8") for name in names)
        for names in (STYLES, SCRIPTS)
    )
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = (
        '<meta http-equiv="Content-Security-Policy" content="'
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'\">"
    )
    lines = page.split("\n")
    page = "\n".join(x for x in lines if "<script" not in x and "stylesheet" not in x)
    # "<" as an escape: no text of a run can end the data block.
    held = data.replace("<", "\\u003c")
    for mark, added in (
        ('<meta charset="utf-8">', policy),
        ("<title>orch view</title>", f"<style>{style}</style>"),
        ("</noscript>", f"<script>{script}</script>"),
        ("</noscript>", f'<script type="application/json" id="embedded">{held}</script>'),
    ):
        page = page.replace(mark, f"{mark}\n{added}", 1)
    return page


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
