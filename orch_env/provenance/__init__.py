"""Where every argument of a recorded trace comes from, found from many traces together."""

from orch_env.provenance.assign import find_provenance
from orch_env.provenance.graph import count_sources, gold_steps, graph_size
from orch_env.provenance.trace import Trace, TraceCall

__all__ = ["Trace", "TraceCall", "count_sources", "find_provenance", "gold_steps", "graph_size"]
