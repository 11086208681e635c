"""Recorded responses in a content-addressed SQLite file, opened by `open_cache`."""

from orch_env.cache.payload import CachedResponse
from orch_env.cache.store import RecordedCall, ResponseCache, open_cache

__all__ = ["CachedResponse", "RecordedCall", "ResponseCache", "open_cache"]
