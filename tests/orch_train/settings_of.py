"""Settings by their own names: `settings_of(loss="grpo", dtype="bfloat16")`."""

from __future__ import annotations

from typing import Any

from orch_train.config import Settings

GROUPS = ("training", "learners", "model", "rollouts", "debugging")


def settings_of(**changes: Any) -> Settings:
    """A configuration with these changes, each in the first group that has a key of its name.

    ``sft={...}`` is that group as a whole: its keys have the names of others.
    """
    groups: dict[str, dict[str, Any]] = {"sft": changes.pop("sft", {})}
    for key, value in changes.items():
        group = next(g for g in GROUPS if key in type(getattr(Settings(), g)).model_fields)
        groups.setdefault(group, {})[key] = value
    return Settings.model_validate(groups)
