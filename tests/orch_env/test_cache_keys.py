"""Keys in cache files never change: every rule of canonicalisation, held by keys on disk.

`data/cache_keys_v1.json` was written once, by the code of the day; nothing writes it again. If a
test here fails, the code is wrong: files out there hold the old keys. Calls may be added, never
changed.

Keys of version 2 stand below, with the schema that they are made under: the same rule holds.

The file holds nothing that JSON readers disagree about. What plain JSON cannot say, or what a
formatter might write differently, is an object with one key that begins with `$` (see `NOTATION`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orch_env.values import call_key, call_key_v1

FILE = Path(__file__).parent / "data" / "cache_keys_v1.json"
RULES: list[dict[str, Any]] = json.loads(FILE.read_bytes())["rules"]
HELD = [
    pytest.param(call, entry["key"], id=f"{rule['rule']}: {json.dumps(call)[:60]}")
    for rule in RULES
    for entry in rule["keys"]
    for call in entry["calls"]
]


def nested(kind: str, levels: int) -> Any:
    """Empty lists or objects inside each other, ``levels`` of them."""
    value: Any = [] if kind == "lists" else {}
    for _ in range(levels - 1):
        value = [value] if kind == "lists" else {"n": value}
    return value


NOTATION = {
    "$float": float,  # a double by its shortest spelling, "nan", "inf" or "-inf"
    "$integer": lambda text: int(text, 0),  # beyond 2^53, decimal or hexadecimal
    "$power": lambda pair: pair[0] ** pair[1],  # an integer of thousands of digits
    "$code_points": lambda hexes: "".join(chr(int(h, 16)) for h in hexes),  # lone surrogates
    "$nested": lambda pair: nested(*pair),  # ["lists" or "objects", levels]
    "$tuple": lambda items: tuple(map(value_of, items)),
    "$pairs": lambda pairs: {value_of(key): value_of(item) for key, item in pairs},  # any keys
}


def value_of(written: Any) -> Any:
    """The value that the file describes."""
    if isinstance(written, list):
        return [value_of(item) for item in written]
    if not isinstance(written, dict):
        return written
    if len(written) == 1 and (tag := next(iter(written))).startswith("$"):
        return NOTATION[tag](written[tag])
    return {key: value_of(item) for key, item in written.items()}


@pytest.mark.parametrize(("call", "key"), HELD)
def test_a_call_has_the_key_that_files_on_disk_hold(call: dict[str, Any], key: str) -> None:
    made = call_key_v1(value_of(call["tool"]), value_of(call["arguments"]))
    assert len(made) == 16
    assert made.hex() == key


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["rule"])
def test_calls_with_one_key_stand_together(rule: dict[str, Any]) -> None:
    keys = [entry["key"] for entry in rule["keys"]]
    assert len(set(keys)) == len(keys)
    assert all(entry["calls"] for entry in rule["keys"])


def test_every_json_reader_reads_the_file_alike() -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"write {text} in the notation")

    def small(text: str) -> None:
        assert abs(int(text)) <= 2**53, f"write {text} in the notation"

    text = FILE.read_bytes().decode("ascii")
    json.loads(text, parse_float=refuse, parse_constant=refuse, parse_int=small)
    json.dumps(RULES, ensure_ascii=False).encode()  # no lone surrogate


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "q": {"type": "string"},
        "n": {"type": "integer", "default": 10},
        "m": {"type": ["number", "null"]},
        "f": {"type": "string", "x-orch-set": ","},
        "day": {"type": "string", "format": "date"},
        "o": {"type": "object", "properties": {"deep": {"type": "boolean", "default": False}}},
    },
    "required": ["q"],
}

VERSION_2: list[tuple[str, Any, list[dict[str, Any]]]] = [
    ("10de9a8d743a0c817177d0eb4dd4580a", None, [{}]),
    ("c6c923bab2a12887f17515c836d881aa", None, [{"a": 2}, {"a": "2"}, {"a": 2.0}]),
    ("fb5b5c3032cb18b127166d61792b5ba1", None, [{"a": "2.0"}]),
    ("4b8975e5097d6d33b5ee06cb490811af", None, [{"a": "1.10"}]),
    ("0f1c3b232966befa51f15316857395d8", None, [{"a": 1.1}, {"a": "1.1"}]),
    ("c4cc8e11ae3b35cb0379d59c0cd09240", None, [{"a": "007"}]),
    ("1711a13907a4b20ba3ffd061d2b68235", None, [{"a": "48,2"}]),
    ("aa1b5d329ff61cce0884e72bfb4bbf35", None, [{"a": "2,48"}]),
    ("8af1bfe85c805a63769e2b6e43091a41", None, [{"a": "b, a"}]),
    ("f5639aa2dd406c050abe4232f5530c7c", None, [{"a": "Z\xfcrich"}, {"a": "Zu\u0308rich"}]),
    ("ef80ca0266c9839f8fc7908638cfeac8", None, [{"Z\xfc": 1}, {"Zu\u0308": 1}]),
    ("f8e3194276ebab6817d22435d5dfdab2", None, [{"a": "\ud800"}]),
    ("eecbdb85505961ec78fd5aebc0bc8194", None, [{"a": float("nan")}]),
    ("47aaef67bd6152db23f4841211c23e8c", None, [{"a": 1000000000000000000000000000000}]),
    ("48ef06533e8cb35404365ebce6d6bfbd", None, [{"a": None}]),
    ("3a22713028d9415750fbd5e368d2bf6d", None, [{"a": [True, "true", [1, "x"]]}]),
    (
        "58be6035da67e6c07e157ec9886db2c7",
        SCHEMA,
        [
            {"q": "x"},
            {"q": "x", "n": 10},
            {"q": "x", "n": "10"},
            {"q": "x", "m": None},
            {"q": "x", "n": 10.0, "m": None},
        ],
    ),
    ("ebc7a41b05fcf5cbd492ce41e1b15f63", SCHEMA, [{"q": "x", "n": None}]),
    ("0db86b2d0bcab24b81604dd50b52960d", SCHEMA, [{"q": "x", "n": 11}, {"n": " 11 ", "q": "x"}]),
    ("789f52040a9b85e8b65f10ddc7938785", SCHEMA, [{"q": "x", "f": "a,b"}, {"q": "x", "f": "b, a"}]),
    ("8f1d270df45addbe9781c6209cae20d8", SCHEMA, [{"q": "b,a"}]),
    ("48f88233bfc9706e4f2820d49365f79a", SCHEMA, [{"q": "a,b"}]),
    ("09349c247d87c7ac4bdf9a00c97894d0", SCHEMA, [{"q": "1.10"}]),
    ("28255875b9665025f8ad5cdff3636d57", SCHEMA, [{"q": "x", "m": 1.1}, {"q": "x", "m": "1.10"}]),
    (
        "d97eae111b52f0933359efbdad3069be",
        SCHEMA,
        [{"q": "x", "day": "2024-10-13"}, {"q": "x", "day": "13 Oct 2024"}],
    ),
    (
        "2e093c0e381242679566660261bc8dcf",
        SCHEMA,
        [{"q": "x", "o": {}}, {"q": "x", "o": {"deep": "False"}}],
    ),
    ("183bb2129a5b7560647d6b538065b0f9", SCHEMA, [{"q": None}]),
]


@pytest.mark.parametrize(("key", "schema", "calls"), VERSION_2)
def test_a_call_has_the_key_of_version_2_that_files_on_disk_hold(
    key: str, schema: Any, calls: list[dict[str, Any]]
) -> None:
    assert {call_key("tool", arguments, schema).hex() for arguments in calls} == {key}


def test_keys_of_version_2_stand_together_and_are_none_of_version_1() -> None:
    keys = [key for key, _, _ in VERSION_2]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {entry["key"] for rule in RULES for entry in rule["keys"]}
