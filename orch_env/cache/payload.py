"""One recorded response as bytes: its content digest, and its compressed MessagePack map.

The text is stored exactly as recorded. Its digest is the BLAKE2b-128 of its UTF-8, which
``b2sum -l 128`` prints too; for an error the hash is personalised, so the same text as an error is
another payload.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import msgpack
import zstandard

from orch_env.types.json import JsonObject

CODEC = "zstd+msgpack"
_LEVEL = 9
_MAX_BYTES = 1 << 30


class _Contexts(threading.local):
    """The zstd contexts of this thread; they are not thread-safe."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_CONTEXTS = _Contexts()


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """A recorded response.

    Attributes:
        text: the exact recorded text.
        is_error: whether the tool answered with an error.
        digest: 32 hex digits, equal iff text and ``is_error`` are equal.
        metadata: what the recorder added (status code, time, source); often empty.
    """

    text: str
    is_error: bool
    digest: str
    metadata: JsonObject | None = None


def digest_of(text: str, *, is_error: bool = False) -> bytes:
    """The 16-byte content digest of a response."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16, person=b"error" if is_error else b"").digest()


def encode(text: str, *, is_error: bool = False, metadata: JsonObject | None = None) -> bytes:
    """Pack and compress one response; the bytes hold a checksum."""
    body = {"text": text, "is_error": is_error, "metadata": metadata or {}}
    return _CONTEXTS.compressor.compress(msgpack.packb(body, unicode_errors="surrogatepass"))


def decode(data: bytes, digest: bytes) -> CachedResponse:
    """Undo :func:`encode`.

    Raises:
        ValueError: the bytes are damaged.
    """
    try:
        packed = _CONTEXTS.decompressor.decompress(data, max_output_size=_MAX_BYTES)
        body: dict[str, Any] = msgpack.unpackb(packed, unicode_errors="surrogatepass")
        return CachedResponse(body["text"], body["is_error"], digest.hex(), body["metadata"])
    except (zstandard.ZstdError, msgpack.UnpackException, KeyError, TypeError) as problem:
        raise ValueError(f"payload {digest.hex()} is damaged ({problem})") from problem
