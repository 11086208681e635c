"""Where each checkpoint tensor lands in the model that a vLLM worker serves, and writing it there.

`Recorder` watches one of vLLM's own reloads and notes which part of which checkpoint tensor is
copied to which part of which parameter; `LoadPlan` repeats these copies without the machinery
around them. The hard decision: a module is taken into the plan only if it is of a kind whose
post-processing is known (none at all, or vLLM's packing of unquantised layers for the CPU), its
copies were all seen, and repeating them gives, bit for bit, what the reload gave. Every other
module stays with the reload.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import (
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

_PACKED = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
_Geometry = tuple[tuple[int, ...], tuple[int, ...], int]
"""Size, strides and offset, in elements."""
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_DEFAULTS = {_M_TRIM_THRESHOLD: 64 * 2**20, _M_MMAP_MAX: 65536}


@dataclass(frozen=True, slots=True)
class Piece:
    """One copy: a part of a checkpoint tensor into a part of a parameter.

    Attributes:
        source: name of the checkpoint tensor; ``None`` if what was copied was not part of any.
        taken: which part of it.
        put: which part of the parameter.
    """

    source: str | None
    taken: _Geometry
    put: _Geometry

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for length in self.put[0]:
            count *= length
        return count


@dataclass(slots=True)
class _Filled:
    """What one parameter of a module was made of."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: list[Piece] = field(default_factory=list)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes copies into a model's tensors while it is active.

    vLLM runs each loader first on tensors without memory, to count what it copies. These runs are
    what is recorded.

    Args:
        model: a model that vLLM's layer-wise reload has just been initialised for.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.filled: dict[torch.nn.Module, dict[str, _Filled]] = {}
        self._owners: dict[int, tuple[torch.nn.Module, str, Tensor]] = {}
        for module in model.modules():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    # The tensor is kept: its storage's address must not be used again.
                    self._owners[tensor.untyped_storage()._cdata] = (module, name, tensor)
        self.sources: dict[str, Tensor] = {}
        self._starts: list[int] = []
        self._names: list[str] = []

    def watch(self, name: str, tensor: Tensor) -> Tensor:
        """Name a contiguous checkpoint tensor; the recorder keeps it."""
        self.sources[name] = tensor
        at = bisect_right(self._starts, tensor.data_ptr())
        self._starts.insert(at, tensor.data_ptr())
        self._names.insert(at, name)
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default:
            target, source = args[0], args[1]
            owner = self._owners.get(target.untyped_storage()._cdata)
            # vLLM ends by copying tensors that never left the model onto themselves.
            itself = target.data_ptr() == source.data_ptr() and not target.is_meta
            if owner is not None and target.numel() and not itself:
                module, name, whole = owner
                filled = self.filled.setdefault(module, {}).setdefault(
                    name, _Filled(tuple(whole.shape), whole.dtype)
                )
                piece = self._piece(whole, target, source)
                if piece not in filled.pieces:
                    filled.pieces.append(piece)
        return func(*args, **(kwargs or {}))

    def _piece(self, whole: Tensor, target: Tensor, source: Tensor) -> Piece:
        behind = int(target.storage_offset()) - int(whole.storage_offset())
        put = (tuple(target.shape), tuple(target.stride()), behind)
        name, offset = None, 0
        if not source.is_meta and source.shape == target.shape:
            at = bisect_right(self._starts, source.data_ptr()) - 1
            if at >= 0:
                origin = self.sources[self._names[at]]
                behind = source.data_ptr() - origin.data_ptr()
                if behind < origin.nbytes and source.dtype == origin.dtype:
                    name, offset = self._names[at], behind // origin.element_size()
        return Piece(name, (tuple(source.shape), tuple(source.stride()), offset), put)


@dataclass(frozen=True, slots=True)
class _Module:
    """A module of the plan.

    Attributes:
        module: the module.
        written: names of parameters that are served as they are, and their pieces.
        packed: pieces of the weight if only a packed copy of it is served.
        shape: of that weight.
        dtype: of that weight.
        later: pack it when it is used, which for a mere embedding is never.
    """

    module: Any
    written: dict[str, list[Piece]]
    packed: list[Piece] | None
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    later: bool = False

    @property
    def sources(self) -> set[str]:
        """Names of the checkpoint tensors that it takes."""
        lists = (*self.written.values(), self.packed or [])
        return {str(piece.source) for pieces in lists for piece in pieces}


class LoadPlan:
    """Writes a whole checkpoint into the modules that it covers.

    Args:
        model: the served model, just reloaded by vLLM.
        record: what was seen during that reload.
    """

    def __init__(self, model: torch.nn.Module, record: Recorder) -> None:
        self._names = {name: (t.shape, t.dtype) for name, t in record.sources.items()}
        self._modules: list[_Module] = []
        self.left: dict[str, torch.nn.Module] = {}
        self._scratch: dict[tuple[Any, ...], Tensor] = {}
        paths = {module: path for path, module in model.named_modules()}
        with torch.no_grad(), reused_memory():
            for module, filled in record.filled.items():
                planned = _plan_of(module, filled)
                if planned is None or not self._repeats(planned, record.sources):
                    self.left[paths[module]] = module
                else:
                    self._modules.append(planned)
            self._sharing = self._sharers(model)
        used = {name for one in self._modules for name in one.sources}
        self.names_left = [name for name in self._names if name not in used] if self.left else []

    @property
    def covered(self) -> int:
        """Number of modules that are written without vLLM's reload."""
        return len(self._modules)

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Compare names, shapes and types with those of the first time.

        Raises:
            RuntimeError: something differs.
        """
        different = sorted(set(weights) ^ set(self._names))
        if different:
            verb = "is new" if different[0] in weights else "is missing"
            raise RuntimeError(
                f"{len(different)} weights differ from those of the first sync: "
                f"{different[0]} {verb}"
            )
        for name, tensor in weights.items():
            if (tensor.shape, tensor.dtype) != self._names[name]:
                shape, dtype = self._names[name]
                raise RuntimeError(
                    f"the weight {name} is {tuple(tensor.shape)} of {tensor.dtype}, in the first "
                    f"sync it was {tuple(shape)} of {dtype}"
                )

    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Write everything that the plan covers.

        Args:
            weights: contiguous tensors that have passed `check`.
        """
        with torch.no_grad(), reused_memory():
            for planned in self._modules:
                self._write(planned, weights)
            for module in self._sharing:
                _pack(module)

    def _write(self, planned: _Module, weights: Mapping[str, Tensor]) -> None:
        module = planned.module
        for name, pieces in planned.written.items():
            _fill(module._parameters[name].data, pieces, weights)
        if planned.packed is not None:
            served = module._parameters["weight"]
            module.weight = torch.nn.Parameter(self._unpacked(planned, weights), False)
            _pack(module)
            module.weight = served
        elif planned.later:
            module.cpu_linear = _PackWhenUsed(module)
        elif hasattr(module, "cpu_linear"):
            _pack(module)

    def _unpacked(self, planned: _Module, weights: Mapping[str, Tensor]) -> Tensor:
        """The weight as it was before packing; valid until the next call."""
        pieces = planned.packed or []
        whole = _in_one_run(planned, pieces, weights)
        if whole is not None:
            return whole
        key = (planned.shape, planned.dtype)
        if key not in self._scratch:
            self._scratch[key] = torch.empty(planned.shape, dtype=planned.dtype)
        _fill(self._scratch[key], pieces, weights)
        return self._scratch[key]

    def _repeats(self, planned: _Module, weights: Mapping[str, Tensor]) -> bool:
        """Whether writing gives what vLLM's reload has just given."""
        module = planned.module
        for name, pieces in planned.written.items():
            for piece in pieces:
                there = _part(module._parameters[name].data, piece.put)
                taken = _part(weights[str(piece.source)], piece.taken)
                if not torch.equal(there, taken.to(there.dtype)):
                    return False
        if planned.packed is None:
            return True
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(4, planned.shape[1], generator=generator).to(planned.dtype)
        before = module.cpu_linear(probe, module.weight, None)
        self._write(planned, weights)
        return torch.equal(before, module.cpu_linear(probe, module.weight, None))

    def _sharers(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Modules that were given no weights, but pack those of a module of the plan."""
        planned = {one.module for one in self._modules}
        written = {
            one.module._parameters[name].untyped_storage()._cdata
            for one in self._modules
            for name in one.written
        }
        return [
            module
            for module in model.modules()
            if module not in planned
            and isinstance(getattr(module, "quant_method", None), _PACKED)
            and any(
                p is not None and p.numel() and p.untyped_storage()._cdata in written
                for p in module._parameters.values()
            )
        ]


class _PackWhenUsed:
    """Stands for an embedding's matrix product, which hardly any model asks for."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, *inputs: Any) -> Tensor:
        _pack(self._module)
        product: Tensor = self._module.cpu_linear(*inputs)
        return product


def _plan_of(module: torch.nn.Module, filled: Mapping[str, _Filled]) -> _Module | None:
    """How the module is written, or ``None`` if that is not known."""
    parameters = {name: p for name, p in module._parameters.items() if p is not None}
    if set(filled) != set(parameters):
        return None  # a buffer was loaded, or something without a copy
    if any(p.source is None for one in filled.values() for p in one.pieces):
        return None
    method = getattr(module, "quant_method", None)
    packs = type(method) in _PACKED and hasattr(module, "cpu_linear")
    if not packs and (
        isinstance(method, QuantizeMethodBase) or hasattr(module, "process_weights_after_loading")
    ):
        return None
    embedding = isinstance(module, VocabParallelEmbedding)
    written, packed = {}, None
    for name, one in filled.items():
        whole = torch.Size(one.shape).numel()
        # The rows that fill up a vocabulary are zero from the first load on.
        if sum(p.size for p in one.pieces) != whole and not embedding:
            return None
        if tuple(parameters[name].shape) == one.shape:
            written[name] = one.pieces
        elif packs and name == "weight" and not parameters[name].numel() and len(one.shape) == 2:
            packed = one.pieces
        else:
            return None
    later = type(module) is VocabParallelEmbedding and packed is None
    if packed is None:
        return _Module(module, written, None, later=later)
    return _Module(module, written, packed, filled["weight"].shape, filled["weight"].dtype)


def _in_one_run(
    planned: _Module, pieces: list[Piece], weights: Mapping[str, Tensor]
) -> Tensor | None:
    """The weight without a copy, if its pieces lie one after the other in one memory."""
    first = weights[str(pieces[0].source)]
    memory = first.untyped_storage()
    put, taken = 0, first.storage_offset()
    for piece in pieces:
        source = weights[str(piece.source)]
        rows = (piece.put[0][0], *planned.shape[1:])
        if (
            source.dtype != planned.dtype
            or source.untyped_storage()._cdata != memory._cdata
            or source.storage_offset() != taken + put
            or piece.taken != (tuple(source.shape), source.stride(), 0)
            or piece.put != (rows, source.stride(), put)
        ):
            return None
        put += piece.size
    return first.as_strided(planned.shape, (planned.shape[1], 1))


def _fill(target: Tensor, pieces: list[Piece], weights: Mapping[str, Tensor]) -> None:
    for piece in pieces:
        _part(target, piece.put).copy_(_part(weights[str(piece.source)], piece.taken))


def _part(whole: Tensor, geometry: _Geometry) -> Tensor:
    size, strides, offset = geometry
    return whole.as_strided(size, strides, int(whole.storage_offset()) + offset)


def _pack(module: Any) -> None:
    module.cpu_linear = None  # first give the old copy's memory back
    module.quant_method.process_weights_after_loading(module)


@contextmanager
def reused_memory() -> Iterator[None]:
    """Large blocks that are freed inside are used again, not given back to the system.

    Fresh pages cost several times as much as what is written into them. Does nothing without
    glibc.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            libc.mallopt(option, value)
