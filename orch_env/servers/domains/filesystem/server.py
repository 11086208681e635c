"""The server: the tools of this folder over one volume."""

from __future__ import annotations

from orch_env.servers.domains.filesystem.archives import ArchiveTools
from orch_env.servers.domains.filesystem.changing import ChangingTools
from orch_env.servers.domains.filesystem.looking import LookingTools
from orch_env.servers.domains.filesystem.texts import TextTools
from orch_env.servers.domains.filesystem.world import fill
from orch_env.servers.framework.chance import Chance


class Filesystem(LookingTools, TextTools, ChangingTools, ArchiveTools):
    """A volume with a shell on it, for a user who is not root."""

    name = "filesystem"
    category = "Productivity"
    epoch = "2025-03-03"

    def populate(self, chance: Chance) -> None:
        """Add a company's file server as one of its people sees it; see :func:`world.fill`."""
        fill(self, chance)
