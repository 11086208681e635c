"""A user's mistake is told with the user's line, whatever library it went wrong in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orch_env.types.user_code import defined_at, is_mistake, place_of, told

HERE = "tests/orch_env/test_user_code.py"


def caught(call: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as found:
        call()
    return found.value


def line_of(function: Callable[..., Any], offset: int) -> str:
    return f"{HERE}:{function.__code__.co_firstlineno + offset}"


def own_mistake() -> Any:
    return {}["x"]


def in_a_library() -> Any:
    return json.loads("{")


def raised_again() -> Any:
    try:
        own_mistake()
    except KeyError as problem:
        exec(
            compile("raise ValueError('again') from cause", "<string>", "exec"), {"cause": problem}
        )


def test_a_mistake_comes_back_and_a_services_broken_answer_may_not() -> None:
    assert is_mistake(caught(own_mistake)) and is_mistake(ValueError("no number"))
    assert not is_mistake(caught(in_a_library))
    assert not is_mistake(caught(lambda: b"\xff".decode()))
    assert not is_mistake(ConnectionError("reset")) and not is_mistake(TimeoutError())


def test_the_place_is_the_users_line() -> None:
    assert place_of(caught(own_mistake)) == line_of(own_mistake, 1)
    assert place_of(caught(in_a_library)) == line_of(in_a_library, 1)
    assert told(caught(own_mistake)) == f"KeyError: 'x', at {line_of(own_mistake, 1)}"


def test_what_was_raised_again_in_other_words_is_looked_for_in_its_cause() -> None:
    problem = caught(raised_again)
    problem.__traceback__ = None
    assert place_of(problem) == line_of(own_mistake, 1)


def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("x = 1\ndef (\n")
    problem = caught(lambda: compile("x = 1\ndef (\n", str(tmp_path / "own.py"), "exec"))
    assert place_of(problem) == f"{tmp_path / 'own.py'}:2"


def test_an_error_without_a_traceback_and_a_function_without_source_have_no_place() -> None:
    assert place_of(ValueError("x")) is None
    assert told(ValueError("a\n  b")) == "ValueError: a b"
    assert defined_at(len) == ""
    assert defined_at(own_mistake) == f" (defined at {line_of(own_mistake, 0)})"
    assert len(told(ValueError("x" * 1000))) < 400
