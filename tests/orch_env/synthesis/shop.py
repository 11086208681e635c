"""A small shop API with recorded tasks, in which every flow of data is known."""

from __future__ import annotations

import json
import random
from pathlib import Path

from orch_env import Task, ToolSpec, open_cache
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.types import GoldCall
from orch_env.types.json import Json, JsonObject

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
TOOLS: dict[str, JsonObject] = {
    "find_items": {"query": TEXT, "facet": TEXT},
    "facets": {"query": TEXT},
    "item": {"sku": TEXT},
    "reviews": {"sku": TEXT},
    "compare": {"skus": TEXT},
    "find_place": {"query": TEXT},
    "stores": {"lat": NUMBER, "lon": NUMBER},
    "slots": {"store": TEXT, "day": TEXT},
    "order": {
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"sku": TEXT, "count": NUMBER}},
        },
        "store": TEXT,
        "day": TEXT,
    },
    "track": {"order_code": TEXT},
    "cancel": {"order_code": TEXT},
}
WORDS = ["lamp", "sofa", "desk", "vase", "rug", "clock", "mirror", "shelf", "stool", "bench"]
TRACES = 24


def shop(folder: Path, seed: int = 0) -> Corpus:
    """The shop's corpus: ``TRACES`` orders, each with its own items, place, store and day."""
    chance = random.Random(seed)
    path = folder / "shop.db"
    tasks = []
    with open_cache(path, write=True) as cache:
        for name, properties in TOOLS.items():
            cache.put_tool(ToolSpec(name, f"{name}.", {"type": "object", "properties": properties}))
        for number in range(TRACES):
            said, steps = _order(chance, number)
            gold = []
            for step in steps:
                calls = []
                for tool, arguments, response in step:
                    digest = cache.put(tool, arguments, json.dumps(response))
                    calls.append(GoldCall(tool, arguments, response=digest))
                gold.append(tuple(calls))
            tasks.append(Task(f"t{number}", ({"role": "user", "content": said},), gold=tuple(gold)))
        cache.commit()
    return read_corpus(open_cache(path), tasks)


Call = tuple[str, JsonObject, Json]


def _order(chance: random.Random, number: int) -> tuple[str, list[list[Call]]]:
    def code(prefix: str) -> str:
        return f"{prefix}-{chance.randrange(10**6, 10**7)}"

    query = f"{chance.choice(WORDS)} {number}"
    place = f"{chance.choice(WORDS).title()}ville {number}"
    day = f"2025-03-{1 + number % 28:02}"
    skus = [code("SK") for _ in range(5)]
    facet = f"brand::{1 + number % 3}"
    spots = [
        {"lat": round(chance.uniform(40, 50), 5), "lon": round(chance.uniform(5, 15), 5)}
        for _ in range(3)
    ]
    spot, store, order = chance.choice(spots), chance.randrange(10**6, 10**7), code("OR")
    near = [{"store_number": store}, {"store_number": chance.randrange(10**6, 10**7)}]
    one, other = chance.sample(skus, 2)
    found = {"items": [{"sku": s, "stock": chance.randint(1, 5)} for s in skus], "total": 5}
    listed = [{"options": [{"key": f"brand::{i}"} for i in range(1, 6)]}, {"options": []}]
    lines = [{"sku": one, "count": chance.randint(1, 5)}, {"sku": other, "count": 1}]
    bought = {"order": {"code": order, "lines": [{"sku": one}], "day": day}}
    said = f"Please order two {query}, {one[:2]} brand, near {place}, for {day}."
    return said, [
        [("facets", {"query": query}, {"groups": listed}), ("find_place", {"query": place}, spots)],
        [
            ("find_items", {"query": query, "facet": facet}, found),
            ("stores", {"lat": spot["lat"], "lon": spot["lon"]}, {"stores": near}),
        ],
        [
            ("item", {"sku": one}, {"sku": one, "price": chance.randint(10, 300), "from": day}),
            ("compare", {"skus": f"{one},{other}"}, {"better": other}),
            ("slots", {"store": str(store), "day": day}, {"free": chance.randint(1, 9)}),
        ],
        [("order", {"lines": lines, "store": str(store), "day": day}, bought)],
        [
            ("reviews", {"sku": one}, {"score": chance.randint(10, 99) / 10}),
            ("track", {"order_code": order}, {"state": "packed", "day": day}),
        ],
    ]
