"""What is made from the settings says what the code says: the page and the typed builder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mypy import api as mypy

from orch_train.config.groups import GROUPS
from tools.settings_reference import PAGE, STUB, page, stub


@pytest.mark.parametrize("name", GROUPS)
def test_every_setting_has_a_description(name: str) -> None:
    group = GROUPS[name]
    assert group.model_fields and group.__doc__
    assert [key for key, field in group.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(("path", "made"), [(PAGE, page), (STUB, stub)])
def test_the_files_are_those_that_the_code_makes(path: Path, made: Callable[[], str]) -> None:
    assert path.read_text(encoding="utf-8") == made(), (
        "a setting changed: run `python -m tools.settings_reference`"
    )


USES = """\
from orch_train.algorithms.grpo_config import GRPOConfig

config: GRPOConfig = (
    GRPOConfig()
    .environment("mine:Env-v0", env_config={"tasks": "harbour"})
    .model("tiny", lora_targets=["q_proj"])
    .training(lr=3e-4, group_size=8, correction_mask=(0.5, 2), loss="dapo")
    .evaluation(temperatures=[1.0, 0], split=None)
)
config.training(groupsize=8)
config.training(8)
config.training(loss=None)
config.learners(layout="padded")
"""


def test_mypy_accepts_the_keys_of_a_group_and_no_others(tmp_path: Path) -> None:
    """Strictly, but without following imports, which would take a minute."""
    uses = tmp_path / "uses.py"
    uses.write_text(USES)
    options = ["--strict", "--allow-subclassing-any", "--follow-imports=skip", "--config-file="]
    options += ["--hide-error-context", "--cache-dir", str(tmp_path / "cache")]
    out, errors, _ = mypy.run([*options, str(uses), str(STUB)])
    found = [line for line in out.splitlines() if ": error: " in line]
    refused = (
        (10, 'Unexpected keyword argument "groupsize" for "training" of "GRPOConfig"'),
        (11, 'Too many positional arguments for "training" of "GRPOConfig"'),
        (12, 'Argument "loss" to "training" of "GRPOConfig" has incompatible type "None"'),
        (13, 'Argument "layout" to "learners" of "GRPOConfig" has incompatible type'),
    )
    assert not errors and len(found) == len(refused), out + errors
    for line, (number, text) in zip(found, refused, strict=True):
        assert f"uses.py:{number}: error: {text}" in line
