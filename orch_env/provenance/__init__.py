"""Where every argument of a recorded trace comes from, found from many traces at once."""

from orch_env.provenance.assign import find_provenance
from orch_env.provenance.graph import gold_of, measure, shares
from orch_env.provenance.trace import Trace, TraceCall

__all__ = ["Trace", "TraceCall", "find_provenance", "gold_of", "measure", "shares"]
