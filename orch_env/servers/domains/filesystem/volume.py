"""The tree and its rules: how a path is walked, who may do what, and how nodes come and go.

Paths are walked as the kernel walks them: component by component from the root or the working
folder, through symbolic links, with the right to search each folder on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Never, TypeAlias

from orch_env.servers.domains.filesystem.expressions import Budget, Expression, glob
from orch_env.servers.domains.filesystem.nodes import Account, Kind, Node, Shell
from orch_env.servers.framework.arguments import Length
from orch_env.servers.framework.errors import InvalidArguments, NotFound, ToolRefusal
from orch_env.servers.framework.server import Server
from orch_env.servers.framework.table import Table

READ, WRITE, SEARCH = 4, 2, 1
MAX_NAME = 255
MAX_PATH = 4095
MAX_LINKS = 40
MAX_FILE = 64 * 1024
"""Bytes of one file."""
MAX_EXPANDED = 500
"""Paths that the patterns of one call may stand for."""

Path: TypeAlias = Annotated[str, Length(0, 6000)]
Paths: TypeAlias = Annotated[list[Path], Length(1, 50)]

REASONS = {
    "not_found": ("No such file or directory", "ls and find show what there is."),
    "permission_denied": ("Permission denied", "stat shows who may do what; id shows who you are."),
    "not_permitted": ("Operation not permitted", "Only its owner may do that; stat shows who."),
    "not_a_folder": ("Not a directory", "Name a folder here."),
    "is_a_folder": ("Is a directory", "Name a file here, or what is in the folder."),
    "not_empty": ("Directory not empty", "Move or rm what is in it first."),
    "already_exists": ("File exists", "Take another name, or rm it first."),
    "too_many_links": ("Too many levels of symbolic links", "readlink shows where a link leads."),
    "name_too_long": ("File name too long", f"A name has at most {MAX_NAME} bytes."),
    "file_too_large": ("File too large", f"A file holds at most {MAX_FILE} bytes."),
    "busy": ("Device or resource busy", "The working folder is in it; cd to another one first."),
    "archive_file": ("It is an archive", "tar_list shows what is in it."),
}
"""Kind of refusal -> what the kernel says, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads.

    Attributes:
        said: the path as it was given.
        path: the absolute path, without links and dots.
        node: what is there; ``None`` if nothing is, in a folder that exists.
    """

    said: str
    path: str
    node: Node | None


@dataclass(frozen=True, slots=True)
class Found:
    """A path that leads to something."""

    said: str
    path: str
    node: Node


def refuse(reason: str, said: str) -> Never:
    """Refuse a path for one of :data:`REASONS`."""
    text, repair = REASONS[reason]
    kind = NotFound if reason == "not_found" else ToolRefusal
    shown = said if len(said) <= 200 else said[:200] + "..."
    raise kind(f"'{shown}': {text}. {repair}", reason=reason, path=shown)


def parent_of(path: str) -> str:
    """The folder of an absolute path; the root is its own."""
    return path.rpartition("/")[0] or "/"


def name_of(path: str) -> str:
    """The last part of a path as `basename` gives it."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def joined(folder: str, name: str) -> str:
    """A path one step further down."""
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


class Volume(Server):
    """The state and its rules; the tools are in the other modules of this folder."""

    nodes: Table[Node]
    accounts: Table[Account]
    shells: Table[Shell]

    # -- who and when ---------------------------------------------------------------------------

    @property
    def shell(self) -> Shell:
        """The user's session."""
        return self.shells["shell"]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the user, the main one first."""
        return self.accounts[self.shell.user].groups

    @property
    def stamp(self) -> str:
        """The session's time as nodes hold it."""
        return self.now.isoformat(timespec="seconds")

    def may(self, node: Node, right: int) -> bool:
        """Whether the user has a right (4 read, 2 write, 1 search or run) on a node."""
        bits = int(node.mode, 8)
        if node.owner == self.shell.user:
            bits >>= 6
        elif node.group in self.groups:
            bits >>= 3
        return bits & right == right

    # -- walking paths --------------------------------------------------------------------------

    def locate(self, said: str, *, follow: bool = True) -> Place:
        """Walk a path; its last part need not exist.

        Args:
            said: absolute, or from the working folder.
            follow: whether to follow a link in the last part.

        Raises:
            ToolRefusal: as the kernel would refuse it.
        """
        _check_path(said)
        at = "/" if said.startswith("/") else self.shell.folder
        todo = said.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if not name:
                continue
            folder = self.nodes.get(at)
            if folder is None:
                refuse("not_found", said)
            if not self.may(folder, SEARCH):
                refuse("permission_denied", said)
            if name in (".", ".."):
                at = at if name == "." else parent_of(at)
                continue
            if len(name.encode()) > MAX_NAME:
                refuse("name_too_long", said)
            path = joined(at, name)
            node = self.nodes.get(path)
            last = not any(part not in ("", ".") for part in todo)
            if node is None:
                if not last or "." in todo:
                    refuse("not_found", said)
                return Place(said, path, None)
            if node.kind is Kind.LINK and (follow or todo):
                links += 1
                if links > MAX_LINKS:
                    refuse("too_many_links", said)
                todo += node.text.split("/")[::-1]
                at = "/" if node.text.startswith("/") else at
            elif node.kind is Kind.FOLDER:
                at = path
            elif todo:
                refuse("not_a_folder", said)
            else:
                return Place(said, path, node)
        return Place(said, at, self.nodes.get(at))

    def need(self, said: str, *, follow: bool = True) -> Found:
        """Walk a path that must lead to something."""
        place = self.locate(said, follow=follow)
        if place.node is None:
            refuse("not_found", said)
        return Found(said, place.path, place.node)

    def need_folder(self, said: str) -> Found:
        """Walk a path that must lead to a folder."""
        found = self.need(said)
        if found.node.kind is not Kind.FOLDER:
            refuse("not_a_folder", said)
        return found

    def need_file(self, said: str, right: int) -> Found:
        """Walk a path that must lead to a file on which the user has a right."""
        found = self.need(said)
        if right == READ and not self.may(found.node, right):
            refuse("permission_denied", said)
        if found.node.kind is Kind.FOLDER:
            refuse("is_a_folder", said)
        if not self.may(found.node, right):
            refuse("permission_denied", said)
        return found

    def text_of(self, said: str) -> str:
        """The content of a text file that the user may read."""
        node = self.need_file(said, READ).node
        if node.members is not None:
            refuse("archive_file", said)
        return node.text

    def names_in(self, folder: str) -> list[str]:
        """The names in a folder, sorted by byte."""
        start = joined(folder, "")
        skip = len(start)
        return sorted(
            path[skip:]
            for path in self.nodes
            if path.startswith(start) and len(path) > skip and "/" not in path[skip:]
        )

    def below(self, folder: str) -> list[str]:
        """Absolute paths of all below a folder: each folder before what is in it, names sorted."""
        start = joined(folder, "")
        found = [path for path in self.nodes if path.startswith(start) and path != "/"]
        return sorted(found, key=lambda path: path.replace("/", "\0"))

    def may_list(self, node: Node) -> bool:
        """Whether the user can list a folder; that asks for the right to search it too."""
        return self.may(node, READ | SEARCH)

    def walk(self, said: str, path: str, denied: list[str]) -> Iterator[Found]:
        """A node and all below it, each folder before what is in it, names sorted by byte.

        Args:
            said: how its path is printed.
            path: its absolute path.
            denied: gets the folders that the user may not list.
        """
        yield Found(said, path, self.nodes[path])
        skipped = "" if self._lists(Found(said, path, self.nodes[path]), denied) else path
        for under in self.below(path):
            if skipped and under.startswith(joined(skipped, "")):
                continue
            found = Found(joined(said, under[len(joined(path, "")) :]), under, self.nodes[under])
            yield found
            if not self._lists(found, denied):
                skipped = under

    def _lists(self, found: Found, denied: list[str]) -> bool:
        hidden = found.node.kind is Kind.FOLDER and not self.may_list(found.node)
        if hidden:
            denied.append(found.said)
        return not hidden

    # -- patterns -------------------------------------------------------------------------------

    def expand(self, paths: list[str]) -> list[str]:
        """Replace each pattern by the paths that it matches, as a shell does.

        A pattern that matches nothing stays as it is.
        """
        expanded: list[str] = []
        for said in paths:
            _check_path(said)
            found = self._matches(said) if any(c in said for c in "*?[") else []
            expanded += found or [said]
            if len(expanded) > MAX_EXPANDED:
                raise ToolRefusal(
                    f"'{said[:200]}' stands for too many paths: Argument list too long. "
                    f"Name fewer than {MAX_EXPANDED} paths in one call.",
                    reason="too_many_paths",
                )
        return expanded

    def _matches(self, pattern: str) -> list[str]:
        budget = Budget()
        prefixes = [""]
        parts = pattern.split("/")
        for place, part in enumerate(parts):
            tail = "" if place == len(parts) - 1 else "/"
            if any(c in part for c in "*?["):
                matcher = glob(part)
                prefixes = [
                    prefix + name + tail
                    for prefix in prefixes
                    for name in self._listed(prefix or ".")
                    if _fits(matcher, part, name, budget)
                ]
            else:
                prefixes = [prefix + part + tail for prefix in prefixes]
        return [path for path in prefixes if self._there(path)]

    def _listed(self, said: str) -> list[str]:
        try:
            folder = self.need_folder(said)
        except ToolRefusal:  # a shell passes over what it cannot read
            return []
        return self.names_in(folder.path) if self.may_list(folder.node) else []

    def _there(self, said: str) -> bool:
        try:
            return self.locate(said, follow=False).node is not None
        except ToolRefusal:
            return False

    # -- changes --------------------------------------------------------------------------------

    def add(self, place: Place, kind: Kind, mode: int, text: str = "") -> None:
        """Make a node where none is.

        Args:
            place: where; a path that ends with a slash can only be a folder.
            kind: what it is.
            mode: its permissions; the umask is not applied here.
            text: its content, or its target.
        """
        if kind is not Kind.FOLDER and place.said.endswith("/"):
            refuse("not_found", place.said)
        folder_path = parent_of(place.path)
        folder = self.nodes[folder_path]
        if not self.may(folder, WRITE | SEARCH):
            refuse("permission_denied", place.said)
        _check_name(name_of(place.path))
        if kind is Kind.FOLDER:
            mode |= int(folder.mode, 8) & 0o2000
        group = self.group_in(folder)
        node = Node(kind, f"{mode:04o}", self.shell.user, group, self.stamp, text)
        self.nodes[place.path] = node
        self.touch_folder(folder_path)

    def group_in(self, folder: Node) -> str:
        """The group of what the user makes in a folder."""
        return folder.group if int(folder.mode, 8) & 0o2000 else self.groups[0]

    def masked(self, mode: int) -> int:
        """A mode without the permissions that the umask takes away."""
        return mode & ~int(self.shell.umask, 8)

    def check_removable(self, found: Found) -> None:
        """Refuse unless the user may take a node out of its folder."""
        folder = self.nodes[parent_of(found.path)]
        if found.path == "/" or not self.may(folder, WRITE | SEARCH):
            refuse("permission_denied", found.said)
        sticky = int(folder.mode, 8) & 0o1000
        if sticky and self.shell.user not in (found.node.owner, folder.owner):
            refuse("not_permitted", found.said)

    def check_unused(self, found: Found) -> None:
        """Refuse to move or remove a folder that the working folder is in."""
        if f"{self.shell.folder}/".startswith(f"{found.path.rstrip('/')}/"):
            refuse("busy", found.said)

    def unlink(self, found: Found) -> None:
        """Remove one node that has nothing below it."""
        self.check_removable(found)
        del self.nodes[found.path]
        self.touch_folder(parent_of(found.path))

    def touch_folder(self, path: str) -> None:
        """Note that the list of what is in a folder changed now."""
        self.nodes[path] = replace(self.nodes[path], modified=self.stamp)

    def put_text(self, said: str, text: str) -> None:
        """Write a file: a new one, or the content of one that the user may write."""
        place = self.locate(said)
        if len(text.encode()) > MAX_FILE:
            refuse("file_too_large", said)
        if place.node is None:
            self.add(place, Kind.FILE, self.masked(0o666), text)
        else:
            file = self.need_file(said, WRITE)
            self.nodes[file.path] = replace(file.node, text=text, members=None, modified=self.stamp)

    def check_quota(self) -> None:
        """Refuse if the user's files have outgrown the quota; call it after what adds to them."""
        shell = self.shell
        bytes_used, nodes_used = self.usage()
        if bytes_used > shell.max_bytes or nodes_used > shell.max_nodes:
            raise ToolRefusal(
                f"Disk quota exceeded: {bytes_used} of {shell.max_bytes} bytes and {nodes_used} "
                f"of {shell.max_nodes} nodes would be used. quota shows what is used; rm frees it.",
                reason="quota_exceeded",
                bytes_over=max(0, bytes_used - shell.max_bytes),
            )

    def usage(self) -> tuple[int, int]:
        """Bytes in the user's files, and how many nodes the user owns."""
        user = self.shell.user
        owned = [node for node in self.nodes.values() if node.owner == user]
        return sum(node.bytes for node in owned if node.kind is Kind.FILE), len(owned)

    # -- laws -----------------------------------------------------------------------------------

    def invariants(self) -> Iterator[str]:
        """Every node is in a folder, has an owner we know, and the quota holds."""
        for path, node in self.nodes.items():
            folder = self.nodes.get(parent_of(path))
            if folder is None or folder.kind is not Kind.FOLDER:
                yield f"{path} is in no folder"
            if node.owner not in self.accounts:
                yield f"{path} belongs to {node.owner}, who has no account"
            if node.kind is Kind.FILE and node.members is None and node.bytes > MAX_FILE:
                yield f"{path} is too large"
            if datetime.fromisoformat(node.modified) > self.now:
                yield f"{path} was changed in the future"
            if path != "/" and name_of(path) in (".", "..", "/"):
                yield f"{path} has no name"
        shell = self.shell
        standing = self.nodes.get(shell.folder)
        if standing is None or standing.kind is not Kind.FOLDER:
            yield f"the working folder {shell.folder} is no folder"
        bytes_used, nodes_used = self.usage()
        if bytes_used > shell.max_bytes or nodes_used > shell.max_nodes:
            yield f"{bytes_used} bytes and {nodes_used} nodes are more than the quota"


def _fits(matcher: Expression, pattern: str, name: str, budget: Budget) -> bool:
    hidden = name.startswith(".") and not pattern.startswith(".")
    return not hidden and matcher.fits(name, budget)


def _check_path(said: str) -> None:
    if "\0" in said:
        raise InvalidArguments(
            "A path cannot hold the character NUL. Leave it out.", reason="invalid_path"
        )
    if not said:
        refuse("not_found", said)
    if len(said.encode()) > MAX_PATH:
        refuse("name_too_long", said)


def _check_name(name: str) -> None:
    if "\\" in name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise InvalidArguments(
            f"The name {name[:200]!r} holds a backslash or a control character. "
            "New names are made of printable characters.",
            reason="invalid_name",
        )
