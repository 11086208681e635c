"""The script ``orch``. A command is imported when it runs, so ``orch --help`` is quick."""
