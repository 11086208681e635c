"""An episode's own folder, and the one name that it has in every episode.

A folder's real path differs from episode to episode. The model reads and writes ``/workspace``
instead: in arguments it stands for the real folder, and in results the real path becomes it again.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from orch_env.backends.mcp.guardian import remove_folder
from orch_env.types.json import Json

ALIAS = "/workspace"

PLACEHOLDER = "{folder}"
"""What the configuration of a server writes for the folder."""

_ALIAS = re.compile(rf"(?:(?<=://)|(?<![\w./~-])){ALIAS}(?![\w-]|\.\w)")


class EpisodeFolder:
    """A new folder with copies of templates in it.

    Args:
        templates: folders whose content is copied, in this order.

    Attributes:
        root: a folder for this episode alone; what the model sees as ``/``.
        path: the folder itself, ``root/workspace``, so that its name is the same in each episode.
    """

    def __init__(self, templates: Iterable[Path] = ()) -> None:
        self.root = tempfile.mkdtemp(
            prefix="orch-mcp-", dir=os.path.realpath(tempfile.gettempdir())
        )
        self.path = self.root + ALIAS
        self._shown = re.compile(re.escape(self.root) + r"(?![\w-])(/?)")
        try:
            os.mkdir(self.path)
            for template in templates:
                shutil.copytree(template, self.path, symlinks=True, dirs_exist_ok=True)
        except OSError:  # a full disk, say
            self.remove()
            raise

    def filled(self, text: str) -> str:
        """A text of the configuration with the real path for its placeholder."""
        return text.replace(PLACEHOLDER, self.path)

    def in_arguments(self, value: Json) -> Json:
        """A call's arguments with the real path for the alias, at every depth."""
        if isinstance(value, str):
            return _ALIAS.sub(lambda _: self.path, value)
        if isinstance(value, list):
            return [self.in_arguments(item) for item in value]
        if isinstance(value, dict):
            return {self.in_arguments(name): self.in_arguments(v) for name, v in value.items()}
        return value

    def in_results(self, text: str) -> str:
        """A text of a server with the alias for the real path."""
        return self._shown.sub("/", text)

    def remove(self) -> None:
        """Remove it with all that the servers left in it."""
        remove_folder(self.root)
