"""One client for every OpenAI-compatible chat endpoint."""

from orch_env.endpoint.answers import Answer, AnswerStore
from orch_env.endpoint.client import Endpoint, EndpointSettings, only_model

__all__ = ["Answer", "AnswerStore", "Endpoint", "EndpointSettings", "only_model"]
