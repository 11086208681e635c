"""Benchmarks as environments, and the numbers that they report."""

from orch_env.evaluation.complexfuncbench.environment import ComplexFuncBenchEnv
from orch_env.evaluation.complexfuncbench.summary import summarise

__all__ = ["ComplexFuncBenchEnv", "summarise"]
