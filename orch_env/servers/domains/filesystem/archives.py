"""Tools for tar archives. An archive is a file whose content is the list of what is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Never

from orch_env.servers.domains.filesystem.nodes import Kind, Member, Node, tar_bytes
from orch_env.servers.domains.filesystem.volume import (
    READ,
    Found,
    Path,
    Paths,
    Volume,
    joined,
    refuse,
)
from orch_env.servers.framework.arguments import Length
from orch_env.servers.framework.errors import InvalidArguments, ToolRefusal
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

MAX_ARCHIVE = 256 * 1024
"""Bytes of one archive; an archive in an archive counts with its own size."""
MAX_NESTED = 3
"""How deep archives may lie in archives."""


class ArchiveTools(Volume):
    """Archives: many nodes in one file."""

    @write(destructive=True)
    def tar_create(self, archive: Path, paths: Paths, folder: Path | None = None) -> JsonObject:
        """Put files and folders into a new tar archive (tar -cf --sort=name).

        Args:
            archive: The new archive, such as backup.tar; a file that is there is overwritten.
            paths: Files and folders with all that is in them; ls and find show them.
            folder: Take the paths from this folder, not from the working folder (-C).
        """
        expanded = self.expand(paths) if folder is None else paths
        self.put_text(archive, "")
        members: list[Member] = []
        packed: set[str] = set()
        whole = self.locate(archive).path
        base = "" if folder is None else joined(self._base(folder).said, "")
        for said in expanded:
            if ".." in said.split("/"):
                raise InvalidArguments(
                    f"'{said[:200]}' leads up. Name what is below a folder, and the folder with "
                    "'folder'.",
                    reason="path_leads_up",
                )
            start = self.need(said if said.startswith("/") else base + said, follow=False)
            denied: list[str] = []
            for found in self.walk(said, start.path, denied):
                if found.path in packed:
                    _refuse_twice(found.said)
                packed.add(found.path)
                member = self._packed(found)
                members += [member] if found.path != whole else []
            if denied:
                refuse("permission_denied", denied[0])
        content = tuple(members)
        if tar_bytes(content) > MAX_ARCHIVE or _nesting(content) > MAX_NESTED:
            refuse("file_too_large", archive)
        place = self.need(archive)
        self.nodes[place.path] = replace(place.node, members=content)
        self.check_quota()
        return {"archive": archive, "members": len(content), "bytes": tar_bytes(content)}

    @read
    def tar_list(self, archive: Path) -> JsonObject:
        """List what is in a tar archive (tar -tf); names of folders end with a slash.

        Args:
            archive: The archive; find with name *.tar shows archives.
        """
        names = [member.name for member in self._members(archive)]
        return {"members": names, "output": "".join(f"{name}\n" for name in names)}

    @write(destructive=True)
    def tar_extract(
        self,
        archive: Path,
        folder: Path = ".",
        members: Annotated[list[Path], Length(1, 50)] | None = None,
    ) -> JsonObject:
        """Unpack a tar archive into a folder (tar -xf); files that are there are replaced.

        Args:
            archive: The archive; find with name *.tar shows archives.
            folder: Where to unpack it; the working folder if left out (-C).
            members: Only these members, folders with what is in them; tar_list shows the names.
        """
        content = self._members(archive)
        base = self._base(folder)
        if members is not None:
            content = self._selected(archive, content, members)
        made: list[tuple[str, Member]] = []
        for member in content:
            made.append((self._unpack(base, member), member))
        # Folders get their time last: what is unpacked into them changes it.
        for path, member in reversed(made):
            node = self.nodes[path]
            if member.kind is Kind.FOLDER:
                bits = int(node.mode, 8) & 0o7000 | self.masked(int(member.mode, 8) & 0o777)
                node = replace(node, mode=f"{bits:04o}")
            self.nodes[path] = replace(node, modified=member.modified)
        self.check_quota()
        return {"extracted": [member.name for member in content]}

    # -- parts ----------------------------------------------------------------------------------

    def _base(self, folder: str) -> Found:
        found = self.need_folder(folder)
        if not self.may_list(found.node):
            refuse("permission_denied", folder)
        return found

    def _members(self, archive: str) -> tuple[Member, ...]:
        node = self.need_file(archive, READ).node
        if node.members is None:
            raise ToolRefusal(
                f"'{archive[:200]}' does not look like a tar archive. "
                "find with name *.tar shows archives; stat tells whether a file is one.",
                reason="not_an_archive",
            )
        return node.members

    def _packed(self, found: Found) -> Member:
        node = found.node
        if node.kind is Kind.FILE and not self.may(node, READ):
            refuse("permission_denied", found.said)
        name = found.said.lstrip("/") or "."
        if node.kind is Kind.FOLDER:
            name = name.rstrip("/") + "/"
        return Member(name, node.kind, node.mode, node.modified, node.text, node.members)

    def _selected(
        self, archive: str, content: tuple[Member, ...], wanted: list[str]
    ) -> tuple[Member, ...]:
        names = [said.rstrip("/") for said in wanted]
        for said in names:
            if not any(_is_in(member.name, said) for member in content):
                raise ToolRefusal(
                    f"'{said[:200]}': Not found in archive '{archive[:200]}'. "
                    "tar_list shows the names.",
                    reason="not_in_archive",
                )
        for one in names:
            if sum(_is_in(one, said) for said in names) > 1:
                _refuse_twice(one)
        return tuple(m for m in content if any(_is_in(m.name, said) for said in names))

    def _unpack(self, base: Found, member: Member) -> str:
        """Make one member; returns its absolute path."""
        said = joined(base.path, member.name.rstrip("/"))
        self._make_folders(base.path, member.name.rstrip("/").split("/")[:-1])
        place = self.locate(said, follow=False)
        there = place.node
        if member.kind is Kind.FOLDER:
            if there is not None and there.kind is Kind.FOLDER:
                if there.owner != self.shell.user:
                    refuse("not_permitted", said)
                return place.path
            if there is not None:
                self.unlink(Found(said, place.path, there))
            self.add(place, Kind.FOLDER, self.masked(int(member.mode, 8) & 0o777) | 0o700)
            return place.path
        if there is not None:
            if there.kind is Kind.FOLDER and self.names_in(place.path):
                refuse("is_a_folder", said)
            self.check_unused(Found(said, place.path, there))
            self.unlink(Found(said, place.path, there))
        link = member.kind is Kind.LINK
        mode = 0o777 if link else self.masked(int(member.mode, 8) & 0o777)
        self.add(place, member.kind, mode, member.text)
        node: Node = self.nodes[place.path]
        self.nodes[place.path] = replace(node, members=member.members, modified=member.modified)
        return place.path

    def _make_folders(self, base: str, names: list[str]) -> None:
        """The folders above a member that the archive does not hold itself."""
        for name in names:
            base = joined(base, name)
            place = self.locate(base)
            if place.node is None:
                self.add(place, Kind.FOLDER, self.masked(0o777))


def _is_in(path: str, folder: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{folder}/")


def _refuse_twice(said: str) -> Never:
    raise InvalidArguments(
        f"'{said[:200]}' is named twice. Name each file once, and a folder without what is in it.",
        reason="named_twice",
    )


def _nesting(members: tuple[Member, ...]) -> int:
    return 1 + max((_nesting(m.members) for m in members if m.members is not None), default=0)
