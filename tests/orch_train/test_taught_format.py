"""Which call format a template teaches is seen in what it renders; `auto` is one choice for all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.chat.renderer import make_chat
from orch_train.chat.taught_format import choice_line, taught_format
from orch_train.config.model_folder import BUNDLED_MODELS
from orch_train.evaluation.policy import call_format_of_model
from orch_train.models.files import load_tokenizer
from orch_train.rollouts.environments import EnvFactory
from tests.orch_train.chat_templates import CHATML, QWEN, tokenizer_for

XML = QWEN.replace(
    "m.content + '<|im_end|>\n' }}",
    "m.content }}{%- for t in m.tool_calls or [] %}{{- '<tool_call>\n<function=' + t.function.name"
    " + '>\n' }}{%- for k, v in t.function.arguments.items() %}{{- '<parameter=' + k + '>\n' + v"
    " + '\n</parameter>\n' }}{%- endfor %}{{- '</function>\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}",
)
BRACKETS = (
    "{%- for m in messages %}{%- if m.tool_calls %}{{- '[TOOL_CALLS] [' }}"
    "{%- for t in m.tool_calls %}{{- (t.function | tojson)[:-1] + ', \"id\": \"' + t.id + '\"}' }}"
    "{%- endfor %}{{- ']</s>' }}{%- else %}{{- '[INST]' + m.content + '[/INST]' }}{%- endif %}"
    "{%- endfor %}"
)
NAMED = (
    "{%- for m in messages %}{%- for t in m.tool_calls or [] %}{{- '[TOOL_CALLS]' }}"
    "{{- t.function.name + '[ARGS]' + (t.function.arguments | tojson) }}{%- endfor %}"
    "{{- m.content + '</s>' }}{%- endfor %}"
)
PYTHON = (
    "{%- for m in messages %}{%- for t in m.tool_calls or [] %}{{- '<function_calls>\n' }}"
    "{{- t.function.name + '(' }}{%- for k, v in t.function.arguments.items() %}"
    "{{- k + \"='\" + v + \"'\" }}{%- endfor %}{{- ')\n</function_calls>' }}{%- endfor %}"
    "{{- m.content + '</s>' }}{%- endfor %}"
)
PROMPTED = (
    "{%- if tools %}{{- 'answer with <|tool_call|> and a JSON list: ' + (tools | tojson) }}"
    "{%- endif %}{%- for m in messages %}{{- m.role + m.content + '<|im_end|>' }}{%- endfor %}"
)
UNKNOWN = PROMPTED.replace(
    "m.role + m.content",
    "m.role + m.content + (m.tool_calls or []) | map(attribute='function') | join",
)
"""Offers tools with a known tag, and writes calls in no known form."""


@pytest.mark.parametrize(
    ("template", "taught"),
    [
        (XML, "qwen3_coder"),
        (BRACKETS, "mistral"),
        (NAMED, "mistral"),
        (PYTHON, "pythonic"),
        (PROMPTED, "granite"),
        (UNKNOWN, None),
        (CHATML, None),
    ],
    ids=["xml", "list", "named", "python", "prompt only", "unknown", "no calls"],
)
def test_what_a_template_teaches_is_seen_in_what_it_renders(
    template: str, taught: str | None
) -> None:
    tokenizer = tokenizer_for(QWEN)
    before, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        assert taught_format(tokenizer) == taught
    finally:
        tokenizer.chat_template = before


def test_auto_is_one_choice_for_the_renderer_the_environments_and_evaluation(
    tmp_path: Path,
) -> None:
    shutil.copytree(BUNDLED_MODELS / "tiny", tmp_path / "xml")
    tokenizer = load_tokenizer(tmp_path / "xml")
    tokenizer.chat_template = XML
    tokenizer.save_pretrained(tmp_path / "xml")
    config = GRPOConfig().model(str(tmp_path / "xml"))
    with pytest.raises(OrchError, match=r"call_format hermes: .* teaches qwen3_coder"):
        make_chat(config.environment(env_config={"tasks": "harbour"}).settings)
    asked = config.environment(env_config={"tasks": "harbour", "call_format": "auto"}).settings
    assert make_chat(asked).call_format == "qwen3_coder"
    env = EnvFactory(asked)()
    assert env.unwrapped.settings["call_format"] == "qwen3_coder"
    env.close()
    assert choice_line(asked) == "call format: qwen3_coder, as the chat template teaches"
    assert call_format_of_model(str(tmp_path / "xml")) == "qwen3_coder"
    assert call_format_of_model("tiny") == "hermes"
