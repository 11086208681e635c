"""What the documentation site adds to the pages in docs/: the hooks of mkdocs.yml.

README.md is the home page. Links that work in the repository work on the site: a linked page of
the repository's top folder becomes a page, and any other linked file is copied beside the pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
TOP_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> None:
    """Add the pages that the navigation does not name, by their titles."""
    docs = Path(config.docs_dir)
    sections = {next(iter(entry)): next(iter(entry.values())) for entry in config.nav or []}
    named = set(re.findall(r"[\w/-]+\.md", str(config.nav)))
    for path in sorted(docs.rglob("*.md")):
        page = path.relative_to(docs).as_posix()
        if page not in named:
            section = "Other frameworks" if page.startswith("adapters/") else "How-to"
            sections[section].append(page)
    config.nav = [{name: pages} for name, pages in sections.items() if pages]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages of the top folder, and every file outside docs/ that a page links to."""
    for source, page in TOP_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    for file in list(files.documentation_pages()):
        for link in LINK.finditer(file.content_string):
            path = _linked(file.src_uri, link[2])
            if not path.startswith("docs/") and path not in TOP_PAGES and (ROOT / path).is_file():
                copied = f"repository/{path}"
                if copied not in files.src_uris:
                    files.append(File.generated(config, copied, abs_src_path=str(ROOT / path)))


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page to where their targets are on the site."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation"]  # a column with one entry

    def moved(link: re.Match[str]) -> str:
        path = _linked(here, link[2])
        if path.startswith("docs/"):
            target = path.removeprefix("docs/")
        else:
            target = TOP_PAGES.get(path, f"repository/{path}")
        if target not in files.src_uris:
            return link[0]  # the strict build says where the link is
        return (
            f"{link[1]}{posixpath.relpath(target, posixpath.dirname(here))}{link[3] or ''}{link[4]}"
        )

    return LINK.sub(moved, text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the cross-references of docstrings (``:class:`~a.B```) as code."""
    return re.sub(r":[a-z]+:<code>~?(?:[\w.]*\.)?(\w+)</code>", r"<code>\1</code>", html)


def _linked(page: str, target: str) -> str:
    """The path in the repository to which a link of a page leads."""
    source = {site: top for top, site in TOP_PAGES.items()}.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
