"""verl's own agent loop classes, with a server manager that says what was written beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

import orch_train
from orch_env.adapters import verl as adapter
from orch_env.cli.main import main
from tests.adapters.conformance import SOURCE, Played, Script, report, table

TOKENIZER = AutoTokenizer.from_pretrained(str(Path(orch_train.__path__[0]) / "data" / "tiny"))
PROMPT, RESPONSE = 4000, 6000


class WrittenServer:
    """Says a script's messages; then it goes on until it is cut."""

    def __init__(self, actions: Sequence[str], reasons: Sequence[str] = ()) -> None:
        self.actions, self.said = list(actions), 0
        self.reasons = list(reasons)
        self.prompts: list[list[int]] = []

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]
    ) -> TokenOutput:
        """One message, cut at `max_tokens`."""
        self.prompts.append(list(prompt_ids))
        room = sampling_params["max_tokens"]
        if self.said < len(self.actions):
            text, self.said = self.actions[self.said], self.said + 1
            ids = [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]
        else:
            ids = TOKENIZER.encode("and ", add_special_tokens=False) * room
        ids = ids[:room]
        return TokenOutput(
            token_ids=ids,
            log_probs=[-0.5] * len(ids),
            stop_reason=self.reasons.pop(0) if self.reasons else "completed",
            extra_fields={"min_global_steps": len(self.prompts)},
        )


def loop_over(
    server: WrittenServer, *, prompt: int = PROMPT, response: int = RESPONSE, **source: Any
) -> Any:
    """The agent loop as verl's worker makes it for each row."""
    rollout = {"prompt_length": prompt, "response_length": response}
    config = {"actor_rollout_ref": {"rollout": rollout}}
    entry = OmegaConf.create(
        {
            "name": "orch_env",
            "_target_": "orch_env.adapters.verl.OrchAgentLoop",
            "source": {"tasks": SOURCE.tasks, **source},
        }
    )
    return hydra.utils.instantiate(
        config=entry,
        trainer_config=DictConfigWrap(OmegaConf.create(config)),
        server_manager=server,
        tokenizer=TOKENIZER,
        processor=None,
        hf_model_type="qwen2",
        dataset_cls=None,
        data_config=DictConfigWrap(OmegaConf.create({})),
        tools=None,
    )


async def run(server: WrittenServer, script: Script, **settings: Any) -> AgentLoopOutput:
    """Play a script as verl's worker does."""
    row = {
        "raw_prompt": SOURCE.prompt(script.task_id),
        "extra_info": {"task_id": script.task_id, "seed": script.seed},
    }
    output = await loop_over(server, **settings).run({"temperature": 1.0, "logprobs": True}, **row)
    assert len(output.response_ids) == len(output.response_mask) == len(output.response_logprobs)
    assert output.as_dict()["rm_scores"][-1] == output.reward_score
    return output


def perform(scripts: Sequence[Script]) -> list[Played]:
    """Play scripts at the same time, as the coroutines of one worker."""
    servers = [WrittenServer(script.actions) for script in scripts]

    async def all_of_them() -> list[AgentLoopOutput]:
        return await asyncio.gather(*map(run, servers, scripts))

    return [_played(*pair) for pair in zip(servers, asyncio.run(all_of_them()), strict=True)]


def _played(server: WrittenServer, output: AgentLoopOutput) -> Played:
    read = [i for i, own in zip(output.response_ids, output.response_mask, strict=True) if not own]
    results = re.findall("<tool_response>\n(.*?)\n</tool_response>", TOKENIZER.decode(read), re.S)
    reason = output.extra_fields["stop_reason"]
    return Played(output.reward_score, tuple(results), server.said, reason)


def check_loop() -> None:
    """What a worker relies on, and token identity with verl's own builder."""
    assert pickle.loads(pickle.dumps(adapter.OrchAgentLoop)) is adapter.OrchAgentLoop
    script = table()[0]
    server = WrittenServer(script.actions)
    output = asyncio.run(run(server, script))
    stream = [*output.prompt_ids, *output.response_ids]
    assert len(server.prompts) == len(script.actions)
    for prompt in server.prompts:
        assert stream[: len(prompt)] == prompt
    own = [i for i, mine in zip(output.response_ids, output.response_mask, strict=True) if mine]
    said = "".join(f"{action}{TOKENIZER.eos_token}" for action in script.actions)
    assert TOKENIZER.decode(own) == said
    assert "find_ship(name)" in TOKENIZER.decode(output.prompt_ids)


async def _run_row(server: WrittenServer, row: Any) -> AgentLoopOutput:
    return await loop_over(server, split="heldout").run({}, **row)


def check_data_set() -> None:
    """verl's own data set reads what `orch export-rows` writes, and the loop plays its rows."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("rows.parquet", "rows.jsonl"):
            out = str(Path(folder) / name)
            words = ["export-rows", "--for", "verl", "--tasks", "harbour", "--split", "heldout"]
            with contextlib.redirect_stdout(sys.stderr):
                assert main([*words, "--out", out]) == 0
                data = RLHFDataset(out, TOKENIZER, OmegaConf.create({"max_prompt_length": PROMPT}))
            row = data[0]
            assert row["agent_name"] == "orch_env" and row["raw_prompt"][0]["role"] == "user"
            script = Script("row", row["extra_info"]["task_id"], ("Done.",))
            output = asyncio.run(_run_row(WrittenServer(script.actions), row))
            assert output.extra_fields["stop_reason"] == "answered"


EXEMPT = {
    "call after the end": "the loop stops at the end, and nobody reads the last result or calls on"
}


if __name__ == "__main__":
    check_loop()
    check_data_set()
    report(perform, exempt=EXEMPT)
