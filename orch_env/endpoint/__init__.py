"""One client for every OpenAI-compatible chat endpoint."""

from orch_env.endpoint.answers import Answer, AnswerStore
from orch_env.endpoint.client import Endpoint, EndpointSettings

__all__ = ["Answer", "AnswerStore", "Endpoint", "EndpointSettings"]
