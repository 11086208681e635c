"""The page of settings says what the code says."""

from __future__ import annotations

from orch_train.config import Settings
from orch_train.config.reference import PAGE, descriptions, page


def test_every_setting_is_described_in_its_groups_docstring() -> None:
    for name, field in Settings.model_fields.items():
        group = field.annotation
        assert isinstance(group, type)
        assert list(descriptions(group)) == list(group.model_fields), name


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "a setting changed: run `python -m orch_train.config.reference`"
    )
