"""The cache's schema as SQLAlchemy models: for SQLite, and for any database that has a URL.

Payloads are content-addressed and shared; a response row says which call a payload answers, and as
which variant. The look-up key is a 16-byte digest and the primary key of a table without row ids,
so one descent of a B-tree finds the row.
"""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Root of the cache's models."""


class Meta(Base):
    """Facts about the file: ``schema``, ``key_version`` (none is 1), ``digest``, ``codec``."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Payload(Base):
    """One distinct response: its digest and its compressed MessagePack map."""

    __tablename__ = "payloads"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(16), unique=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Response(Base):
    """One recorded answer of one call; variants of a call count from 0 in order of recording.

    ``arguments`` is the plain canonical text: good enough to make the key again under any schema.
    """

    __tablename__ = "responses"
    __table_args__ = (
        Index("responses_payload", "payload"),
        {"sqlite_with_rowid": False},
    )
    key: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    variant: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tool: Mapped[str] = mapped_column(Text)
    arguments: Mapped[str] = mapped_column(Text)
    payload: Mapped[int] = mapped_column(ForeignKey("payloads.id"))


class Tool(Base):
    """One catalogue entry; ``spec`` is the ToolSpec's JSON, aliases included."""

    __tablename__ = "tools"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    spec: Mapped[str] = mapped_column(Text)
    inferred: Mapped[int] = mapped_column(Integer, default=0)


class Pin(Base):
    """The variant that a task recorded when it made this call for the ``position``-th time."""

    __tablename__ = "pins"
    __table_args__ = ({"sqlite_with_rowid": False},)
    task: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    digest: Mapped[bytes] = mapped_column(LargeBinary(16))
