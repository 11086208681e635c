"""One recorded response as bytes: content digest, and the compressed MessagePack map.

The hard decision: the text is kept exactly as recorded and never re-rendered, so a digest is a
plain BLAKE2b-128 of its UTF-8 (what ``b2sum -l 128`` prints); an error recording is marked by the
hash's personalisation, so that the same text as an error is another payload.
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
_LOCAL = threading.local()  # zstd contexts are not thread-safe


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
    """Pack and compress one response, with a checksum of its own."""
    body = {"text": text, "is_error": is_error, "metadata": metadata or {}}
    packed = msgpack.packb(body, unicode_errors="surrogatepass")
    compressor = getattr(_LOCAL, "compressor", None)
    if compressor is None:
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        _LOCAL.compressor = compressor
    data: bytes = compressor.compress(packed)
    return data


def decode(data: bytes, digest: bytes) -> CachedResponse:
    """Undo :func:`encode`.

    Raises:
        ValueError: the bytes are damaged.
    """
    decompressor = getattr(_LOCAL, "decompressor", None)
    if decompressor is None:
        decompressor = _LOCAL.decompressor = zstandard.ZstdDecompressor()
    try:
        packed = decompressor.decompress(data, max_output_size=_MAX_BYTES)
        body: dict[str, Any] = msgpack.unpackb(packed, unicode_errors="surrogatepass")
        return CachedResponse(body["text"], body["is_error"], digest.hex(), body["metadata"])
    except (zstandard.ZstdError, msgpack.UnpackException, KeyError, TypeError) as problem:
        raise ValueError(f"payload {digest.hex()} is damaged ({problem})") from problem
