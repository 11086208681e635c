"""`RunConfig`: what was given for a run, as plain data, and the checked settings it makes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

from orch_env.types import OrchError
from orch_train.config.groups import Settings
from orch_train.config.reading import dump_yaml, merged, parse_override, read_yaml, set_path
from orch_train.config.validation import resolve


class RunConfig:
    """Values by group and key, from code, YAML and overrides; later ones win.

    Nothing is checked while it is filled; `settings` and `validate` raise one `OrchError` that
    lists every problem. Paths are relative to the current directory, in YAML files too.
    """

    def __init__(self) -> None:
        self._given: dict[str, dict[str, Any]] = {}
        self._frozen = False

    def from_yaml(self, path: str | PathLike[str]) -> Self:
        """Lay a YAML file over what is set so far; its layout is ``{group: {key: value}}``.

        Raises:
            OrchError: the file is missing, not YAML, or repeats a key.
        """
        return self.from_dict(read_yaml(Path(path)))

    def from_dict(self, data: Mapping[str, Any]) -> Self:
        """Lay ``{group: {key: value}}`` over what is set so far."""
        self._check_open()
        self._given = merged(self._given, copy.deepcopy(dict(data)))
        return self

    def with_overrides(self, overrides: Iterable[str]) -> Self:
        """Apply ``group.key=value`` texts, as in ``training.lr=2e-6``; values are YAML.

        Raises:
            OrchError: a text is not of that form.
        """
        self._check_open()
        for text in overrides:
            keys, value = parse_override(text)
            set_path(self._given, keys, value)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Every group with every key, defaults filled in, as plain data."""
        data: dict[str, Any] = self.settings.model_dump(mode="json")
        return data

    def to_yaml(self) -> str:
        """`to_dict` as YAML; `from_yaml` reads it back to the same configuration."""
        return dump_yaml(self.to_dict())

    @property
    def given(self) -> Mapping[str, Mapping[str, Any]]:
        """What was set so far, unchecked."""
        return self._given

    @property
    def settings(self) -> Settings:
        """The typed, frozen groups.

        Raises:
            OrchError: one message with every problem; named files are not looked at.
        """
        return resolve(self._given, files=False)

    def validate(self) -> Settings:
        """Check everything, files included.

        Raises:
            OrchError: one message with every problem.
        """
        return resolve(self._given, files=True)

    def freeze(self) -> Self:
        """Refuse further changes."""
        self._frozen = True
        return self

    def copy(self) -> Self:
        """An independent copy that may be changed."""
        return type(self)().from_dict(self._given)

    def _check_open(self) -> None:
        if self._frozen:
            raise OrchError("this configuration is frozen: an algorithm was built; use copy()")
