"""Puts the learner's weights into the model that a vLLM worker serves, however they arrived.

Every way of moving weights ends here: it hands over (name, tensor) pairs of a whole checkpoint
between `begin` and `finish`. The hard decision: the first update always goes through vLLM's
layer-wise reload, which is right for every model and slow; on a CPU it is watched, and what can be
shown to repeat it is written directly from then on (`LoadPlan`). The rest goes on with the reload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.attention import Attention, is_deferred_attention_layer
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from orch_train.engines.vllm.load_plan import LoadPlan, Recorder

_HEAD = "lm_head.weight"


class ServedWeights:
    """Takes whole updates of one model.

    Args:
        model: what the worker serves.
        model_config: vLLM's configuration of it.
        direct: write directly what can be; off, everything goes through vLLM's reload.
    """

    def __init__(self, model: Any, model_config: Any, *, direct: bool = True) -> None:
        self._model = model
        self._model_config = model_config
        self._direct = direct and _may_be_direct(model, model_config)
        self._tied = _has_tied_head(model, model_config)
        self._plan: LoadPlan | None = None
        self._record: Recorder | None = None
        self._received: dict[str, Tensor] = {}
        self._loaded: set[str] = set()
        self._wanted: set[str] = set()

    @property
    def summary(self) -> dict[str, Any]:
        """How the next update goes.

        ``direct`` is the number of modules that are written directly, ``reloaded`` the paths of
        those that go through vLLM's reload, ``None`` if that is the whole model.
        """
        if self._plan is None:
            return {"direct": 0, "reloaded": None}
        return {"direct": self._plan.covered, "reloaded": sorted(self._plan.left)}

    def begin(self) -> None:
        """Prepare for a whole update."""
        self._received, self._loaded, self._record = {}, set(), None
        if self._plan is not None:
            return
        initialize_layerwise_reload(self._model)
        self._wanted = {name for name, _ in self._model.named_parameters()}
        if self._direct:
            self._record = Recorder(self._model)

    def apply(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take some of the weights, or all; called as often as needed.

        Args:
            weights: checkpoint names and tensors in the checkpoint's shapes, on the worker's
                device; they must stay as they are until `finish` has returned.
        """
        weights = ((name, t) for name, t in weights if not (self._tied and name == _HEAD))
        if self._plan is not None:
            self._received.update((name, tensor.contiguous()) for name, tensor in weights)
        elif self._record is None:
            self._loaded |= set(self._model.load_weights(weights) or ())
        else:
            with self._record:
                self._loaded |= set(self._model.load_weights(_watched(weights, self._record)) or ())

    def finish(self) -> None:
        """Complete the update.

        Raises:
            RuntimeError: a parameter got no weights, or names, shapes or types differ from those
                of the first update.
        """
        if self._plan is not None:
            self._plan.check(self._received)
            self._plan.write(self._received)
            self._reload_the_rest(self._plan)
            self._received = {}
            return
        finalize_layerwise_reload(self._model, self._model_config)
        tied = self._renew_tied_head()
        missing = sorted(self._wanted - self._loaded - tied)
        if missing:
            raise RuntimeError(
                f"{len(missing)} parameters got no new weights, the first is {missing[0]}"
            )
        if self._record is not None:
            self._plan = LoadPlan(self._model, self._record)
            self._record = None

    def _reload_the_rest(self, plan: LoadPlan) -> None:
        if not plan.left:
            return
        rest = _Chosen(list(plan.left.values()))
        initialize_layerwise_reload(rest)
        self._model.load_weights((name, self._received[name]) for name in plan.names_left)
        finalize_layerwise_reload(rest, self._model_config)
        self._renew_tied_head()

    def _renew_tied_head(self) -> set[str]:
        """Pack a tied output layer again, and name its parameters.

        It is the embedding under another name, with a packed copy of its own on a CPU. Copies that
        kept the old weights after a reload were met before; vLLM 0.32 was seen to renew a Llama's
        by itself, so this is a guard, and costs one packing of that layer.
        """
        if not self._tied:
            return set()
        head = self._model.lm_head
        head.quant_method.process_weights_after_loading(head)
        return {f"lm_head.{name}" for name, _ in head.named_parameters()}


class _Chosen(torch.nn.Module):
    """Some modules of a model, without their children, in the form that vLLM's reload takes."""

    def __init__(self, chosen: list[torch.nn.Module]) -> None:
        super().__init__()
        self._list = tuple(chosen)  # a tuple, so that they are not registered

    def modules(self) -> Iterator[torch.nn.Module]:  # type: ignore[override]
        """The chosen modules alone."""
        return iter(self._list)


def _has_tied_head(model: Any, model_config: Any) -> bool:
    """Whether the output layer's weight is another module's; some checkpoints name it twice."""
    config = model_config.hf_config.get_text_config()
    if not getattr(config, "tie_word_embeddings", False):
        return False
    named = dict(model.named_parameters(remove_duplicate=False))
    head = named.pop(_HEAD, None)
    return head is not None and any(other is head for other in named.values())


def _watched(
    weights: Iterable[tuple[str, Tensor]], record: Recorder
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights:
        yield name, record.watch(name, tensor.contiguous())


def _may_be_direct(model: torch.nn.Module, model_config: Any) -> bool:
    """Whether nothing but the modules themselves depends on weights.

    Compiled code may hold on to packed copies, and some kinds of attention (MLA) derive tensors
    from other modules' weights; a GPU's side was never run.
    """
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    plain = all(type(m) is Attention for m in model.modules() if is_deferred_attention_layer(m))
    return on_cpu and plain and bool(model_config.enforce_eager)
