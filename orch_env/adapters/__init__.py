"""Adapters to other RL frameworks, one module each, over `EpisodeSource` and `EpisodeSession`.

Importing an adapter always succeeds and imports no framework: its first use does.
"""

from __future__ import annotations

import importlib
import re
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from orch_env.types import OrchError


def require(module: str, *, extra: str, package: str, known: tuple[str, str]) -> ModuleType:
    """Import a framework for an adapter.

    Args:
        module: what is imported.
        extra: the extra of this package that installs it.
        package: its name in the package index.
        known: its versions that the adapter was written for: the first one, and the first one
            that is no longer among them, as ``("1.16", "2")``.

    Raises:
        ImportError: the framework is not installed.
        OrchError: another version of it is installed.
    """
    install = f"pip install 'orch-rl[{extra}]'"
    try:
        found, imported = version(package), importlib.import_module(module)
    except (ImportError, PackageNotFoundError) as missing:
        why = "" if isinstance(missing, PackageNotFoundError) else f" ({missing})"
        raise ImportError(
            f"this adapter needs {package}, which cannot be imported{why}: {install}"
        ) from missing
    first, end = known
    if not _numbers(first) <= _numbers(found) < _numbers(end):
        raise OrchError(
            f"this adapter knows {package} from {first} to below {end}, and {found} is installed: "
            f"{install}"
        )
    return imported


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version: ``1.16.0.dev2`` gives (1, 16, 0)."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()
