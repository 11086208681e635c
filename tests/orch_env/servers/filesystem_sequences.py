"""Random calls of the filesystem server on small random trees, for the comparison with coreutils.

Calls are drawn while the server runs them, so that most of them meet something that is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC
from typing import Any, ClassVar

from orch_env.servers import Access, Chance, ServerSession, ToolRefusal
from orch_env.servers.domains.filesystem import Filesystem
from orch_env.servers.domains.filesystem.nodes import Account, Kind, Node, Shell
from orch_env.servers.domains.filesystem.volume import joined, parent_of
from tests.orch_env.servers.coreutils import MEMBERSHIP, USER, Step, nodes_below

FILES = (
    "a.txt",
    "b.txt",
    "c.csv",
    "notes.md",
    "run.log",
    ".hidden",
    "with space.txt",
    "é.txt",
    "-x",
)
FOLDERS = ("d1", "docs", "src", "my dir", ".cfg", "e")
LINES = (
    *("alpha", "beta", "gamma", "Beta", "10", "9", "-3.5", "007", " 12 x", "a,b,c", "b,2,10"),
    *("c,1,9", "key: value", "  two  spaces", "x\ty\tz", "", "ERROR one", "warn two", "ünï"),
    *("aaa", "aab", "abab", "(x)", "a.b", "1e3", "-"),
)
CONTENTS = 12
FILE_MODES = (*(0o644,) * 9, 0o640, 0o600, 0o664, 0o755, 0o444, 0o200, 0o000)
FOLDER_MODES = (*(0o755,) * 12, 0o750, 0o775, 0o700, 0o2775, 0o1777, 0o555, 0o711, 0o000)
TARGETS = ("a.txt", "docs", "../b.txt", "missing", "loop", "d1/a.txt", ".", "docs/src")
PATTERNS = (
    *("a", "^a", "b$", "[0-9]+", "a|b", "(ab)+", "x*", "e.a", "[[:upper:]]", "^$", "a{2}"),
    *("\\.", "[^a-z]", "(a|b){1,2}", ".", "o$|^k", "a?b", "\\s+", "", "ERROR"),
)
GLOBS = ("*", "*.txt", "?*", "d*", "*/*", "[a-c]*", "[!a]*", ".[!.]*", "*/a.txt", "zz*", "*s*")


class Small(Filesystem):
    """A few dozen nodes below one folder that exists on this machine too."""

    root: ClassVar[str] = ""

    def populate(self, chance: Chance) -> None:
        """Add the folders above, as they are, and a random tree."""
        for user, groups in MEMBERSHIP.items():
            self.accounts[user] = Account(user, groups)
        path = ""
        for part in self.root.split("/")[:-1]:
            path = joined(path, part) if part else "/"
            mode = f"{os.lstat(path).st_mode & 0o7777:04o}"
            self.nodes[path] = Node(Kind.FOLDER, mode, "root", "root", "2024-01-01T00:00:00")
        self.nodes[self.root] = Node(Kind.FOLDER, "0755", USER, USER, "2024-01-01T00:00:00")
        self._fill(self.root, chance, 0)
        self.shells["shell"] = Shell(USER, self.root, "0022", 200_000, 500)

    def _fill(self, folder: str, chance: Chance, depth: int) -> None:
        for name in chance.draw(FILES, chance.between(1, 5)):
            self._put(joined(folder, name), Kind.FILE, chance)
        if chance.often(0.5):
            self._put(joined(folder, chance.pick(("l1", "l2", "loop"))), Kind.LINK, chance)
        for name in chance.draw(FOLDERS, chance.between(0 if depth else 2, 3)) if depth < 3 else ():
            self._put(joined(folder, name), Kind.FOLDER, chance)
            self._fill(joined(folder, name), chance, depth + 1)

    def _put(self, path: str, kind: Kind, chance: Chance) -> None:
        owner = chance.pick((*(USER,) * 8, "jonas", "root"))
        group = chance.pick((*MEMBERSHIP[owner], "staff"))
        mode = chance.pick(FOLDER_MODES if kind is Kind.FOLDER else FILE_MODES)
        text = ""
        if kind is Kind.FILE:
            text = content(chance)
        elif kind is Kind.LINK:
            mode, text = 0o777, chance.pick(TARGETS)
        day, minute = chance.between(1, 28), chance.between(0, 59)
        time = f"2025-02-{day:02d}T10:{minute:02d}:00"
        self.nodes[path] = Node(kind, f"{mode:04o}", owner, group, time, text)


def content(chance: Chance) -> str:
    """A text of a few lines, sometimes sorted, sometimes without its last newline."""
    lines = [chance.pick(LINES) for _ in range(chance.between(0, CONTENTS))]
    if chance.often(0.3):
        lines = sorted(line for line in lines if line.isascii())
    text = "".join(f"{line}\n" for line in lines)
    return text[:-1] if chance.often(0.15) else text


class Drawer:
    """Draws the calls of one sequence in a session of :class:`Small`."""

    def __init__(self, session: ServerSession, chance: Chance) -> None:
        self.session, self.chance = session, chance

    def path(self, *kinds: Kind) -> str:
        """A path: mostly of a node of these kinds, sometimes of none."""
        chance, server = self.chance, self.session.server
        assert isinstance(server, Small)
        here = server.shell.folder
        if chance.often(0.08):
            return chance.pick(
                ("missing", "missing/x", "a.txt/x", "..", ".", "x" * 256, "d1/../a.txt", "loop/x")
            )
        nodes = [p for p, n in nodes_below(self.session, Small.root).items() if n.kind in kinds]
        if not nodes:
            return "none"
        near = [p for p in nodes if parent_of(p) == here]
        path = chance.pick(near if near and chance.often(0.5) else nodes)
        if chance.often(0.12):
            return path
        relative = os.path.relpath(path, here)
        if chance.often(0.05) and relative != ".":
            relative = f"./{relative}"
        if server.nodes[path].kind is Kind.FOLDER and chance.often(0.06):
            relative += "/"
        return relative

    def file(self) -> str:
        return self.path(Kind.FILE, *((Kind.LINK,) if self.chance.often(0.3) else ()))

    def folder(self) -> str:
        return self.path(Kind.FOLDER, *((Kind.LINK,) if self.chance.often(0.1) else ()))

    def empty(self) -> str:
        """An empty folder, if there is one."""
        server = self.session.server
        assert isinstance(server, Small)
        nodes = nodes_below(self.session, Small.root)
        found = [p for p, n in nodes.items() if n.kind is Kind.FOLDER and not server.names_in(p)]
        return os.path.relpath(self.chance.pick(found), server.shell.folder) if found else "none"

    def any(self) -> str:
        return self.path(*Kind)

    def new(self) -> str:
        """A path where there is probably nothing."""
        folder = self.folder()
        name = self.chance.pick((*FILES, *FOLDERS, "n1", "n2", "n3", "n4.txt"))
        return name if folder == "." or self.chance.often(0.4) else joined(folder, name)

    def paths(self, one: Callable[[], str]) -> list[str]:
        if self.chance.often(0.25):
            return [self.chance.pick(GLOBS)]
        return [one() for _ in range(self.chance.pick((1, 1, 1, 2, 3)))]

    def flags(self, **flags: Any) -> dict[str, Any]:
        """Each optional argument in a third of the draws; functions are called for the value."""
        return {
            name: value() if callable(value) else value
            for name, value in flags.items()
            if self.chance.often(0.33)
        }

    def has_archive(self) -> bool:
        """Whether the tree holds an archive."""
        nodes = nodes_below(self.session, Small.root).values()
        return any(node.members is not None for node in nodes)

    def call(self) -> tuple[str, dict[str, Any]]:
        """A tool and its arguments."""
        more = ("tar_extract", "tar_extract") if self.has_archive() else ()
        tool = self.chance.pick((*TOOLS, *more))
        return tool, CALLS[tool](self)


def _cd(d: Drawer) -> dict[str, Any]:
    """A change of folder that stays in the compared one."""
    server = d.session.server
    assert isinstance(server, Small)
    path = d.chance.pick((d.folder(), d.folder(), "..", Small.root))
    try:
        outside = not f"{server.locate(path).path}/".startswith(f"{Small.root}/")
    except ToolRefusal:
        outside = False
    return {"path": Small.root if outside else path}


def _cut(d: Drawer) -> dict[str, Any]:
    ranges = d.chance.pick(("1", "2", "1,3", "2-", "-2", "2-3,1", "1-2,2-4", "5"))
    if d.chance.often(0.4):
        return {"path": d.file(), "characters": ranges}
    flags = d.flags(separator=lambda: d.chance.pick((",", " ", ":")), skip_others=True)
    return {"path": d.file(), "fields": ranges, **flags}


def _substitution(d: Drawer) -> dict[str, Any]:
    pattern = d.chance.pick([p for p in PATTERNS if p])
    new = d.chance.pick(("X", "", "<&>", "\\&", "a/b", "\\n", "ä"))
    flags = d.flags(every=True, ignore_case=True)
    return {"path": d.file(), "pattern": pattern, "replacement": new, **flags}


def _archive(d: Drawer) -> str:
    server = d.session.server
    assert isinstance(server, Small)
    found = [p for p, n in server.nodes.items() if n.members is not None]
    if not found or d.chance.often(0.1):
        return d.file()
    return os.path.relpath(d.chance.pick(found), server.shell.folder)


def _members(d: Drawer, archive: str) -> list[str] | None:
    server = d.session.server
    assert isinstance(server, Small)
    place = server.nodes.get(os.path.normpath(joined(server.shell.folder, archive)))
    if place is None or not place.members or d.chance.often(0.7):
        return None
    return [d.chance.pick(place.members).name for _ in range(2)]


def _extract(d: Drawer) -> dict[str, Any]:
    archive = _archive(d)
    members = _members(d, archive)
    flags = d.flags(folder=d.folder)
    return {"archive": archive, **flags, **({} if members is None else {"members": members})}


def _pack(d: Drawer) -> dict[str, Any]:
    """An archive outside of what is packed: made inside, it changes the time of its folder."""
    server = d.session.server
    assert isinstance(server, Small)
    for _ in range(20):
        archive, paths = d.chance.pick(("t.tar", d.new())), d.paths(d.any)
        flags = d.flags(folder=d.folder) if d.chance.often(0.15) else {}
        start = os.path.join(server.shell.folder, str(flags.get("folder", ".")))
        packed = paths if flags else server.expand(paths)
        above = os.path.dirname(os.path.normpath(os.path.join(server.shell.folder, archive)))
        tops = [os.path.normpath(os.path.join(start, path)) for path in packed]
        if not any(f"{above}/".startswith(f"{top}/") for top in tops):
            return {"archive": archive, "paths": paths, **flags}
    return {"archive": "t.tar", "paths": ["none"]}


def _find(d: Drawer) -> dict[str, Any]:
    if d.chance.often(0.2):
        return {"path": joined(".", d.any())} if d.chance.often(0.5) else {}
    return d.flags(
        path=d.folder,
        name=lambda: d.chance.pick(("*.txt", "a*", "*", "?1", "[!a]*", ".*", "docs")),
        kind=lambda: d.chance.pick(tuple(k.value for k in Kind)),
        max_depth=lambda: d.chance.between(0, 3),
        larger_than=lambda: d.chance.between(0, 60),
        owner=lambda: d.chance.pick(tuple(MEMBERSHIP)),
        newer_than=d.file,
        changed_since=lambda: f"2025-02-{d.chance.between(1, 28):02d}",
        empty=True,
    )


def _target(d: Drawer) -> str:
    return d.folder() if d.chance.often(0.4) else d.new() if d.chance.often(0.6) else d.any()


CALLS: dict[str, Callable[[Drawer], dict[str, Any]]] = {
    "pwd": lambda d: {},
    "cd": _cd,
    "id": lambda d: {},
    "ls": lambda d: d.flags(
        paths=lambda: d.paths(d.any),
        all=True,
        long=True,
        recursive=True,
        sort=lambda: d.chance.pick(("size", "time")),
        reverse=True,
    ),
    "tree": lambda d: d.flags(
        path=d.folder, max_depth=lambda: d.chance.between(1, 3), all=True, folders_only=True
    ),
    "stat": lambda d: {"path": d.any(), **d.flags(follow=True)},
    "find": _find,
    "du": lambda d: d.flags(path=d.any, max_depth=lambda: d.chance.between(0, 2)),
    "quota": lambda d: {},
    "readlink": lambda d: {"path": d.path(Kind.LINK) if d.chance.often(0.8) else d.any()},
    "realpath": lambda d: {"path": d.any()},
    "cat": lambda d: {"paths": d.paths(d.file), **d.flags(number=True)},
    "head": lambda d: {"path": d.file(), **d.flags(lines=lambda: d.chance.between(1, 6))},
    "tail": lambda d: {
        "path": d.file(),
        **d.flags(lines=lambda: d.chance.between(1, 6), from_line=lambda: d.chance.between(0, 6)),
    },
    "wc": lambda d: {
        "paths": d.paths(d.file),
        **d.flags(count=lambda: d.chance.pick(("lines", "words", "bytes"))),
    },
    "grep": lambda d: {
        **({"invert": True} if d.chance.often(0.2) else {}),
        "pattern": d.chance.pick([p for p in PATTERNS if p]),
        "paths": d.paths(d.any if d.chance.often(0.4) else d.file),
        # Archives are passed over, and grep would search their bytes.
        **(
            {}
            if d.has_archive() or d.chance.often(0.6)
            else {"recursive": True, "paths": [d.any()]}
        ),
        **d.flags(
            ignore_case=True,
            fixed=True,
            line_numbers=True,
            show=lambda: d.chance.pick(("files", "count")),
        ),
    },
    "sort": lambda d: {
        "path": d.file(),
        **d.flags(
            numeric=True,
            reverse=True,
            unique=True,
            key=lambda: d.chance.between(1, 3),
            separator=",",
        ),
    },
    "uniq": lambda d: {
        "path": d.file(),
        **d.flags(count=True, only=lambda: d.chance.pick(("repeated", "single")), ignore_case=True),
    },
    "cut": _cut,
    "sed": _substitution,
    "sed_in_place": _substitution,
    "diff": lambda d: {"path": d.file(), "other": d.file()},
    "comm": lambda d: {
        "path": d.file(),
        "other": d.file(),
        **d.flags(show=lambda: d.chance.pick(("only_first", "only_second", "both"))),
    },
    "split": lambda d: {
        "path": d.file(),
        "lines": d.chance.between(1, 5),
        **d.flags(prefix=lambda: d.chance.pick(("p-", "docs/part", d.new()))),
    },
    "md5sum": lambda d: {"paths": d.paths(d.file)},
    "sha256sum": lambda d: {"paths": d.paths(d.file)},
    "umask": lambda d: {"mask": d.chance.pick(("022", "077", "002", "027", "000"))},
    "mkdir": lambda d: {
        "paths": [d.new() for _ in range(d.chance.pick((1, 1, 2)))]
        if d.chance.often(0.8)
        else [joined(d.new(), "deep")],
        **d.flags(parents=True),
    },
    "rmdir": lambda d: {"path": d.empty() if d.chance.often(0.5) else d.folder()},
    "touch": lambda d: {"paths": [d.new() if d.chance.often(0.5) else d.any()]},
    "write_file": lambda d: {
        "path": d.new() if d.chance.often(0.5) else d.file(),
        "text": content(d.chance),
        **d.flags(append=True),
    },
    "truncate": lambda d: {"path": d.file(), "size": d.chance.between(0, 20)},
    "symlink": lambda d: {
        "target": d.chance.pick(TARGETS) if d.chance.often(0.5) else d.any(),
        "path": d.new() if d.chance.often(0.7) else d.any(),
    },
    "cp": lambda d: {
        "sources": d.paths(d.any if d.chance.often(0.5) else d.file),
        "target": _target(d),
        **d.flags(recursive=True),
    },
    "mv": lambda d: {"sources": d.paths(d.any), "target": _target(d)},
    "rm": lambda d: {"paths": d.paths(d.any), **d.flags(recursive=True, force=True)},
    "chmod": lambda d: (
        {
            "mode": d.chance.pick(("644", "600", "u=rw,g=r,o=", "a-x", "444")),
            "paths": [d.path(Kind.FILE)],
        }
        if d.chance.often(0.4)
        else {
            "mode": d.chance.pick(("755", "700", "u+x", "go-w", "a=rX", "ug+w", "o-r", "a-w")),
            "paths": d.paths(d.any),
            **d.flags(recursive=True),
        }
    ),
    "chgrp": lambda d: {
        "group": d.chance.pick(("staff", "mira", "ops", "nobody-here")),
        "paths": d.paths(d.any),
        **d.flags(recursive=True),
    },
    "tar_create": _pack,
    "tar_list": lambda d: {"archive": _archive(d)},
    "tar_extract": _extract,
}
TOOLS = (*CALLS, "tar_create", "tar_create")


def seconds_of(session: ServerSession) -> int:
    """The session's time, in seconds since 1970."""
    return int(session.clock.now.replace(tzinfo=UTC).timestamp())


def drawn(seed: int) -> tuple[dict[str, Node], list[Step]]:
    """A start and the 5 to 30 calls of one sequence, run by the server."""
    session = ServerSession(Small, seed)
    chance = Chance(f"coreutils/{seed}")
    drawer = Drawer(session, chance)
    start = nodes_below(session, Small.root)
    steps: list[Step] = []
    for _ in range(chance.between(5, 30)):
        tool, arguments = drawer.call()
        seconds = seconds_of(session)
        result = session.call(tool, arguments)
        writes = session.tools[tool].access is Access.WRITE and result.error is None
        nodes = nodes_below(session, Small.root) if writes or not steps else steps[-1].nodes
        steps.append(Step(tool, arguments, result, seconds, nodes))
        assert not writes or list(session.server.invariants()) == [], (tool, arguments)
    return start, steps


def described(steps: list[Step]) -> str:
    """The calls as JSON, one a line, to repeat them by hand."""
    return "\n".join(json.dumps([s.tool, s.arguments]) for s in steps)
