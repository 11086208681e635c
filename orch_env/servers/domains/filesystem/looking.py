"""Tools that show where one is and what there is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from orch_env.servers.domains.filesystem.expressions import Budget, glob
from orch_env.servers.domains.filesystem.nodes import Kind, Node
from orch_env.servers.domains.filesystem.volume import (
    SEARCH,
    Found,
    Path,
    Paths,
    Volume,
    joined,
    name_of,
    refuse,
)
from orch_env.servers.framework.arguments import Format, Length, Range
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

Sort = Literal["name", "size", "time"]


class LookingTools(Volume):
    """Where one is, what there is, and how much room it takes."""

    @read
    def pwd(self) -> JsonObject:
        """Show the working folder."""
        return {"path": self.shell.folder}

    @write
    def cd(self, path: Path) -> JsonObject:
        """Make a folder the working folder; links are resolved, as with cd -P.

        Args:
            path: The folder, absolute or from the working folder; ls and find show folders.
        """
        found = self.need_folder(path)
        if not self.may(found.node, SEARCH):
            refuse("permission_denied", path)
        self.shells["shell"] = replace(self.shell, folder=found.path)
        return {"path": found.path}

    @read
    def id(self) -> JsonObject:
        """Show who you are and the groups that you belong to."""
        return {"user": self.shell.user, "groups": list(self.groups)}

    @read
    def ls(
        self,
        paths: Paths | None = None,
        all: bool = False,
        long: bool = False,
        recursive: bool = False,
        sort: Sort = "name",
        reverse: bool = False,
    ) -> JsonObject:
        """List folders, or single files, as ls does, one name a line.

        Args:
            paths: Folders, files or patterns such as *.txt; the working folder if left out.
            all: List hidden names too, those that start with a dot (-A).
            long: Show permissions, owner, group, size and time (-l --time-style=long-iso).
            recursive: List the folders below, too (-R).
            sort: By name, by size (largest first, -S) or by time (newest first, -t).
            reverse: Turn the order round (-r).
        """
        found = [self._listed_entry(said, long) for said in self.expand(paths or ["."])]
        order = partial(_in_order, sort=sort, reverse=reverse)
        files = order([f for f in found if f.node.kind is not Kind.FOLDER])
        folders = order([f for f in found if f.node.kind is Kind.FOLDER])
        blocks = [self._lines(files, long)] if files else []
        titled = recursive or len(found) > 1
        denied: list[str] = []
        todo = folders[::-1]
        while todo:
            folder = todo.pop()
            if not self.may_list(folder.node):
                if folder in folders:
                    refuse("permission_denied", folder.said)
                denied.append(folder.said)
                continue
            entries = order(self._entries(folder, hidden=all))
            total = f"total {sum(e.node.kilobytes for e in entries)}\n" if long else ""
            title = f"{folder.said}:\n" if titled else ""
            blocks.append(title + total + self._lines(entries, long))
            if recursive:
                todo += [
                    replace(e, said=joined(folder.said, e.said))
                    for e in reversed(entries)
                    if e.node.kind is Kind.FOLDER
                ]
        return _with_denied({"output": "\n".join(blocks)}, denied)

    @read
    def tree(
        self,
        path: Path = ".",
        max_depth: Annotated[int, Range(1, 20)] | None = None,
        all: bool = False,
        folders_only: bool = False,
    ) -> JsonObject:
        """Draw a folder and what is below it as a tree, and count the folders and files in it.

        Args:
            path: The folder; ls and find show folders.
            max_depth: How many levels to draw (-L); all if left out.
            all: Draw hidden names too (-a).
            folders_only: Draw folders alone (-d).
        """
        top = self.need_folder(path)
        lines = [path]
        counts = {Kind.FOLDER: 0, Kind.FILE: 0, Kind.LINK: 0}
        denied: list[str] = []

        def draw(folder: Found, indent: str, depth: int) -> None:
            if not self.may_list(folder.node):
                denied.append(folder.said)
                lines[-1] += "  [error opening dir]"
                return
            entries = [
                entry
                for entry in self._entries(folder, hidden=all)
                if not folders_only or self._leads_to_folder(entry)
            ]
            for entry in entries:
                last = entry is entries[-1]
                target = f" -> {entry.node.text}" if entry.node.kind is Kind.LINK else ""
                lines.append(f"{indent}{'`-- ' if last else '|-- '}{entry.said}{target}")
                counts[entry.node.kind] += 1
                if entry.node.kind is Kind.FOLDER and depth != max_depth:
                    said = joined(folder.said, entry.said)
                    below = indent + ("    " if last else "|   ")
                    draw(replace(entry, said=said), below, depth + 1)

        draw(top, "", 1)
        result: JsonObject = {"folders": counts[Kind.FOLDER], "files": counts[Kind.FILE]}
        return _with_denied({**result, "output": "\n".join([*lines, ""])}, denied)

    @read
    def stat(self, path: Path, follow: bool = False) -> JsonObject:
        """Show one node: its kind, size, permissions, owner, group and time of change.

        Args:
            path: A file, folder or link; ls and find show them.
            follow: Show what a link leads to, not the link itself (-L).
        """
        found = self.need(path, follow=follow)
        node = found.node
        return {
            "path": path,
            "kind": node.kind.value,
            "size": node.bytes,
            "mode": node.mode.lstrip("0") or "0",
            "permissions": node.permissions,
            "owner": node.owner,
            "group": node.group,
            "links": self._num_links(found),
            "modified": node.modified,
            "is_archive": node.members is not None,
        }

    @read
    def find(
        self,
        path: Path = ".",
        name: Annotated[str, Length(1, 200)] | None = None,
        kind: Literal["file", "folder", "link"] | None = None,
        max_depth: Annotated[int, Range(0, 50)] | None = None,
        larger_than: Annotated[int, Range(0, None)] | None = None,
        smaller_than: Annotated[int, Range(0, None)] | None = None,
        owner: Annotated[str, Length(1, 40)] | None = None,
        newer_than: Path | None = None,
        changed_since: Annotated[str, Format("date")] | None = None,
        empty: bool = False,
    ) -> JsonObject:
        """Find what is below a folder and meets all the conditions; paths are sorted by byte.

        Args:
            path: Where to start; the working folder if left out.
            name: Pattern for the last part of the path, such as report-*.txt (-name).
            kind: Only files, folders or links (-type).
            max_depth: How many levels down to look (-maxdepth).
            larger_than: Only files of more than this many bytes (-size +Nc).
            smaller_than: Only files of fewer than this many bytes (-size -Nc).
            owner: Only what belongs to this user (-user).
            newer_than: Only what changed after this file did (-newer).
            changed_since: Only what changed after the start of this date (-newermt).
            empty: Only empty files and folders (-empty).
        """
        after = self.need(newer_than, follow=False).node.modified if newer_than else ""
        matcher, budget = (glob(name) if name else None), Budget()
        if owner and owner not in self.accounts:
            raise ToolRefusal(
                f"'{owner}' is not the name of a known user. stat shows who owns a file.",
                reason="unknown_user",
            )
        denied: list[str] = []
        start = self.need(path, follow=False)
        paths: list[str] = []
        for found in self._down(start, denied, max_depth):
            node, size = found.node, found.node.bytes
            if matcher and not matcher.fits(name_of(found.said), budget):
                continue
            if kind and node.kind != kind:
                continue
            if larger_than is not None and (node.kind is not Kind.FILE or size <= larger_than):
                continue
            if smaller_than is not None and (node.kind is not Kind.FILE or size >= smaller_than):
                continue
            if owner and node.owner != owner:
                continue
            if node.modified <= after or (changed_since and node.modified[:10] < changed_since):
                continue
            if empty and not self._is_empty(found, denied):
                continue
            paths.append(found.said)
        paths.sort()
        result: JsonObject = {"paths": paths, "output": "".join(f"{p}\n" for p in paths)}
        return _with_denied(result, denied)

    @read
    def du(self, path: Path = ".", max_depth: Annotated[int, Range(0, 50)] = 0) -> JsonObject:
        """Add up the bytes of a folder and all that is in it, as du -b does, sorted by path.

        Args:
            path: A folder or file; ls and find show them.
            max_depth: Show the folders below, too, down to this many levels.
        """
        denied: list[str] = []
        start = self.need(path, follow=False)
        sums = {path: 0}
        open_folders: list[Found] = []
        for found in self.walk(path, start.path, denied):
            while open_folders and not found.path.startswith(joined(open_folders[-1].path, "")):
                open_folders.pop()
            if found.node.kind is Kind.FOLDER:
                open_folders.append(found)
                if len(open_folders) <= max_depth + 1:
                    sums[found.said] = 0
            for folder in open_folders[: max_depth + 1] or [found]:
                sums[folder.said] += found.node.bytes
        lines = [f"{size}\t{said}\n" for said, size in sorted(sums.items())]
        return _with_denied({"bytes": sums[path], "output": "".join(lines)}, denied)

    @read
    def quota(self) -> JsonObject:
        """Show how many bytes and nodes your files use, and how many they may use."""
        shell = self.shell
        bytes_used, nodes_used = self.usage()
        return {
            "bytes_used": bytes_used,
            "bytes_free": shell.max_bytes - bytes_used,
            "max_bytes": shell.max_bytes,
            "nodes_used": nodes_used,
            "max_nodes": shell.max_nodes,
        }

    @read
    def readlink(self, path: Path) -> JsonObject:
        """Show where a symbolic link points to, as it is written in the link.

        Args:
            path: The link; ls with long and find with kind link show links.
        """
        node = self.need(path, follow=False).node
        if node.kind is not Kind.LINK:
            raise ToolRefusal(
                f"'{path[:200]}' is no symbolic link. find with kind link shows links.",
                reason="not_a_link",
            )
        return {"target": node.text}

    @read
    def realpath(self, path: Path) -> JsonObject:
        """Show the absolute path of what is there, with all links resolved (realpath -e).

        Args:
            path: A file, folder or link; ls and find show them.
        """
        return {"path": self.need(path).path}

    # -- parts ----------------------------------------------------------------------------------

    def _listed_entry(self, said: str, long: bool) -> Found:
        """What a path on the command line stands for: a link to a folder is followed."""
        found = self.need(said, follow=False)
        if found.node.kind is Kind.LINK and not long:
            try:
                behind = self.locate(said)
            except NotFound:
                return found
            if behind.node is not None and behind.node.kind is Kind.FOLDER:
                return Found(said, behind.path, behind.node)
        return found

    def _entries(self, folder: Found, *, hidden: bool) -> list[Found]:
        return [
            Found(name, path := joined(folder.path, name), self.nodes[path])
            for name in self.names_in(folder.path)
            if hidden or not name.startswith(".")
        ]

    def _lines(self, entries: list[Found], long: bool) -> str:
        if not long:
            return "".join(f"{e.said}\n" for e in entries)
        rows = [
            (
                e.node.permissions,
                str(self._num_links(e)),
                e.node.owner,
                e.node.group,
                str(e.node.bytes),
                e.node.modified[:16].replace("T", " "),
                _shown(e),
            )
            for e in entries
        ]
        wide = [max((len(row[i]) for row in rows), default=0) for i in range(5)]
        return "".join(
            f"{mode} {links:>{wide[1]}} {owner:<{wide[2]}} {group:<{wide[3]}} {size:>{wide[4]}} "
            f"{time} {name}\n"
            for mode, links, owner, group, size, time, name in rows
        )

    def _num_links(self, found: Found) -> int:
        if found.node.kind is not Kind.FOLDER:
            return 1
        names = self.names_in(found.path)
        below = (self.nodes[joined(found.path, name)] for name in names)
        return 2 + sum(node.kind is Kind.FOLDER for node in below)

    def _down(self, start: Found, denied: list[str], max_depth: int | None) -> list[Found]:
        if max_depth is None:
            return list(self.walk(start.said, start.path, denied))
        found, level = [start], [start]
        for _ in range(max_depth):
            level = [
                Found(joined(f.said, e.said), e.path, e.node)
                for f in level
                if f.node.kind is Kind.FOLDER and self._lists(f, denied)
                for e in self._entries(f, hidden=True)
            ]
            if not level:
                break
            found += level
        return found

    def _is_empty(self, found: Found, denied: list[str]) -> bool:
        node = found.node
        if node.kind is Kind.FILE:
            return node.bytes == 0
        if node.kind is Kind.LINK:
            return False
        return self._lists(found, denied) and not self.names_in(found.path)

    def _leads_to_folder(self, entry: Found) -> bool:
        if entry.node.kind is not Kind.LINK:
            return entry.node.kind is Kind.FOLDER
        try:
            return self.need(entry.path).node.kind is Kind.FOLDER
        except ToolRefusal:
            return False


def _in_order(entries: list[Found], sort: Sort, reverse: bool) -> list[Found]:
    entries = sorted(entries, key=lambda e: e.said, reverse=reverse)
    if sort == "size":
        return sorted(entries, key=lambda e: e.node.bytes, reverse=not reverse)
    if sort == "time":
        return sorted(entries, key=lambda e: e.node.modified, reverse=not reverse)
    return entries


def _shown(entry: Found) -> str:
    node: Node = entry.node
    return f"{entry.said} -> {node.text}" if node.kind is Kind.LINK else entry.said


def _with_denied(result: JsonObject, denied: list[str]) -> JsonObject:
    """Say which folders could not be listed; the rest of the result stands."""
    if denied:
        result["not_readable"] = sorted(set(denied))
    return result
