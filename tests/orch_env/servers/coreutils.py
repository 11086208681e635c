"""The oracle of the filesystem server: the same calls as real commands in a real folder.

A sequence is drawn while the server runs it. Then a driver runs the commands of all sequences in a
temporary folder, as a user who is not root, and what they print and leave is compared with what the
server printed and left. The real folder has the same absolute path as the one of the server, so
that no path needs translation. Real names of users and groups are numbers; `ls -l` and `stat` are
asked for the numbers, and those are replaced by names. The time of what a command changed is set to
the session's time after it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orch_env.servers import Access, ServerSession
from orch_env.servers.domains.filesystem import Filesystem
from orch_env.servers.domains.filesystem.nodes import Member, Node, tar_bytes
from orch_env.types import ToolResult

DRIVER = Path(__file__).with_name("coreutils_driver.py")
USERS = {"root": 61000, "mira": 61001, "jonas": 61002}
GROUPS = {"root": 62000, "mira": 62001, "staff": 62002, "jonas": 62003, "ops": 62004}
MEMBERSHIP = {"root": ("root",), "mira": ("mira", "staff"), "jonas": ("jonas", "staff", "ops")}
USER = "mira"
OWN_REFUSALS = {
    "busy",
    "invalid_name",
    "invalid_path",
    "archive_file",
    "file_too_large",
    "quota_exceeded",
    "too_costly",
    "too_many_paths",
    "too_many_pieces",
    "path_leads_up",
    "named_twice",
    "two_folders",
    "bad_pattern",
    "bad_replacement",
    "file_too_short",
    "inside_a_character",
    "result_too_large",
    "unknown_user",
}
"""Refusals that are the server's own; docs/servers/filesystem.md lists them as differences."""
SAYS = {
    "not_found": ("No such file or directory", "dangling symlink", "irectory nonexistent"),
    "permission_denied": ("Permission denied", "Cannot open: File exists", "Cannot create symlink"),
    "not_permitted": ("Operation not permitted", "Permission denied"),
    "not_a_folder": ("Not a directory", "is not a directory", "irectory nonexistent"),
    "is_a_folder": (
        "Is a directory",
        "is a directory",
        "Cannot open",
        "not a regular file",
        "error reading",
    ),
    "not_empty": ("Directory not empty",),
    "already_exists": ("File exists",),
    "too_many_links": ("Too many levels of symbolic links",),
    "name_too_long": ("File name too long",),
    "same_file": ("are the same file", "would overwrite input", "to a subdirectory of itself"),
    "same_name_twice": ("will not overwrite just-created",),
    "onto_a_folder": ("cannot overwrite directory",),
    "onto_a_file": ("cannot overwrite non-directory",),
    # The real one copies what it may first, and can be stopped by a permission before it sees it.
    "into_itself": ("into itself", "to a subdirectory of itself", "Permission denied"),
    "needs_recursive": ("-r not specified",),
    "dangling_link": ("not writing through dangling symlink",),
    "not_a_link": ("",),
    "not_sorted": ("is not in sorted order",),
    "unknown_group": ("invalid group",),
    "not_an_archive": ("does not look like a tar archive",),
    "not_in_archive": ("Not found in archive",),
    "bad_positions": ("",),
    "bad_separator": ("delimiter must be a single character", "multi-character tab"),
}
"""What the real command says where the server refuses for this reason."""


@dataclass
class Step:
    """One call of a sequence: what the server made of it."""

    tool: str
    arguments: dict[str, Any]
    result: ToolResult
    seconds: int
    nodes: dict[str, Node] = field(repr=False)

    @property
    def reason(self) -> str:
        """Why the server refused; empty if it did not."""
        if self.result.error is None:
            return ""
        details = json.loads(self.result.text)["error"]["details"]
        return str(details.get("reason", self.result.error))


# -- a call as a command ------------------------------------------------------------------------


def command_of(tool: str, arguments: dict[str, Any]) -> str:
    """The command line of a call; the shell expands the paths that are patterns."""
    words = OPTIONS[tool](arguments)
    paths = arguments.get("paths", arguments.get("sources", ["."]))
    after = [arguments["target"]] if "target" in arguments else []
    if tool in EXPANDED:
        return " ".join(map(shlex.quote, [*words, "--"])) + _joined(paths) + _joined(after, "")
    if tool == "tar_create":
        signs = "" if "folder" in arguments else SIGNS
        return " ".join(map(shlex.quote, [*words, "--"])) + _joined(paths, signs)
    return words if isinstance(words, str) else shlex.join(words)


SIGNS = "*?[]!^-"
EXPANDED = {"ls", "cat", "wc", "grep", "md5sum", "sha256sum", "rm", "chmod", "chgrp", "cp", "mv"}
"""Tools whose paths may be patterns."""


def _joined(paths: list[str], signs: str = SIGNS) -> str:
    """Paths as words in which only these signs are special."""
    words = ("".join(c if c in signs else shlex.quote(c) for c in path) for path in paths)
    return "".join(f" {word}" for word in words)


def _flags(given: dict[str, Any], **flags: str) -> list[str]:
    return [flag for name, flag in flags.items() if given.get(name)]


def _ls(g: dict[str, Any]) -> list[str]:
    sort = {"size": ["-S"], "time": ["-t"]}.get(g.get("sort", ""), [])
    long = ["-ln", "--time-style=long-iso"] if g.get("long") else ["-1"]
    return ["ls", *long, *_flags(g, all="-A", recursive="-R", reverse="-r"), *sort]


def _find(g: dict[str, Any]) -> list[str]:
    argv = ["find", _dashed(g.get("path", "."))]
    kinds = {"file": "f", "folder": "d", "link": "l"}
    if "max_depth" in g:
        argv += ["-maxdepth", str(g["max_depth"])]
    if "larger_than" in g:
        argv += ["-type", "f", "-size", f"+{g['larger_than']}c"]
    if "smaller_than" in g:
        argv += ["-type", "f", "-size", f"-{g['smaller_than']}c"]
    argv += ["-name", g["name"]] if "name" in g else []
    argv += ["-type", kinds[g["kind"]]] if "kind" in g else []
    argv += ["-uid", str(USERS.get(g["owner"], 1))] if "owner" in g else []
    argv += ["-newer", g["newer_than"]] if "newer_than" in g else []
    # -newermt wants a later time; a node of exactly midnight counts for the server.
    if "changed_since" in g:
        argv += ["-newermt", f"@{_seconds(g['changed_since'] + 'T00:00:00') - 1}"]
    return argv + (["-empty"] if g.get("empty") else [])


def _dashed(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _grep(g: dict[str, Any]) -> list[str]:
    show = {"files": ["-l"], "count": ["-c"]}.get(g.get("show", ""), [])
    flags = _flags(g, recursive="-r", ignore_case="-i", invert="-v", line_numbers="-n")
    return ["grep", "-F" if g.get("fixed") else "-E", *flags, *show, "-e", g["pattern"]]


def _sort(g: dict[str, Any]) -> list[str]:
    key = [f"-k{g['key']},{g['key']}"] if "key" in g else []
    separator = [f"-t{g['separator']}"] if "separator" in g else []
    flags = _flags(g, numeric="-n", reverse="-r", unique="-u")
    return ["sort", *flags, *key, *separator, "--", g["path"]]


def _cut(g: dict[str, Any]) -> list[str]:
    if "characters" in g:
        return ["cut", f"-c{g['characters']}", "--", g["path"]]
    flags = _flags(g, skip_others="-s")
    return ["cut", f"-f{g['fields']}", f"-d{g.get('separator', chr(9))}", *flags, "--", g["path"]]


def _sed(g: dict[str, Any], *options: str) -> list[str]:
    pattern, new = (g[n].replace("/", "\\/") for n in ("pattern", "replacement"))
    new = new.replace("\n", "\\n")
    flags = "".join(_flags(g, every="g", ignore_case="I"))
    return ["sed", *options, "-E", "-e", f"s/{pattern}/{new}/{flags}", "--", g["path"]]


def _uniq(g: dict[str, Any]) -> list[str]:
    only = {"repeated": ["-d"], "single": ["-u"]}.get(g.get("only", ""), [])
    return ["uniq", *_flags(g, count="-c", ignore_case="-i"), *only, "--", g["path"]]


def _tail(g: dict[str, Any]) -> list[str]:
    start = f"+{g['from_line']}" if "from_line" in g else str(g.get("lines", 10))
    return ["tail", "-n", start, "--", g["path"]]


def _tree(g: dict[str, Any]) -> list[str]:
    depth = ["-L", str(g["max_depth"])] if "max_depth" in g else []
    flags = _flags(g, all="-a", folders_only="-d")
    return ["tree", "-N", "--noreport", *depth, *flags, _dashed(g.get("path", "."))]


def _wc(g: dict[str, Any]) -> list[str]:
    return [
        "wc",
        *({"lines": ["-l"], "words": ["-w"], "bytes": ["-c"]}.get(g.get("count", ""), [])),
    ]


STAT = "%F|%s|%a|%A|%u|%g|%h|%Y"
COMM = {"all": [], "only_first": ["-23"], "only_second": ["-13"], "both": ["-12"]}
OPTIONS: dict[str, Any] = {
    "pwd": lambda g: ["pwd", "-P"],
    "cd": lambda g: f"cd -P -- {shlex.quote(g['path'])} && pwd -P",
    "id": lambda g: ["id", "-G"],
    "ls": _ls,
    "tree": _tree,
    "stat": lambda g: ["stat", *_flags(g, follow="-L"), "-c", STAT, "--", g["path"]],
    "find": _find,
    "du": lambda g: ["du", "-b", f"--max-depth={g.get('max_depth', 0)}", "--", g.get("path", ".")],
    "quota": lambda g: ["true"],
    "readlink": lambda g: ["readlink", "--", g["path"]],
    "realpath": lambda g: ["realpath", "-e", "--", g["path"]],
    "cat": lambda g: ["cat", *_flags(g, number="-n")],
    "head": lambda g: ["head", "-n", str(g.get("lines", 10)), "--", g["path"]],
    "tail": _tail,
    "wc": _wc,
    "grep": _grep,
    "sort": _sort,
    "uniq": _uniq,
    "cut": _cut,
    "sed": _sed,
    "sed_in_place": lambda g: _sed(g, "-i"),
    "diff": lambda g: ["diff", "-d", "--", g["path"], g["other"]],
    "comm": lambda g: ["comm", *COMM[g.get("show", "all")], "--", g["path"], g["other"]],
    "split": lambda g: ["split", "-l", str(g["lines"]), "--", g["path"], g.get("prefix", "x")],
    "md5sum": lambda g: ["md5sum"],
    "sha256sum": lambda g: ["sha256sum"],
    "umask": lambda g: f"umask {g['mask']} && umask",
    "mkdir": lambda g: ["mkdir", *_flags(g, parents="-p"), "--", *g["paths"]],
    "rmdir": lambda g: ["rmdir", "--", g["path"]],
    "touch": lambda g: ["touch", "--", *g["paths"]],
    "write_file": lambda g: (
        f"printf %s {shlex.quote(g['text'])} "
        f"{'>>' if g.get('append') else '>'} {shlex.quote(g['path'])}"
    ),
    "truncate": lambda g: ["truncate", "-c", "-s", str(g["size"]), "--", g["path"]],
    "symlink": lambda g: ["ln", "-s", "--", g["target"], g["path"]],
    "cp": lambda g: ["cp", *_flags(g, recursive="-r")],
    "mv": lambda g: ["mv"],
    "rm": lambda g: ["rm", *_flags(g, recursive="-r", force="-f")],
    "chmod": lambda g: ["chmod", *_flags(g, recursive="-R"), g["mode"]],
    "chgrp": lambda g: [
        "chgrp",
        *_flags(g, recursive="-R"),
        str(GROUPS[g["group"]]) if g["group"] in GROUPS else g["group"],
    ],
    "tar_create": lambda g: [
        *("tar", "--sort=name", "--format=gnu", "-cf", g["archive"]),
        *(["-C", g["folder"]] if "folder" in g else []),
    ],
    "tar_list": lambda g: ["tar", "--quoting-style=literal", "-tf", g["archive"]],
    "tar_extract": lambda g: [
        *("tar", "-xf", g["archive"], "-C", g.get("folder", ".")),
        *(["--", *g["members"]] if "members" in g else []),
    ],
}
"""Tool -> the command and its options."""


# -- what the command printed, as the server prints it ------------------------------------------


def printed(step: Step, output: str) -> str:
    """A command's output: sorted where the server sorts, numbers of users replaced by names."""
    given = step.arguments
    if step.tool == "find":
        return "".join(sorted(output.splitlines(keepends=True)))
    if step.tool == "du":
        rows = [line.split("\t", 1) for line in output.splitlines()]
        return "".join(f"{size}\t{path}\n" for size, path in sorted(rows, key=lambda r: r[1]))
    if step.tool == "grep" and given.get("recursive"):
        return _grep_sorted(output, step)
    if step.tool == "ls" and given.get("long"):
        return "\n\n".join(_named(block) for block in output.split("\n\n"))
    if step.tool == "tree" and given.get("path", "").startswith("-"):
        return output.removeprefix("./")  # it takes no other spelling of such a name
    return output


def _grep_sorted(output: str, step: Step) -> str:
    """The lines, those of the files below one folder sorted by path."""
    lines = output.splitlines(keepends=True)
    named = step.arguments.get("show") == "files"
    paths = [line.rstrip("\n") if named else line.split(":")[0] for line in lines]
    if not set(paths) >= set(json.loads(step.result.text)["paths"]):
        return output  # one file, so no line names it
    args = [a.rstrip("/") for a in step.arguments["paths"] if not any(c in a for c in "*?[")]

    def place(path: str) -> tuple[int, str]:
        above = [i for i, a in enumerate(args) if path == a or path.startswith(f"{a}/")]
        return min(above, default=0), path

    order = sorted(range(len(lines)), key=lambda i: place(paths[i]))
    return "".join(lines[i] for i in order)


ROW = re.compile(r"(?m)^([-dl][-rwxsStT]{9}) +(\d+) (\d+) +(\d+) +(\d+) (.*)$")


def _named(block: str) -> str:
    """The rows of `ls -ln` as those of `ls -l`."""
    users = {v: k for k, v in USERS.items()}
    groups = {v: k for k, v in GROUPS.items()}
    rows = ROW.findall(block)
    if not rows:
        return block
    named = [(m, n, users[int(u)], groups[int(g)], size, rest) for m, n, u, g, size, rest in rows]
    wide = [max(len(row[i]) for row in named) for i in range(5)]
    lines = iter(
        f"{m} {n:>{wide[1]}} {u:<{wide[2]}} {g:<{wide[3]}} {size:>{wide[4]}} {rest}"
        for m, n, u, g, size, rest in named
    )
    return ROW.sub(lambda _: next(lines), block)


def stat_of(result: dict[str, Any]) -> str:
    """A result of `stat` in the form of :data:`STAT`."""
    kinds = {"file": "regular file", "folder": "directory", "link": "symbolic link"}
    kind = kinds[result["kind"]]
    kind = "regular empty file" if kind == "regular file" and not result["size"] else kind
    fields = (
        *(kind, result["size"], result["mode"], result["permissions"]),
        *(USERS[result["owner"]], GROUPS[result["group"]], result["links"]),
        _seconds(result["modified"]),
    )
    return "|".join(map(str, fields)) + "\n"


def answered(step: Step, real: dict[str, Any]) -> str | None:
    """What the server printed; ``None`` where the command prints nothing."""
    result = json.loads(step.result.text)
    if step.tool == "stat":
        return stat_of(result)
    if step.tool in ("pwd", "cd", "realpath"):
        return f"{result['path']}\n"
    if step.tool == "readlink":
        return f"{result['target']}\n"
    if step.tool == "umask":
        return f"{result['mask']}\n"
    if step.tool == "id":
        return " ".join(str(GROUPS[name]) for name in result["groups"]) + "\n"
    if step.tool == "quota":
        owned = [entry for entry in real.values() if entry[2] == USERS[USER]]
        sizes = [
            entry[5]["size"] if isinstance(entry[5], dict) else len(entry[5].encode())
            for entry in owned
            if entry[0] == "file"
        ]
        assert (result["bytes_used"], result["nodes_used"]) == (sum(sizes), len(owned))
        return None
    return str(result["output"]) if "output" in result else None


# -- the tree -----------------------------------------------------------------------------------


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp())


def entry_of(node: Node) -> tuple[Any, ...]:
    """A node as the driver dumps it."""
    content: Any = node.text
    if node.members is not None:
        content = {"size": tar_bytes(node.members), "members": [_member(m) for m in node.members]}
    return (
        *(node.kind.value, int(node.mode, 8), USERS[node.owner], GROUPS[node.group]),
        *(_seconds(node.modified), content),
    )


def _member(m: Member) -> list[Any]:
    # An archive in an archive has no bytes here to compare.
    text = m.text if m.members is None else "an archive"
    return [m.name, m.kind.value, int(m.mode, 8), _seconds(m.modified), text]


def nodes_below(session: ServerSession, root: str) -> dict[str, Node]:
    """The server's nodes in the compared folder, folders before what is in them."""
    nodes = session.server.nodes  # type: ignore[attr-defined]
    return {root: nodes[root], **{path: nodes[path] for path in session.server.below(root)}}  # type: ignore[attr-defined]


def run_real(root: str, sequences: list[tuple[dict[str, Node], list[Step]]]) -> list[Any]:
    """Run all sequences as real commands."""
    job = {
        "root": root,
        "user": USERS[USER],
        "groups": [GROUPS[name] for name in MEMBERSHIP[USER]],
        "sequences": [
            (
                {path: entry_of(node) for path, node in start.items()},
                [
                    {
                        "tool": step.tool,
                        "command": command_of(step.tool, step.arguments),
                        "refused": step.result.error is not None,
                        "reads": Filesystem.tools[step.tool].access is Access.READ,
                        "time": step.seconds,
                        **(
                            {"umask": int(step.arguments["mask"], 8)}
                            if step.tool == "umask"
                            else {}
                        ),
                    }
                    for step in steps
                ],
            )
            for start, steps in sequences
        ],
    }
    command = [sys.executable, "-I", "-S", str(DRIVER)]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


FAILS_WITHOUT_ERROR = {"grep": {0, 1}, "diff": {0, 1}}


def differences(start: dict[str, Node], steps: list[Step], real: list[Any]) -> list[str]:
    """How the server and the commands differ, up to the first step that does."""
    tree: dict[str, Any] = {path: entry_of(node) for path, node in start.items()}
    before = dict(start)
    for number, (step, (code, output, error, delta, gone)) in enumerate(
        zip(steps, real, strict=True)
    ):
        tree.update({path: tuple(entry) for path, entry in delta.items()})
        for path in gone:
            tree.pop(path, None)
        if step.tool == "tree" and code == NO_SUCH_PROGRAM:
            continue  # a package of its own, which not every machine has
        said = (
            f"step {number}: {step.tool} {step.arguments}\n  server: {step.result.text[:400]!r}\n"
        )
        said += f"  real: {code} {output[:400]!r} {error[:300]!r}\n"
        if (step.tool, step.reason) == ("sed_in_place", "inside_a_character"):
            return []  # the real file holds bytes that are no text from here on
        if step.reason:
            if step.reason in OWN_REFUSALS or (step.tool, step.reason) == ("truncate", "not_found"):
                continue
            # These say the same of every problem.
            silent = step.tool in ("cd", "readlink", "tree")
            told = silent or any(text in error for text in SAYS[step.reason])
            if (code == 0 and step.tool != "tree") or not told:
                return [said + "  refused differently"]
            continue
        result = json.loads(step.result.text)
        fine = FAILS_WITHOUT_ERROR.get(step.tool, {0})
        if code not in fine and not ("not_readable" in result and code in (0, 1, 2)):
            return [said + "  the command fails"]
        if answered(step, tree) not in (None, printed(step, output)):
            return [said + f"  expected {printed(step, output)[:600]!r}"]
        changed = {p: n for p, n in step.nodes.items() if before.get(p) is not n}
        for path in {*changed, *delta, *gone, *(set(before) - set(step.nodes))}:
            ours = entry_of(step.nodes[path]) if path in step.nodes else None
            if not _equal(ours, tree.get(path)):
                return [said + f"  {path}: server {ours}, real {tree.get(path)}"]
        before = step.nodes
    return []


def _equal(ours: Any, real: Any) -> bool:
    if ours is None or real is None or not isinstance(ours[5], dict):
        return bool(ours == real)
    if ours[:5] != real[:5] or not isinstance(real[5], dict) or ours[5]["size"] != real[5]["size"]:
        return False
    pairs = zip(ours[5]["members"], real[5]["members"], strict=False)
    same = len(ours[5]["members"]) == len(real[5]["members"])
    return same and all(o[:4] == r[:4] and o[4] in ("an archive", r[4]) for o, r in pairs)


NO_SUCH_PROGRAM = 127
"""The shell's exit code for a command that is not there."""


def possible() -> str | None:
    """Why real commands cannot be run as another user here; ``None`` if they can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root can build the tree and run the commands as another user"
    version = subprocess.run(["ls", "--version"], capture_output=True, text=True, check=False)
    if "GNU coreutils" not in version.stdout:
        return "the commands here are not those of GNU"
    volume = ["stat", "-f", "-c", "%T", tempfile.gettempdir()]
    if subprocess.run(volume, capture_output=True, text=True, check=False).stdout == "tmpfs\n":
        return "folders and links have other sizes on tmpfs: set TMPDIR to a folder on a disk"
    return None
