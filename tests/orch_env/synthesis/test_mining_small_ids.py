"""Ids that are small numbers, as a database gives them, in a cache without traces."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from orch_env import ToolSpec, open_cache
from orch_env.synthesis.corpus import read_corpus
from orch_env.synthesis.mining import Mined, mine
from orch_env.synthesis.mining.candidates import is_qualified
from orch_env.types.json import JsonObject

NUMBER = {"type": "integer"}
_COMMENTS = ("get_comments", "/post_id")


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Mined:
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("blog") / "blog.db"
    tools = {"list_users": {}, "get_user": {"id": NUMBER}, "list_posts": {"user_id": NUMBER}}
    tools["get_comments"] = {"post_id": NUMBER, "limit": NUMBER}
    with open_cache(path, write=True) as cache:
        for name, properties in tools.items():
            cache.put_tool(ToolSpec(name, name, {"type": "object", "properties": properties}))
        users = [{"id": n, "name": f"user {n}", "age": chance.randint(1, 30)} for n in range(1, 11)]
        cache.put("list_users", {}, json.dumps({"users": users}))
        for user in users:
            cache.put("get_user", {"id": user["id"]}, json.dumps({**user, "posts": 3}))
            numbers = range(3 * user["id"] - 2, 3 * user["id"] + 1)
            posts = [{"id": n, "votes": chance.randint(1, 30)} for n in numbers]
            cache.put("list_posts", {"user_id": user["id"]}, json.dumps({"posts": posts}))
            for post in posts:
                comments = [{"id": chance.randint(1, 30), "likes": chance.randint(1, 30)}]
                arguments = {"post_id": post["id"], "limit": 5}
                cache.put("get_comments", arguments, json.dumps({"comments": comments}))
        cache.commit()
    return mine(read_corpus(open_cache(path)))


def test_small_ids_are_linked_by_what_they_are_ids_of(mined: Mined) -> None:
    assert {(x.from_tool, x.from_path, x.to_tool, x.to_path) for x in mined.links} == {
        ("list_users", "/users/*/id", "get_user", "/id"),
        ("list_users", "/users/*/id", "list_posts", "/user_id"),
        ("list_posts", "/posts/*/id", "get_comments", "/post_id"),
    }


def test_an_id_in_the_one_list_of_everything_is_strong(mined: Mined) -> None:
    assert all(link.strong for link in mined.links)
    assert len(mined.attachments) == 3


def test_an_id_that_another_tool_gives_is_opaque_however_short(mined: Mined) -> None:
    assert mined.opaque == {("get_user", "/id"), ("list_posts", "/user_id"), _COMMENTS}


@pytest.mark.parametrize(
    ("slot", "source", "same"),
    [
        (("list_posts", "/user_id"), ("list_users", "/users/*/id"), True),
        (("list_posts", "/user_id"), ("login", "/user_id"), True),
        (("list_posts", "/userId"), ("get_user", "/id"), True),
        (("get_user", "/id"), ("list_users", "/*/id"), True),
        (("get_city", "/id"), ("list_cities", "/*/id"), True),
        (("get_user", "/id"), ("get_posts", "/*/id"), False),
        (("list_posts", "/user_id"), ("list_posts", "/posts/*/id"), False),
        (("list_posts", "/user_id"), ("list_users", "/users/*/age"), False),
    ],
)
def test_names_tell_what_an_id_is_of(
    slot: tuple[str, str], source: tuple[str, str], same: bool
) -> None:
    assert is_qualified(slot, source) is same


def test_ids_are_linked_where_no_name_agrees_if_the_output_holds_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "goods.db"
    texts: dict[str, dict[str, JsonObject]] = {
        "search": {"words": {"type": "string"}},
        "open": {"product": {"type": "string"}},
    }
    with open_cache(path, write=True) as cache:
        for name, properties in texts.items():
            cache.put_tool(ToolSpec(name, name, {"type": "object", "properties": properties}))
        for number in range(4):
            codes = [f"B0{number}{place}XK7Q" for place in range(3)]
            found = {"results": [{"asin": code, "place": code[2:4]} for code in codes]}
            cache.put("search", {"words": f"lamp {number}"}, json.dumps(found))
            cache.put("open", {"product": codes[number % 3]}, '{"stars": 4.5}')
        cache.commit()
    (link,) = mine(read_corpus(open_cache(path))).links
    assert (link.from_path, link.to_path, link.strong) == ("/results/*/asin", "/product", True)
