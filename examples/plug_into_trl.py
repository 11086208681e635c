"""Plug into TRL: the code of docs/tutorials/plug_into_trl.md."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

import orch_train
from orch_env import EpisodeSource
from orch_env.adapters.trl import OrchSpec

folder = Path(orch_train.__file__).parent / "data" / "tiny"  # the bundled model
tokenizer = AutoTokenizer.from_pretrained(folder)
source = EpisodeSource("harbour", max_turns=4)
spec = OrchSpec(source, tokenizer)
dataset = spec.dataset("train")
print(len(dataset), sorted(dataset.column_names))
print(dataset[0]["prompt"][0]["content"])

environment = spec.environment_factory()
environment.reset(**dataset[0])
print(environment.session.call("find_ship", {"name": "Luruka"}).text)

row, messages = dataset[0], []
session = source.session()
session.reset(row["task_id"], seed=row["seed"])
for number, step in enumerate(session.task.gold):
    calls = [
        {"id": f"{number}-{n}", "function": {"name": c.name, "arguments": c.arguments}}
        for n, c in enumerate(step)
    ]
    messages.append({"role": "assistant", "content": "", "tool_calls": calls})
    messages += session.message(None, calls)
messages.append({"role": "assistant", "content": "Done."})
print(session.finish("Done.").total)
[reward] = spec.reward_funcs
print(reward([messages], completion_ids=[[spec.end]], task_id=[row["task_id"]]))

from trl import GRPOConfig, GRPOTrainer

trainer = GRPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(folder),
    processing_class=tokenizer,
    environment_factory=spec.environment_factory,
    reward_funcs=spec.reward_funcs,
    train_dataset=dataset,
    args=GRPOConfig(
        output_dir="runs/trl",
        max_steps=1,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=64,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    ),
)
trainer.train()
