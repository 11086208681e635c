"""What the name of a model stands for (a folder, a bundled model, or a hub id), and its content."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

BUNDLED_MODELS = Path(__file__).parent.parent / "data"
_PIECES, _PIECE_BYTES = 256, 1 << 16


def model_folder(name: str) -> Path | None:
    """The model's folder on this machine: ``name`` itself, or that of a bundled model."""
    bundled = name.isidentifier() and not Path(name).is_dir()
    folder = BUNDLED_MODELS / name if bundled else Path(name)
    return folder if (folder / "config.json").is_file() else None


def is_hub_id(name: str) -> bool:
    """Whether it is an ``org/name``; with a folder ``org`` here it is a misspelt path instead."""
    looks_like_one = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None
    return looks_like_one and not Path(name).parent.exists()


def model_digest(folder: Path) -> str:
    """Tells a model's configuration and weights from others; reads 16 MiB of a file at most."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    texts = [f"{file.name} {file_digest(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Tells a file's content from others: all of a small one; size and pieces of a large one.

    The pieces of 64 KiB lie evenly over the file, so that a file of 16 GB takes well under a
    second.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _PIECES * _PIECE_BYTES:
            digest.update(file.read())
        else:
            for piece in range(_PIECES):
                file.seek(piece * (size - _PIECE_BYTES) // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()
