"""The tool that draws mutants of the servers: the same ones each time, and none in annotations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.server_mutants import Mutant, _draw, main

MODULE = (
    "def f(a: int | None, b: int = 1) -> int | None:\n    c: int | None = a\n    return c + b\n"
)


def mutants() -> list[Mutant]:
    unions = [(1, 13), (1, 40), (2, 11)]
    found = [
        Mutant("m.py", at, (at[0], at[1] + 1), f"core/ReplaceBinaryOperator_BitOr_{to}", n)
        for n, at in enumerate(unions)
        for to in ("Add", "Sub")
    ]
    found += [
        Mutant("m.py", (3, 13), (3, 14), f"core/ReplaceBinaryOperator_Add_{to}", 0)
        for to in ("Sub", "Mul", "Div", "Mod")
    ]
    return [*found, Mutant("m.py", (1, 31), (1, 32), "core/NumberReplacer", 0)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODULE)
    return tmp_path


def test_one_change_is_drawn_at_each_place_outside_of_annotations(tree: Path) -> None:
    drawn = _draw(mutants(), 10, 0, tree)
    assert sorted(mutant.start for mutant in drawn) == [(1, 31), (3, 13)]


def test_a_seed_draws_the_same_mutants(tree: Path) -> None:
    draws = [_draw(mutants(), 1, seed, tree) for seed in range(20)]
    assert draws == [_draw(mutants(), 1, seed, tree) for seed in range(20)]
    assert len({drawn[0].operator for drawn in draws}) > 2


def test_it_says_how_to_get_the_tool(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--cosmic-ray", "/nowhere/cosmic-ray"])
    assert stopped.value.code == 2
    assert "`make mutants` installs it" in capsys.readouterr().err
