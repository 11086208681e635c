"""Which exceptions are a mistake in somebody's code or data, and not bad luck.

Bad luck (a lost connection, a time-out, a dead engine) is worth another attempt. A mistake comes
back with the same input, so it is told once, with file and line.
"""

from __future__ import annotations

MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What Python raises for a mistake; ``OSError``, ``RuntimeError`` and everything else may pass."""
