"""Whether the tests of the stateful servers notice a server that is wrong.

cosmic-ray lists what can be changed in the modules of a domain; a fixed seed draws ten such mutants
a server, first a place in the code and then a change at that place. Each mutant is put into a copy
of the working tree, where the contract suite and the tests of that server run. A mutant that no
test notices has survived; its change is shown.

    make mutants
    python -m tools.server_mutants --servers vehicle --count 30

Mutants that change no behaviour are equivalent and do not count: those of ``|`` in annotations are
never drawn, others are named in `EQUIVALENT` with the reason.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from orch_env.servers import SERVERS, server_names
from orch_env.types import OrchError

ROOT = Path(__file__).resolve().parents[1]
COSMIC_RAY = ROOT / ".venv-mutants/bin/cosmic-ray"
RESULTS = ROOT / "benchmarks/results/server_mutants.json"
COPIED = ("orch_env", "tests", "tools", "docs", "pyproject.toml")
SUITE = "tests/orch_env/servers"
PATIENCE, LEAST_S = 5, 30
"""A mutant hangs that takes so many times the processor's time of the unchanged server, and so many
seconds of it at least."""
EQUIVALENT = {
    (
        "@dataclass(frozen=True, slots=True)",
        "@dataclass(frozen=True, slots=False)",
    ): "slots save memory and change no behaviour",
    ("@cache", ""): "a cache of a pure function saves time and changes no result",
}
"""(what was there, what is there instead) -> why the two do the same."""


@dataclass(frozen=True, order=True)
class Mutant:
    """One change that cosmic-ray can make to a module, and where."""

    module: str
    start: tuple[int, int]
    end: tuple[int, int]
    operator: str
    occurrence: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and run the mutants, print a table, and write the JSON."""
    given = _arguments(arguments)
    report: dict[str, Any] = {"seed": given.seed, "servers": {}}
    print(f"{'server':<12}{'mutants':>8}{'killed':>8}{'survived':>10}{'equivalent':>12}{'s':>8}")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        tree = _copy(Path(folder))
        for server in given.servers:
            began = time.monotonic()
            try:
                results = report["servers"][server] = _tested(server, tree, given)
            except OrchError as problem:
                print(problem, file=sys.stderr)
                failed.append(server)
                continue
            count = Counter(result["outcome"] for result in results)
            print(
                f"{server:<12}{len(results):>8}{count['killed']:>8}{count['survived']:>10}"
                f"{count['equivalent']:>12}{time.monotonic() - began:>8.0f}",
                flush=True,
            )
    everything = [one for results in report["servers"].values() for one in results]
    counted = [one for one in everything if one["outcome"] != "equivalent"]
    survivors = [one for one in counted if one["outcome"] == "survived"]
    report["killed_share"] = 1 - len(survivors) / len(counted) if counted else None
    for one in survivors:
        print(f"\n{one['module']}, {one['operator']}\n{one['diff']}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{len(counted) - len(survivors)} of {len(counted)} killed; {given.out}")
    return 1 if failed else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    written = [name for name in server_names() if (ROOT / SUITE / f"test_{name}.py").exists()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", nargs="+", default=written, choices=written)
    parser.add_argument("--count", type=int, default=10, help="mutants a server (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cosmic-ray", type=Path, default=COSMIC_RAY, help="its command")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write the JSON")
    given = parser.parse_args(arguments)
    if not given.cosmic_ray.exists():
        parser.error(f"{given.cosmic_ray} is not there: `make mutants` installs it")
    return given


def _copy(folder: Path) -> Path:
    """A copy of the working tree, in which modules may be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


def _listed(server: str, tree: Path, cosmic_ray: Path) -> list[Mutant]:
    """All that cosmic-ray can change in a server's modules, sorted."""
    module = SERVERS[server].partition(":")[0].replace(".", "/")
    path = tree / module if (tree / module).is_dir() else tree / f"{module}.py"
    with tempfile.TemporaryDirectory() as folder:
        settings, listed = Path(folder) / "settings.toml", Path(folder) / "listed.sqlite"
        settings.write_text(
            f"[cosmic-ray]\nmodule-path = {json.dumps(str(path))}\ntimeout = 1.0\n"
            'excluded-modules = []\ntest-command = "true"\n'
            '[cosmic-ray.distributor]\nname = "local"\n'
        )
        subprocess.run([cosmic_ray, "init", settings, listed], check=True, capture_output=True)
        dumped = subprocess.run(
            [cosmic_ray, "dump", listed], check=True, capture_output=True, text=True
        ).stdout
    found = []
    for line in dumped.splitlines():
        [made] = json.loads(line)[0]["mutations"]
        found.append(
            Mutant(
                Path(made["module_path"]).relative_to(tree).as_posix(),
                tuple(made["start_pos"]),
                tuple(made["end_pos"]),
                made["operator_name"],
                made["occurrence"],
            )
        )
    return sorted(found)


def _draw(mutants: Sequence[Mutant], count: int, seed: int, tree: Path) -> list[Mutant]:
    """One change at each of ``count`` places; a place with many changes is as likely as others."""
    annotated = {module: _annotations(tree / module) for module in {m.module for m in mutants}}
    places: dict[tuple[str, tuple[int, int]], list[Mutant]] = {}
    for mutant in mutants:
        union = "_BitOr_" in mutant.operator and any(
            start <= mutant.start < end for start, end in annotated[mutant.module]
        )
        if not union:
            places.setdefault((mutant.module, mutant.start), []).append(mutant)
    chance = random.Random(seed)
    drawn = chance.sample(sorted(places), min(count, len(places)))
    return [chance.choice(places[place]) for place in drawn]


def _annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a module's annotations begin and end."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
    return [
        ((one.lineno, one.col_offset), (one.end_lineno or 0, one.end_col_offset or 0))
        for one in found
        if one is not None
    ]


def _tested(server: str, tree: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """What became of a server's mutants.

    Raises:
        OrchError: its tests fail without any.
    """
    drawn = _draw(_listed(server, tree, given.cosmic_ray), given.count, given.seed, tree)
    limit = max(LEAST_S, ceil(PATIENCE * _unchanged_s(server, tree)))
    results: list[dict[str, Any]] = []
    for mutant in drawn:
        results.append(_run(mutant, server, tree, given.cosmic_ray, limit))
        last = f"{results[-1]['outcome']} ({results[-1]['by']})"
        print(f"{server} {len(results)}/{len(drawn)}: {last}", file=sys.stderr, flush=True)
    return results


def _unchanged_s(server: str, tree: Path) -> float:
    """Seconds of the processor's time that the tests of the unchanged server take.

    Raises:
        OrchError: they fail, so that mutants would say nothing.
    """
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    if (failed := _failing(server, tree, None)) is not None:
        raise OrchError(f"the tests of the unchanged server {server!r} fail: {failed}")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def _run(mutant: Mutant, server: str, tree: Path, cosmic_ray: Path, limit_s: int) -> dict[str, Any]:
    """Test one mutant; the module is as before afterwards."""
    path = tree / mutant.module
    before = path.read_text(encoding="utf-8")
    try:
        subprocess.run(
            [cosmic_ray, "apply", path, mutant.operator, str(mutant.occurrence)],
            check=True,
            capture_output=True,
        )
        after = path.read_text(encoding="utf-8")
        killer = _failing(server, tree, limit_s)
    finally:
        path.write_text(before, encoding="utf-8")
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))
    gone, new = (" ".join(x[1:].strip() for x in lines[2:] if x[0] == sign) for sign in "-+")
    why = EQUIVALENT.get((gone.strip(), new.strip())) if killer is None else None
    return {
        "module": mutant.module,
        "operator": mutant.operator,
        "outcome": "equivalent" if why else "survived" if killer is None else "killed",
        "by": killer or why,
        "diff": "\n".join(lines[2:]),
    }


def _failing(server: str, tree: Path, limit_s: int | None) -> str | None:
    """The first test that fails; None if all pass."""
    own = sorted(path.relative_to(tree) for path in (tree / SUITE).glob(f"test_{server}*.py"))
    # A test's name for -k holds its parameters and its file.
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-m", "not long", "-k", server]
    command += ["-p", "no:cacheprovider", "--tb=no", "-rfE", f"{SUITE}/test_contract.py"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, *map(str, own)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=None if limit_s is None else lambda: _limit(limit_s),
    )
    if done.returncode == -signal.SIGXCPU:
        return "takes too long"
    if done.returncode == 0:
        return None
    named = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
    return named[0].split(" - ")[0] if named else done.stdout[-300:] + done.stderr[-300:]


def _limit(seconds: int) -> None:
    """End this process after so much time of the processor: a busy machine makes no difference."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


if __name__ == "__main__":
    sys.exit(main())
