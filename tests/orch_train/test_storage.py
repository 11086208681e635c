"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch_env.types import OrchError
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
