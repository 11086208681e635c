"""Keys in cache files never change: every rule of canonicalisation, held by keys on disk.

`data/cache_keys_v1.json` was written once, by the code of the day; nothing writes it again. If a
test here fails, the code is wrong: files out there hold the old keys. Calls may be added, never
changed.

The file holds nothing that JSON readers disagree about. What plain JSON cannot say, or what a
formatter might write differently, is an object with one key that begins with `$` (see `NOTATION`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orch_env.values import call_key_v1 as call_key

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
    made = call_key(value_of(call["tool"]), value_of(call["arguments"]))
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
