"""``orch doctor``: what works in this installation, and how to get the rest.

A check is required (it decides ``ok`` and the exit code) or optional. With a configuration, the
packages of its run are required, and its files are checked too.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict

import click

from orch_env.cli.installation import Check, installation_checks
from orch_env.cli.output import emit, json_option, next_command, table

_EPILOG = """\b
Examples:
  orch doctor                           # this installation
  orch doctor configs/quickstart.yaml   # and whether this run could start here
  orch doctor --json | jq '.checks[] | select(.ok | not)'"""


@click.command(epilog=_EPILOG)
@click.argument("config", required=False, metavar="[CONFIG]")
@click.argument("overrides", nargs=-1, metavar="[GROUP.KEY=VALUE]...")
@json_option
def doctor(config: str | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check this installation, or whether it can run CONFIG, and say what to do.

    Exit code 0 if everything required is in order, else 1. A check that fails is a line of the
    report. Optional parts are listed with the command that installs them.
    """
    checks = run_checks(config, overrides)
    ok = all(c.ok for c in checks if c.required)
    if as_json:
        emit({"ok": ok, "checks": [asdict(c) for c in checks]}, as_json=True)
    else:
        table(("", "", ""), map(_row, checks))
        click.echo("ready" if ok else "not ready: fix the lines marked FAIL", err=not ok)
    if not ok:
        return 1
    if config is None:
        next_command("replay", "--tasks", "harbour", "--limit", 5, why="play a bundled world")
    else:
        next_command("train", config, *overrides, "--dry-run", why="all that the run would do")
    return 0


def run_checks(config: str | None = None, overrides: Sequence[str] = ()) -> list[Check]:
    """Run all checks; nothing is raised.

    Args:
        config: a YAML file; whether its run could start here is checked too.
        overrides: ``group.key=value`` texts that change it.
    """
    if config is None:
        return installation_checks()
    # Named by a string: orch_env never imports orch_train.
    try:
        training = importlib.import_module("orch_train.cli.preflight")
    except ImportError as problem:
        detail, remedy = f"training is not installed: {problem}", "pip install 'orch-rl[train]'"
        return [*installation_checks(), Check("configuration", False, True, detail, remedy)]
    required: list[str] = training.required_packages(config, overrides)
    checks = installation_checks(required)
    usable = all(check.ok for check in checks if check.required)
    found: list[Check] = training.configuration_checks(config, overrides, usable=usable)
    return checks + found


def _row(check: Check) -> tuple[str, str, str]:
    if check.ok:
        return click.style("ok", fg="green"), check.name, check.detail
    word, colour = ("FAIL", "red") if check.required else ("--", "yellow")
    return click.style(word, fg=colour), check.name, f"{check.detail}: {check.remedy}"
