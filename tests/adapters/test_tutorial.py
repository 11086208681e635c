"""A tutorial on another framework prints what its page shows, in that framework's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.other_python import output_of
from tools import tutorials

PAGES = [page for page in tutorials.PAGES if tutorials.environment_of(page) is not None]


@pytest.mark.adapters
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_its_page_shows(page: Path) -> None:
    environment = tutorials.environment_of(page)
    assert environment is not None
    output_of(environment, "-m", "tools.tutorials", "--check", str(page))
