"""Serving our servers to other agents by MCP. It needs the extra ``orch-rl[servers]``."""
