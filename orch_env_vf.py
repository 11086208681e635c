"""The name under which verifiers finds the taskset: ``vf-eval orch-env-vf``."""

from orch_env.adapters.verifiers import OrchTaskset

__all__ = ["OrchTaskset"]
