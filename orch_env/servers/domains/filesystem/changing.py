"""Tools that make, copy, move and remove nodes, and set who may use them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from orch_env.servers.domains.filesystem.nodes import Kind, Node
from orch_env.servers.domains.filesystem.volume import (
    READ,
    SEARCH,
    WRITE,
    Found,
    Path,
    Paths,
    Place,
    Volume,
    joined,
    name_of,
    parent_of,
    refuse,
)
from orch_env.servers.framework.arguments import Length, Pattern, Range
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.server import write
from orch_env.types.json import JsonObject

RIGHTS = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0o111}
WHO = {"u": 0o700, "g": 0o070, "o": 0o007, "a": 0o777}
Mode = Annotated[
    str, Pattern("([0-7]{3}|[ugoa]{1,4}[-+=][rwxX]{0,3}(,[ugoa]{1,4}[-+=][rwxX]{0,3}){0,5})")
]


class ChangingTools(Volume):
    """Nodes that come, go and change hands."""

    @write
    def umask(self, mask: Annotated[str, Pattern("[0-7]{3}")]) -> JsonObject:
        """Set which permissions new files and folders do not get.

        Args:
            mask: Three octal digits; 022 keeps writing to yourself, 077 keeps all to yourself.
        """
        self.shells["shell"] = replace(self.shell, umask="0" + mask)
        return {"mask": "0" + mask}

    @write
    def mkdir(self, paths: Paths, parents: bool = False) -> JsonObject:
        """Make one folder or several.

        Args:
            paths: The new folders, absolute or from the working folder.
            parents: Make missing folders above them too, and pass over those that exist (-p).
        """
        for said in paths:
            if parents:
                self._make_all(said)
                continue
            place = self.locate(said, follow=said.endswith("/"))
            if place.node is not None:
                refuse("already_exists", said)
            self.add(place, Kind.FOLDER, self.masked(0o777))
        self.check_quota()
        return {"made": paths}

    @write(destructive=True, idempotent=True)
    def rmdir(self, path: Path) -> JsonObject:
        """Remove an empty folder.

        Args:
            path: The folder; ls and find with empty show empty folders.
        """
        found = self.need(path, follow=False)
        if name_of(path) in (".", ".."):
            refuse("busy", path)
        self.check_unused(found)
        self.check_removable(found)
        if found.node.kind is not Kind.FOLDER:
            refuse("not_a_folder", path)
        if self.names_in(found.path):
            refuse("not_empty", path)
        self.unlink(found)
        return {"removed": path}

    @write
    def touch(self, paths: Paths) -> JsonObject:
        """Set the time of change of files or folders to now; make files that are missing.

        Args:
            paths: Files or folders, absolute or from the working folder.
        """
        for said in paths:
            place = self.locate(said)
            node = place.node
            if node is None:
                self.add(place, Kind.FILE, self.masked(0o666))
            elif node.owner == self.shell.user or self.may(node, WRITE):
                self.nodes[place.path] = replace(node, modified=self.stamp)
            else:
                refuse("permission_denied", said)
        self.check_quota()
        return {"touched": paths}

    @write(destructive=True)
    def write_file(self, path: Path, text: str, append: bool = False) -> JsonObject:
        """Write a text to a file: printf with > or >>. The file is made if it is missing.

        Args:
            path: The file, absolute or from the working folder.
            text: The text as it is; end it with a newline to end its last line.
            append: Add to the end of the file instead of replacing its content.
        """
        place = self.locate(path)
        if append and not text and place.node is not None:
            self.need_file(path, WRITE)
            return {"path": path, "bytes": place.node.bytes}
        if append and place.node is not None:
            if place.node.members is not None:
                refuse("archive_file", path)
            # Who may write a file may add to it without reading it.
            text = self.need_file(path, WRITE).node.text + text
        self.put_text(path, text)
        self.check_quota()
        return {"path": path, "bytes": self.need(path).node.bytes}

    @write(destructive=True)
    def truncate(self, path: Path, size: Annotated[int, Range(0, 65536)]) -> JsonObject:
        """Cut a text file to a size in bytes; nothing is added to a shorter one.

        Args:
            path: The file; ls and find show files.
            size: The most bytes that stay; wc and stat tell how many there are.
        """
        file = self.need_file(path, WRITE)
        if file.node.members is not None:
            refuse("archive_file", path)
        content = file.node.text.encode()
        if size > len(content):
            raise ToolRefusal(
                f"'{path[:200]}' has only {len(content)} bytes. Give a size up to that.",
                reason="file_too_short",
            )
        try:
            text = content[:size].decode()
        except UnicodeDecodeError:
            raise ToolRefusal(
                f"{size} bytes end inside a character of '{path[:200]}'. Take a byte less or more.",
                reason="inside_a_character",
            ) from None
        self.nodes[file.path] = replace(file.node, text=text, modified=self.stamp)
        return {"path": path, "bytes": size}

    @write
    def symlink(self, target: Annotated[str, Length(1, 4000)], path: Path) -> JsonObject:
        """Make a symbolic link (ln -s); if path is a folder, the link is made in it.

        Args:
            target: Where the link leads, absolute or from the folder of the link; it may not exist.
            path: The new link, or the folder to make it in under the target's last name.
        """
        if "\0" in target:
            refuse("not_found", target)
        if self._is_folder(path):
            path = joined(path, name_of(target))
        place = self.locate(path, follow=False)
        if place.node is not None:
            refuse("already_exists", path)
        self.add(place, Kind.LINK, 0o777, target)
        self.check_quota()
        return {"path": path, "target": target}

    # -- cp, mv, rm -----------------------------------------------------------------------------

    @write(destructive=True)
    def cp(self, sources: Paths, target: Path, recursive: bool = False) -> JsonObject:
        """Copy files, and folders with recursive; into the target if it is a folder.

        Args:
            sources: Files, folders or patterns such as *.txt; ls and find show them.
            target: The new path, or an existing folder; a file that is there is overwritten.
            recursive: Copy folders with all that is in them, and links as links (-r).
        """
        made: list[str] = []
        # dict: a source that is named twice is copied once.
        for said, wanted in dict(self._pairs(sources, target)).items():
            source = self.need(said, follow=not recursive)
            if source.node.kind is Kind.FOLDER and not recursive:
                raise ToolRefusal(
                    f"'{said[:200]}' is a folder: -r not specified. Call cp with recursive.",
                    reason="needs_recursive",
                )
            self._copy(source, wanted, recursive, made)
        self.check_quota()
        return {"copied": made}

    @write(destructive=True)
    def mv(self, sources: Paths, target: Path) -> JsonObject:
        """Move or rename files and folders; into the target if it is a folder.

        Args:
            sources: Files, folders or patterns such as *.txt; ls and find show them.
            target: The new path, or an existing folder; a file that is there is overwritten.
        """
        made: list[str] = []
        for said, wanted in self._pairs(sources, target):
            self._move(self.need(said, follow=False), wanted, made)
        return {"moved": made}

    @write(destructive=True)
    def rm(self, paths: Paths, recursive: bool = False, force: bool = False) -> JsonObject:
        """Remove files and links, and folders with recursive.

        Args:
            paths: Files, links, folders or patterns such as *.tmp; ls and find show them.
            recursive: Remove folders with all that is in them (-r).
            force: Pass over what does not exist (-f).
        """
        removed: list[str] = []
        for said in self.expand(paths):
            if name_of(said) in (".", "..", "/"):
                refuse("busy", said)
            try:
                found = self.need(said, follow=False)
            except ToolRefusal as refusal:
                if force and refusal.details["reason"] in ("not_found", "not_a_folder"):
                    continue
                raise
            if found.node.kind is Kind.FOLDER and not recursive:
                refuse("is_a_folder", said)
            self._remove_all(found)
            removed.append(said)
        return {"removed": removed}

    # -- permissions ----------------------------------------------------------------------------

    @write
    def chmod(self, mode: Mode, paths: Paths, recursive: bool = False) -> JsonObject:
        """Set the permissions of files and folders that you own.

        Args:
            mode: Three octal digits such as 640, or changes such as u+x,go-w or a=rX.
            paths: Files, folders or patterns; stat and ls with long show permissions.
            recursive: Change what is in folders, too (-R).
        """
        for said in self.expand(paths):
            todo = [self.need(said)]
            while todo:
                found = todo.pop()
                if found.node.owner != self.shell.user:
                    refuse("not_permitted", found.said)
                node = replace(found.node, mode=_changed(found.node, mode))
                self.nodes[found.path] = node
                if recursive and node.kind is Kind.FOLDER:
                    todo += self._children(replace(found, node=node))
        return {"changed": paths}

    @write
    def chgrp(
        self, group: Annotated[str, Length(1, 40)], paths: Paths, recursive: bool = False
    ) -> JsonObject:
        """Give files and folders that you own to another of your groups.

        Args:
            group: The group; id shows yours.
            paths: Files, folders or patterns; ls with long shows groups.
            recursive: Change what is in folders, too (-R).
        """
        if not any(group in account.groups for account in self.accounts.values()):
            raise ToolRefusal(
                f"'{group}': invalid group. id shows your groups.", reason="unknown_group"
            )
        for said in self.expand(paths):
            todo = [self.need(said, follow=not recursive)]
            while todo:
                found = todo.pop()
                if found.node.owner != self.shell.user or group not in self.groups:
                    refuse("not_permitted", found.said)
                self.nodes[found.path] = replace(found.node, group=group)
                if recursive and found.node.kind is Kind.FOLDER:
                    todo += self._children(found, links=True)
        return {"changed": paths}

    # -- parts ----------------------------------------------------------------------------------

    def _make_all(self, said: str) -> None:
        """Make a folder and those above it; what is there must be folders."""
        parts = [part for part in said.split("/") if part]
        path = "/" if said.startswith("/") else ""
        for number, part in enumerate(parts):
            path = joined(path, part) if path else part
            here = self.locate(path, follow=False).node
            if here is not None and here.kind is Kind.LINK and not self._is_folder(path):
                refuse("already_exists", path)
            place = self.locate(path)
            if place.node is None:
                whole = self.masked(0o777)
                last = number == len(parts) - 1
                # Those above must let their maker go on.
                self.add(place, Kind.FOLDER, whole if last else whole | 0o300)
            elif place.node.kind is not Kind.FOLDER:
                refuse("already_exists" if number == len(parts) - 1 else "not_a_folder", said)

    def _pairs(self, sources: list[str], target: str) -> list[tuple[str, str]]:
        """Source and wanted path of each node to copy or move."""
        said = self.expand(sources)
        if self._is_folder(target):
            return [(source, joined(target, name_of(source))) for source in said]
        if len(said) > 1:
            self.need_folder(target)
        source = self.need(said[0], follow=False).node
        if target.endswith("/") and source.kind is not Kind.FOLDER:
            self.locate(target)
            refuse("not_a_folder", target)
        return [(said[0], target)]

    def _is_folder(self, said: str) -> bool:
        try:
            return self.need(said).node.kind is Kind.FOLDER
        except ToolRefusal:  # whoever uses the path gets the refusal
            return False

    def _copy(self, source: Found, wanted: str, recursive: bool, made: list[str]) -> None:
        node = source.node
        regular = node.kind is Kind.FILE
        is_folder = node.kind is Kind.FOLDER
        unreadable = regular and not self.may(node, READ)
        try:
            place = self.locate(wanted, follow=regular)
        except NotFound:
            if unreadable:  # cp opens the source first
                refuse("permission_denied", source.said)
            raise
        if place.node is not None:
            _check_pair(source, place, place.node, made)
        elif unreadable:
            refuse("permission_denied", source.said)
        elif regular and self.locate(wanted, follow=False).node is not None:
            raise ToolRefusal(
                f"'{wanted[:200]}' is a link that leads nowhere: not writing through dangling "
                "symlink. rm it first.",
                reason="dangling_link",
            )
        if is_folder and f"{place.path}/".startswith(f"{source.path.rstrip('/')}/"):
            _refuse_itself(source.said, wanted)
        if unreadable:
            refuse("permission_denied", source.said)
        made.append(wanted)
        if is_folder:
            self._copy_folder(source, place)
        elif regular and place.node is not None:
            if not self.may(place.node, WRITE):
                refuse("permission_denied", wanted)
            self.nodes[place.path] = replace(
                place.node, text=node.text, members=node.members, modified=self.stamp
            )
        else:
            if place.node is not None:
                self.unlink(Found(wanted, place.path, place.node))
            mode = self.masked(int(node.mode, 8) & 0o777) if regular else 0o777
            self.add(place, node.kind, mode, node.text)
            if node.members is not None:
                self.nodes[place.path] = replace(self.nodes[place.path], members=node.members)

    def _copy_folder(self, source: Found, place: Place) -> None:
        if not self.may_list(source.node):
            refuse("permission_denied", source.said)
        mode = None
        if place.node is None:
            mode = self.masked(int(source.node.mode, 8) & 0o777)
            self.add(place, Kind.FOLDER, mode | 0o700)
        for child in self._children(source, links=True):
            self._copy(child, joined(place.said, name_of(child.path)), True, [])
        if mode is not None:
            made = self.nodes[place.path]
            special = int(made.mode, 8) & 0o7000
            self.nodes[place.path] = replace(made, mode=f"{mode | special:04o}")

    def _move(self, source: Found, wanted: str, made: list[str]) -> None:
        node = source.node
        if name_of(source.said) in (".", ".."):
            refuse("busy", source.said)
        place = self.locate(wanted, follow=False)
        if place.node is not None:
            _check_pair(source, place, place.node, made)
        if node.kind is Kind.FOLDER and f"{place.path}/".startswith(f"{source.path}/"):
            _refuse_itself(source.said, wanted)
        self.check_unused(source)
        self.check_removable(source)
        new_parent = parent_of(place.path)
        if not self.may(self.nodes[new_parent], WRITE | SEARCH):
            refuse("permission_denied", wanted)
        moves_up = node.kind is Kind.FOLDER and new_parent != parent_of(source.path)
        if moves_up and not self.may(node, WRITE):
            refuse("permission_denied", source.said)
        if place.node is not None:
            found = Found(wanted, place.path, place.node)
            self.check_unused(found)
            self.check_removable(found)
            if self.names_in(place.path):
                refuse("not_empty", wanted)
        for path in [source.path, *self.below(source.path)]:
            moved = self.nodes.pop(path)
            self.nodes[place.path + path[len(source.path) :]] = moved
        self.touch_folder(parent_of(source.path))
        self.touch_folder(new_parent)
        made.append(wanted)

    def _remove_all(self, found: Found) -> None:
        if found.node.kind is Kind.FOLDER:
            self.check_unused(found)
            if self.names_in(found.path) and not self.may_list(found.node):
                refuse("permission_denied", found.said)
            for child in self._children(found, links=True):
                self._remove_all(child)
        self.unlink(replace(found, node=self.nodes[found.path]))

    def _children(self, folder: Found, *, links: bool = False) -> list[Found]:
        """What is in a folder; links only if asked for.

        Raises:
            ToolRefusal: it holds something, and the user may not list it.
        """
        names = self.names_in(folder.path)
        if not self.may_list(folder.node) and (names or not self.may(folder.node, READ)):
            refuse("permission_denied", folder.said)
        found = [
            Found(joined(folder.said, name), path := joined(folder.path, name), self.nodes[path])
            for name in names
        ]
        return [f for f in found if links or f.node.kind is not Kind.LINK]


def _check_pair(source: Found, place: Place, there: Node, made: list[str]) -> None:
    """Refuse to put one thing onto another that cannot take it."""
    if source.path == place.path:
        raise ToolRefusal(
            f"'{source.said[:200]}' and '{place.said[:200]}' are the same file. "
            "Take another target.",
            reason="same_file",
        )
    if place.said in made:
        raise ToolRefusal(
            f"will not overwrite just-created '{place.said[:200]}' with '{source.said[:200]}'. "
            "Two sources have the same name; give them different targets.",
            reason="same_name_twice",
        )
    if there.kind is Kind.FOLDER and source.node.kind is not Kind.FOLDER:
        raise ToolRefusal(
            f"cannot overwrite directory '{place.said[:200]}' with non-directory. "
            "Take another name, or move the folder first.",
            reason="onto_a_folder",
        )
    if there.kind is not Kind.FOLDER and source.node.kind is Kind.FOLDER:
        raise ToolRefusal(
            f"cannot overwrite non-directory '{place.said[:200]}' with directory. "
            "Take another name, or rm the file first.",
            reason="onto_a_file",
        )


def _refuse_itself(said: str, wanted: str) -> None:
    raise ToolRefusal(
        f"cannot put the directory '{said[:200]}' into itself, '{wanted[:200]}'. "
        "Take a target outside of it.",
        reason="into_itself",
    )


def _changed(node: Node, mode: str) -> str:
    """The mode of a node after a change such as ``640`` or ``u+x,go-w``."""
    bits = int(node.mode, 8)
    if mode.isdecimal():
        kept = 0o6000 if node.kind is Kind.FOLDER else 0
        return f"{bits & kept | int(mode, 8):04o}"
    for clause in mode.split(","):
        sign = next(c for c in clause if c in "-+=")
        who, _, rights = clause.partition(sign)
        mask, wanted = 0, 0
        for letter in who:
            mask |= WHO[letter]
        for letter in rights:
            if letter != "X" or node.kind is Kind.FOLDER or bits & 0o111:
                wanted |= RIGHTS[letter]
        wanted &= mask
        if sign == "-":
            bits &= ~wanted
        elif sign == "+":
            bits |= wanted
        else:
            sticky = 0o1000 if mask & 0o007 else 0
            bits = bits & ~(mask | sticky) | wanted
    return f"{bits:04o}"
