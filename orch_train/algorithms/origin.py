"""What a run started from: facts that a later configuration cannot change.

Every checkpoint holds them, so that the reference of a KL penalty stays the run's first model, and
so that changed task files are noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.config.model_folder import file_digest, is_hub_id, model_digest, model_folder
from orch_train.config.validation import named_files


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that a run was started with.

    Attributes:
        name: as the configuration gave it.
        folder: where it was, absolute; ``None``: it came from a hub.
        digest: of that folder, see `model_digest`; ``None`` if there is none, or it is not known.
    """

    name: str
    folder: str | None
    digest: str | None

    @classmethod
    def of(cls, name: str) -> ModelSource:
        """The model that a name stands for now."""
        folder = model_folder(name)
        if folder is None:
            return cls(name, None, None)
        return cls(name, str(folder.absolute()), _readable(model_digest, folder))

    def find(self) -> str:
        """Its folder, found again though the run or the model moved, or its hub id.

        Raises:
            OrchError: it is gone, or another one lies in its place.
        """
        if self.folder is None and is_hub_id(self.name):
            return self.name
        names = [name for name in (self.folder, self.name) if name is not None]
        found = [folder for name in names if (folder := model_folder(name)) is not None]
        for folder in found:
            if self.digest is None or _readable(model_digest, folder) == self.digest:
                return str(folder)
        what = f"{str(found[0])!r} is another model" if found else f"{names[0]!r} is gone"
        raise OrchError(
            f"{what}: the KL penalty (training.kl_coeff) is measured against the one that the run "
            "was started with: bring it back, or name a copy of it in model.reference"
        )

    def is_same(self, name: str) -> bool:
        """Whether another name stands for the same weights."""
        folder = model_folder(name)
        if folder is None or self.digest is None:
            return name == self.name
        return _readable(model_digest, folder) == self.digest


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run started from.

    Attributes:
        directory: the working directory: relative paths of the configuration count from it.
        model: the first model.
        reference: that of ``model.reference``, if it was given.
        files: setting -> digest of the task file or cache that it names.
    """

    directory: str
    model: ModelSource
    reference: ModelSource | None
    files: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> Origin:
        """What a run that starts now starts from.

        Raises:
            OrchError: a file cannot be read.
        """
        path, reference = settings.model.path, settings.model.reference
        return cls(
            directory=str(Path.cwd()),
            model=ModelSource.of(path),
            reference=None if reference is None else ModelSource.of(reference),
            files=_digests(settings),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Origin:
        """Undo ``dataclasses.asdict``."""
        reference = data["reference"]
        return cls(
            directory=str(data["directory"]),
            model=ModelSource(**data["model"]),
            reference=None if reference is None else ModelSource(**reference),
            files=dict(data["files"]),
        )

    def same_files(self, settings: Settings) -> dict[str, bool]:
        """Settings that named a file at the start and name one now: whether of one content.

        Raises:
            OrchError: a file cannot be read.
        """
        now = _digests(settings).items()
        return {where: self.files[where] == new for where, new in now if where in self.files}


def kl_reference(settings: Settings, origin: Origin) -> str | None:
    """The model that a KL penalty is measured against; ``None``: none, or the base under LoRA.

    The reference is the model that the *run* started from, also when a checkpoint is resumed, which
    brings a trained model of its own. With LoRA it is the base, which is part of every checkpoint.

    Raises:
        OrchError: a model that the run was started with is needed and gone.
    """
    reference = settings.model.reference
    if reference is not None:
        stored = origin.reference
        return stored.find() if stored is not None and stored.name == reference else reference
    if settings.training.kl_coeff == 0 or settings.model.lora_rank:
        return None
    return origin.model.find()


def _readable(digest: Callable[[Path], str], path: Path) -> str:
    try:
        return digest(path)
    except OSError as problem:
        raise OrchError(f"{problem.filename} cannot be read: {problem.strerror}") from problem


def _digests(settings: Settings) -> dict[str, str]:
    return {
        where: _readable(file_digest, file)
        for where, _, file in named_files(settings)
        if file is not None and where != "sft.tasks"
    }
