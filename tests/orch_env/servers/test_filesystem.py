"""The filesystem server: a state machine with a model of nested dicts, and its rules as claims.

What the commands do is compared with the real ones in test_filesystem_coreutils.py; the model here
needs no second user and runs everywhere.
"""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from orch_env.servers import InvalidArguments, ServerSession, ToolRefusal, open_session
from orch_env.servers.domains.filesystem.expressions import Budget, expression, glob
from orch_env.servers.domains.filesystem.line_diff import changed_runs
from tools.server_tasks.chains import templates_of

PAGE = Path(__file__).parents[3] / "docs/servers/filesystem.md"


def ok(session: ServerSession, tool: str, **arguments: Any) -> dict[str, Any]:
    """The result of a call that must work."""
    result = session.call(tool, arguments)
    assert result.error is None, result.text
    return dict(json.loads(result.text))


def refused(session: ServerSession, tool: str, **arguments: Any) -> str:
    """The reason of a call that must be refused, and must change nothing."""
    before = session.state_hash()
    result = session.call(tool, arguments)
    assert result.error is not None, result.text
    assert session.state_hash() == before
    return str(json.loads(result.text)["error"]["details"]["reason"])


def files_of(session: ServerSession) -> Any:
    """The server with its tables, for what no tool shows."""
    return session.server


# -- a state machine and its model ----------------------------------------------------------------

Tree: TypeAlias = "dict[str, Tree | str]"
"""A folder: name -> folder or the text of a file."""
Path_: TypeAlias = tuple[str, ...]

NAMES = st.sampled_from(("a", "b", "c.txt"))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
TEXTS = st.sampled_from(("", "one\n", "two\none\n", "no end", "b\na\na\n", "x" * 3000))


def at(tree: Tree, path: Path_) -> Tree | str | None:
    """What the model has at a path."""
    found: Tree | str | None = tree
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def folder_of(tree: Tree, path: Path_) -> Tree | None:
    """The folder that a path's last name is in."""
    found = at(tree, path[:-1])
    return found if isinstance(found, dict) else None


def copied(node: Tree | str) -> Tree | str:
    return {k: copied(v) for k, v in node.items()} if isinstance(node, dict) else node


def flat(tree: Tree, above: str = ".") -> dict[str, str | None]:
    """Path -> text, ``None`` for folders."""
    found: dict[str, str | None] = {}
    for name, node in tree.items():
        path = f"{above}/{name}"
        found[path] = node if isinstance(node, str) else None
        found.update(flat(node, path) if isinstance(node, dict) else {})
    return found


def size(node: Tree | str) -> int:
    return len(node) if isinstance(node, str) else sum(map(size, node.values()))


class Files(RuleBasedStateMachine):
    """Calls below one new folder; all nodes are the user's own."""

    @initialize(seed=st.integers(0, 3))
    def start(self, seed: int) -> None:
        self.session = open_session("filesystem", seed)
        self.before = ok(self.session, "quota")["bytes_used"]
        self.room = ok(self.session, "quota")["bytes_free"]
        ok(self.session, "mkdir", paths=["model"])
        ok(self.session, "cd", path="model")
        self.tree: Tree = {}

    def expect(self, works: bool, tool: str, **arguments: Any) -> bool:
        """Call a tool; whether it worked is as the model says. The quota may refuse besides."""
        before = self.session.state_hash()
        result = self.session.call(tool, arguments)
        if works and result.error is not None:
            details = json.loads(result.text)["error"]["details"]
            assert details["reason"] == "quota_exceeded", (tool, arguments, result.text)
            assert details["bytes_over"] > 0
            assert self.session.state_hash() == before
            return False
        assert works == (result.error is None), (tool, arguments, result.text)
        assert works or self.session.state_hash() == before
        return works

    @rule(path=PATHS)
    def make_folder(self, path: Path_) -> None:
        above = folder_of(self.tree, path)
        works = above is not None and path[-1] not in above
        if self.expect(works, "mkdir", paths=["/".join(path)]) and above is not None:
            above[path[-1]] = {}

    @rule(path=PATHS, text=TEXTS, append=st.booleans())
    def write(self, path: Path_, text: str, append: bool) -> None:
        above, there = folder_of(self.tree, path), at(self.tree, path)
        works = above is not None and not isinstance(there, dict)
        if self.expect(works, "write_file", path="/".join(path), text=text, append=append):
            assert above is not None
            above[path[-1]] = (str(there or "") if append else "") + text

    @rule(source=PATHS, goal=PATHS, recursive=st.booleans())
    def copy(self, source: Path_, goal: Path_, recursive: bool) -> None:
        node, wanted = at(self.tree, source), self.wanted(source, goal)
        works = self.fits(source, node, wanted) and (recursive or isinstance(node, str))
        arguments = {"sources": ["/".join(source)], "target": "/".join(goal)}
        if self.expect(works, "cp", **arguments, recursive=recursive):
            self.merge(wanted, copied(node or ""))

    @rule(source=PATHS, goal=PATHS)
    def move(self, source: Path_, goal: Path_) -> None:
        node, wanted = at(self.tree, source), self.wanted(source, goal)
        there = at(self.tree, wanted)
        works = self.fits(source, node, wanted) and not (isinstance(there, dict) and there)
        arguments = {"sources": ["/".join(source)], "target": "/".join(goal)}
        if self.expect(works, "mv", **arguments):
            above, below = folder_of(self.tree, source), folder_of(self.tree, wanted)
            assert above is not None and below is not None
            moved = above.pop(source[-1])
            below[wanted[-1]] = moved

    @rule(path=PATHS, recursive=st.booleans())
    def remove(self, path: Path_, recursive: bool) -> None:
        node = at(self.tree, path)
        works = node is not None and (recursive or isinstance(node, str))
        if self.expect(works, "rm", paths=["/".join(path)], recursive=recursive):
            above = folder_of(self.tree, path)
            assert above is not None
            del above[path[-1]]

    @rule(path=PATHS)
    def remove_empty(self, path: Path_) -> None:
        if self.expect(at(self.tree, path) == {}, "rmdir", path="/".join(path)):
            above = folder_of(self.tree, path)
            assert above is not None
            del above[path[-1]]

    @rule(path=PATHS, goal=PATHS)
    def pack_and_unpack(self, path: Path_, goal: Path_) -> None:
        node, into = at(self.tree, path), at(self.tree, goal)
        if node is None or not isinstance(into, dict) or path[0] == goal[0]:
            return
        if self.expect(True, "tar_create", archive="../t.tar", paths=["/".join(path)]):
            arguments = {"archive": "../t.tar", "folder": "/".join(goal)}
            result = self.session.call("tar_extract", arguments)
            if result.error is None:
                self.unpack((*goal, *path), copied(node))
            else:
                reason = json.loads(result.text)["error"]["details"]["reason"]
                assert reason in ("quota_exceeded", "not_a_folder", "is_a_folder")
            ok(self.session, "rm", paths=["../t.tar"])

    def wanted(self, source: Path_, target: Path_) -> Path_:
        """Where cp and mv put a source."""
        into = isinstance(at(self.tree, target), dict)
        return (*target, source[-1]) if into else target

    def fits(self, source: Path_, node: Tree | str | None, wanted: Path_) -> bool:
        """Whether a source can be put there."""
        there = at(self.tree, wanted)
        if node is None or folder_of(self.tree, wanted) is None or source == wanted:
            return False
        if isinstance(node, dict) and wanted[: len(source)] == source:
            return False
        return self.mergeable(node, there)

    def mergeable(self, node: Tree | str, there: Tree | str | None) -> bool:
        if there is None or isinstance(node, str) != isinstance(there, dict):
            if there is None or isinstance(node, str):
                return True
            assert isinstance(there, dict)
            return all(self.mergeable(v, there.get(k)) for k, v in node.items())
        return False

    def merge(self, path: Path_, node: Tree | str) -> None:
        above, there = folder_of(self.tree, path), at(self.tree, path)
        assert above is not None
        if isinstance(node, dict) and isinstance(there, dict):
            for name, below in node.items():
                self.merge((*path, name), below)
        else:
            above[path[-1]] = node

    def unpack(self, path: Path_, node: Tree | str) -> None:
        """Unpacking makes the folders above, and replaces what is no folder."""
        tree = self.tree
        for name in path[:-1]:
            below = tree.setdefault(name, {})
            assert isinstance(below, dict)
            tree = below
        there = tree.get(path[-1])
        if isinstance(node, dict) and isinstance(there, dict):
            for name, inner in node.items():
                self.unpack((*path, name), inner)
        else:
            tree[path[-1]] = node

    @invariant()
    def tree_and_quota_agree(self) -> None:
        if not hasattr(self, "tree"):
            return
        expected = flat(self.tree)
        assert list(self.session.server.invariants()) == []
        assert ok(self.session, "find")["paths"] == sorted([".", *expected])
        assert ok(self.session, "quota")["bytes_used"] == self.before + size(self.tree)
        folders = 1 + sum(text is None for text in expected.values())
        assert ok(self.session, "du")["bytes"] == size(self.tree) + 4096 * folders
        for path, text in list(expected.items())[:4]:
            if text is not None:
                assert ok(self.session, "cat", paths=[path])["output"] == text


def test_files_used_at_random_agree_with_the_model() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Files, settings=settings(max_examples=15, stateful_step_count=25)
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_files_used_at_random_for_long_agree_with_the_model() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Files, settings=settings(max_examples=400, stateful_step_count=60)
    )


# -- patterns --------------------------------------------------------------------------------------


def pattern_of(chance: random.Random, depth: int = 0) -> str:
    """A regular expression that Python's `re` reads in the same way."""
    kind = chance.random()
    if depth > 3 or kind < 0.4:
        return chance.choice(("a", "b", "c", ".", "[ab]", "[^a]", "[a-c]"))
    if kind < 0.6:
        return pattern_of(chance, depth + 1) + pattern_of(chance, depth + 1)
    group = f"({pattern_of(chance, depth + 1)})"
    if kind < 0.7:
        return f"{group[:-1]}|{pattern_of(chance, depth + 1)})"
    if kind < 0.75:
        return chance.choice(("^", "")) + group + chance.choice(("$", ""))
    return group + chance.choice(("*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}"))


def test_matches_are_leftmost_and_longest() -> None:
    chance = random.Random(5)
    matched = 0
    for _ in range(300):
        pattern = pattern_of(chance)
        matcher, known = expression(pattern), re.compile(pattern)
        for _ in range(3):
            line = "".join(chance.choice("abc") for _ in range(chance.randint(0, 6)))
            expected = None
            for first in range(len(line) + 1):
                here = [e for e in range(first, len(line) + 1) if whole(known, line, first, e)]
                if here:
                    expected = (first, max(here))
                    break
            assert matcher.search(line, 0, Budget()) == expected, (pattern, line)
            assert matcher.found_in(line, Budget()) == (expected is not None), (pattern, line)
            matched += expected is not None
    assert matched > 200


def whole(known: re.Pattern[str], line: str, first: int, end: int) -> bool:
    """Whether Python matches exactly this part of a line, where it stands."""
    anchored = re.compile(f"(?:{known.pattern})(?=.{{{len(line) - end}}}\\Z)")
    return anchored.match(line, first) is not None


HARD = (
    *(
        "(a+)+$",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$",
        "(.*a){12}b",
        "((a?){60})a{60}",
        "(a|b)*a(a|b){60}c",
    ),
    *("a*a*a*a*a*a*a*a*b", "(x+x+)+y", "([a-z]+)*=", "(.*)(.*)(.*)(.*)z"),
)


@pytest.mark.parametrize("pattern", HARD)
def test_no_pattern_takes_long(pattern: str) -> None:
    session = open_session("filesystem")
    chance = random.Random(3)
    text = "a" * 9000 + "\n" + "".join(chance.choice("ab") for _ in range(9000)) + "\n"
    ok(session, "write_file", path="hard.txt", text=text)
    start = time.thread_time()
    for tool, more in (
        ("grep", {"paths": ["hard.txt"]}),
        ("sed", {"path": "hard.txt", "replacement": "-"}),
    ):
        result = session.call(tool, {"pattern": pattern, **more})
        assert result.error is None or "too_costly" in result.text or "too_large" in result.text
    assert time.thread_time() - start < 2


def test_a_pattern_that_cuts_a_character_in_two_writes_nothing() -> None:
    session = open_session("filesystem")
    ok(session, "write_file", path="x", text="ünï\n")
    before = session.state_hash()
    half = {"path": "x", "pattern": "[^a-z]", "replacement": "<&>"}
    assert refused(session, "sed_in_place", **half) == "inside_a_character"
    assert session.state_hash() == before
    ok(session, "sed_in_place", path="x", pattern="ü", replacement="<&>")
    assert ok(session, "cat", paths=["x"])["output"] == "<ü>nï\n"


def test_a_pattern_that_takes_too_much_is_refused() -> None:
    session = open_session("filesystem")
    chance = random.Random(1)
    ok(session, "write_file", path="x", text="".join(chance.choice("ab") for _ in range(9000)))
    assert refused(session, "grep", pattern="(a|b)*a(a|b){60}c", paths=["x"]) == "too_costly"


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "a)",
        "[",
        "[a",
        "*a",
        "a|",
        "|a",
        "()",
        "a{1",
        "a{2,1}",
        "a{999}",
        "\\d",
        "\\",
        "^*",
        "[[:nope:]]",
        "\\1",
        "(" * 30 + "a" + ")" * 30,
        "((a{200}){200}){200}",
        "[b-a]",
    ],
)
def test_a_broken_pattern_is_refused_with_its_fault(pattern: str) -> None:
    session = open_session("filesystem")
    assert refused(session, "grep", pattern=pattern, paths=["notes/todo.txt"]) == "bad_pattern"


def test_file_name_patterns_match_as_in_a_shell() -> None:
    cases = [
        ("*.txt", "a.txt", True),
        ("*.txt", "a.txt~", False),
        ("?", "ab", False),
        ("[a-c]x", "bx", True),
        ("[!a]*", "b", True),
        ("[!a]*", "a", False),
        ("a[", "a[", True),
        ("[]]", "]", True),
        ("*" + "a*" * 40 + "b", "a" * 200, False),
    ]
    for pattern, name, fits in cases:
        assert glob(pattern).fits(name, Budget()) is fits, pattern


# -- lines -----------------------------------------------------------------------------------------


def test_few_changes_in_long_files_are_not_too_costly_to_find() -> None:
    session = open_session("filesystem")
    old = [f"line {n}" for n in range(900)]
    new = ["first", *old[:450], "middle", *old[451:], "last"]
    for path, lines in (("old", old), ("new", new)):
        ok(session, "write_file", path=path, text="".join(f"{line}\n" for line in lines))
    found = ok(session, "diff", path="old", other="new")["output"]
    assert found == "0a1\n> first\n451c452\n< line 450\n---\n> middle\n900a902\n> last\n"


def test_a_diff_is_a_smallest_change() -> None:
    chance = random.Random(2)
    for _ in range(300):
        old, new = ([chance.choice("abcd") for _ in range(chance.randint(0, 9))] for _ in range(2))
        runs = changed_runs(old, new, Budget())
        made, place = [], 0
        for first, end, other, other_end in runs:
            made += old[place:first] + new[other:other_end]
            place = end
        assert made + old[place:] == new
        assert sum(e - f + o - n for f, e, n, o in runs) == len(old) + len(new) - 2 * common(
            old, new
        )


def common(old: list[str], new: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(new) + 1)
    for line in old:
        before = row[:]
        for j, other in enumerate(new):
            row[j + 1] = before[j] + 1 if line == other else max(row[j], before[j + 1])
    return row[-1]


# -- the rules as claims ---------------------------------------------------------------------------


def test_paths_that_trick_are_refused_as_the_kernel_does() -> None:
    session = open_session("filesystem")
    assert ok(session, "realpath", path="../" * 60 + "etc/motd")["path"] == "/etc/motd"
    assert refused(session, "cat", paths=["../" * 60 + "etc/passwd"]) == "not_found"
    assert refused(session, "cat", paths=["x" * 256]) == "name_too_long"
    assert refused(session, "cat", paths=["a/" * 2500]) == "name_too_long"
    assert refused(session, "touch", paths=["a\0b"]) == "invalid_path"
    assert refused(session, "touch", paths=["a\nb"]) == "invalid_name"
    assert refused(session, "cat", paths=["notes/todo.txt/x"]) == "not_a_folder"
    ok(session, "symlink", target="loop", path="loop")
    assert refused(session, "cat", paths=["loop"]) == "too_many_links"
    ok(session, "symlink", target="../../..", path="up")
    assert ok(session, "realpath", path="up/etc")["path"] == "/etc"
    assert refused(session, "ls", paths=["/*/*/*", "/*/*"] * 25) in (
        "too_many_paths",
        "permission_denied",
    )


def test_what_others_keep_private_stays_private() -> None:
    session = open_session("filesystem")
    files = files_of(session)
    other = next(p for p in files.nodes if p.endswith("/private/salary.txt"))
    for tool, arguments in (
        ("cat", {"paths": [other]}),
        ("cp", {"sources": [other], "target": "mine"}),
        ("mv", {"sources": [other], "target": "mine"}),
        ("rm", {"paths": [other]}),
        ("grep", {"pattern": "c", "paths": [other]}),
        ("write_file", {"path": other, "text": "x"}),
    ):
        assert refused(session, tool, **arguments) == "permission_denied"
    assert refused(session, "chmod", mode="644", paths=["/etc/motd"]) == "not_permitted"
    found = ok(session, "find", path="/home", name="salary.txt")
    assert found["paths"] == []
    assert any(path.endswith("/private") or path.count("/") == 2 for path in found["not_readable"])


def test_in_tmp_nobody_removes_what_others_put_there() -> None:
    for seed in range(20):
        session = open_session("filesystem", seed)
        uploads = ok(session, "find", path="/tmp", name="*-upload.txt")["paths"]
        if uploads:
            assert refused(session, "rm", paths=[uploads[0]]) == "not_permitted"
            assert refused(session, "mv", sources=[uploads[0]], target=".") == "not_permitted"
            return
    raise AssertionError("no world has an upload in /tmp")


def test_a_shared_folder_passes_its_group_on() -> None:
    session = open_session("filesystem")
    ok(session, "mkdir", paths=["/srv/shared/new"])
    ok(session, "touch", paths=["/srv/shared/new/file"])
    assert ok(session, "stat", path="/srv/shared/new")["permissions"] == "drwxr-sr-x"
    assert ok(session, "stat", path="/srv/shared/new/file")["group"] == "staff"


def test_the_umask_takes_rights_from_new_nodes_only() -> None:
    session = open_session("filesystem")
    mode = ok(session, "stat", path="notes/todo.txt")["mode"]
    ok(session, "umask", mask="077")
    ok(session, "touch", paths=["new", "notes/todo.txt"])
    assert ok(session, "stat", path="new")["mode"] == "600"
    assert ok(session, "stat", path="notes/todo.txt")["mode"] == mode


def test_the_quota_refuses_what_does_not_fit_and_room_comes_back() -> None:
    session = open_session("filesystem")
    free = ok(session, "quota")["bytes_free"]
    for part in range(free // 20_000):
        ok(session, "write_file", path=f"part{part}", text="x" * 20_000)
    left = ok(session, "quota")["bytes_free"]
    assert refused(session, "write_file", path="last", text="x" * (left + 1)) == "quota_exceeded"
    ok(session, "write_file", path="last", text="x" * left)
    assert refused(session, "write_file", path="last", text="x", append=True) == "quota_exceeded"
    ok(session, "rm", paths=["part0"])
    assert ok(session, "quota")["bytes_free"] == 20_000


def test_a_file_has_a_largest_size() -> None:
    session = open_session("filesystem")
    ok(session, "write_file", path="a", text=("x" * 99 + "\n") * 180)
    assert refused(
        session, "sed_in_place", path="a", pattern="x", replacement="y" * 40, every=True
    ) == ("file_too_large")


def test_the_working_folder_cannot_vanish_and_is_no_result_of_the_work() -> None:
    session = open_session("filesystem")
    ok(session, "cd", path="notes")
    assert session.changes() == {}
    assert refused(session, "rm", paths=["../notes"], recursive=True) == "busy"
    assert refused(session, "mv", sources=["../notes"], target="../old") == "busy"
    assert ok(session, "pwd")["path"].endswith("/notes")


def test_unpacking_gives_back_what_was_packed() -> None:
    session = open_session("filesystem")
    ok(session, "tar_create", archive="p.tar", paths=["scripts", "current"])
    ok(session, "mkdir", paths=["out"])
    names = ok(session, "tar_list", archive="p.tar")["members"]
    assert ok(session, "tar_extract", archive="p.tar", folder="out")["extracted"] == names
    for name in names:
        old, new = (ok(session, "stat", path=at) for at in (name, f"out/{name}"))
        assert {**old, "path": ""} == {**new, "path": ""}
    for name in ok(session, "find", path="scripts", kind="file")["paths"]:
        assert ok(session, "diff", path=name, other=f"out/{name}")["equal"]


def test_an_archive_is_no_text() -> None:
    session = open_session("filesystem")
    for tool, more in (
        ("cat", {"paths": ["old-letters.tar"]}),
        ("md5sum", {"paths": ["*.tar"]}),
        ("sort", {"path": "old-letters.tar"}),
        ("truncate", {"path": "old-letters.tar", "size": 1}),
        ("write_file", {"path": "old-letters.tar", "text": "x", "append": True}),
    ):
        assert refused(session, tool, **more) == "archive_file"
    ok(session, "cp", sources=["old-letters.tar"], target="copy.tar")
    first, second = (
        ok(session, "tar_list", archive=a)["members"] for a in ("old-letters.tar", "copy.tar")
    )
    assert first == second


def test_time_is_the_sessions() -> None:
    session = open_session("filesystem", today="2025-06-01")
    ok(session, "touch", paths=["a"])
    ok(session, "touch", paths=["b"])
    times = [ok(session, "stat", path=name)["modified"] for name in "ab"]
    assert times == ["2025-06-01T09:00:00", "2025-06-01T09:01:00"]
    assert ok(session, "find", newer_than="a", name="?")["paths"] == [".", "./b"]


def test_replacements_use_the_match_and_escapes() -> None:
    session = open_session("filesystem")
    ok(session, "write_file", path="t", text="abcabc\n")
    cases = [
        ("b", "<&>", "a<b>cabc\n"),
        ("b", "\\&", "a&cabc\n"),
        ("c$", "\\n", "abcab\n\n"),
        ("x*", "-", "-abcabc\n"),
    ]
    for pattern, new, expected in cases:
        assert ok(session, "sed", path="t", pattern=pattern, replacement=new)["output"] == expected
    assert (
        ok(session, "sed", path="t", pattern="b*", replacement="-", every=True)["output"]
        == "-a-c-a-c-\n"
    )
    assert refused(session, "sed", path="t", pattern="b", replacement="\\1") == "bad_replacement"


def test_the_worlds_questions_have_one_answer() -> None:
    for seed in range(5):
        session = open_session("filesystem", seed)
        files = files_of(session)
        home = files.shell.folder
        suppliers = [
            next(line for line in node.text.split("\n") if line.startswith("Supplier"))
            for path, node in files.nodes.items()
            if path.startswith(f"{home}/invoices/") and node.text
        ]
        assert len(suppliers) == len(set(suppliers)) == 16
        assert len(ok(session, "find", kind="folder", empty=True)["paths"]) == 1
        assert len(ok(session, "find", name="*.tar")["paths"]) == 1


def test_an_expression_raises_nothing_else() -> None:
    chance = random.Random(9)
    for _ in range(1000):
        pattern = "".join(
            chance.choice("ab[]()*+?{}|^$\\.-,:12é") for _ in range(chance.randint(1, 9))
        )
        for make in (expression, glob):
            try:
                make(pattern).fits("ab", Budget())
                make(pattern).found_in("ab", Budget())
            except (InvalidArguments, ToolRefusal):
                continue


def test_the_page_lists_each_tool_and_each_refusal() -> None:
    session = open_session("filesystem")
    rows = re.findall(r"^\| `(\w+)` \|(?: (READ|WRITE))?", PAGE.read_text(encoding="utf-8"), re.M)
    assert {name: access for name, access in rows if access} == {
        name: tool.access.value for name, tool in session.tools.items()
    }
    assert {name for name, access in rows if not access} == set(templates_of("filesystem").refusals)
