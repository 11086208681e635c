"""The reference policy of the KL penalty: where its log-probabilities come from.

Nothing is loaded until the first micro-batch asks, so a run without a penalty pays nothing. A
policy trained through adapters is its own reference: the base weights with the adapters switched
off, without a second copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.group.ranks import PolicyForward
from orch_train.learner.logprobs import action_logprobs, check_head
from orch_train.learner.lora import without_adapters


class ReferencePolicy(Protocol):
    """A policy that is never trained."""

    def logprobs(self, microbatch: Microbatch, temperature: float) -> Tensor:
        """Log-probabilities of the micro-batch's N action tokens; float32, no gradient."""
        ...


class FrozenReference:
    """A model of its own, loaded at first use.

    Args:
        load: returns the model on its device and in its dtype.
    """

    def __init__(self, load: Callable[[], PreTrainedModel]) -> None:
        self._load = load
        self._model: PreTrainedModel | None = None

    def logprobs(self, microbatch: Microbatch, temperature: float) -> Tensor:
        """See :class:`ReferencePolicy`."""
        if self._model is None:
            self._model = self._load()
            torch.nn.Module.eval(self._model)
            self._model.requires_grad_(False)
            check_head(self._model)
        with torch.no_grad():
            return action_logprobs(self._model, microbatch, temperature).logprobs_N


class AdapterFreeReference:
    """The trained model itself without its adapters.

    Args:
        model: has adapters (see :mod:`orch_train.learner.lora`).
        forward: the model's own forward pass, through which it may be sharded.
    """

    def __init__(self, model: PreTrainedModel, forward: PolicyForward) -> None:
        self._model, self._forward = model, forward

    def logprobs(self, microbatch: Microbatch, temperature: float) -> Tensor:
        """See :class:`ReferencePolicy`."""
        with torch.no_grad(), without_adapters(self._model):
            return self._forward(microbatch, temperature).logprobs_N
