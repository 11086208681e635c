"""Which output feeds which argument, found in traces and in the cache."""

from orch_env.synthesis.mining.drawing import draw_graph
from orch_env.synthesis.mining.graph import dependency_graph, domains, edges_json
from orch_env.synthesis.mining.mine import mine
from orch_env.synthesis.mining.mined import Agreement, Attachment, Link, LinkKind, Mined, Slot

__all__ = [
    "Agreement",
    "Attachment",
    "Link",
    "LinkKind",
    "Mined",
    "Slot",
    "dependency_graph",
    "domains",
    "draw_graph",
    "edges_json",
    "mine",
]
