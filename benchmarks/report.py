"""What every benchmark report says of itself (machine, versions, commit), and how it is written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "ray", "gymnasium", "numpy")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    # The offline kit has no repository, and says what it was built from; the folder that it runs in
    # may lie in a repository of something else.
    given = os.environ.get("ORCH_COMMIT")
    commit = given if given is not None else _git("rev-parse", "HEAD")
    dirty = _git("status", "--porcelain", "-uno") if given is None else given.endswith("-dirty")
    cpus = Path("/proc/cpuinfo")
    names = [x for x in cpus.read_text().splitlines() if "model name" in x] if cpus.exists() else []
    return {
        "cpu": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "gpu": _gpu(),
        "commit": commit.removesuffix("-dirty") or None,
        "uncommitted_changes": bool(dirty),
    }


def _git(*arguments: str) -> str:
    """What git prints; empty where there is no git or no repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _gpu() -> str | None:
    """The CUDA device, for benchmarks that use torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # Ray, in the offline kit


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
