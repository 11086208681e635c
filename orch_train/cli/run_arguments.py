"""What `orch train` and `orch sft` share: reading their arguments, the dry run, quiet libraries."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from orch_env.types import OrchError
from orch_train.config import GRPOConfig, Settings


def read_config(config: str | None, overrides: Sequence[str], run: Path | None) -> GRPOConfig:
    """The configuration of a command line.

    Args:
        config: a YAML file; with ``run`` it may be left out, or be the first override.
        overrides: ``group.key=value`` texts.
        run: the folder of a run that is to be resumed.

    Raises:
        OrchError: no configuration, an unreadable one, or a malformed override.
    """
    texts = [*overrides]
    if config is not None and run is not None and "=" in config and not Path(config).exists():
        texts.insert(0, config)
        config = None
    if config is None:
        if run is None:
            raise OrchError("a configuration file is needed, as in: orch train configs/x.yaml")
        if not (run / "config.yaml").is_file():
            raise OrchError(f"{str(run)!r} is no run folder: it has no config.yaml")
        config = str(run / "config.yaml")
    return GRPOConfig().from_yaml(config).with_overrides(texts)


def config_name(config: str | None) -> str:
    """The name of a run that is not named otherwise: that of its configuration file."""
    return Path(config).stem if config is not None else "run"


def quiet_libraries() -> None:
    """Keep other libraries from our display, and from spinning on cores that others need.

    Idle OpenMP threads spin by default: with another busy process on the same cores, one learner
    step was seen to take ten times as long. Call this before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def dry_run(config: GRPOConfig, settings: Settings, *, as_json: bool) -> None:
    """Print the resolved configuration, a memory estimate and what the chat template does.

    On stdout stands one YAML document (the rest as comments), or one JSON object.

    Raises:
        OrchError: the model or its template is not usable.
    """
    template = _check_template(settings)
    from orch_train.memory import estimate_memory
    from orch_train.model import resolve_model

    folder = resolve_model(settings.model.path)
    memory = estimate_memory(settings, folder) if Path(folder).is_dir() else None
    if as_json:
        record = {
            "config": config.to_dict(),
            "memory": memory.to_dict() if memory is not None else None,
            "template": template,
        }
        click.echo(json.dumps(record, ensure_ascii=False, allow_nan=False))
        return
    click.echo(config.to_yaml(), nl=False)
    shown = memory.describe() if memory is not None else "unknown before the model is downloaded"
    click.echo(f"# memory: {shown}")
    click.echo("# template: " + ", ".join(f"{key} {value}" for key, value in template.items()))


def _check_template(settings: Settings) -> dict[str, Any]:
    """Render the first prompts as the rollouts will."""
    from orch_train.environments import prompt_lengths
    from orch_train.runners.env_runner import make_chat

    chat = make_chat(settings)
    lengths = prompt_lengths(settings, chat)
    return {
        "tools_in_system": chat.tools_in_system,
        "native_tool_role": chat.native_tool_role,
        "stop_token_ids": list(chat.stop_token_ids),
        "prompts": len(lengths),
        "longest_prompt": max(lengths),
        "mean_prompt": round(sum(lengths) / len(lengths)),
    }
