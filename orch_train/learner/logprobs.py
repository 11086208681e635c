"""Log-probabilities of action tokens under a model: the one place where the shift happens.

The body runs on every token, the language-model head only where an action token is predicted:
in tool use most tokens are prompts and tool outputs, and the head is the widest layer there is.
The head is called here on selected hidden states and not inside the model's ``forward``, so
:func:`check_head` compares both once for every model that is loaded; an architecture that changes
its logits after the head (soft-capping, scaling) is refused, not trained on wrong probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from orch_env.types import OrchError
from orch_train.learner.batch.packed_attention import use_packed_attention
from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.objective.losses import LossInputs

MAX_LOGITS = 1 << 26
"""Logits (tokens x vocabulary) held at once: 256 MiB in float32. Beyond it the head runs in
chunks that are recomputed in the backward pass."""


def action_logprobs(
    model: PreTrainedModel,
    batch: Microbatch,
    temperature: float,
    *,
    entropy_gradient: bool = False,
) -> LossInputs:
    """Run the model on a micro-batch and read off its action tokens.

    Args:
        model: a causal language model.
        batch: see :class:`~orch_train.learner.batch.packing.Microbatch`.
        temperature: logits are divided by it before the softmax, as the engine did when it
            sampled; above 0.
        entropy_gradient: whether the entropy carries a gradient.
    """
    hidden_ND = hidden_states(model, batch)[batch.row_N, batch.column_N]
    head = output_head(model)
    vocabulary = int(head.weight.shape[0])

    def read(chunk_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        logits_NV = head(chunk_ND).float() / temperature
        logprobs_N = -cross_entropy(logits_NV, targets_N, reduction="none")
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy_N = _entropy(logits_NV)
        return logprobs_N, entropy_N

    size = max(MAX_LOGITS // vocabulary, 1)
    if len(hidden_ND) <= size:
        return batch.loss_inputs(*read(hidden_ND, batch.targets_N))
    chunks = [
        checkpoint(read, *pair, use_reentrant=False)
        for pair in zip(
            torch.split(hidden_ND, size), torch.split(batch.targets_N, size), strict=True
        )
    ]
    logprobs_N, entropy_N = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    return batch.loss_inputs(logprobs_N, entropy_N)


def hidden_states(model: PreTrainedModel, batch: Microbatch) -> Tensor:
    """Last hidden states, shape (B, T, D), of the model without its head."""
    if batch.borders is not None:
        use_packed_attention(model)
    hidden_BTD: Tensor = model.base_model(
        input_ids=batch.input_ids_BT,
        position_ids=batch.position_ids_BT,
        attention_mask=batch.borders,
        use_cache=False,
    ).last_hidden_state
    return hidden_BTD


def output_head(model: PreTrainedModel) -> nn.Linear:
    """The layer from hidden states to logits.

    Raises:
        OrchError: the model has none.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise OrchError(f"{type(model).__name__} has no linear output head: not a language model")
    return head


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Compare head-on-selected-tokens with the model's own logits on a few tokens.

    Raises:
        OrchError: they differ, or the model has no output head.
    """
    head = output_head(model)
    ids_BT = torch.arange(8, device=model.device)[None] % int(head.weight.shape[0])
    hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    ours, theirs = head(hidden_BTD).float(), model(input_ids=ids_BT, use_cache=False).logits.float()
    tolerance = 1e-4 if head.weight.dtype == torch.float32 else 2e-2
    gap = float((ours - theirs).abs().max()) / (1.0 + float(theirs.abs().max()))
    if not gap <= tolerance:
        raise OrchError(
            f"{type(model).__name__} changes its logits after the output head (relative gap "
            f"{gap:.2g}); such architectures are not supported by the learner"
        )


def _entropy(logits_NV: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits), along the last dimension."""
    normaliser_N = logits_NV.logsumexp(-1)
    return normaliser_N - (logits_NV.softmax(-1) * logits_NV).sum(-1)
