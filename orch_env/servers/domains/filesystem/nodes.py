"""What a volume holds: files, folders, symbolic links and archives, and who may use them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from orch_env.servers.framework.records import Stamp

FOLDER_BYTES = 4096
"""Size of a folder's own entry, as on ext4."""
BLOCK = 4096
"""Bytes in which a volume gives out its room; symbolic links and empty files take none."""

Whereabouts: TypeAlias = Stamp
"""A folder that the user stands in: part of the state, but not of the work that rewards compare."""


class Kind(StrEnum):
    """What a node is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


LETTERS = {Kind.FILE: "-", Kind.FOLDER: "d", Kind.LINK: "l"}
"""How `ls -l` marks a kind."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive; a folder's name ends with a slash."""

    name: str
    kind: Kind
    mode: str
    modified: str
    text: str
    members: tuple[Member, ...] | None = None

    @property
    def bytes(self) -> int:
        """Size of the content."""
        if self.kind is not Kind.FILE:
            return 0
        return tar_bytes(self.members) if self.members is not None else num_bytes(self.text)


LINK_BYTES = 60
"""From so many bytes on, a link takes a block; shorter targets lie in the inode, as on ext4."""


@dataclass(frozen=True, slots=True)
class Node:
    """A file, folder or symbolic link; its path is its key in the table.

    Attributes:
        mode: four octal digits.
        modified: when its content, or the list of what is in it, last changed.
        text: the content of a file, the target of a link.
        members: what is in it, if it is an archive.
    """

    kind: Kind
    mode: str
    owner: str
    group: str
    modified: Stamp
    text: str = ""
    members: tuple[Member, ...] | None = None

    @property
    def bytes(self) -> int:
        """Size as `stat` tells it."""
        if self.kind is Kind.FOLDER:
            return FOLDER_BYTES
        return num_bytes(self.text) if self.members is None else tar_bytes(self.members)

    @property
    def kilobytes(self) -> int:
        """The room that it takes on the volume, in units of 1,024 bytes."""
        if self.kind is Kind.LINK and self.bytes < LINK_BYTES:
            return 0
        return -(-self.bytes // BLOCK) * BLOCK // 1024

    @property
    def permissions(self) -> str:
        """Such as ``drwxr-x---``."""
        bits = int(self.mode, 8)
        marks = [
            letter if bits >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx")
        ]
        for bit, place, mark in ((0o4000, 2, "s"), (0o2000, 5, "s"), (0o1000, 8, "t")):
            if bits & bit:
                marks[place] = mark if marks[place] == "x" else mark.upper()
        return LETTERS[self.kind] + "".join(marks)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who owns nodes; the first group is the one that new nodes get."""

    user: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shell:
    """The user's session: who it is, where, with which limits.

    Attributes:
        umask: permissions that new nodes do not get, four octal digits.
        max_bytes: bytes that the user's files may hold together.
        max_nodes: how many nodes the user may own.
    """

    user: str
    folder: Whereabouts
    umask: str
    max_bytes: int
    max_nodes: int


def num_bytes(text: str) -> int:
    """Length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def tar_bytes(members: tuple[Member, ...]) -> int:
    """Size of a tar file in the GNU format: headers, padded contents, records of 10,240 bytes."""
    size = 1024
    for member in members:
        long_name = member.kind is not Kind.LINK and num_bytes(member.name) > 100
        size += 512 + -(-member.bytes // 512) * 512
        size += 1024 + num_bytes(member.name) // 512 * 512 if long_name else 0
    return -(-size // 10_240) * 10_240
