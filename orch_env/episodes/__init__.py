"""Episodes at rest: stored, digested, shown."""

from orch_env.episodes.store import StoredEpisode, digest_of, read_episodes, write_episodes

__all__ = ["StoredEpisode", "digest_of", "read_episodes", "write_episodes"]
