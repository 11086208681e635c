"""What every benchmark report says of itself (machine, versions, commit), and how it is written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "ray", "gymnasium", "numpy")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True)
    cpus = Path("/proc/cpuinfo")
    names = [x for x in cpus.read_text().splitlines() if "model name" in x] if cpus.exists() else []
    return {
        "cpu": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        # Where there is no repository, the offline kit says what it was built from.
        "commit": commit.stdout.strip() or os.environ.get("ORCH_COMMIT") or None,
        "uncommitted_changes": bool(dirty.stdout.strip()),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # Ray, in the offline kit


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
