"""Benchmarks as suites on the one environment, and the numbers that they report."""

from orch_env.evaluation.complexfuncbench.suite import complexfuncbench
from orch_env.evaluation.complexfuncbench.summary import summarise
from orch_env.evaluation.suite import Suite

__all__ = ["Suite", "complexfuncbench", "summarise"]
