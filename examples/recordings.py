"""Your own recordings: the code of docs/tutorials/recordings.md."""

from orch_env.cli.main import main

import json
from pathlib import Path

tools = [
    {
        "name": "find_place",
        "description": "Find a place by its name.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
        },
    },
    {
        "name": "reviews",
        "description": "Reviews of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place_id": {"type": "integer"}, "limit": {"type": "integer"}},
            "required": ["place_id"],
        },
    },
]


def recorded(number, city, place, reviews):
    """One conversation: find the place, then read its reviews."""
    conversations = [
        {"role": "user", "content": f"Show me {len(reviews)} reviews of {city}."},
        {
            "role": "assistant",
            "function_call": [{"name": "find_place", "arguments": {"query": city}}],
        },
        {"role": "observation", "content": [{"places": [{"id": place, "name": city}]}]},
        {
            "role": "assistant",
            "function_call": [
                {"name": "reviews", "arguments": {"place_id": place, "limit": len(reviews)}}
            ],
        },
        {"role": "observation", "content": [{"reviews": reviews}]},
        {"role": "assistant", "content": " ".join(reviews)},
    ]
    return {"id": f"Trips-{number}", "conversations": conversations, "functions": tools}


recordings = [
    recorded(0, "Bergen", 81927, ["Rainy.", "Lovely."]),
    recorded(1, "Oslo", 60143, ["Long winters.", "Fine museums.", "Dear."]),
    recorded(2, "Molde", 73310, ["Roses!", "Quiet.", "Steep.", "Jazz."]),
]
text = "".join(json.dumps(recording) + "\n" for recording in recordings)
Path("trips-recorded.jsonl").write_text(text)

assert (
    main(["tasks", "import", "trips-recorded.jsonl", "--cache", "trips.db", "--out", "trips.jsonl"])
    == 0
)

assert main(["tasks", "show", "Trips-0", "trips.jsonl"]) == 0

assert main(["tasks", "validate", "trips.jsonl", "--cache", "trips.db"]) == 0

assert main(["replay", "--tasks", "trips.jsonl", "--cache", "trips.db", "--policy", "gold"]) == 0

assert main(["replay", "--tasks", "trips.jsonl", "--cache", "trips.db", "--policy", "noop"]) == 0

import gymnasium as gym

import orch_env

env = gym.make("orch_env/ToolOrchestration-v0", tasks="trips.jsonl", cache="trips.db")
obs, info = env.reset(seed=0)
print(obs)
action = '<tool_call>\n{"name": "find_place", "arguments": {"query": "Narvik"}}\n</tool_call>'
obs, *_ = env.step(action)
print(json.loads(obs.splitlines()[1])["error"]["type"])
