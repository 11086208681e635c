"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from orch_env.types import OrchError
from orch_train.storage.atomic_folder import written_whole
from orch_train.storage.run_folder import write_text


@pytest.mark.parametrize(("text", "bytes_"), [("a", b"a\n"), ("a\n", b"a\n"), ("", b"")])
def test_a_text_file_ends_with_a_newline_unless_it_is_empty(
    text: str, bytes_: bytes, tmp_path: Path
) -> None:
    write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == bytes_


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OrchError, match="cannot write"):
        write_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def _written(folder: Path, text: str) -> None:
    with written_whole(folder) as partial:
        (partial / "file").write_text(text)


def test_a_folder_that_cannot_be_swapped_in_leaves_the_old_one_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step_1"
    _written(folder, "old")
    rename = Path.rename

    def failing(path: Path, target: Any) -> Path:
        if path.name.endswith(".partial"):
            raise OSError(errno.EIO, "input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OrchError, match="input/output error"):
        _written(folder, "new")
    assert (folder / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_of_two_that_write_one_folder_the_last_stands_and_both_are_whole(tmp_path: Path) -> None:
    """Two processes may save the same checkpoint, in containers even under one process id."""
    folder = tmp_path / "step_1"
    with written_whole(folder) as first, written_whole(folder) as second:
        assert first != second
        (first / "first").write_text("1")
        (second / "second").write_text("2")
    assert [path.name for path in folder.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("points_to", ["nowhere", "elsewhere"])
def test_a_link_in_the_way_is_replaced_and_what_it_points_to_stays(
    tmp_path: Path, points_to: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "step_1"
    folder.symlink_to(points_to)
    _written(folder, "new")
    assert not folder.is_symlink() and (folder / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "step_1"]


def test_a_folder_that_appears_during_the_swap_is_replaced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step_1"
    _written(folder, "old")
    rename, appeared = Path.rename, []

    def racing(path: Path, target: Any) -> Path:
        if path.name.endswith(".partial") and not appeared:
            appeared.append(1)
            folder.mkdir()
            (folder / "file").write_text("of another process")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", racing)
    _written(folder, "new")
    assert appeared and (folder / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [folder]
