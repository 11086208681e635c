"""``orch doctor``: what this installation can do, and what to install for the rest.

A check is required (it decides ``ok`` and the exit code) or optional (it names what it enables).
Packages are looked up by their metadata; torch alone is imported, to ask it for devices.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from orch_env.cli.output import json_option


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        ok: whether it is in order.
        required: whether ``orch`` as a whole depends on it.
        detail: what was found, and what to do if it is not in order.
    """

    name: str
    ok: bool
    required: bool
    detail: str


# package -> (required, what it is for, how to get it)
PACKAGES: dict[str, tuple[bool, str, str]] = {
    "gymnasium": (True, "the environment", "orch-rl"),
    "sqlalchemy": (True, "the cache", "orch-rl"),
    "msgpack": (True, "the cache", "orch-rl"),
    "scipy": (True, "the graduated reward", "orch-rl"),
    "torch": (False, "training", "orch-rl[train]"),
    "transformers": (False, "training", "orch-rl[train]"),
    "ray": (False, "distributed rollouts", "orch-rl[train]"),
    "tensorboard": (False, "TensorBoard logs", "orch-rl[train]"),
    "vllm": (False, "fast rollouts on GPUs (an engine of its own issue)", "orch-rl[vllm]"),
}


def _python() -> Check:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    return Check("python", good, True, version if good else f"{version}; needs 3.11 or newer")


def _package(name: str) -> Check:
    required, purpose, extra = PACKAGES[name]
    try:
        return Check(name, True, required, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, required, f"needed for {purpose}: pip install '{extra}'")


def _devices() -> Check:
    try:
        torch = importlib.import_module("torch")
    except ImportError as problem:
        return Check("devices", False, False, f"torch cannot be imported: {problem}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
        return Check("devices", True, False, f"{count} CUDA device(s): {names}")
    return Check("devices", True, False, f"CPU only, {os.cpu_count()} cores")


def _memory() -> Check:
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    if any(name not in os.sysconf_names for name in names):
        return Check("memory", True, False, "size unknown on this system")
    gib = os.sysconf(names[0]) * os.sysconf(names[1]) / 2**30
    hint = "" if gib >= 4 else "; the quick start wants about 4 GiB"
    return Check("memory", gib >= 4, False, f"{gib:.1f} GiB{hint}")


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("shared memory", True, False, "no /dev/shm; Ray uses a temporary folder")
    free = shutil.disk_usage(path).free / 2**30
    return Check("shared memory", free >= 0.5, False, f"{free:.1f} GiB free in /dev/shm for Ray")


def _temporary_files() -> Check:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"orch")
    except OSError as problem:
        return Check("temporary files", False, True, f"cannot write: {problem}; set TMPDIR")
    return Check("temporary files", True, True, tempfile.gettempdir())


def _bundled_world() -> Check:
    from orch_env.cache import open_cache
    from orch_env.tasks import bundled, load_tasks
    from orch_env.types import OrchError

    path = bundled("harbour", "cache")
    if path is None:
        return Check("bundled world", False, True, "harbour's cache is missing: reinstall orch-rl")
    try:
        tasks = load_tasks("harbour")
        report = open_cache(path).verify()
    except OrchError as problem:
        return Check("bundled world", False, True, str(problem))
    if not report["ok"]:
        return Check("bundled world", False, True, f"damaged: {report['problems'][0]}")
    return Check("bundled world", True, True, f"harbour: {len(tasks)} tasks, cache verified")


def run_checks() -> list[Check]:
    """Run every check, in the order in which a person would fix them."""
    steps: list[Callable[[], Check]] = [_python]
    steps += [lambda name=name: _package(name) for name in PACKAGES]  # type: ignore[misc]
    steps += [_devices, _memory, _shared_memory, _temporary_files, _bundled_world]
    return [step() for step in steps]


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check this installation and say what is missing.

    Exit code 0 if everything required is in order, else 1. Optional parts are listed with the
    command that installs them.
    """
    import json

    checks = run_checks()
    ok = all(c.ok for c in checks if c.required)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [asdict(c) for c in checks]}))
        return 0 if ok else 1
    width = max(len(c.name) for c in checks)
    for check in checks:
        word, colour = (
            ("ok", "green") if check.ok else ("FAIL", "red") if check.required else ("--", "yellow")
        )
        click.echo(
            f"  {click.style(f'{word:<4}', fg=colour)}  {check.name:<{width}}  {check.detail}"
        )
    click.echo("ready" if ok else "not ready: mend the lines marked FAIL", err=not ok)
    return 0 if ok else 1
