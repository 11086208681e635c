"""What the name of a model stands for: a folder, a bundled model, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

BUNDLED_MODELS = Path(__file__).parent.parent / "data"


def model_folder(name: str) -> Path | None:
    """The model's folder on this machine: ``name`` itself, or that of a bundled model."""
    bundled = name.isidentifier() and not Path(name).is_dir()
    folder = BUNDLED_MODELS / name if bundled else Path(name)
    return folder if (folder / "config.json").is_file() else None


def is_hub_id(name: str) -> bool:
    """Whether it is an ``org/name``; with a folder ``org`` here it is a misspelt path instead."""
    looks_like_one = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None
    return looks_like_one and not Path(name).parent.exists()
