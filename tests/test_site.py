"""The documentation site: it builds without a network, and its pages work when opened as files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orch_train.browser import Browser, find_browser

ROOT = Path(__file__).resolve().parent.parent
MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not MKDOCS.exists(), reason="no .venv-docs: make docs"),
    pytest.mark.skipif(find_browser() is None, reason="no Chromium found: make browser"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    words = [str(MKDOCS), "build", "--site-dir", str(site)]
    alone = ["unshare", "--net"]
    if shutil.which(alone[0]) and subprocess.run([*alone, "true"], check=False).returncode == 0:
        words = alone + words
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.fixture(scope="module")
def pages(site: Path) -> list[str]:
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    return [name for name in names if name != "404.html"]  # a server's page: absolute addresses


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = find_browser()
    assert found is not None
    browser = Browser(found, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    for path in ROOT.iterdir():
        if path.name in ("docs", "tools"):
            shutil.copytree(path, tmp_path / path.name)
        elif not path.name.startswith(".") and path.name != "site":
            (tmp_path / path.name).symlink_to(path)
    with (tmp_path / "docs" / "view.md").open("a") as page:
        page.write("\n[a](nope.md) [b](training.md#nowhere) [c](../configs/nope.yaml)\n")
    done = subprocess.run([str(MKDOCS), "build"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "3 warnings in strict mode" in done.stdout + done.stderr


def go(browser: Browser, page: Path) -> None:
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait(f"document.readyState === 'complete' && location.href === '{page.as_uri()}'")


def test_every_link_between_the_pages_leads_somewhere(site: Path, pages: list[str]) -> None:
    assert len(pages) >= 25
    for name in pages:
        html = (site / name).read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', html):
            assert ((site / name).parent / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize("width", [1400, 420])
def test_a_page_fits_the_window_shows_its_pictures_and_asks_nobody(
    site: Path, pages: list[str], browser: Browser, width: int
) -> None:
    browser.resize(width, 900)
    for name in pages:
        browser.requests.clear()
        browser.complaints.clear()
        go(browser, site / name)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), name
        assert browser.run("[...document.images].every((i) => i.naturalWidth > 0)"), name
        outside = [r for r in browser.requests if not re.match("file:|about:|data:", r)]
        assert outside == [] and browser.complaints == [], name


def test_the_search_works_in_a_page_that_is_opened_as_a_file(site: Path, browser: Browser) -> None:
    browser.resize(1400, 900)
    go(browser, site / "index.html")
    browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
    browser.press("s")
    browser.call("Input.insertText", text="stalenes")
    browser.press("s")
    browser.wait("document.querySelector('.md-search-result__link')?.href.includes('glossary')")
