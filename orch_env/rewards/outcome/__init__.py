"""What a task asks for beyond calls: a closing answer, and a state."""

from orch_env.rewards.outcome.answers import AnswerRule
from orch_env.rewards.outcome.outcome import Outcome, is_read, read_outcome

__all__ = ["AnswerRule", "Outcome", "is_read", "read_outcome"]
