"""What `orch train` and `orch sft` share: reading their arguments, quiet libraries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig


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
        from orch_train.algorithms.checkpoint import newest_checkpoint, refuse_no_run, with_stored

        refuse_no_run(run)
        stored = with_stored(GRPOConfig(), run, newest_checkpoint(run))
        return stored.with_overrides(texts)
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
