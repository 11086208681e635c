"""Runs the tutorials: their expected outputs, and the scripts in examples/, come from their code.

``python -m tools.tutorials`` writes both anew; with ``--check PAGE`` it says whether a page still
holds. A page that begins with ``<!-- runs in: NAME -->`` needs the interpreter of ``.venv-NAME``.

In a page, a ``text`` block is what the blocks before it print; ``...`` in it stands for anything.
A command of a page is ``main([...])`` in the script. A block with a title is a file of its own.
What has ``<!-- not run: the reason -->`` before it is left out of both.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orch_env.cli.main import main as orch

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
EXAMPLES = ROOT / "examples"
BLOCK = re.compile(
    r"(?<!-->\n)^```(python|bash|text)(?: title=\"([\w.]+)\")?\n(.*?)^```$", re.M | re.S
)


def play(text: str) -> str:
    """Run a page in the current folder; the page with what it prints now.

    Raises:
        AssertionError: a command failed, or something is printed that the page does not show.
    """
    names: dict[str, Any] = {"__name__": "tutorial"}
    printed = io.StringIO()

    def shown(block: re.Match[str]) -> str:
        language, title, code = block.groups()
        if title:
            Path(title).write_text(code, encoding="utf-8")
            return block[0]
        if language == "text":
            output = printed.getvalue()
            printed.seek(0)
            printed.truncate()
            alike = doctest.OutputChecker().check_output(code, output, doctest.ELLIPSIS)
            return block[0] if alike else f"```text\n{output}```"
        with contextlib.redirect_stdout(printed):
            if language == "python":
                exec(compile(code, "tutorial", "exec"), names)
            for words in commands_of(code) if language == "bash" else ():
                assert orch(words) == 0, f"failed: orch {shlex.join(words)}"
        return block[0]

    page = BLOCK.sub(shown, text)
    assert not printed.getvalue(), f"printed, and not shown: {printed.getvalue()!r}"
    return page


def commands_of(code: str) -> list[list[str]]:
    """The arguments of each ``orch`` command of a block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))]


def scripts(page: Path) -> dict[str, str]:
    """Name in examples/ -> text: the page's code as one script, and the files that it writes."""
    text = page.read_text(encoding="utf-8")
    [title] = re.findall(r"^# (?:\d\. )?(.+)$", text, re.M)[:1]
    files, parts = {}, []
    for language, name, code in BLOCK.findall(text):
        if name:
            files[name] = f'"""A file of docs/tutorials/{page.name}."""\n\n{code}'
        elif language == "python":
            parts.append(code)
        elif language == "bash":
            parts += [f"assert main({words}) == 0\n" for words in commands_of(code)]
    if any(part.startswith("assert main([") for part in parts):
        parts.insert(0, "from orch_env.cli.main import main\n")
    head = f'"""{title}: the code of docs/tutorials/{page.name}."""\n'
    return {f"{page.stem}.py": "\n".join([head, *parts]), **files}


def environment_of(page: Path) -> str | None:
    """The NAME of the ``.venv-NAME`` that a page needs, ``None`` for the project's own."""
    needed = re.match(r"<!-- runs in: (\w+) -->", page.read_text(encoding="utf-8"))
    return needed[1] if needed else None


def played(page: Path) -> str:
    """The page with what it prints now, run in an empty folder."""
    folder = os.getcwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        sys.path.insert(0, scratch)
        try:
            return play(page.read_text(encoding="utf-8"))
        finally:
            os.chdir(folder)
            sys.path.remove(scratch)


def make(page: Path) -> None:
    """Write a page's outputs and its files in examples/."""
    page.write_text(played(page), encoding="utf-8")
    for name, code in scripts(page).items():
        path = EXAMPLES / name
        path.write_text(code, encoding="utf-8")
        if find_spec("ruff"):  # another framework's environment has none
            subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(path)], check=True)
        print(f"{page.relative_to(ROOT)} -> {path.relative_to(ROOT)}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--check", name]:
            assert played(Path(name)) == Path(name).read_text(encoding="utf-8"), name
        case []:
            for tutorial in PAGES:
                if environment_of(tutorial) is None:
                    make(tutorial)
        case names:
            for name in names:
                make(Path(name).resolve())
