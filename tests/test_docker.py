"""The files in docker/: their tools accept them and see an error, and they are safe as they are.

Tests marked `docker` need .venv-docker; the others read the files alone.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from orch_env import __version__
from orch_env.cli.main import exit_code
from orch_train.cli.run_arguments import read_config
from tools import docker_build
from tools.docker_check import CHECKS, SHARED, TOOLS, check_file, cli, read_yaml

from .test_documentation import ROOT, check_orch

FOLDER = ROOT / "docker"
IMAGES = ("Dockerfile", "Dockerfile.gpu")

PLANTED = {
    "Dockerfile": ("WORKDIR /src\n", "RUN cd /src\n", "DL3003"),
    "Dockerfile.gpu": ("USER 1000:1000", "USER root", "DL3002"),
    "compose.yaml": ("healthcheck:", "healthchek:", "healthchek"),
    "kuberay/raycluster.yaml": ("maxReplicas:", "maxReplica:", "maxReplica"),
    "kuberay/rayjob.yaml": ("SidecarMode", "[SidecarMode]", "submissionMode"),
    "kuberay/storage.yaml": ("accessModes:", "accessMode:", "accessMode"),
    "ray-launcher.yaml": ("setup_commands:", "setup_command:", "setup_command"),
    "skypilot.yaml": ("num_nodes:", "num_node:", "num_node"),
}
"""File -> (what stands there, a mistake in its place, what the tool must say of it)."""


@pytest.fixture(scope="module")
def tools() -> None:
    if not TOOLS.exists():
        pytest.skip(f"the tools are not installed at {TOOLS}: make docker-check")


def needs_schema(name: str) -> None:
    if name.startswith("kuberay/ray") and not (SHARED / "kuberay").exists():
        pytest.skip(f"no schemas of KubeRay in {SHARED}")


# -- with the tools --------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("name", PLANTED)
def test_one_planted_error_is_caught(name: str, tmp_path: Path) -> None:
    needs_schema(name)
    right, wrong, said = PLANTED[name]
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert right in text
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    found = check_file(tmp_path, name)
    assert found.skipped is None
    assert any(said in problem for problem in found.problems), found


# -- without them ----------------------------------------------------------------------------


def test_every_file_is_read_by_a_tool_and_has_a_planted_error() -> None:
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert files == set(CHECKS) == set(PLANTED)


def test_a_refused_file_is_named_with_its_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "kuberay" / "rayjob.yaml").write_text("a: [")
    (tmp_path / "ray-launcher.yaml").write_text("cluster_name: x\n")
    for name in set(CHECKS) - {"kuberay/rayjob.yaml", "ray-launcher.yaml"}:
        (tmp_path / name).unlink()
    assert exit_code(cli, "docker-check", ["--folder", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "refused  skypilot.yaml\n         no such file" in out
    assert "rayjob.yaml is not YAML" in out
    assert "'provider' is a required property" in out


def test_a_missing_tool_or_schema_is_a_skip_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.docker_check.TOOLS", tmp_path)
    monkeypatch.setattr("tools.docker_check.SHARED", tmp_path)
    for name in set(CHECKS) - {"ray-launcher.yaml"}:
        found = check_file(FOLDER, name)
        assert found.skipped and not found.problems, found


def manifests() -> dict[str, Any]:
    """The cluster of each KubeRay file."""
    job = read_yaml(FOLDER / "kuberay" / "rayjob.yaml")["spec"]["rayClusterSpec"]
    return {"job": job, "cluster": read_yaml(FOLDER / "kuberay" / "raycluster.yaml")["spec"]}


def services() -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(FOLDER / "compose.yaml")["services"]
    return found


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_a_job_makes_the_same_cluster_as_the_one_that_stays() -> None:
    both = manifests()
    assert both["job"] == both["cluster"]


def test_nothing_runs_as_root() -> None:
    for name in IMAGES:
        last_stage = (FOLDER / name).read_text(encoding="utf-8").rpartition("FROM ")[2]
        assert re.findall(r"^USER (.+)", last_stage, re.M) == ["1000:1000"]
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"] and "user" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
    for group in groups(manifests()["cluster"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_nothing_is_open_beyond_this_machine() -> None:
    published = [port for s in services().values() for port in s.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published), published
    assert manifests()["cluster"]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_every_ray_asks_for_a_token_and_no_file_holds_one() -> None:
    for name in ("ray-head", "ray-worker", "trainer"):
        service = services()[name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token", name
        assert service["secrets"] == ["ray_auth_token"], name
    assert manifests()["cluster"]["authOptions"] == {"mode": "token"}
    for name in ("skypilot.yaml", "ray-launcher.yaml"):
        assert "RAY_AUTH_MODE=token" in (FOLDER / name).read_text(encoding="utf-8")
    assert read_yaml(FOLDER / "skypilot.yaml")["secrets"] == {"RAY_AUTH_TOKEN": None}


def test_every_service_and_image_has_a_health_check() -> None:
    assert all("HEALTHCHECK" in (FOLDER / name).read_text(encoding="utf-8") for name in IMAGES)
    # A trainer ends by itself; it keeps the check of its image.
    assert {n for n, service in services().items() if "healthcheck" not in service} == {"trainer"}


def test_the_pins_are_those_of_the_other_environments() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    [ray] = re.findall(r"^ray==(.+)", constraints, re.M)
    [torch] = re.findall(r"^TORCH +\?= (.+)", (ROOT / "Makefile").read_text(), re.M)
    text = {name: (FOLDER / name).read_text(encoding="utf-8") for name in CHECKS}
    assert f"ARG TORCH={torch}\n" in text["Dockerfile"]
    assert f"ARG RAY={ray}\n" in text["Dockerfile.gpu"]
    for name in ("skypilot.yaml", "ray-launcher.yaml"):
        assert f"'ray[default]=={ray}'" in text[name]
    for cluster in manifests().values():
        assert cluster["rayVersion"] == ray
        for group in groups(cluster):
            [container] = group["template"]["spec"]["containers"]
            assert container["image"].endswith(f":{__version__}-gpu")
    for name in IMAGES:
        bases = re.findall(r"^ARG BASE=\S+:(\S+)", text[name], re.M)
        assert bases and all(re.search(r"\d+\.\d+\.\d+", tag) for tag in bases), bases


def test_what_the_files_start_exists() -> None:
    for name in ("trainer", "viewer"):
        check_orch(services()[name]["command"])
    job = read_yaml(FOLDER / "kuberay" / "rayjob.yaml")["spec"]["entrypoint"]
    assert job.split()[:2] == ["orch", "train"]
    for config in (job.split()[2], read_yaml(FOLDER / "skypilot.yaml")["envs"]["CONFIG"]):
        assert read_config(str(ROOT / config), (), None).settings


def test_all_of_the_package_reaches_the_build() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name.removesuffix("*") for name in settings["packages"]["find"]["include"]}
    modules = {f"{name}.py" for name in settings.get("py-modules", [])}
    passed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in IMAGES:
        lines = re.findall(
            r"^COPY (?!--from)(.+) \S+$", (FOLDER / name).read_text(encoding="utf-8"), re.M
        )
        copied = {part for line in lines for part in line.split()} - {"${CONSTRAINTS}"}
        assert packages | modules <= copied, name
        for part in copied:
            assert (ROOT / part).exists() and f"!{part}" in passed, part
    for service in services().values():
        constraints = service.get("build", {}).get("args", {}).get("CONSTRAINTS", "constraints.txt")
        assert (ROOT / constraints).exists() and f"!{constraints}" in passed


# -- the build -------------------------------------------------------------------------------


def test_a_build_without_its_programs_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    work = tmp_path / "work"
    assert exit_code(docker_build.cli, "docker-build", ["--work", str(work)]) == 2
    assert "apt-get install buildah debootstrap" in capsys.readouterr().err
    assert not work.exists()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed")
@pytest.mark.skipif(not shutil.which("debootstrap"), reason="debootstrap is not installed")
def test_a_replay_in_the_image_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(docker_build.cli, "docker-build", ["--work", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["same"] and result["success_rate"] == 1.0
