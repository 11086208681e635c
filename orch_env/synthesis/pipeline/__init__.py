"""Synthesis as resumable stages, from a cache to a data set with its card."""
