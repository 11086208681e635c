"""What a run started from: facts that a later configuration cannot change.

Every checkpoint holds them, so that the reference of a KL penalty stays the run's first model, and
so that changed task files are noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.config.model_folder import file_digest, is_hub_id, model_digest, model_folder
from orch_train.config.validation import named_files


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run started from.

    Attributes:
        directory: the working directory: relative paths of the configuration count from it.
        model: the first model, as the configuration named it.
        model_folder: its folder, absolute; ``None``: it came from a hub.
        model_digest: of that folder; see `model_digest`. ``None`` if there is no folder, or if the
            run is older than these facts.
        files: setting -> digest of the task file or cache that it names.
    """

    directory: str
    model: str
    model_folder: str | None
    model_digest: str | None
    files: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> Origin:
        """What a run that starts now starts from.

        Raises:
            OrchError: a file cannot be read.
        """
        folder = model_folder(settings.model.path)
        try:
            return cls(
                directory=str(Path.cwd()),
                model=settings.model.path,
                model_folder=None if folder is None else str(folder.absolute()),
                model_digest=None if folder is None else model_digest(folder),
                files=_digests(settings),
            )
        except OSError as problem:
            raise OrchError(f"{problem.filename}: cannot be read: {problem}") from problem

    def first_model(self) -> str:
        """The first model: its folder, found again though the run or the model moved, or its id.

        Raises:
            OrchError: it is gone, or another one lies in its place.
        """
        if self.model_folder is None and is_hub_id(self.model):
            return self.model
        found = [
            folder
            for name in (self.model_folder, self.model)
            if name is not None and (folder := model_folder(name)) is not None
        ]
        for folder in found:
            if self.model_digest is None or model_digest(folder) == self.model_digest:
                return str(folder)
        remedy = (
            "bring it back, or name a copy of it in model.reference: the KL penalty "
            "(training.kl_coeff) is measured against it"
        )
        if found:
            raise OrchError(
                f"{str(found[0])!r} is no longer the model that this run started from: {remedy}"
            )
        gone = self.model_folder or str(Path(self.directory) / self.model)
        raise OrchError(f"the model that this run started from, {gone!r}, is gone: {remedy}")

    def is_first_model(self, name: str) -> bool:
        """Whether a folder or id names the model that the run started from."""
        folder = model_folder(name)
        if folder is None or self.model_digest is None:
            return name == self.model
        return model_digest(folder) == self.model_digest

    def changed_files(self, settings: Settings) -> list[str]:
        """Settings whose file has another content than at the start of the run."""
        return [
            where
            for where, digest in _digests(settings).items()
            if self.files.get(where, digest) != digest
        ]


def kl_reference(settings: Settings, origin: Origin) -> str | None:
    """The model that a KL penalty is measured against; ``None``: none, or the base under LoRA.

    The reference is the model that the *run* started from, also when a checkpoint is resumed, which
    brings a trained model of its own. With LoRA it is the base, which is part of every checkpoint.

    Raises:
        OrchError: the first model is needed and gone.
    """
    if settings.model.reference is not None:
        return settings.model.reference
    if settings.training.kl_coeff == 0 or settings.model.lora_rank:
        return None
    return origin.first_model()


def _digests(settings: Settings) -> dict[str, str]:
    return {
        where: file_digest(file)
        for where, _, file in named_files(settings)
        if file is not None and where != "sft.tasks"
    }
