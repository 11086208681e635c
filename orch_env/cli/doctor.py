"""``orch doctor``: what this installation can do, and what to do about the rest.

A check is required (it decides ``ok`` and the exit code) or optional (it names what it enables).
With a configuration, what that run needs becomes required, and its files are looked at too.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from orch_env.cli.installation import Check, guarded, installation_checks
from orch_env.cli.output import json_option, say

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

    Exit code 0 if everything required is in order, else 1. Whatever is broken becomes a line of
    the report. Optional parts are listed with the command that installs them.
    """
    checks = run_checks(config, overrides)
    ok = all(c.ok for c in checks if c.required)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [asdict(c) for c in checks]}))
        return 0 if ok else 1
    width = max(len(c.name) for c in checks)
    for check in checks:
        word, colour = (
            ("ok", "green") if check.ok else ("FAIL", "red") if check.required else ("--", "yellow")
        )
        text = check.detail if check.ok else f"{check.detail}: {check.remedy}"
        say(f"  {click.style(f'{word:<4}', fg=colour)}  {check.name:<{width}}  {text}")
    click.echo("ready" if ok else "not ready: mend the lines marked FAIL", err=not ok)
    return 0 if ok else 1


def run_checks(config: str | None = None, overrides: Sequence[str] = ()) -> list[Check]:
    """All checks; nothing is raised.

    Args:
        config: a YAML file whose run is to be judged too.
        overrides: ``group.key=value`` texts laid over it.
    """
    if config is None:
        return installation_checks()
    # Named by string: this package knows nothing of training.
    try:
        training = importlib.import_module("orch_train.cli.configuration_checks")
    except ImportError as problem:
        missing = Check(
            "configuration",
            False,
            True,
            f"training is not installed: {problem}",
            "pip install 'orch-rl[train]'",
        )
        return [*installation_checks(), missing]
    required: list[str] = training.required_packages(config, overrides)
    checks = installation_checks(required)
    usable = all(check.ok for check in checks if check.required)
    found: list[Check] = training.configuration_checks(config, overrides, usable=usable)
    return checks + found


__all__ = ["Check", "doctor", "guarded", "run_checks"]
