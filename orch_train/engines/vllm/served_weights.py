"""Puts the learner's weights into the model that a vLLM worker serves, however they arrived.

Every way of moving weights ends here: it hands over (name, tensor) pairs of a whole checkpoint
between `begin` and `finish`. The hard decision: weights go through vLLM's layer-wise reload and
never straight into the served tensors, which are packed for the CPU's kernels or post-processed
for the GPU's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)


class ServedWeights:
    """Takes whole updates of one model.

    Args:
        model: what the worker serves.
        model_config: vLLM's configuration of it.
    """

    def __init__(self, model: Any, model_config: Any) -> None:
        self._model = model
        self._model_config = model_config
        self._loaded: set[str] = set()
        self._wanted: set[str] = set()

    def begin(self) -> None:
        """Prepare every layer for being loaded again."""
        self._loaded = set()
        initialize_layerwise_reload(self._model)
        self._wanted = {name for name, _ in self._model.named_parameters()}

    def apply(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take some of the weights, or all; called as often as needed.

        Args:
            weights: checkpoint names and tensors in the checkpoint's shapes, on the worker's
                device; they must stay as they are until `finish` has returned.
        """
        self._loaded |= set(self._model.load_weights(weights) or ())

    def finish(self) -> None:
        """Post-process what was loaded.

        Raises:
            RuntimeError: a parameter got no weights.
        """
        finalize_layerwise_reload(self._model, self._model_config)
        tied = self._renew_tied_head()
        missing = sorted(self._wanted - self._loaded - tied)
        if missing:
            raise RuntimeError(
                f"{len(missing)} parameters got no new weights, the first is {missing[0]}"
            )

    def _renew_tied_head(self) -> set[str]:
        """Pack a tied output layer again, and name its parameters.

        It is the embedding under another name, with a packed copy of its own on a CPU. Copies that
        kept the old weights after a reload were met before; vLLM 0.32 was seen to renew a Llama's
        by itself, so this is a guard, and costs one packing of that layer.
        """
        config = self._model_config.hf_config.get_text_config()
        head = getattr(self._model, "lm_head", None)
        if head is None or not getattr(config, "tie_word_embeddings", False):
            return set()
        head.quant_method.process_weights_after_loading(head)
        return {f"lm_head.{name}" for name, _ in head.named_parameters()}
