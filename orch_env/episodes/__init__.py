"""Stored episodes: files of them, their digests, and pages that show them."""

from orch_env.episodes.store import StoredEpisode, digest_of, read_episodes, write_episodes

__all__ = ["StoredEpisode", "digest_of", "read_episodes", "write_episodes"]
