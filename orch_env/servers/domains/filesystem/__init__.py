"""A volume with a shell on it: files, folders, links, permissions, text tools and archives."""

from orch_env.servers.domains.filesystem.server import Filesystem

__all__ = ["Filesystem"]
