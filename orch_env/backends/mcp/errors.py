"""How a server fails that a model can do nothing about."""

from __future__ import annotations

from orch_env.types import InfrastructureError


class ServerFailure(InfrastructureError):
    """A server died, hung, or broke the protocol: infrastructure, never an observation.

    The episode is to be discarded and issued again. The message is one line, without secrets.
    """
