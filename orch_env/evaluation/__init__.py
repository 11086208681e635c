"""Benchmarks as environments, and the numbers that they report."""

from orch_env.evaluation.complexfuncbench import ComplexFuncBenchEnv
from orch_env.evaluation.summary import summarise

__all__ = ["ComplexFuncBenchEnv", "summarise"]
