"""Imports recordings in the formats of other projects: into a cache, and into tasks."""

from orch_env.importers.build import ImportResult, import_tasks, store
from orch_env.importers.source import FORMATS, TASK_FORMATS, detect, read_source
from orch_env.importers.tool_files import read_tools

__all__ = [
    "FORMATS",
    "TASK_FORMATS",
    "ImportResult",
    "detect",
    "import_tasks",
    "read_source",
    "read_tools",
    "store",
]
