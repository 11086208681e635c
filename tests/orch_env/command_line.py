"""`orch` as a test calls it: exit code and what it wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orch_env.cli.main import main


def orch(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, str, str]:
    """Run a command: exit code, stdout, stderr."""
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def orch_json(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, dict[str, Any], str]:
    """Run a command with ``--json``: exit code, the one object on stdout, stderr."""
    code, out, err = orch(capsys, *argv, "--json")
    assert out.count("\n") == 1
    return code, json.loads(out), err


def bad_line(capsys: pytest.CaptureFixture[str], *argv: Any) -> str:
    """Run a command that must refuse its input: the one line that says why."""
    code, out, err = orch(capsys, *argv)
    assert (code, out) == (2, "") and err.count("\n") == 1
    return err
