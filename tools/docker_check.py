"""Check the files in docker/ with the tools and schemas of those who will read them.

    make docker-check

hadolint reads the Dockerfiles, Docker's own Compose the compose file, KubeRay's custom resources
and Ray's launcher schema their manifests, Kubernetes' schemas the plain objects, and SkyPilot its
task. Nothing is built or started, and no network is needed. A file whose tool or schema is not
there is skipped with the reason.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from jsonschema import Draft7Validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orch_env.cli.main import exit_code
from orch_env.cli.output import say
from orch_env.types.errors import OrchError

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-docker" / "bin"
SHARED = Path(os.environ.get("ORCH_SHARED_DATA", ROOT.parent / "shared" / "data"))
TASK = "import sys, sky; sky.Task.from_yaml(sys.argv[1])"
"""Without the rest of SkyPilot: it meets no cloud."""


class SkipFile(Exception):
    """A tool or a schema is not there; the message says which, and how to get it."""


def dockerfile(path: Path) -> list[str]:
    """What hadolint and, in its RUN lines, shellcheck find."""
    return program("hadolint", "--no-color", str(path))


def compose(path: Path) -> list[str]:
    """What Docker Compose says, all profiles included."""
    return program("docker-compose", "--file", str(path), "--profile", "*", "config", "--quiet")


def kubernetes(path: Path) -> list[str]:
    """What the schemas of Kubernetes' own objects refuse, unknown kinds and keys included."""
    return program("kubernetes-validate", "--strict", "--quiet", str(path))


def skypilot(path: Path) -> list[str]:
    """What SkyPilot's parser refuses: its last line says what and where."""
    return program("python", "-c", TASK, str(path))[-1:]


def kuberay(path: Path) -> list[str]:
    """What the schema of KubeRay's custom resource refuses, unknown keys included."""
    manifest = read_yaml(path)
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    if version != "ray.io/v1" or kind not in ("RayCluster", "RayJob"):
        return [f"{version} {kind} is not a RayCluster or RayJob of ray.io/v1"]
    schema = SHARED / "kuberay" / f"{kind}.schema.json.gz"
    if not schema.exists():
        raise SkipFile(f"no schema of KubeRay at {schema}; ORCH_SHARED_DATA names its folder")
    with gzip.open(schema) as file:
        return refusals(json.load(file), manifest)


def launcher(path: Path) -> list[str]:
    """What the schema inside the installed Ray refuses."""
    ray = find_spec("ray")
    if ray is None or ray.origin is None:
        raise SkipFile("Ray is not installed: make setup")
    schema = Path(ray.origin).parent / "autoscaler" / "ray-schema.json"
    return refusals(json.loads(schema.read_text(encoding="utf-8")), read_yaml(path))


CHECKS: Mapping[str, Callable[[Path], list[str]]] = {
    "Dockerfile": dockerfile,
    "Dockerfile.gpu": dockerfile,
    "compose.yaml": compose,
    "kuberay/raycluster.yaml": kuberay,
    "kuberay/rayjob.yaml": kuberay,
    "kuberay/storage.yaml": kubernetes,
    "ray-launcher.yaml": launcher,
    "skypilot.yaml": skypilot,
}
"""Every file of docker/ and who reads it."""


def read_yaml(path: Path) -> Any:
    """One document.

    Raises:
        OrchError: it is not YAML, or not a mapping.
    """
    try:
        read = YAML(typ="safe").load(path)
    except YAMLError as problem:
        raise OrchError(f"{path} is not YAML: {problem}") from problem
    if not isinstance(read, dict):
        raise OrchError(f"{path} is not a mapping")
    return read


def refusals(schema: Any, value: Any) -> list[str]:
    """Each error of a value against a JSON Schema, with the place where it stands."""
    errors = sorted(Draft7Validator(schema).iter_errors(value), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:300]}" for error in errors]


def program(name: str, *words: str) -> list[str]:
    """What a tool prints; a content one prints nothing.

    Warnings count, and an exit code of 0 does not help: two of the tools end with it whatever they
    say.

    Raises:
        SkipFile: the tool is not installed.
    """
    tool = TOOLS / name
    if not tool.exists():
        raise SkipFile(f"{name} is not installed: make docker-check")
    with tempfile.TemporaryDirectory() as home:  # SkyPilot writes a folder there
        # No token: a check must not need a secret.
        kept = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_TOKEN", "PYTHONPATH")}
        environment = kept | {"HOME": home, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
        ran = subprocess.run(
            (tool, *words), capture_output=True, text=True, env=environment, timeout=120
        )
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    return said if said or ran.returncode == 0 else [f"exit code {ran.returncode}"]


@dataclass(frozen=True)
class Finding:
    """What became of one file: problems, or why it was skipped; neither: it is in order."""

    name: str
    problems: tuple[str, ...] = ()
    skipped: str | None = None


def check_file(folder: Path, name: str) -> Finding:
    """Let the tool of one file read it.

    Args:
        folder: with the layout of docker/.
        name: of `CHECKS`.
    """
    path = folder / name
    if not path.exists():
        return Finding(name, ("no such file",))
    try:
        return Finding(name, tuple(CHECKS[name](path)))
    except SkipFile as reason:
        return Finding(name, skipped=str(reason))
    except OrchError as problem:
        return Finding(name, (problem.message,))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "docker",
    help="With the layout of docker/.",
)
def cli(folder: Path) -> int:
    """Check the files in docker/; exit code 1 if one is refused."""
    findings = [check_file(folder, name) for name in CHECKS]
    for found in findings:
        state = "refused" if found.problems else "skipped" if found.skipped else "ok"
        say(f"{state:<8} {found.name}{f': {found.skipped}' if found.skipped else ''}")
        for problem in found.problems:
            say(f"         {problem}")
    return 1 if any(found.problems for found in findings) else 0


if __name__ == "__main__":
    sys.exit(exit_code(cli, "docker-check"))
