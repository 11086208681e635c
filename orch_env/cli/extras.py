"""Imports of what an extra of the package installs, at the moment it is used."""

from __future__ import annotations

import importlib
from typing import Any

from orch_env.types.errors import OrchError


def load(module: str, attribute: str, needed_by: str, extra: str = "train") -> Any:
    """Import ``attribute`` of ``module``.

    Args:
        module: the module's name.
        attribute: what is wanted of it.
        needed_by: what the user asked for.
        extra: the extra of the package that installs what it needs.

    Raises:
        OrchError: a package is not installed; the message says how to install it.
    """
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as problem:
        missing = (problem.name or "").partition(".")[0]
        if missing in ("orch_env", "orch_train"):
            raise
        raise OrchError(
            f"{needed_by} needs the package {missing!r}: pip install 'orch-rl[{extra}]'"
        ) from problem
