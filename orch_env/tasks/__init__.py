"""Task files and bundled data sets, and the selection of tasks."""

from orch_env.tasks.files import bundled, load_tasks, save_tasks

__all__ = ["bundled", "load_tasks", "save_tasks"]
