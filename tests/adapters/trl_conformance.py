"""TRL's tool loop plays the conformance table; only the model is replaced, by scripts.

.venv-adapters/bin/python -m tests.adapters.trl_conformance
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from orch_env.adapters.trl import OrchSpec
from orch_env.formats import get_format
from tests.adapters.conformance import SOURCE, Played, Script, report

RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)
TEMPLATE = Path("orch_train/data/tiny/chat_template.jinja")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte, so that every text comes back as it was."""
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE.read_text(),
    )


class Loop:
    """TRL's trainer, or its door for whole messages, with a model that says what is scripted."""

    def __init__(self, folder: str, door: str) -> None:
        self.door = door
        self.tokenizer = byte_tokenizer()
        self.spec = OrchSpec(SOURCE, self.tokenizer)
        self.rows = {row["task_id"]: row for row in self.spec.train_dataset}
        self.said: list[list[str]] = []
        self.played: list[dict[str, Any]] = []
        doors = {"environment": "environment_factory", "rollout": "rollout_func"}
        shape = LlamaConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=1 << 20,
        )
        self.trainer = GRPOTrainer(
            LlamaForCausalLM(shape),
            reward_funcs=[self.reward],
            train_dataset=self.spec.train_dataset,
            processing_class=self.tokenizer,
            args=GRPOConfig(
                folder,
                use_cpu=True,
                bf16=False,
                max_completion_length=1 << 19,
                num_generations_eval=1,
                report_to="none",
            ),
            **{doors[door]: getattr(self.spec, doors[door])},
        )
        self.trainer._generate_single_turn = self.generate
        self.trainer.model.eval()

    def reward(self, **columns: Any) -> list[float | None]:
        """What the adapter's reward says, kept in double precision."""
        [reward] = self.spec.reward_funcs
        rewards = reward(**columns)
        read = self.messages if self.door == "environment" else self.written
        self.played = [
            {"reward": one, "results": read(completion, ids), "answered": answered(completion)}
            for one, completion, ids in zip(
                rewards, columns["completions"], columns["completion_ids"], strict=True
            )
        ]
        return rewards

    def messages(self, completion: Sequence[Any], ids: Sequence[int]) -> tuple[str, ...]:
        """The results among the messages that TRL's loop wrote down."""
        return tuple(m["content"] for m in completion if m["role"] == "tool")

    def written(self, completion: Sequence[Any], ids: Sequence[int]) -> tuple[str, ...]:
        """The results in the tokens of an episode."""
        return tuple(RESULT.findall(self.tokenizer.decode(ids)))

    def generate(self, histories: Any, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        """The next message of each rollout; nothing where its script is over."""
        if not self.prompts:
            self.prompts = list(histories)
        turns = []
        for history in histories:
            at = next(n for n, p in enumerate(self.prompts) if history[: len(p)] == p)
            left = self.said[at]
            ids = self.tokenizer(left.pop(0))["input_ids"] + [self.spec.end] if left else []
            turns.append(ids)
        return turns, None

    def play(self, scripts: Sequence[Script]) -> list[Played]:
        """Play the scripts as one batch."""
        self.prompts: list[list[int]] = []
        self.said = [list(script.actions) for script in scripts]
        self.trainer._generate_and_score_completions([self.rows[s.task_id] for s in scripts])
        return list(map(self.outcome, scripts, self.said, self.played))

    def outcome(self, script: Script, left: Sequence[str], one: dict[str, Any]) -> Played:
        """What came of a script."""
        taken = len(script.actions) - len(left)
        calls = get_format("hermes").parse(script.actions[taken - 1]).calls
        unrun = self.door == "environment" and calls and one["answered"]
        return Played(one["reward"], one["results"], taken, last_run=not unrun)


def answered(completion: Sequence[Any]) -> bool:
    """Whether a completion ends with a message of the model."""
    return bool(completion[-1]["role"] == "assistant")


EXEMPT = {
    "environment": {
        "malformed call": "TRL takes a message that it cannot read for the answer",
        "unknown tool": "TRL answers such a call itself, in its own words",
        "call after the end": "TRL plays on until no call is made; the reward stops at the end",
    },
    "rollout": {"call after the end": "the last results are not written: nobody reads them"},
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        report(Loop(folder, sys.argv[1]).play, exempt=EXEMPT[sys.argv[1]])
