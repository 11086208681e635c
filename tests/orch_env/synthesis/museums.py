"""A small API of museums, and words for it: what plans and requests are tested on."""

from __future__ import annotations

from pathlib import Path

from orch_env.synthesis.index import Index
from orch_env.synthesis.sampling.draw import Draw, draw_of
from orch_env.synthesis.templates.template import Edge, Template
from orch_env.synthesis.writing.hints import Hints
from orch_env.types.json import JsonObject
from tests.orch_env.synthesis.small import Answers, corpus_of, feeds, index_of

CITIES = ("Arle", "Bont")
NAMES = ("Clock Museum", "Glass Museum", "Ship Museum")
FROM_CITY = (("/city_id", "/items/*/id"),)
FROM_MUSEUM = (("/museum_id", "/items/*/id"),)


def _search(city: str, day: str, last: str, people: int) -> tuple[str, JsonObject, JsonObject]:
    arguments: JsonObject = {"city_id": f"C-{city}", "first_day": day, "last_day": last}
    found = [{"id": f"M-{city}-{n}", "name": name} for n, name in enumerate(NAMES)]
    return "search_museums", {**arguments, "people": people}, {"items": found}


ANSWERS: Answers = [
    *(("find_city", {"query": c}, {"items": [{"id": f"C-{c}", "name": c}]}) for c in CITIES),
    *(_search(c, "2030-03-04", "2030-03-06", 2) for c in CITIES),
    _search("Arle", "2030-04-01", "2030-04-02", 3),
    *(
        (tool, {"museum_id": f"M-{c}-{n}"}, {"text": "x"})
        for tool in ("opening_hours", "prices")
        for c in CITIES
        for n in range(3)
    ),
]
HINTS = Hints.model_validate(
    {
        "arguments": {"people": "for {} people | with {} people | as a group of {}"},
        "ranges": {"first_day, last_day": "from {} to {} | , {} till {} | , starting {} until {}"},
        "tools": {
            "find_city": {"lookup": True},
            "search_museums": {
                "say": "museums in {city_id} | a museum in {city_id} | museums to see in {city_id}",
                "thing": "museum",
            },
            "opening_hours": {
                "say": "the opening hours of {museum_id} | opening hours of {museum_id} | "
                "the hours of {museum_id}"
            },
            "prices": {
                "say": "the prices of {museum_id} | prices of {museum_id} | the fees of {museum_id}"
            },
        },
    }
)


def museums(folder: Path) -> Index:
    """The index of the museums' cache."""
    return index_of(
        corpus_of(folder / "museums.db", ANSWERS),
        feeds("find_city", "search_museums", *FROM_CITY),
        feeds("search_museums", "opening_hours", *FROM_MUSEUM),
        feeds("search_museums", "prices", *FROM_MUSEUM),
    )


def draw(index: Index, *calls: tuple[str, JsonObject, int | None]) -> Draw:
    """A draw of these (tool, some of its arguments, number of the call that feeds it)."""
    rows, edges = [], []
    for child, (tool, wanted, parent) in enumerate(calls):
        rows.append(
            next(
                n
                for n in index.corpus.rows_of[tool]
                if all(index.corpus.rows[n].arguments.get(k) == v for k, v in wanted.items())
            )
        )
        if parent is not None:
            pairs = FROM_CITY if tool == "search_museums" else FROM_MUSEUM
            edges.append(Edge(parent, child, pairs))
    template = Template(tuple(tool for tool, _, _ in calls), tuple(edges))
    return draw_of(index, template, tuple(rows))
