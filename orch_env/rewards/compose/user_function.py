"""Functions of the user's own by name: ``module:function``.

Such a name may come from a configuration or a command line only: no text of a task, an episode or a
cache file is ever passed to this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from orch_env.types import OrchError
from orch_env.types.user_code import load_own


def is_function_path(name: object) -> bool:
    """Whether a name is meant as ``module:function``; no name of our own has a colon."""
    return isinstance(name, str) and ":" in name


def load_function(
    path: str,
    options: Mapping[str, Any] | None = None,
    *,
    takes: tuple[str, ...],
    role: str = "reward",
) -> Callable[..., Any]:
    """Import a function and check that it can be called.

    Args:
        path: ``module:function``; the module is looked for on Python's path.
        options: keyword arguments that it will get.
        takes: names of the positional arguments that it will get, for checks and errors.
        role: what it is used as, for errors.

    Raises:
        OrchError: the path is malformed, the module or the function is not there, the module
            fails while it is imported, or the function does not take these arguments.
    """
    where = f"{role} {path!r}"
    function = load_own(path, where, "a function of your own is named module:function")
    if not callable(function):
        kind = type(function).__name__
        raise OrchError(f"{where}: {path.partition(':')[2]!r} is a {kind} and no function")
    made: Callable[..., Any] = function
    _check_signature(made, takes, options or {}, where)
    return made


def _check_signature(
    function: Callable[..., Any], takes: tuple[str, ...], options: Mapping[str, Any], where: str
) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none; the first call shows it
        return
    try:
        signature.bind(*takes, **options)
    except TypeError as problem:
        shown = ", ".join([*takes, *(f"{name}=..." for name in options)])
        raise OrchError(f"{where} cannot be called with ({shown}): {problem}") from problem
