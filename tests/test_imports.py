"""No module of the packages is part of an import circle, lazy and type-only imports counted."""

from __future__ import annotations

from collections.abc import Mapping

import grimp
import pytest

PACKAGES = ("orch_env", "orch_train")


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    graph = grimp.build_graph(*PACKAGES)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach one another, by what each can reach."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        stack = [start]
        while stack:
            for name in imports.get(stack.pop(), ()):
                if name not in found and name in imports:
                    found.add(name)
                    stack.append(name)
        return found

    reached = {name: reach(name) for name in imports}
    rings = {
        frozenset(n for n in reached[name] if name in reached[n])
        for name in imports
        if name in reached[name]
    }
    return sorted(map(set, rings), key=len)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_part_of_an_import_circle(package: str, imports: dict[str, set[str]]) -> None:
    own = {name: targets for name, targets in imports.items() if name.startswith(package)}
    assert circles(own) == []


def test_a_circle_is_found_where_there_is_one() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_at_most_twenty_rooms(package: str) -> None:
    rooms = grimp.build_graph(package).find_children(package)
    assert len(rooms) <= 20, sorted(rooms)
