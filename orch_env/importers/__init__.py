"""Imports recordings in the formats of other projects: into a cache, and into tasks."""

from orch_env.importers.build import ImportResult, import_tasks, store
from orch_env.importers.schemas import read_tools
from orch_env.importers.source import FORMATS, TASK_FORMATS, detect, read_source

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
