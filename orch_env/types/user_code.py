"""Code of a user's own: how it is found, what it returned, whether it failed by mistake, and where.

Bad luck (a lost connection, a time-out, a dead engine) is worth another attempt. A mistake comes
back with the same input, so it is told once, with file and line.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import os
import sysconfig
import traceback
from collections.abc import Callable
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

from orch_env.types.errors import OrchError
from orch_env.types.text import shortened

MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    StopAsyncIteration,
    StopIteration,
    SyntaxError,
    SystemExit,
    TypeError,
    ValueError,
)
"""What Python raises for a mistake; ``OSError``, ``RuntimeError`` and everything else may pass."""


def is_mistake(problem: BaseException) -> bool:
    """Whether the same input would fail again. A service's broken answer may be whole then."""
    broken_answer = isinstance(problem, json.JSONDecodeError | UnicodeDecodeError)
    return isinstance(problem, MISTAKES) and not broken_answer


def number_in(value: Any) -> float:
    """The number that a user's code returned; NaN for what is none, or none that a float holds.

    Scalars of NumPy and torch count, with no dimension; ``True`` and ``False`` are 1 and 0.
    """
    if getattr(value, "shape", None) == ():
        value = value.item()
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.nan


def place_of(problem: BaseException) -> str | None:
    """``file:line`` of the innermost line that is no library's and not ours.

    An error that never passed through a user's file gets the line that raised it; one without a
    traceback gets ``None``. What a library raised again in other words is looked for in its cause.
    """
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{_shown(problem.filename)}:{problem.lineno}"
    frames = traceback.extract_tb(problem.__traceback__)
    cause = problem.__cause__
    earlier = traceback.extract_tb(cause.__traceback__) if cause is not None else []
    own = [frame for frame in (*frames, *earlier) if _is_users(frame.filename)]
    found = (own or frames)[-1:]
    return f"{_shown(found[0].filename)}:{found[0].lineno}" if found else None


def defined_at(function: Callable[..., Any]) -> str:
    """Where a function is defined, for the end of a message; empty where it has no source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" (defined at {_shown(code.co_filename)}:{code.co_firstlineno})" if code else ""


def load_own(path: str, where: str, form: str) -> Any:
    """Import what a user named as ``module:name``.

    Such a name may come from a configuration or a command line only, never from a file of tasks.

    Args:
        path: the module is looked for on Python's path.
        where: what is named, for errors.
        form: how it has to be written, for errors.

    Raises:
        OrchError: it is written otherwise, the module or the name is not there, or the module
            fails while it is imported.
    """
    module, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (attribute, *module.split("."))):
        raise OrchError(f"{where}: {form}")
    found = getattr(_module(module, where), attribute, None)
    if found is None:
        raise OrchError(f"{where}: module {module!r} has no {attribute!r}")
    return found


def _module(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as problem:  # it may fail in any way
        missing = problem.name if isinstance(problem, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise OrchError(
                f"{where}: there is no module {missing!r} on Python's path; install it, or name "
                "its folder in PYTHONPATH (PYTHONPATH=. for the current one)"
            ) from problem
        raise OrchError(f"{where}: importing its module failed ({told(problem)})") from problem


def told(problem: BaseException) -> str:
    """An exception as one line, with its place."""
    place = place_of(problem)
    text = shortened(" ".join(str(problem).split()), 300)
    name = type(problem).__name__
    return f"{name}{f': {text}' if text else ''}{f', at {place}' if place else ''}"


@cache
def _is_users(filename: str) -> bool:
    return not filename.startswith(("<", *_libraries()))


@cache
def _libraries() -> tuple[str, ...]:
    """Folders of Python's own library, of installed packages and of this one."""
    ours = Path(__file__).resolve().parents[2]
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {str(ours / name) for name in ("orch_env", "orch_train")}
    return tuple(f"{folder}{os.sep}" for folder in folders)


def _shown(filename: str) -> str:
    """Relative to the current folder where the file is in it."""
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative
