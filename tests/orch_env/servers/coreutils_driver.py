"""Runs sequences of real commands in a real folder, as a user who is not root.

A script of its own, so that a fork is cheap: JSON on stdin, JSON on stdout, see
:mod:`tests.orch_env.servers.coreutils`. It runs as root, which builds the tree and sets the time of
what a command changed to the session's time, and drops root in each child.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
from typing import Any

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent"}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
ABOVE = 1_704_067_200
"""Time of the folder above: 2024-01-01."""
Entry = tuple[str, int, int, int, int, Any]
"""Kind, mode, user id, group id, time of change; content, target or members."""


class Tree:
    """The real folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._read: dict[tuple[str, int, int, int], Any] = {}

    def build(self, nodes: dict[str, Entry], archives: dict[str, bytes] | None = None) -> None:
        """Make the folder anew; folders come before what is in them."""
        if os.path.lexists(self.root):
            shutil.rmtree(self.root)
        for path, (kind, _, _, _, _, content) in nodes.items():
            if kind == "folder":
                os.mkdir(path)
            elif kind == "link":
                os.symlink(content, path)
            else:
                with open(path, "wb") as file:
                    file.write((archives or {}).get(path) or content.encode())
        for path, (kind, mode, user, group, seconds, _) in reversed(nodes.items()):
            os.chown(path, user, group, follow_symlinks=False)
            if kind != "link":
                os.chmod(path, mode)
            os.utime(path, (seconds, seconds), follow_symlinks=False)
        os.utime(os.path.dirname(self.root), (ABOVE, ABOVE))
        self._read.clear()

    def entries(self) -> dict[str, os.stat_result]:
        """The path and status of each node, folders before what is in them."""
        found = {self.root: os.lstat(self.root)}
        todo = [self.root]
        while todo:
            with os.scandir(todo.pop()) as items:
                for item in sorted(items, key=lambda i: i.name):
                    found[item.path] = item.stat(follow_symlinks=False)
                    if item.is_dir(follow_symlinks=False):
                        todo.append(item.path)
        return found

    def dump(self, since: float = 4e9, seconds: int = 0) -> dict[str, Entry]:
        """All nodes; an archive as its members and its size.

        What changed since a moment of the real clock gets another time.
        """
        found: dict[str, Entry] = {}
        for path, status in self.entries().items():
            modified = int(status.st_mtime)
            if modified >= since:
                modified = seconds
                os.utime(path, (seconds, seconds), follow_symlinks=False)
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            content: Any = ""
            if kind == "link":
                content = os.readlink(path)
            elif kind == "file":
                key = (path, status.st_ino, status.st_mtime_ns, status.st_size)
                if key not in self._read:
                    self._read[key] = content_of(path)
                content = self._read[key]
            found[path] = (
                kind,
                stat.S_IMODE(status.st_mode) if kind != "link" else 0o777,
                status.st_uid,
                status.st_gid,
                modified,
                content,
            )
        return found


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def content_of(path: str) -> Any:
    data = read(path)
    if data[257:262] == b"ustar" or (data and not data.strip(b"\0")):
        try:
            with tarfile.open(path) as archive:
                return {"size": len(data), "members": [member_of(archive, m) for m in archive]}
        except tarfile.TarError:  # a command that the server refused has cut it
            return data.decode("latin-1")
    return data.decode(errors="replace")


def member_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> list[Any]:
    kind = "folder" if member.isdir() else "file" if member.isreg() else "link"
    name = member.name + "/" * member.isdir()
    text = member.linkname
    if kind == "file":
        text = archive.extractfile(member).read().decode(errors="replace")  # type: ignore[union-attr]
    return [name, kind, member.mode, int(member.mtime), text]


class Shell:
    """A shell of the user, which runs one command after the other."""

    def __init__(self, job: dict[str, Any], folder: str, umask: int) -> None:
        self.files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        at = os.open(folder, os.O_RDONLY)
        from_parent, self.commands = os.pipe()
        self.codes, to_parent = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            try:
                os.fchdir(at)
                os.umask(umask)
                os.dup2(from_parent, 0)
                for number, file in ((7, to_parent), (8, self.files[0]), (9, self.files[1])):
                    os.dup2(file if isinstance(file, int) else file.fileno(), number)
                os.setgroups(job["groups"])
                os.setresgid(*job["groups"][:1] * 3)
                os.setresuid(*[job["user"]] * 3)
                os.execve("/bin/sh", ["sh"], ENVIRONMENT)
            finally:
                os._exit(127)
        for number in (at, from_parent, to_parent):
            os.close(number)

    def run(self, command: str) -> tuple[int, str, str]:
        """Exit code, output and error output of a command line."""
        for file in self.files:
            os.ftruncate(file.fileno(), 0)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
        line = f"{{ {command}\n}} </dev/null >&8 2>&9\necho $? >&7\n"
        os.write(self.commands, line.encode())
        code = b""
        while not code.endswith(b"\n"):
            code += os.read(self.codes, 16) or b"-1\n"
        output, error = (
            os.pread(f.fileno(), 1 << 20, 0).decode(errors="replace") for f in self.files
        )
        return int(code), output, error

    def close(self) -> None:
        """End the shell."""
        os.close(self.commands)
        os.close(self.codes)
        os.waitpid(self.child, 0)
        for file in self.files:
            file.close()


def run_sequence(
    job: dict[str, Any], nodes: dict[str, Entry], steps: list[dict[str, Any]]
) -> list[Any]:
    """Code, output, error output, changed nodes and removed paths of each step."""
    tree = Tree(job["root"])
    tree.build(nodes)
    before, since = tree.dump(), time.time() - 1
    folder, umask = tree.root, 0o022
    shell = Shell(job, folder, umask)
    results = []
    for step in steps:
        may_undo = step["refused"] and not step["reads"]
        held = [p for p, e in before.items() if may_undo and isinstance(e[5], dict)]
        archives = {path: read(path) for path in held}
        code, output, error = shell.run(step["command"])
        after = before
        if may_undo and tree.dump() != before:
            tree.build(before, archives)
            shell.close()
            shell = Shell(job, folder, umask)
        elif not step["refused"]:
            if step["tool"] == "cd" and code == 0:
                folder = output.rstrip("\n")
            umask = step.get("umask", umask)
            if not step["reads"]:
                after = tree.dump(since, step["time"])
        delta = {p: e for p, e in after.items() if before.get(p) != e}
        gone = [p for p in before if p not in after]
        results.append([code, output, error, delta, gone])
        before = after
    shell.close()
    return results


def main() -> None:
    job = json.load(sys.stdin)
    json.dump([run_sequence(job, *sequence) for sequence in job["sequences"]], sys.stdout)


if __name__ == "__main__":
    main()
