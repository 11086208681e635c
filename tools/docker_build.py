"""Build the CPU image without a Docker daemon or an image registry, and replay episodes in it.

    make docker-build

Debian's buildah builds ``docker/Dockerfile`` in a chroot, on a bare Debian that debootstrap makes.
pip fetches the wheels out here, as it is set up here, and installs them in there with no network.
Then `orch replay` must give the same digest in the image as outside. Needs root, and
``apt-get install buildah debootstrap``; everything lies in one folder (about 10 GB).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import click

from orch_env.cli.main import exit_code
from orch_env.cli.output import say
from orch_env.types.errors import OrchError

ROOT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
BASE = f"localhost/orch-base:{SUITE}"
IMAGE = "localhost/orch-rl:cpu"
PYTHON = (3, 11)
"""Of the suite's python3: the wheels that are fetched here must fit it."""
REPLAY = ("replay", "--tasks", "harbour", "--policy", "gold", "--json")


def build_and_replay(work: Path, *, torch: str, mirror: str) -> dict[str, Any]:
    """Build the image, then replay gold in it and here.

    Args:
        work: folder for wheels, base and image; what is there already is used again.
        torch: version; its CPU build is installed.
        mirror: of Debian, for the base.

    Returns:
        ``{image, bytes, seconds: {wheels, base, image, replay}, digest, outside, same}``, where
        ``bytes`` are those of the image's files, the base's included.

    Raises:
        OrchError: a program is missing, or one of the steps failed.
    """
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            raise OrchError(f"{program} is missing: apt-get install buildah debootstrap")
    if os.geteuid() != 0:
        raise OrchError("the base is made with debootstrap, which needs root")
    if sys.version_info[:2] != PYTHON:
        raise OrchError(f"run it with Python {'.'.join(map(str, PYTHON))}, the base's own version")
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def done(step: str) -> None:
        nonlocal started
        seconds[step] = round(time.perf_counter() - started, 1)
        say(f"{step}: {seconds[step]} s", err=True)
        started = time.perf_counter()

    fetch_wheels(work / "wheels", torch)
    done("wheels")
    buildah = Buildah(work)
    make_base(buildah, mirror)
    done("base")
    buildah(
        *("build", "--isolation", "chroot", "--format", "docker", "--layers=false", "--quiet"),
        *("--build-arg", f"BASE={BASE}", "--build-arg", f"TORCH={torch}"),
        *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels"),
        *("--volume", f"{work / 'wheels'}:/wheels:ro"),
        *("--tag", IMAGE, "--file", str(ROOT / "docker" / "Dockerfile"), str(ROOT)),
    )
    done("image")
    container = buildah("from", "--pull-never", IMAGE)
    try:
        run = ("run", "--isolation", "chroot", container, "--")
        user = buildah(*run, "id", "-u")
        if user != "1000":
            raise OrchError(f"the image runs as user {user}, not as 1000")
        inside = json.loads(buildah(*run, "orch", *REPLAY))
        done("replay")
        size = int(output_of("du", "-sb", buildah("mount", container)).split()[0])
    finally:
        buildah("rm", container)
    outside = json.loads(output_of(sys.executable, "-m", "orch_env.cli.main", *REPLAY))
    return {
        "image": IMAGE,
        "bytes": size,
        "seconds": seconds,
        "success_rate": inside["success_rate"],
        "digest": inside["digest"],
        "outside": outside["digest"],
        "same": inside["digest"] == outside["digest"],
    }


def fetch_wheels(folder: Path, torch: str) -> None:
    """Let pip fetch what the image installs, from wherever it is set up to look."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [backend] = project["build-system"]["requires"]
    project = project["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    wanted = [requirement for requirement in wanted if not requirement.startswith("torch")]
    constraints = ("-c", str(ROOT / "constraints.txt"))
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder))
    index = ("--extra-index-url", "https://download.pytorch.org/whl/cpu")
    torch_build = f"torch=={torch}+cpu"
    try:
        output_of(*pip, *constraints, torch_build)
    except OrchError:  # pip's own set-up knows no CPU build
        output_of(*pip, *constraints, *index, torch_build)
    found = ("--find-links", str(folder))
    output_of(*pip, *constraints, *found, torch_build, "ray[default]", backend, *wanted)


def make_base(buildah: Buildah, mirror: str) -> None:
    """A bare Debian with python3 as an image; one that is there already is kept."""
    if BASE in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    rootfs = buildah.work / "rootfs"
    shutil.rmtree(rootfs, ignore_errors=True)
    include = "--include=python3,python3-venv,ca-certificates"
    output_of("debootstrap", "--variant=minbase", include, SUITE, str(rootfs), mirror)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(rootfs), "/")
    buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(rootfs)


class Buildah:
    """buildah with all of its files in one folder; returns what it prints."""

    def __init__(self, work: Path) -> None:
        self.work = work
        policy = work / "policy.json"
        # Images come from this folder alone: nothing is pulled, so nothing is signed.
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._policy = ("--signature-policy", str(policy))
        storage = ("--storage-driver", "vfs", "--root", str(work / "storage"))
        self._program = ("buildah", *storage, "--runroot", str(work / "run"))

    def __call__(self, command: str, *words: str) -> str:
        policy = self._policy if command in ("build", "from", "commit") else ()
        return output_of(*self._program, command, *policy, *words)


def output_of(*words: str) -> str:
    """What a program prints.

    Raises:
        OrchError: it failed; with the end of what it said.
    """
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode != 0:
        end = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-15:]
        name = Path(words[0]).name
        raise OrchError(f"{name} failed with exit code {ran.returncode}", items=tuple(end))
    return ran.stdout.strip()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--work", type=click.Path(path_type=Path), default=Path("dist/docker"))
@click.option("--torch", default="2.13.0", help="Version; its CPU build is installed.")
@click.option("--mirror", default="http://deb.debian.org/debian", help="Of Debian, for the base.")
def cli(work: Path, torch: str, mirror: str) -> int:
    """Build the CPU image without a daemon and compare a replay in it with one outside."""
    result = build_and_replay(work, torch=torch, mirror=mirror)
    click.echo(json.dumps(result))
    return 0 if result["same"] else 1


if __name__ == "__main__":
    sys.exit(exit_code(cli, "docker-build"))
