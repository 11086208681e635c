"""The docs are true: their code blocks run, their commands and paths exist, their picture is right.

Every fenced block of README.md, CONTRIBUTING.md and docs/**/*.md is run or checked. One that cannot
run here has ``<!-- not run: the reason -->`` on the line before it, and is reported as skipped.
A tutorial is run as a whole: what it prints is what its page shows. One on another framework is run
by tests/adapters/test_tutorial.py.
"""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import shlex
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
import yaml

from orch_env import Episode, ErrorType, Provenance, StopReason, Task, make_reward
from orch_env.cache import models
from orch_env.cli.main import cli, main
from orch_env.synthesis.pipeline.config import load_config
from orch_env.types import OrchError
from orch_train import GRPOConfig
from orch_train.cli.run_arguments import read_config
from orch_train.trajectory.store import Rollout
from tests.orch_env.importer_samples import conversation, lines
from tools import episode_picture, tutorials

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = ROOT / "Makefile"
CHECKED = ("python", "yaml", "bash")
SHOWN = ("json", "text")
"""Languages of blocks that show something and ask the reader to do nothing."""
MARK = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``reason`` says why it does not run here, if it does not."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> list[Block]:
    """All fenced blocks of a Markdown text, in order."""
    found: list[Block] = []
    fence: tuple[int, str, str | None] | None = None
    held: list[str] = []
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            if fence is None:
                marked = MARK.fullmatch(before)
                language = line.strip()[3:].split(" title=")[0]
                fence = (number, language, marked[1] if marked else None)
            else:
                found.append(Block(page, fence[0], fence[1], "\n".join(held) + "\n", fence[2]))
                fence, held = None, []
        elif fence is not None:
            held.append(line)
        before = line
    assert fence is None, f"{page}: the block of line {fence and fence[0]} never ends"
    return found


BLOCKS = [
    block
    for page in PAGES
    for block in blocks_of(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))
]
RUN = [
    block
    for block in BLOCKS
    if block.reason is None and not block.page.startswith("docs/tutorials/")
]
NOT_RUN = [block for block in BLOCKS if block.reason is not None]


def of(language: str, blocks: list[Block] = RUN) -> list[Block]:
    return [block for block in blocks if block.language == language]


# -- the blocks ------------------------------------------------------------------------------


def test_a_block_has_a_language_and_a_mark_has_a_block() -> None:
    assert {block.language for block in BLOCKS} <= {*CHECKED, *SHOWN}
    marks = sum(len(MARK.findall(page.read_text(encoding="utf-8"))) for page in PAGES)
    # CONTRIBUTING.md explains the mark, inside a sentence.
    assert marks == len(NOT_RUN) + 1
    assert len(of("python")) >= 8 and len(of("bash")) >= 10 and of("yaml")


def test_blocks_are_found_with_their_lines_and_marks() -> None:
    text = "a\n```python\nx = 1\n```\n<!-- not run: needs a GPU -->\n```bash\nls\n```\n"
    assert blocks_of("p", text) == [
        Block("p", 2, "python", "x = 1\n", None),
        Block("p", 6, "bash", "ls\n", "needs a GPU"),
    ]


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_a_block_that_does_not_run_here_is_python_or_a_command(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec")
    else:
        check_commands(block)
    pytest.skip(f"{block} is not run: {block.reason}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has who follows the docs: the configurations, a recording, a module of rewards.

    The commands of README.md that import the recording have run in it.
    """
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    tasks = [conversation(f"Trips-{n}", city) for n, city in enumerate(("Oslo", "Bergen"))]
    (folder / "ComplexFuncBench.jsonl").write_text(lines(*tasks))
    (folder / "my_package").mkdir()
    rewards = "def polite(task, episode):\n    return 1.0\n\n\nwhole = polite\n"
    (folder / "my_package" / "rewards.py").write_text(rewards)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        [importing] = [b for b in of("bash") if "orch tasks import" in b.text]
        for words in commands_of(importing):
            assert main(words[1:]) == 0, words
    return folder


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("page", sorted({block.page for block in of("python")}))
def test_the_python_of_a_page_runs_from_top_to_bottom(page: str) -> None:
    names: dict[str, Any] = {"__name__": page}
    for block in of("python"):
        if block.page == page:
            # Empty lines before it, so that a traceback names the line of the page.
            exec(compile("\n" * block.line + block.text, str(ROOT / page), "exec"), names)


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_a_yaml_block_is_a_configuration(block: Block) -> None:
    settings = GRPOConfig().from_dict(yaml.safe_load(block.text)).settings
    make_reward(settings.environment.env_config.get("reward", "graduated"))


HERE = [page for page in tutorials.PAGES if tutorials.environment_of(page) is None]


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_its_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = page.read_text(encoding="utf-8")
    assert tutorials.play(text) == text, "python -m tools.tutorials writes what is printed now"


@pytest.mark.parametrize("page", tutorials.PAGES, ids=lambda page: page.stem)
def test_the_scripts_in_examples_are_the_code_of_the_tutorials(page: Path) -> None:
    for name, code in tutorials.scripts(page).items():
        written = (tutorials.EXAMPLES / name).read_text(encoding="utf-8")
        same = ast.dump(ast.parse(written)) == ast.dump(ast.parse(code))
        assert same, f"python -m tools.tutorials writes examples/{name} anew"


def test_a_tutorial_that_prints_something_else_is_found() -> None:
    page = "```python\nprint(6 * 7)\n```\n\n```text\n%s\n```\n"
    assert tutorials.play(page % "41") == page % "42" == tutorials.play(page % "42")
    assert tutorials.play(page % "4...") == page % "4..."
    with pytest.raises(AssertionError, match="printed, and not shown"):
        tutorials.play(page.split("\n\n")[0] + "\n")


# -- commands --------------------------------------------------------------------------------


def commands_of(block: Block) -> list[list[str]]:
    """The words of each command, comments left out."""
    text = block.text.replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def check_commands(block: Block) -> None:
    for program, *words in commands_of(block):
        match Path(program).name:
            case "orch":
                check_orch(words)
            case "python" | "python3.12":
                check_python(words)
            case "make":
                made = re.findall(r"^([a-z0-9-]+):.*##|^(\w+) *\?=", MAKEFILE.read_text(), re.M)
                assert {w.split("=")[0] for w in words} <= {t or v for t, v in made}, words
            case "pip":
                check_pip(words)
            case name if block.reason is None:
                assert name == "pre-commit", f"{block}: nothing here checks {program!r}"


def check_orch(words: list[str]) -> None:
    """Raises click's own error for a command or an option that does not exist."""
    command: click.Command = cli
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"orch has no command {words[0]!r}"
        command, words = found, words[1:]
    values, _, _ = command.make_parser(click.Context(command)).parse_args(list(words))
    overrides = values.get("overrides")
    if isinstance(overrides, tuple) and command.name == "run":
        assert load_config(ROOT / values["config"], overrides)
    elif isinstance(overrides, tuple):
        assert read_config(str(ROOT / values["config"]), overrides, None).settings


def check_pip(words: list[str]) -> None:
    """What is installed is the package, from where the reader is, with extras that exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert words[0] == "install", words
    for word in words[1:]:
        wanted = re.fullmatch(r"(\.|orch-rl|dist/orch_rl-\*\.whl)(?:\[([\w,-]+)\])?", word)
        assert wanted, f"pip install {word}"
        assert set((wanted[2] or "").split(",")) <= {*project["optional-dependencies"], ""}, word


def check_python(words: list[str]) -> None:
    """The module or script and every option are in the repository; it is read, not imported."""
    if words[0] == "-m":
        path = ROOT / (words[1].replace(".", "/") + ".py")
    else:
        [path] = (ROOT / "tools").rglob(words[0])
    texts = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
    assert {w for w in words if w.startswith("--")} - {"--help"} <= texts, words


@pytest.mark.parametrize("block", of("bash"), ids=str)
def test_commands_and_their_options_exist(block: Block) -> None:
    check_commands(block)


@pytest.mark.parametrize(
    "wrong",
    [
        "orch trian x.yaml",
        "orch train x.yaml --dry",
        "orch train configs/quickstart.yaml training.learning_rate=1",
        "python -m benchmarks.no_such",
        "python -m benchmarks.overlap --no-such",
        "python no_such.py",
        "make no-such",
        "make quickstart NO_SUCH=1",
        "pip install '.[no-such]'",
        "pip install some-other-package",
        "curl example.org",
    ],
)
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, click.UsageError, OSError, OrchError, ValueError)):
        check_commands(Block("p", 1, "bash", wrong, None))


SHORTER = {"attack": ["--limit", "1"], "replay": ["--limit", "2"], "eval": ["--limit", "2"]}
"""Added to a command so that it takes a second."""
QUICK = ("orch reward", "orch replay", "orch eval --benchmark", "orch tasks validate", "--dry-run")
"""Commands on the quick start's runs are typed in tests/orch_train/test_quickstart.py."""


def quick_commands() -> list[list[str]]:
    """Those that are cheap enough to run, once each, in the order of the pages."""
    found: dict[str, list[str]] = {}
    for block in of("bash"):
        for words in commands_of(block):
            text = shlex.join(words)
            if any(part in text for part in QUICK) and "my_rewards" not in text:
                extra = [w for name, more in SHORTER.items() if name in words[1:3] for w in more]
                found.setdefault(text, [*words[1:], *extra])
    return list(found.values())


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("words", quick_commands(), ids=" ".join)
def test_a_quick_command_does_what_the_page_says(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) in (0, 1), capsys.readouterr().err  # 1: it ran, and the answer is no


# -- paths -----------------------------------------------------------------------------------

WRITTEN = ("runs/", "data/", "models/", "checkpoints/")
"""Folders that are made on the reader's machine, not part of the repository."""
TOP = {path.name for path in ROOT.iterdir()}


def paths_of(text: str) -> set[str]:
    """Everything in a Markdown text that is written as a path of the repository."""
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?)`", text))
    named |= set(re.findall(r"(?<![\w/.-])((?:configs|benchmarks)/[\w./-]*\w)", text))
    return {path for path in named if path.split("/")[0] in TOP and not path.startswith(WRITTEN)}


def links_of(text: str) -> set[str]:
    """Targets of links and pictures within the repository."""
    return {
        target.split("#")[0]
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not re.match(r"[a-z]+:|#", target)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_and_link_of_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = {path for path in paths_of(text) if not (ROOT / path).exists()}
    missing |= {link for link in links_of(text) if not (page.parent / link).exists()}
    assert missing == set()


def anchors_of(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_heading_that_a_link_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
        path = page.parent / target if target else page
        assert anchor in anchors_of(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_the_schemas_page_shows_a_task_an_episode_and_every_table() -> None:
    page = (ROOT / "docs" / "schemas.md").read_text(encoding="utf-8")
    task, episode = (json.loads(b.text) for b in of("json") if b.page == "docs/schemas.md")
    assert set(task) | {"answer", "servers"} <= set(Task.from_dict(task).to_dict())
    assert Episode.from_dict({k: v for k, v in episode.items() if k not in ("task", "settings")})
    for table in (*models.Base.metadata.tables, *Rollout.metadata.tables):
        assert f"`{table}`" in page, table
    for column in Rollout.__table__.columns:
        assert f"`{column.name}`" in page, column.name
    for name in (*(f.name for f in fields(Task)), *ErrorType, *StopReason, *Provenance):
        assert f"`{name}`" in page, name


def test_paths_and_links_are_found() -> None:
    text = "see `orch_train/no/such.py`, benchmarks/gone.json. [a](docs/x.md#y) [b](https://x.y)"
    assert paths_of(text) == {"orch_train/no/such.py", "benchmarks/gone.json"}
    assert links_of(text) == {"docs/x.md"}


def names_in_pages(pattern: str) -> set[str]:
    return {name for page in PAGES for name in re.findall(pattern, page.read_text(), re.M)}


def test_every_module_that_a_page_names_can_be_imported() -> None:
    named = names_in_pages(r"`(orch_(?:env|train)(?:\.\w+)+)`")
    assert len(named) >= 4
    for name in named:
        pkgutil.resolve_name(name)


def test_what_the_api_reference_shows_has_docstrings() -> None:
    shown = names_in_pages(r"^::: (\S+)$")
    assert len(shown) >= 30
    for name in shown:
        found = pkgutil.resolve_name(name)
        assert found.__doc__, name
        for key, member in vars(found).items() if isinstance(found, type) else ():
            if not key.startswith("_") and (callable(member) or isinstance(member, property)):
                assert inspect.getdoc(getattr(found, key)), f"{name}.{key}"


# -- the pictures and the glossary -----------------------------------------------------------


@pytest.mark.parametrize("package", ["orch_env", "orch_train"])
def test_the_picture_has_the_rooms_and_layers_of_the_import_contracts(package: str) -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [layers] = [
        contract["layers"]
        for contract in configuration["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == [package]
    ]
    picture = ElementTree.parse(ROOT / "docs" / "architecture.svg")
    rows: dict[float, set[str]] = {}
    for text in picture.iterfind(f".//*[@id='{package}']/*[@class='t']"):
        rows.setdefault(float(text.attrib["y"]), set()).add(text.text or "")
    drawn = [rows[y] for y in sorted(rows)]
    assert drawn == [set(re.findall(r"\w+", layer)) for layer in layers]


def test_the_picture_of_an_episode_is_what_its_tool_draws() -> None:
    drawn = episode_picture.picture()
    assert episode_picture.PICTURE.read_text(encoding="utf-8") == drawn
    words = " ".join(text.text or "" for text in ElementTree.fromstring(drawn).iter())
    assert "unload_cargo" in words and "reward 1.00" in words


def test_the_first_screen_of_the_readme_says_how_large_a_model_was_trained() -> None:
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25])
    assert "no run beyond 135 M parameters was made" in first
    assert "episode.svg" in first and "make quickstart" in first and "make test" in first


def glossary() -> dict[str, tuple[str, str]]:
    """Term -> (what it is, its names), in the order of the page."""
    rows = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    cells = [re.split(r"\s*\|\s*", row.strip("| ")) for row in rows if row.startswith("| ")]
    return {term: (meaning, names) for term, meaning, names in cells[1:]}


def other_texts() -> str:
    """Code and docs without the glossary page."""
    files = [page for page in PAGES if page.name != "glossary.md"]
    files += [
        path for package in ("orch_env", "orch_train") for path in (ROOT / package).rglob("*.py")
    ]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_the_glossary_is_sorted_and_its_cross_references_have_entries() -> None:
    terms = glossary()
    assert len(terms) >= 25 and list(terms) == sorted(terms, key=str.casefold)
    for term, (meaning, _) in terms.items():
        for other in re.findall(r"\*([\w -]+)\*", meaning):
            singular = other.removesuffix("s")
            assert singular in terms and singular != term, f"{term}: *{other}* has no entry"


def test_every_term_and_name_of_the_glossary_is_used_elsewhere() -> None:
    text = other_texts()
    words = re.sub(r"[\s-]+", " ", text).casefold()
    identifiers = set(re.findall(r"\w+", text))
    for term, (_, names) in glossary().items():
        assert term.replace("-", " ").casefold() in words, f"{term!r} is used nowhere else"
        named = re.findall(r"`([^`]+)`", names)
        assert named, f"{term!r} has no name"
        for name in named:
            missing = set(re.findall(r"\w+", name)) - identifiers
            assert not missing, f"{term!r}: {name!r} is not in the code"


def test_readme_and_architecture_lead_to_the_glossary() -> None:
    for page in ("README.md", "docs/architecture.md"):
        assert re.search(r"\]\((docs/)?glossary\.md\)", (ROOT / page).read_text()), page
