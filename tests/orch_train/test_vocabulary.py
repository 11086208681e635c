"""A tokenizer with tokens that the model has no embedding for is found before the model loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from orch_env.cli.main import main
from orch_env.types import OrchError
from orch_train import GRPOConfig
from orch_train.chat.renderer import make_chat
from orch_train.chat.vocabulary import check_vocabulary
from orch_train.cli.preflight import configuration_checks
from orch_train.models.files import load_tokenizer
from tests.orch_train.chat_templates import QWEN, tokenizer_for


def with_token(token: str | AddedToken, folder: Path, model: Path) -> Path:
    shutil.copytree(model, folder / "model")
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens([token])
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def test_training_dry_run_and_doctor_name_tokenizer_model_and_remedy(
    toy_model: Path, toy_config: GRPOConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_token("ship", tmp_path, toy_model)
    path = tmp_path / "toy.yaml"
    path.write_text(
        toy_config.model(str(model)).reporting(log_dir=str(tmp_path / "runs")).to_yaml()
    )
    for command in (["train"], ["train", "--dry-run"]):
        assert main([command[0], str(path), *command[1:]]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"the tokenizer of '{model}'" in said and "'ship' would be beyond it" in said
        assert "resize the model" in said and "Traceback" not in said
    checks = {check.name: check for check in configuration_checks(str(path), (), usable=True)}
    assert not checks["chat template"].ok
    assert "'ship' would be beyond it" in checks["chat template"].detail
    assert not (tmp_path / "runs").exists()


def _tokenizer(*tokens: AddedToken) -> Any:
    from copy import deepcopy

    tokenizer = deepcopy(tokenizer_for(QWEN))
    tokenizer.add_tokens(list(tokens))
    return tokenizer


ROWS = len(tokenizer_for(QWEN))


@pytest.mark.parametrize(
    ("token", "rows", "refused"),
    [
        (AddedToken("ship", normalized=False), ROWS, True),  # text may hold it
        (AddedToken("<image>", special=True), ROWS, False),  # the template alone could write it
        (AddedToken("<|im_start|>", special=True), ROWS - 1, True),  # text is cut short as well
        (AddedToken("ship", normalized=False), ROWS + 1, False),
        (AddedToken("ship", normalized=False), None, False),
    ],
)
def test_only_a_token_that_can_come_up_is_refused(
    token: AddedToken, rows: int | None, refused: bool
) -> None:
    tokenizer = _tokenizer(token)
    if refused:
        with pytest.raises(OrchError, match=f"an embedding for {rows}"):
            check_vocabulary(tokenizer, rows, "m")
    else:
        check_vocabulary(tokenizer, rows, "m")


def test_a_control_token_that_the_template_or_the_run_uses_is_refused() -> None:
    tokenizer = _tokenizer(AddedToken("<image>", special=True))
    image = tokenizer.convert_tokens_to_ids("<image>")
    with pytest.raises(OrchError, match="'<image>' would be beyond it"):
        check_vocabulary(tokenizer, ROWS, "m", used=[image])
    tokenizer.chat_template = {"default": QWEN, "tool_use": f"<image>{QWEN}"}
    with pytest.raises(OrchError, match="'<image>' would be beyond it"):
        check_vocabulary(tokenizer, ROWS, "m")


def test_a_tokenizer_with_a_control_token_that_nobody_writes_is_served(
    toy_model: Path, tmp_path: Path
) -> None:
    model = with_token(AddedToken("<image>", special=True), tmp_path, toy_model)
    assert make_chat(GRPOConfig().model(str(model)).settings).stop_token_ids
