"""Put a state dict into a model in place, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from orch_train.engines.protocol import EngineError
from orch_train.weight_sync.buckets import Weights


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copy weights into a model's own tensors.

    Tied tensors may be given under any one of their names. Type and device are converted; names
    and shapes must fit exactly, and are checked before anything is written.

    Args:
        model: the model.
        weights: state-dict names and tensors.

    Raises:
        EngineError: a name is unknown or missing, a shape differs, or copying failed.
    """
    own = model.state_dict(keep_vars=True)
    unknown = sorted(weights.keys() - own.keys())
    given = {own[name].data_ptr() for name in weights if name in own}
    missing = sorted(n for n, t in own.items() if n not in weights and t.data_ptr() not in given)
    if unknown or missing:
        raise EngineError(
            f"weights do not fit the served model: {_some('unknown', unknown)}"
            f"{'; ' if unknown and missing else ''}{_some('missing', missing)}"
        )
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise EngineError(
                f"weights do not fit the served model: {name} has shape {tuple(tensor.shape)}, "
                f"the model wants {tuple(own[name].shape)}"
            )
    try:
        _copy((own[name], tensor) for name, tensor in weights.items())
    except RuntimeError as problem:
        raise EngineError(f"copying weights failed, the model is unusable: {problem}") from problem


def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for target, source in pairs:
            target.copy_(source)


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}"
