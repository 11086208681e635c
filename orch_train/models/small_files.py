"""What a saved model takes over from the folder that it was loaded from: all but the weights.

Configuration, generation configuration, tokenizer, chat template, code and licence are copied byte
for byte. transformers would write its own reading of them, and refuses to write some that it reads.
They are read once, when a model is loaded: the folder may be gone when the model is saved.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from orch_env.types import OrchError
from orch_train.models.files import load_stop_ids, load_tokenizer, or_clear_error, resolve_model

SmallFiles: TypeAlias = Mapping[str, bytes]
"""Contents by the path within the model's folder."""

CONFIG = "config.json"
_OTHER_KINDS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".ot", ".onnx"),
    *(".npz", ".pkl", ".index.json"),
)
"""Ends of names: weights, and what trainers leave beside them."""
_OTHER_FILES = frozenset({"trainer_state.json"})
_MOST_BYTES = 128 << 20
"""A file beyond this is none of a tokenizer; the largest ones are a third of it."""


def read_small_files(path: str | os.PathLike[str]) -> SmallFiles:
    """The small files of a model.

    A model card (``README*``) is left out: it describes the model before it was trained.

    Args:
        path: as for :func:`~orch_train.models.load.load_model`; of a hub id, what lies in the
            local cache.

    Raises:
        OrchError: there is no such model, or a file cannot be read.
    """
    folder = _on_this_machine(path)
    read: dict[str, bytes] = {}
    for file in sorted(_small(folder)):
        try:
            read[file.relative_to(folder).as_posix()] = file.read_bytes()
        except OSError as problem:
            raise OrchError(f"{file} cannot be read: {problem.strerror}") from problem
    return read


def write_small_files(files: SmallFiles, folder: Path, dtype: str) -> None:
    """Write them into a folder.

    Args:
        files: from :func:`read_small_files`.
        folder: made if it is missing.
        dtype: what the model computes in; ``config.json`` changes only if it names another one.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(with_dtype(content, dtype) if name == CONFIG else content)


def with_dtype(config: bytes, dtype: str) -> bytes:
    """A ``config.json`` that names this dtype, byte for byte the same if it does already."""
    data = json.loads(config)
    keys = [key for key in ("dtype", "torch_dtype") if key in data] or ["dtype"]
    if all(data.get(key) == dtype for key in keys):
        return config
    changed = data | dict.fromkeys(keys, dtype)
    return (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()


def check_small_files(path: str | os.PathLike[str]) -> list[str]:
    """Write a model's small files as a checkpoint will, and read them back: a rehearsal.

    Returns:
        Names of the files.

    Raises:
        OrchError: the copy is not read as the original is.
    """
    files, stops, original = read_small_files(path), load_stop_ids(path), load_tokenizer(path)
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        try:
            write_small_files(files, Path(folder), "float32")
        except (OSError, ValueError) as problem:
            raise OrchError(
                f"the files beside the weights of model {os.fspath(path)!r} cannot be copied: "
                f"{problem}"
            ) from problem
        told = f"model {os.fspath(path)!r} could not be saved so that it loads again"
        try:
            copy = load_tokenizer(folder)
        except OrchError as problem:
            raise OrchError(f"{told} from {', '.join(files)}: {problem}") from problem
        same = copy.get_vocab() == original.get_vocab()
        if not same or copy.chat_template != original.chat_template:
            raise OrchError(f"{told}: a file of its tokenizer is not among {', '.join(files)}")
        if load_stop_ids(folder) != stops:
            raise OrchError(f"{told}: its generation_config.json is not in its folder")
    return list(files)


def _on_this_machine(path: str | os.PathLike[str]) -> Path:
    source = resolve_model(path)
    if Path(source).is_dir():
        return Path(source)
    from transformers.utils.hub import cached_file

    found = or_clear_error(lambda: cached_file(source, CONFIG), f"model {os.fspath(path)!r}")
    assert found is not None
    return Path(found).parent


def _small(folder: Path) -> Iterator[Path]:
    # Named chat templates lie in a folder of their own.
    for file in (*folder.iterdir(), *folder.glob("*/*.jinja")):
        name = file.name.lower()
        if name.startswith((".", "readme")) or name in _OTHER_FILES or not file.is_file():
            continue
        if not name.endswith(_OTHER_KINDS) and file.stat().st_size <= _MOST_BYTES:
            yield file
