"""Draws of recorded calls that fill a template: exact counts, no dead ends."""
