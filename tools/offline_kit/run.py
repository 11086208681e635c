"""Install the offline kit on a machine without a network, then measure and train.

    python3.12 run.py                  # everything, on one GPU: within 20 minutes
    python3.12 run.py --small          # a small form on the CPU: a few minutes
    python3.12 run.py --only engine    # one step; --again repeats steps that have a result

Needs Python 3.12, torch and transformers, and nothing else: no network, no Ray. Nothing is written
outside --work. Each step prints its figures as it goes, has a time limit of its own, and writes
JSON to WORK/results; a step that fails is reported and the next one runs. WORK/results/results.json
has them all. Called again, it goes on with the steps that have no result yet.

Exit codes: 0 every step has its result; 1 a step failed; 2 the machine or the kit will not do.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GRACE_S = 30.0
"""A step that is interrupted may take this long to write down what it has."""


class Unusable(Exception):
    """The machine or the kit will not do; the text says why and what to do."""


@dataclass(frozen=True)
class Step:
    """One measurement in a process of its own.

    Attributes:
        name: of the step and of its JSON.
        what: for people.
        command: arguments after the interpreter.
        limit_s: it is interrupted then; training keeps what it has.
        result: the JSON file that it writes; ``None``: it prints one line of JSON.
    """

    name: str
    what: str
    command: list[str]
    limit_s: float
    result: Path | None = None


def steps(work: Path, *, small: bool) -> list[Step]:
    """The measurements, in order; their limits add up to less than 19 minutes."""
    results, runs = work / "results", work / "runs"
    config = f"kit_configs/{'small' if small else 'gpu'}.yaml"
    learner = results / "learner.json"
    engine = results / "engine.json"
    model = "models/smollm2-135m-instruct"
    tiny_learner = ["--device", "cpu", "--model", "tiny", "--tokens", "1024", "--updates", "3"]
    tiny_engine = ["--batches", "1,4", "--new", "16", "--groups", "2", "--size", "2"]
    gpu_engine = ["--model", model, "--dtype", "bfloat16", "--device", "cuda", "--threads", "4",
                  "--batches", "1,32,256", "--prompt", "512", "--groups", "32"]  # fmt: skip
    sft = ["-m", "orch_env.cli.main", "sft", config, "--json", f"sft.out={runs / 'sft'}"]
    train = ["-m", "orch_env.cli.main", "train", config, "--json", f"reporting.log_dir={runs}",
             "reporting.run_name=grpo", f"model.path={runs / 'sft' / 'model'}"]  # fmt: skip
    return [
        Step("learner", "learner: tokens per second and MFU",
             ["-m", "benchmarks.learner_gpu", *(tiny_learner if small else []),
              "--out", str(learner)], 330, learner),
        Step("engine", "torch engine: tokens per second by number of requests",
             ["-m", "benchmarks.torch_engine", "--no-compare", "--repeats", "3",
              *(tiny_engine if small else gpu_engine), "--out", str(engine)], 180, engine),
        Step("sft", "orch sft: warm start on recorded tasks", sft, 240),
        Step("train", "orch train: GRPO on recorded tasks", train, 330),
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Check, install, measure."""
    options = _arguments(argv)
    try:
        manifest = read_manifest(options.kit)
        check_machine(manifest, options.work, small=options.small)
        site = install(manifest, options.kit, options.work)
        chosen = [s for s in steps(options.work, small=options.small) if _wanted(s, options)]
        failed = [step.name for step in chosen if not run_step(step, site, manifest, options)]
        draw(site, options.work)
    except Unusable as problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run.py: interrupted; call it again to go on", file=sys.stderr)
        return 130
    print(f"results: {options.work / 'results' / 'results.json'}")
    if failed:
        print(f"failed: {', '.join(failed)}; see {options.work / 'logs'}", file=sys.stderr)
    return 1 if failed else 0


# -- the machine and the kit -----------------------------------------------------------------


def read_manifest(kit: Path) -> dict[str, Any]:
    """MANIFEST.json.

    Raises:
        Unusable: it is missing or damaged.
    """
    path = kit / "MANIFEST.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise Unusable(f"{kit} is no kit: MANIFEST.json is missing") from problem
    except (OSError, ValueError) as problem:
        raise Unusable(f"{path} cannot be read ({problem}); copy the kit again") from problem
    if not isinstance(manifest, dict) or manifest.get("schema") != 1:
        raise Unusable(f"{path} is of another version than this run.py")
    return manifest


def check_machine(manifest: dict[str, Any], work: Path, *, small: bool) -> None:
    """Python, torch, transformers, disk, and a GPU unless the form is small.

    Raises:
        Unusable: something is missing; the text names it.
    """
    version = ".".join(map(str, sys.version_info[:2]))
    if version != manifest["python"]:
        raise Unusable(
            f"the kit's wheels are for Python {manifest['python']}, this is {version}: call "
            f"python{manifest['python']} run.py"
        )
    for name, wanted in manifest["requires"].items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = f"{sys.executable}; the package needs {name}{wanted}"
            raise Unusable(f"{name} is not installed for {here}") from None
        if not within(found, wanted):
            raise Unusable(f"{name} {found} is installed, the package needs {wanted}")
        print(f"{name} {found}")
    if not small and manifest["model"] is None:
        raise Unusable("this kit was built without SmolLM2: only --small can run")
    work.mkdir(parents=True, exist_ok=True)
    need = 3 * int(manifest["unpacked_bytes"]) + (2 << 30)
    free = shutil.disk_usage(work).free
    print(f"disk: {need / 2**30:.1f} GiB needed in {work}, {free / 2**30:.1f} GiB free")
    if free < need and not (work / "kit").exists():
        raise Unusable(f"{work} has too little room; choose another folder with --work")
    if not small:
        import torch  # after the checks above, since it takes seconds

        if not torch.cuda.is_available():
            raise Unusable("torch sees no CUDA device; --small runs on the CPU")
        print(f"GPU: {torch.cuda.get_device_name()}")


def within(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as ``>=2.6,<3``; local parts (+cpu) do not count."""

    def numbers(text: str) -> list[int]:
        found = [int(n) for n in re.findall(r"\d+", text.partition("+")[0])[:3]]
        return found + [0] * (3 - len(found))

    for bound in wanted.split(","):
        match = re.fullmatch(r"\s*(>=|<)\s*([\d.]+)\s*", bound)
        if match is None:
            raise Unusable(f"MANIFEST.json has a range that cannot be read: {wanted!r}")
        low = match[1] == ">="
        if (numbers(version) >= numbers(match[2])) is not low:
            return False
    return True


# -- installing ------------------------------------------------------------------------------


def install(manifest: dict[str, Any], kit: Path, work: Path) -> Path:
    """Check the parts, unpack them, and install the wheels; done once per kit.

    Returns:
        The interpreter of the kit's own environment.

    Raises:
        Unusable: a part is missing or damaged, or pip refuses.
    """
    python = work / "venv" / "bin" / "python"
    mark = work / "installed.json"
    stamp = {"parts": manifest["parts"], "python": sys.executable}
    if mark.exists() and json.loads(mark.read_text()) == stamp:
        print(f"installed already: {work}")
        return python
    started = time.monotonic()
    for name in ("kit", "venv"):
        shutil.rmtree(work / name, ignore_errors=True)
    unpack(manifest, kit, work)
    print(f"parts checked and unpacked: {time.monotonic() - started:.0f} s", flush=True)
    venv.create(work / "venv", with_pip=False, symlinks=True)
    # The new environment also sees the packages of the interpreter that runs this, torch among
    # them; --system-site-packages would not, where that interpreter is an environment itself.
    own = sysconfig.get_path("purelib", vars={"base": str(work / "venv")})
    seen = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(own).mkdir(parents=True, exist_ok=True)
    Path(own, "machine.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
    wheels = work / "kit" / "wheels"
    [pip] = wheels.glob("pip-*.whl")
    command = [str(python), str(pip / "pip"), "install", "--quiet", "--no-index", "--find-links",
               str(wheels), "--disable-pip-version-check", "--no-warn-script-location"]  # fmt: skip
    [package] = wheels.glob("orch_rl-*.whl")
    for arguments in (manifest["install"], ["--no-deps", str(package)]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        if done.returncode:
            reason = [line for line in done.stderr.splitlines() if line.strip()][-1:]
            raise Unusable(f"pip could not install from the kit: {' '.join(reason)}")
    mark.write_text(json.dumps(stamp))
    print(f"installed in {time.monotonic() - started:.0f} s", flush=True)
    return python


def unpack(manifest: dict[str, Any], kit: Path, work: Path) -> None:
    """Check every part against its SHA-256, then unpack all of them as one archive.

    Raises:
        Unusable: a part is missing or damaged; nothing was unpacked.
    """
    for part in manifest["parts"]:
        path = kit / part["name"]
        if not path.is_file():
            raise Unusable(f"{path} is missing: copy all {len(manifest['parts'])} parts")
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        if digest != part["sha256"]:
            raise Unusable(f"{path} is damaged (its SHA-256 differs): copy it again")
    names = [kit / part["name"] for part in manifest["parts"]]
    reader = _Parts(names)
    with tarfile.open(fileobj=reader, mode="r|") as tar:  # type: ignore[call-overload]
        tar.extractall(work / "kit", filter="data")


class _Parts:
    """The parts as one stream."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = list(paths)
        self._open: Any = None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; empty at the end of the last part."""
        found = b""
        while len(found) < size:
            if self._open is None:
                if not self._paths:
                    break
                self._open = self._paths.pop(0).open("rb")
            chunk = self._open.read(size - len(found))
            if not chunk:
                self._open.close()
                self._open = None
            found += chunk
        return found


# -- the steps -------------------------------------------------------------------------------


def run_step(step: Step, python: Path, manifest: dict[str, Any], options: Any) -> bool:
    """Run one step, show what it prints, and keep its result; says whether there is one."""
    work: Path = options.work
    done_file = work / "results" / f"{step.name}.step.json"
    if done_file.exists() and not options.again:
        print(f"\n== {step.name}: has a result already; --again repeats it")
        return True
    for folder in ("results", "logs", "runs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    print(f"\n== {step.name}: {step.what} (at most {step.limit_s:.0f} s)", flush=True)
    # What an earlier try left behind would be taken for this one's.
    shutil.rmtree(work / "runs" / {"train": "grpo"}.get(step.name, step.name), ignore_errors=True)
    if step.result is not None:
        step.result.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "ORCH_COMMIT": manifest["commit"] or "",
        "PYTHONPATH": str(work / "kit"),
        "PYTHONUNBUFFERED": "1",
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [str(python), *step.command],
        cwd=work / "kit",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_show, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        process.wait(timeout=step.limit_s)
    except subprocess.TimeoutExpired:
        print(f"   time is up after {step.limit_s:.0f} s: interrupting", flush=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    reader.join(timeout=5)
    seconds = time.monotonic() - started
    output = "".join(lines)
    (work / "logs" / f"{step.name}.log").write_text(output, encoding="utf-8")
    result = _result(step, output)
    record = {"step": step.name, "seconds": round(seconds, 1), "exit_code": process.returncode,
              "ok": result is not None, "result": result}  # fmt: skip
    if result is not None:
        done_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"   {figures(step.name, result)}   ({seconds:.0f} s)", flush=True)
    else:
        print(f"   FAILED with exit code {process.returncode} after {seconds:.0f} s", flush=True)
    _collect(work, record, manifest, small=options.small)
    return result is not None


def _show(source: Any, lines: list[str]) -> None:
    """Print what a step says while it says it, but for its JSON."""
    for line in source:
        lines.append(line)
        if not line.startswith("{"):
            print("   " + line, end="", flush=True)


def _result(step: Step, output: str) -> Any:
    try:
        if step.result is not None:
            return json.loads(step.result.read_text(encoding="utf-8"))
        return json.loads([x for x in output.splitlines() if x.startswith("{")][-1])
    except (OSError, ValueError, IndexError):
        return None


def figures(name: str, result: Any) -> str:
    """The step's figures in one line."""
    if name == "learner":
        return "; ".join(
            f"{r['model']} {r['row_tokens']} {r['mode']}: {r['tokens_per_s']:.0f} tokens/s"
            + (f", MFU {r['mfu']:.1%}" if r.get("mfu") is not None else "")
            for r in result["rows"]
        )
    if name == "engine":
        return "; ".join(f"{r['name']}: {r['per_second']:.0f} tokens/s" for r in result["rows"])
    if name == "sft":
        first, last = result["loss_first"], result["loss_last"]
        return f"{result['steps']} steps, loss {first:.3f} -> {last:.3f}"
    sampled = result["env_runners"]
    return (
        f"step {result['training_iteration']}: reward {sampled['episode_return_mean']:.3f}, "
        f"success {sampled['success']:.2f}, {sampled['tokens_per_s']:.0f} tokens/s sampled, "
        f"{result['learners']['default_policy'].get('tokens_per_s', 0.0):.0f} learned"
    )


def _collect(work: Path, record: dict[str, Any], manifest: dict[str, Any], *, small: bool) -> None:
    """Put one step into results.json, beside those of earlier calls."""
    path = work / "results" / "results.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    report.update(
        commit=manifest["commit"],
        form="small" if small else "gpu",
        python=sys.version.split()[0],
        packages={n: importlib.metadata.version(n) for n in manifest["requires"]},
        cpus=os.cpu_count(),
    )
    report.setdefault("steps", {})[record["step"]] = record
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def draw(python: Path, work: Path) -> None:
    """Curves of the two trainings as a picture; their numbers stay in metrics.jsonl."""
    files = [work / "runs" / name / "metrics.jsonl" for name in ("sft", "grpo")]
    if not any(file.exists() for file in files):
        return
    out = work / "results" / "curves.png"
    done = subprocess.run(
        [str(python), "-c", _DRAW, *map(str, files), str(out)], capture_output=True, text=True
    )
    print(f"\ncurves: {out}" if done.returncode == 0 else f"\nno picture: {done.stderr[-200:]}")


_DRAW = """
import json, sys
from pathlib import Path
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot as plt
sft, grpo, out = map(Path, sys.argv[1:])
read = lambda p: [json.loads(l) for l in p.read_text().splitlines()] if p.exists() else []
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
rows = read(sft)
left.plot([r["step"] for r in rows if "loss" in r], [r["loss"] for r in rows if "loss" in r])
left.set(title="orch sft", xlabel="optimizer step", ylabel="loss, nats per token")
rows = read(grpo)
at = [r["training_iteration"] for r in rows]
right.plot(at, [r["env_runners"]["episode_return_mean"] for r in rows], label="reward")
right.plot(at, [r["env_runners"]["success"] for r in rows], label="success")
right.set(title="orch train", xlabel="training step", ylim=(0, 1))
right.legend()
figure.tight_layout()
figure.savefig(out, dpi=120)
"""


def _wanted(step: Step, options: Any) -> bool:
    return not options.only or step.name in options.only


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    names = [step.name for step in steps(Path("work"), small=True)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU, minutes")
    parser.add_argument("--only", nargs="+", choices=names, help="these steps alone")
    parser.add_argument("--again", action="store_true", help="repeat steps that have a result")
    parser.add_argument("--work", type=Path, default=Path("offline-kit-work"), metavar="FOLDER",
                        help="where all is unpacked, installed and written")  # fmt: skip
    parser.add_argument("--kit", type=Path, default=HERE, metavar="FOLDER",
                        help="the parts; default: beside run.py")  # fmt: skip
    options = parser.parse_args(argv)
    options.work, options.kit = options.work.resolve(), options.kit.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
