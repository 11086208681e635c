"""Install the offline kit on a machine without a network, then measure and train.

    python3.12 run.py                    # everything, on one GPU: within 20 minutes
    python3.12 run.py --small            # a small form on the CPU: a few minutes
    python3.12 run.py --work /data/kit   # where all is written; a disk, not the USB stick
    python3.12 run.py --only engine      # one step; --again repeats steps that have a result

Needs Python 3.12 with torch and transformers, on x86-64 Linux; no network, no Ray, no git, no
rights of root. Everything is checked before anything is installed, and nothing is written outside
--work. CUDA_VISIBLE_DEVICES chooses the GPU; the first one that is seen is used.

Each step prints its figures as it goes and has a time limit of its own. A step that fails is
reported, and the next one runs. Called again, it goes on with the steps that have no result yet.
To carry back: WORK/gpu/results (or WORK/small/results). results.json there has all figures, and
each step leaves its JSON, its log and its curve.

Exit codes: 0 every step is complete; 1 a step failed or was cut short; 2 the arguments, the machine
or the kit will not do; 130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
TOTAL_S = 20 * 60.0
"""One call takes at most this long; what does not fit is left to the next one."""
GRACE_S = 25.0
"""A step that is interrupted may take this long to write down what it has."""
LEAST_S = 20.0
"""A step is not started for less time than this."""
RUNS_BYTES = {"gpu": 6 << 30, "small": 1 << 29}
"""What the trainings write: SmolLM2 in float32, and a checkpoint with its optimizer."""


class Unusable(Exception):
    """The arguments, the machine or the kit will not do; the text says why and what to do."""


@dataclass(frozen=True)
class Step:
    """One measurement in a process of its own.

    Attributes:
        name: of the step and of its JSON.
        what: for people.
        command: arguments after the interpreter.
        limit_s: it is interrupted then; training keeps what it has.
        result: the file with its figures: JSON, or JSON lines, of which the last one counts.
        curve: JSON lines to carry back.
        folder: what an earlier try may have left, to be removed first.
    """

    name: str
    what: str
    command: list[str]
    limit_s: float
    result: Path
    curve: Path | None = None
    folder: Path | None = None


@dataclass
class Session:
    """One call of this script.

    Attributes:
        work: where everything is written.
        form: ``gpu`` or ``small``; each has results of its own.
        kit: which kit it is; results of another one do not count.
        python: the interpreter of the kit's environment.
        facts: what is written at the head of results.json.
        again: repeat steps that have a result.
        deadline: of the whole call, on the monotonic clock.
    """

    work: Path
    form: str
    kit: str
    python: Path
    facts: dict[str, Any] = field(default_factory=dict)
    again: bool = False
    deadline: float = float("inf")

    @property
    def results(self) -> Path:
        """What is carried back."""
        return self.work / self.form / "results"


NAMES = ("learner", "engine", "sft", "train")


def make_step(name: str, work: Path, form: str) -> Step:
    """A measurement; made when it is due, because training starts from what `sft` left."""
    results, runs, small = work / form / "results", work / form / "runs", form == "small"
    config, smollm2 = f"kit_configs/{form}.yaml", "models/smollm2-135m-instruct"
    out = results / f"{name}.figures.json"
    if name == "learner":
        few = ["--device", "cpu", "--model", "tiny", "--tokens", "1024", "--updates", "3"]
        command = ["-m", "benchmarks.learner_gpu", *(few if small else []), "--out", str(out)]
        return Step(name, "an update of the learner: tokens/s and MFU", command, 300, out)
    if name == "engine":
        command = ["-m", "benchmarks.torch_engine", "--no-compare", "--repeats", "3"]
        command += (
            ["--batches", "1,4", "--episodes", "1,4", "--new", "16"]
            if small
            else ["--model", smollm2, "--dtype", "bfloat16", "--device", "cuda", "--threads", "4",
                  "--batches", "1,32,256", "--episodes", "1,32,256", "--prompt", "512"]
        )  # fmt: skip
        what = "the torch engine: tokens/s by how many messages or episodes are sampled at once"
        return Step(name, what, [*command, "--out", str(out)], 180, out)
    orch, warm = ["-m", "orch_env.cli.main"], runs / "sft"
    if name == "sft":
        command = [*orch, "sft", config, f"sft.out={warm}"]
        what = "orch sft: a warm start on recorded tasks"
        return Step(name, what, command, 210, warm / "summary.json", warm / "metrics.jsonl", warm)
    command = [*orch, "train", config, f"reporting.log_dir={runs}", "reporting.run_name=grpo"]
    what = "orch train: GRPO on recorded tasks"
    if (warm / "model").is_dir():
        command.append(f"model.path={warm / 'model'}")
    else:
        what += " (from the plain model, there is no warm start)"
    grpo = runs / "grpo"
    return Step(name, what, command, 300, grpo / "metrics.jsonl", grpo / "metrics.jsonl", grpo)


def main(argv: list[str] | None = None) -> int:
    """Check, install, measure."""
    started = time.monotonic()
    try:
        options = _arguments(argv)
        session = prepare(options)
        session.deadline = started + TOTAL_S
        outcomes = {name: run_step(name, session) for name in options.only or NAMES}
        draw(session)
    except Unusable as problem:
        print(f"run.py: {' '.join(str(problem).split())}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"run.py: {problem}; --work chooses another folder", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run.py: interrupted; call it again to go on", file=sys.stderr)
        return 130
    print(f"\n{time.monotonic() - started:.0f} s in all; to carry back: {session.results}")
    for outcome in ("cut short", "failed", "left out"):
        names = [name for name, found in outcomes.items() if found == outcome]
        if names:
            print(f"run.py: {outcome}: {', '.join(names)}", file=sys.stderr)
    return 0 if set(outcomes.values()) == {"complete"} else 1


def prepare(options: argparse.Namespace) -> Session:
    """Everything before the first step.

    Raises:
        Unusable: the machine or the kit will not do.
    """
    form = "small" if options.small else "gpu"
    manifest = read_manifest(options.kit)
    versions = check_machine(manifest, form)
    device = probe_torch(form)
    installed = is_installed(manifest, options.work)
    check_room(manifest, options.work, form, installed=installed)
    python = install(manifest, options.kit, options.work)
    facts = {
        "form": form,
        "commit": manifest["commit"],
        "kit": kit_id(manifest),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "packages": versions,
            **device,
        },
    }
    return Session(options.work, form, kit_id(manifest), python, facts, options.again)


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
        raise Unusable(f"{path} is of another version than this run.py; copy the kit again")
    wanted = ("commit", "install", "model", "parts", "python", "requires", "room_bytes")
    missing = [key for key in wanted if key not in manifest]
    if missing:
        raise Unusable(f"{path} lacks {', '.join(missing)}; copy the kit again")
    return manifest


def kit_id(manifest: dict[str, Any]) -> str:
    """A short name of the kit's content."""
    sums = "".join(part["sha256"] for part in manifest["parts"])
    return hashlib.sha256(sums.encode()).hexdigest()[:12]


def check_machine(manifest: dict[str, Any], form: str) -> dict[str, str]:
    """System, Python, and the packages that must be there already; returns their versions.

    Raises:
        Unusable: something is missing; the text names it.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        here = f"{sys.platform} {platform.machine()}"
        raise Unusable(f"the kit's wheels are for linux x86_64, this is {here}")
    version = ".".join(map(str, sys.version_info[:2]))
    if version != manifest["python"]:
        raise Unusable(
            f"the kit's wheels are for Python {manifest['python']}, this is {version}: call "
            f"python{manifest['python']} run.py"
        )
    versions = {}
    for name, wanted in manifest["requires"].items():
        try:
            found = versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = f"{sys.executable}; the package needs {name}{wanted}"
            raise Unusable(f"{name} is not installed for {here}") from None
        if not within(found, wanted):
            raise Unusable(f"{name} {found} is installed, the package needs {wanted}")
        print(f"{name} {found}")
    if form == "gpu" and manifest["model"] is None:
        raise Unusable("this kit was built without SmolLM2: only --small can run")
    return versions


def probe_torch(form: str) -> dict[str, Any]:
    """The GPU as torch sees it.

    In a process of its own: a CUDA context here would take memory from the steps, and would lock
    them out of a GPU that serves one process at a time.

    Raises:
        Unusable: torch cannot be imported, or there is no GPU and the form needs one.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    if done.returncode:
        raise Unusable(f"torch cannot be used: {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["gpu"] is not None:
        print(f"GPU: {found['gpu']}, {found['gpu_free_gib']} of {found['gpu_gib']} GiB free")
    elif form == "gpu":
        raise Unusable("torch sees no CUDA device; --small runs on the CPU")
    return found


_PROBE = """
import json, torch
found = {"gpu": None, "cuda": torch.version.cuda}
if torch.cuda.is_available():
    free, total = (round(n / 2**30, 1) for n in torch.cuda.mem_get_info())
    found |= {"gpu": torch.cuda.get_device_name(), "gpu_free_gib": free, "gpu_gib": total}
print(json.dumps(found))
"""


def check_room(manifest: dict[str, Any], work: Path, form: str, *, installed: bool) -> None:
    """Say how much disk is needed, and that WORK is a place for a Python environment.

    Raises:
        Unusable: too little room, or a file system without symbolic links (a USB stick's).
    """
    work.mkdir(parents=True, exist_ok=True)
    link = work / ".link"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to("target")
    except OSError as problem:
        reason = problem.strerror or problem
        raise Unusable(
            f"{work} takes no symbolic links ({reason}), as Python's environments need them; "
            "choose a folder on a disk with --work"
        ) from problem
    link.unlink()
    need = RUNS_BYTES[form] + (0 if installed else int(manifest["room_bytes"]))
    free = shutil.disk_usage(work).free
    print(f"disk: {need / 2**30:.1f} GiB needed in {work}, {free / 2**30:.1f} GiB free")
    if free < need:
        raise Unusable(f"{work} has too little room; choose another folder with --work")


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


def is_installed(manifest: dict[str, Any], work: Path) -> bool:
    """Whether this kit is installed in WORK, for this interpreter."""
    try:
        mark = json.loads((work / "installed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(mark == _mark(manifest)) and (work / "venv" / "bin" / "python").exists()


def _mark(manifest: dict[str, Any]) -> dict[str, str]:
    return {"kit": kit_id(manifest), "python": sys.executable}


def install(manifest: dict[str, Any], kit: Path, work: Path) -> Path:
    """Check the parts, unpack them, and install the wheels; done once per kit.

    Returns:
        The interpreter of the kit's own environment.

    Raises:
        Unusable: a part is missing or damaged, or pip refuses.
    """
    python = work / "venv" / "bin" / "python"
    if is_installed(manifest, work):
        print(f"installed already: {work}")
        return python
    started = time.monotonic()
    check_parts(manifest, kit)
    (work / "installed.json").unlink(missing_ok=True)
    for name in ("kit", "venv"):
        shutil.rmtree(work / name, ignore_errors=True)
    unpack(manifest, kit, work)
    print(f"parts checked and unpacked: {time.monotonic() - started:.0f} s", flush=True)
    venv.create(work / "venv", with_pip=False, symlinks=True)
    # The new environment also sees the packages of the interpreter that runs this, torch among
    # them; --system-site-packages would not, where that interpreter is an environment itself.
    own = Path(sysconfig.get_path("purelib", vars={"base": str(work / "venv")}))
    own.mkdir(parents=True, exist_ok=True)
    lines = [f"import site; site.addsitedir({path!r})\n" for path in _package_folders()]
    (own / "machine.pth").write_text("".join(lines), encoding="utf-8")
    wheels = work / "kit" / "wheels"
    [pip] = wheels.glob("pip-*.whl")
    [package] = wheels.glob("orch_rl-*.whl")
    command = [str(python), str(pip / "pip"), "install", "--quiet", "--no-index", "--find-links",
               str(wheels), "--disable-pip-version-check", "--no-warn-script-location"]  # fmt: skip
    # What a machine's pip is told (constraints, --user) is meant for other installs.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_CACHE_DIR": str(work / "cache" / "pip")}
    for arguments in (manifest["install"], ["--no-deps", str(package)]):
        if not arguments:
            continue
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=clean)
        if done.returncode:
            raise Unusable(f"pip could not install from the kit: {_last_line(done.stderr)}")
    (work / "installed.json").write_text(json.dumps(_mark(manifest)), encoding="utf-8")
    print(f"installed in {time.monotonic() - started:.0f} s", flush=True)
    return python


def _package_folders() -> list[str]:
    """Where this interpreter finds packages: its path without the standard library."""
    standard = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    return [
        path
        for path in map(os.path.abspath, filter(None, sys.path))
        if os.path.isdir(path)
        and path not in {*standard, str(HERE)}
        and os.path.basename(path) != "lib-dynload"
    ]


def check_parts(manifest: dict[str, Any], kit: Path) -> None:
    """Check every part against its SHA-256.

    Raises:
        Unusable: one is missing or damaged.
    """
    for part in manifest["parts"]:
        path = kit / part["name"]
        if not path.is_file():
            raise Unusable(f"{path} is missing: copy all {len(manifest['parts'])} parts")
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        if digest != part["sha256"]:
            raise Unusable(f"{path} is damaged (its SHA-256 differs): copy it again")


def unpack(manifest: dict[str, Any], kit: Path, work: Path) -> None:
    """Unpack all parts as one archive."""
    reader = _Parts([kit / part["name"] for part in manifest["parts"]])
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


def run_step(name: str, session: Session) -> str:
    """Run one step, show what it prints, and keep its result.

    Returns:
        ``complete``, ``cut short`` (with a result), ``failed``, or ``left out`` for want of time.
    """
    results, path = session.results, session.results / f"{name}.json"
    kept = _read_json(path) if not session.again else None
    if kept is not None and kept.get("kit") == session.kit and kept["result"] is not None:
        print(f"\n== {name}: has a result already ({kept['outcome']}); --again repeats it")
        return str(kept["outcome"])
    step = make_step(name, session.work, session.form)
    limit = min(step.limit_s, session.deadline - time.monotonic() - GRACE_S)
    if limit < LEAST_S:
        print(f"\n== {name}: left out, the {TOTAL_S / 60:.0f} minutes are over; call it again")
        return "left out"
    results.mkdir(parents=True, exist_ok=True)
    print(f"\n== {name}: {step.what} (at most {limit:.0f} s)", flush=True)
    # What an earlier try left behind would be taken for this one's.
    if step.folder is not None:
        shutil.rmtree(step.folder, ignore_errors=True)
    for old in (step.result, path):
        old.unlink(missing_ok=True)
    started = time.monotonic()
    code = _run(step, session, limit)
    seconds = time.monotonic() - started
    result = _last_json(step.result)
    try:
        shown = figures(name, result) if result else ""
    except (KeyError, TypeError, ZeroDivisionError):
        shown = ""  # cut short before there was anything to report
    complete = code == 0
    outcome = ("complete" if complete else "cut short") if shown else "failed"
    print(f"   {outcome.upper()}, exit code {code}, {seconds:.0f} s", flush=True)
    if shown:
        print(f"   {shown}", flush=True)
    if step.curve is not None and step.curve.exists():
        shutil.copyfile(step.curve, results / f"{name}.metrics.jsonl")
    record = {
        "step": name,
        "kit": session.kit,
        "outcome": outcome,
        "exit_code": code,
        "seconds": round(seconds, 1),
        "limit_s": round(limit),
        "figures": shown or None,
        "result": result if shown else None,
    }
    _write_json(path, record)
    found = (_read_json(results / f"{n}.json") for n in NAMES)
    steps = {r["step"]: r for r in found if r is not None and r.get("kit") == session.kit}
    _write_json(results / "results.json", {**session.facts, "steps": steps})
    return outcome


def _run(step: Step, session: Session, limit: float) -> int:
    """Run a step's process with a time limit; returns its exit code."""
    work = session.work
    cache = work / "cache"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        "HF_HUB_OFFLINE": "1",
        "ORCH_COMMIT": session.facts.get("commit") or "",
        "PYTHONPATH": str(work / "kit"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
    }
    if session.form == "small":
        # Two threads of so small a model only wait for one another where others compute too.
        environment.setdefault("OMP_NUM_THREADS", "1")
    process = subprocess.Popen(
        [str(session.python), *step.command],
        cwd=work / "kit",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C comes here alone, and is passed on once
    )
    with (session.results / f"{step.name}.log").open("w", encoding="utf-8") as log:
        reader = threading.Thread(target=_show, args=(process.stdout, log), daemon=True)
        reader.start()
        try:
            process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            print(f"   time is up after {limit:.0f} s: interrupting", flush=True)
        finally:
            _end(process)
            reader.join(timeout=5)
    return process.returncode


def _end(process: subprocess.Popen[str]) -> None:
    """Ask a process that still runs to stop and write down what it has; then make it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _show(source: Any, log: Any) -> None:
    """Print what a step says while it says it."""
    for line in source:
        log.write(line)
        print("   " + line, end="", flush=True)


def figures(name: str, result: Any) -> str:
    """The step's figures in one line; empty if it has none yet."""
    if name == "learner":
        return "; ".join(
            f"{r['model']} {r['row_tokens']} {r['mode']}: {r['tokens_per_s']:.0f} tokens/s"
            + (f", MFU {r['mfu']:.1%}" if r["mfu"] is not None else "")
            for r in result["rows"]
        )
    if name == "engine":
        return "; ".join(f"{r['name']}: {r['per_second']:.0f} tokens/s" for r in result["rows"])
    if name == "sft":
        rate = result["tokens"] / result["seconds"]
        line = f"{result['steps']} steps, {rate:.0f} tokens/s, loss {result['loss_first']:.3f}"
        line += f" -> {result['loss_last']:.3f}, stopped by {result['stop']}"
        measured = result["evaluations"]
        return line + (f", held-out success {measured[-1]['success']:.2f}" if measured else "")
    sampled, learned = result["env_runners"], result["learners"]["default_policy"]
    line = (
        f"step {result['training_iteration']}: reward {sampled['episode_return_mean']:.3f}, "
        f"success {sampled['success']:.2f}, {sampled['tokens_per_s']:.0f} tokens/s sampled, "
        f"{learned.get('tokens_per_s', 0.0):.0f} learned"
    )
    held_out = result.get("evaluation", {}).get("success")
    return line if held_out is None else f"{line}, held-out success {held_out:.2f}"


def draw(session: Session) -> None:
    """Curves of the two trainings as a picture; their numbers stay in the JSON lines."""
    files = [session.results / f"{name}.metrics.jsonl" for name in ("sft", "train")]
    if not any(file.exists() for file in files):
        return
    out, cache = session.results / "curves.png", session.work / "cache" / "matplotlib"
    command = [str(session.python), "-c", _DRAW, *map(str, files), str(out)]
    environment = {**os.environ, "MPLCONFIGDIR": str(cache)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        problem = _last_line(done.stderr) if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = "it took over a minute"
    print(f"\nno picture of the curves: {problem}" if problem else f"\ncurves: {out}")


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
trained = [r for r in rows if "env_runners" in r]
at = [r["training_iteration"] for r in trained]
right.plot(at, [r["env_runners"]["episode_return_mean"] for r in trained], label="reward")
right.plot(at, [r["env_runners"]["success"] for r in trained], label="success")
held = [r for r in rows if "success" in r.get("evaluation", {})]
if held:
    success = [r["evaluation"]["success"] for r in held]
    right.plot([r["training_iteration"] for r in held], success, "o", label="held-out success")
right.set(title="orch train", xlabel="training step", ylim=(0, 1))
right.legend()
figure.tight_layout()
figure.savefig(out, dpi=120)
"""


# -- small things ----------------------------------------------------------------------------


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _last_json(path: Path) -> Any:
    """What a JSON file holds; of JSON lines the last whole one."""
    if path.suffix != ".jsonl":
        return _read_json(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:
            continue
    return None


def _write_json(path: Path, value: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"])[-1]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


class _Parser(argparse.ArgumentParser):
    """Bad arguments are one line."""

    def error(self, message: str) -> NoReturn:
        raise Unusable(f"{message}; python3.12 run.py --help tells more")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU, minutes")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="these steps alone")
    parser.add_argument("--again", action="store_true", help="repeat steps that have a result")
    parser.add_argument("--work", type=Path, default=Path("offline-kit-work"), metavar="FOLDER",
                        help="where all is unpacked, installed and written; default: "
                             "offline-kit-work in the current folder")  # fmt: skip
    parser.add_argument("--kit", type=Path, default=HERE, metavar="FOLDER",
                        help="where the parts lie; default: beside run.py")  # fmt: skip
    options = parser.parse_args(argv)
    options.work, options.kit = options.work.resolve(), options.kit.resolve()
    return options


def take_signals() -> None:
    """A batch system's SIGTERM and a lost terminal stop this like Ctrl-C, and its step with it.

    Started in the background by a script, this would ignore SIGINT, and so would every step.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)


if __name__ == "__main__":
    take_signals()
    sys.exit(main())
