"""What `OrchSpec` hands to TRL, as one line of JSON; runs in TRL's environment."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from orch_env import EpisodeSource, load_tasks, save_tasks
from orch_env.adapters.trl import OrchSpec
from orch_env.types import OrchError
from tests.adapters.conformance import SOURCE
from tests.adapters.trl_conformance import byte_tokenizer
from tests.orch_env.recorded_world import build

UNREAD = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}assistant: "


def main(folder: Path) -> None:
    """Make specs of several kinds and print what is in them."""
    tokenizer = byte_tokenizer()
    spec = OrchSpec(SOURCE, tokenizer)
    row = spec.dataset("heldout")[0]
    tools = {t.__name__: t for n, t in vars(spec.environment_factory()).items() if "tool_" in n}
    exact = [tool.to_openai() for tool in SOURCE.tools(row["task_id"])]
    prompts = [
        tokenizer.apply_chat_template(row["prompt"], tools=offered, tokenize=False)
        for offered in (list(tools.values()), exact)
    ]

    where = build(folder)
    tasks = [task for task in load_tasks(where["tasks"]) if not task.followups]
    save_tasks([replace(tasks[0], tools=("weather",)), *tasks[1:]], where["tasks"])
    two = OrchSpec(EpisodeSource(**where), tokenizer)
    offers = [[t.name for t in f.source.tools(f.task_id)] for f in two.environment_factory.values()]

    other = byte_tokenizer()
    other.chat_template = UNREAD
    try:
        refused = OrchSpec(SOURCE, other) and "no"
    except OrchError as problem:
        refused = str(problem)
    print(
        json.dumps(
            {
                "prompt": prompts[0],
                "prompt_with_openai_tools": prompts[1],
                "columns": sorted(row),
                "columns_of_two_sets": sorted(two.train_dataset.column_names),
                "tools_of_two_sets": sorted(offers),
                "refused": refused,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
