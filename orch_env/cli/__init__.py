"""The one script ``orch``. Commands load when they are used, so ``orch --help`` is quick."""
