"""verl's agent loop on two episodes, with a task's gold calls in the engine's place.

Needs `pip install 'orch-rl[verl]'` (and no GPU). Run it with `python examples/verl_agent_loop.py`.
"""

import asyncio
from pathlib import Path

import hydra
import orch_train
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.workers.rollout.replica import TokenOutput

from orch_env import EpisodeSource, load_tasks
from orch_env.replay.policies import make_policy
from orch_env.tasks.framework_rows import framework_rows

# What stands in the file that `rollout.agent.agent_loop_config_path` names.
AGENT = {
    "name": "orch_env",
    "_target_": "orch_env.adapters.verl.OrchAgentLoop",
    "source": {"tasks": "harbour", "split": "heldout"},
}
CONFIG = {"actor_rollout_ref": {"rollout": {"prompt_length": 4096, "response_length": 4096}}}
TOKENIZER = AutoTokenizer.from_pretrained(str(Path(orch_train.__path__[0]) / "data" / "tiny"))


class GoldEngine:
    """Stands where verl's engine would: it knows the task and says gold."""

    def __init__(self, task) -> None:
        self.model = make_policy("gold")
        self.model.start(task)

    async def generate(self, *, request_id, prompt_ids, sampling_params):
        """The next message as tokens, each with a log-probability."""
        text = self.model.act("", {})
        ids = [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]
        return TokenOutput(token_ids=ids, log_probs=[-0.1] * len(ids), stop_reason="completed")


async def main() -> None:
    """Play two rows and print what verl would train on."""
    tasks = {task.id: task for task in load_tasks("harbour")}
    source = EpisodeSource(**AGENT["source"])
    for row in list(framework_rows("verl", source.rows()))[:2]:
        loop = hydra.utils.instantiate(
            AGENT,
            trainer_config=DictConfigWrap(OmegaConf.create(CONFIG)),
            data_config=DictConfigWrap(OmegaConf.create({})),
            server_manager=GoldEngine(tasks[row["extra_info"]["task_id"]]),
            tokenizer=TOKENIZER,
            processor=None,
            dataset_cls=None,
            hf_model_type="qwen2",
        )
        out = await loop.run({}, raw_prompt=row["prompt"], extra_info=row["extra_info"])
        said = TOKENIZER.decode(out.response_ids).replace("<|im_start|>", "\n<|im_start|>")
        print(f"{said}\n")
        print(
            f"reward {out.reward_score}, {out.extra_fields['stop_reason']}: {out.num_turns} turns, "
            f"{len(out.response_ids)} tokens of which {sum(out.response_mask)} are trained on\n"
        )


if __name__ == "__main__":
    asyncio.run(main())
