"""Workflows: mined from traces, and composed from what was mined."""
