"""The scripted engine keeps the protocol's promises, so that tests on it say something."""

from __future__ import annotations

import asyncio

import pytest

from orch_env.types import OrchError
from orch_train import engines
from orch_train.engines import make_engine, register_engine
from orch_train.engines.protocol import EngineError, SamplingParams
from orch_train.engines.scripted import ScriptedEngine

PARAMS = SamplingParams(max_tokens=4, stop_token_ids=(9,))


def say(engine: ScriptedEngine, request: str, params: SamplingParams = PARAMS) -> tuple[int, ...]:
    return asyncio.run(engine.generate([1, 2], params, request)).token_ids


def test_each_request_follows_its_own_script_whatever_the_order() -> None:
    engine = ScriptedEngine({"a": [[1, 9], [2, 9]], "b": [[3, 9]]})
    assert [say(engine, r) for r in ("a", "b", "a")] == [(1, 9), (3, 9), (2, 9)]
    assert [(c.request_id, c.turn) for c in engine.calls] == [("a", 0), ("b", 0), ("a", 1)]


def test_a_message_beyond_the_budget_is_cut_and_says_so() -> None:
    engine = ScriptedEngine({"a": [[1, 2, 3, 4, 5, 9], [1, 2, 3, 9], [1, 2]]})
    outputs = [asyncio.run(engine.generate([0], PARAMS, "a")) for _ in range(3)]
    assert [o.token_ids for o in outputs] == [(1, 2, 3, 4), (1, 2, 3, 9), (1, 2)]
    assert [o.finish_reason for o in outputs] == ["length", "stop", "length"]


def test_text_is_encoded_by_the_given_function() -> None:
    engine = ScriptedEngine(
        lambda request, turn: f"{request}{turn}", encode=lambda t: [*t.encode(), 9]
    )
    assert say(engine, "a") == (97, 48, 9)


def test_a_scripted_failure_is_raised_at_its_turn_only() -> None:
    engine = ScriptedEngine({"a": [[9], EngineError("gone"), [9]]})
    assert say(engine, "a") == (9,)
    with pytest.raises(EngineError, match="gone"):
        say(engine, "a")
    assert say(engine, "a") == (9,)


@pytest.mark.parametrize("request_id", ["b", "a"])
def test_what_the_script_does_not_know_is_an_engine_error(request_id: str) -> None:
    engine = ScriptedEngine({"a": []})
    with pytest.raises(EngineError, match="no turn 0"):
        say(engine, request_id)


def test_versions_follow_the_weights() -> None:
    engine = ScriptedEngine({"a": [[1, 9], [2, 9]]})
    before = asyncio.run(engine.generate([0], PARAMS, "a")).versions
    asyncio.run(engine.sync({}, 3))
    after = asyncio.run(engine.generate([0], PARAMS, "a")).versions
    assert (before, after) == ((0, 0), (3, 3))
    assert [call.version for call in engine.calls] == [0, 3]


def test_a_closed_engine_refuses() -> None:
    engine = ScriptedEngine({"a": [[9]]})
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        say(engine, "a")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_such_module:Engine", "there is no module 'no_such_module'"),
        ("tests.orch_train.test_scripted_engine:Nothing", "has no 'Nothing'"),
        ("tests.orch_train.test_scripted_engine:pytest", "is a module and no function"),
        (
            "tests.orch_train.test_scripted_engine:broken_engine",
            r"failed with KeyError: 'device', at tests/orch_train/test_scripted_engine\.py:\d+",
        ),
    ],
)
def test_an_engine_of_ones_own_that_cannot_be_made_is_one_line(
    factory: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines._FACTORIES, factory, factory)
    with pytest.raises(OrchError, match=message):
        make_engine(factory)


def broken_engine() -> None:
    raise KeyError("device")


def test_engines_are_made_by_name_and_others_can_be_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "_FACTORIES", dict(engines._FACTORIES))
    assert isinstance(make_engine("scripted", script={}), ScriptedEngine)
    register_engine("mine", "orch_train.engines.scripted:ScriptedEngine")
    assert isinstance(make_engine("mine", script={}), ScriptedEngine)
    with pytest.raises(OrchError, match=r"unknown engine 'vlm'.*scripted.*torch"):
        make_engine("vlm")
    with pytest.raises(OrchError, match=r"engine 'torch': .*max_bach"):
        make_engine("torch", model="tiny", max_bach=3)
