"""Tasks from a cache: the code of docs/tutorials/tasks_from_a_cache.md."""

from orch_env.cli.main import main

assert main(["synth", "graph", "--from", "cache", "harbour", "--out", "harbour.svg"]) == 0

assert (
    main(
        [
            "synth",
            "sample",
            "--from",
            "cache",
            "harbour",
            "--calls",
            "4",
            "--count",
            "20",
            "--out",
            "berths.jsonl",
        ]
    )
    == 0
)

assert main(["synth", "validate", "berths.jsonl", "--cache", "harbour"]) == 0

from orch_env import load_tasks

task = load_tasks("berths.jsonl")[0]
print(task.query)
for step in task.gold:
    print([call.name for call in step])
print({name: task.metadata[name] for name in ("calls", "depth", "width", "edges")})

from pathlib import Path

job = """
source: {cache: harbour}
shape: {calls: [2, 5]}
sampling: {growth_tries: 1000, per_template: 60}
splits: {train: 120, validation: 20, test: 20}
out: harbour-tasks
processes: 1
"""
Path("job.yaml").write_text(job)

assert main(["synth", "run", "job.yaml"]) == 0
