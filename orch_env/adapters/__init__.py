"""Adapters to other RL frameworks, one module each, over `EpisodeSource` and `EpisodeSession`.

Importing an adapter always succeeds and imports no framework: its first use does.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from orch_env.session import EpisodeSource
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


def by_calls(source: EpisodeSource) -> EpisodeSource:
    """The source for a session that is told calls one by one, each of which counts as a message.

    Which calls stood in one message is seen only in the transcript, and
    :meth:`EpisodeSource.score` counts there; the session leaves room for as many.
    """
    return replace(source, max_turns=source.max_turns * source.max_calls_per_turn)
