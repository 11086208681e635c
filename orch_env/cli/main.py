"""Entry point of ``orch``: the table of commands, and where errors become exit codes.

Exit codes: 0 done; 1 ran, and the answer is no; 2 bad input or usage, one line on stderr;
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from orch_env.cli.extras import load
from orch_env.cli.output import say
from orch_env.types.errors import OrchError

# name -> (module, attribute, one line for `orch --help`). Strings, so that a command is imported
# only when it runs; orch_env itself never imports orch_train.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "cache": ("orch_env.cli.cache", "cache", "Import, inspect and verify caches of API responses."),
    "tasks": ("orch_env.cli.tasks", "tasks", "Import, show and validate task files."),
    "replay": ("orch_env.cli.replay", "replay", "Run a scripted policy, or verify episodes."),
    "reward": ("orch_env.cli.reward", "reward", "Score trajectories with a reward."),
    "servers": ("orch_env.cli.servers", "servers", "List, call, check and serve tool servers."),
    "synth": ("orch_env.cli.synth", "synth", "Make tasks from a cache of recorded responses."),
    "sft": ("orch_train.cli.sft", "sft", "Warm-start a model on demonstrations."),
    "train": ("orch_train.cli.train", "train", "Train a model by GRPO."),
    "view": ("orch_train.cli.view", "view", "Look at a training run, or at two, in a web page."),
    "export": ("orch_train.cli.export", "export", "Write a run's model for other tools."),
    "export-rows": (
        "orch_env.cli.export_rows",
        "export_rows",
        "Write tasks as another framework's data set.",
    ),
    "eval": ("orch_env.cli.evaluate", "evaluate", "Score a model or a policy on a benchmark."),
    "doctor": ("orch_env.cli.doctor", "doctor", "Check this installation and say what is missing."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command.

        Raises:
            OrchError: a package that it needs is not installed.
        """
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = load(module, attribute, f"`orch {cmd_name}`")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the table, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: orch replay --tasks harbour --policy gold   ·   orch COMMAND --help",
)
@click.version_option(package_name="orch-rl", prog_name="orch")
def cli() -> None:
    """Environments, rewards and GRPO training for multi-step tool orchestration."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return exit_code(cli, "orch", argv)


def exit_code(command: click.Command, name: str, argv: list[str] | None = None) -> int:
    """Run any click command; errors become one line on stderr and an exit code."""
    try:
        result: Any = command.main(args=argv, prog_name=name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.ctx.get_help() if problem.ctx else "", err=True)
        return 2
    except click.ClickException as problem:
        where = getattr(problem, "ctx", None)
        path = where.command_path if where is not None else name
        return _fail(f"{path}: {problem.format_message()}")
    except OrchError as problem:
        return _fail(f"{name}: {problem.message}", items=problem.items)
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"{name}: interrupted", 130)
    except BrokenPipeError:
        # The reader is gone (`orch ... | head`): the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:  # a full disk behind stdout, a folder that may not be read
        return _fail(f"{name}: {problem}")


def _fail(message: str, code: int = 2, items: Sequence[str] = ()) -> int:
    for line in (message, *(f"  {item}" for item in items)):
        say(" ".join(line.split("\n")), err=True)
    return code


def run() -> None:
    """Console-script entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
