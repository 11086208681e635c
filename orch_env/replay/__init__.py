"""Scripted policies, playing them over tasks, and checking that stored episodes happen again."""
