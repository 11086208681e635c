"""A language model as a writer: what it is told, and what is done with what it says."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from orch_env import ToolSpec
from orch_env.endpoint import Endpoint, EndpointSettings
from orch_env.synthesis.pipeline.config import WritingConfig
from orch_env.synthesis.pipeline.writers import make_writer
from orch_env.synthesis.writing.endpoint import EndpointWriter, prompt_of
from orch_env.synthesis.writing.plan import Argument, Plan, PlannedCall, Selection
from orch_env.types import OrchError
from tests.orch_env.chat_server import chat_server, said

SPECS = {
    "find": ToolSpec("find", "Find a place."),
    "hotels": ToolSpec("hotels", "Hotels of a place."),
}


def plan(seed: int) -> Plan:
    return Plan(
        (
            PlannedCall("find", (Argument("/name", f"Oslo {seed}", {}),), (), False),
            PlannedCall(
                "hotels",
                (Argument("/day", "2025-03-04", {}), Argument("/rooms", 1, {}, silent=True)),
                (Selection(0, "/items/2", ("/place",), 2, 5, "label", "/title", "Oslo East"),),
                True,
            ),
        ),
        SPECS,
        date(2025, 3, 1),
        seed,
    )


def writer(url: str, **settings: Any) -> EndpointWriter:
    return EndpointWriter(Endpoint(EndpointSettings(url, "m", retries=0, **settings)))


def test_a_model_gets_what_is_to_be_said_and_no_trace() -> None:
    request = prompt_of(plan(1))
    told = json.loads(request["messages"][1]["content"])
    assert told["today"] == "2025-03-01"
    assert told["wants"][0]["say"] == {"name": "Oslo 1"}
    assert told["wants"][1]["say"] == {"day": "2025-03-04"}
    assert told["wants"][1]["about"] == [{"result_of": 0, "named": "Oslo East"}]
    assert "/items/2" not in request["messages"][1]["content"]
    assert prompt_of(plan(1)) == request != prompt_of(plan(2))


def test_a_good_answer_is_the_request() -> None:
    with chat_server(
        lambda body, _: {"role": "assistant", "content": f"  Hotels, please ({body['seed']}). "}
    ) as server:
        found = writer(server.url).write([plan(1), plan(2)])
    assert [w.text for w in found] == ["Hotels, please (1).", "Hotels, please (2)."]


def test_a_bad_answer_is_asked_for_again_with_the_reason() -> None:
    def reply(body: dict[str, Any], _: int) -> Any:
        again = "could not be used" in body["messages"][1]["content"]
        return {"role": "assistant", "content": "Hotels in Oslo?" if again else "```json {}```"}

    with chat_server(reply) as server:
        made = writer(server.url)
        [found] = made.write([plan(1)])
    assert found.text == "Hotels in Oslo?"
    assert made.refusals == {"markup": 1}
    assert "markup" in server.requests[1]["messages"][1]["content"]


def test_a_model_that_repeats_itself_gives_one_task() -> None:
    with chat_server(said("Always the same.")) as server:
        made = writer(server.url, concurrency=1)
        found = made.write([plan(n) for n in range(4)])
    assert [w.text for w in found] == ["Always the same.", None, None, None]
    assert {w.reason for w in found[1:]} == {"same_text"}
    assert len(server.requests) == 1 + 3 * 3


@pytest.mark.parametrize(("answer", "reason"), [("", "empty"), ("x" * 2000, "too_long")])
def test_nonsense_is_refused_with_its_reason(answer: str, reason: str) -> None:
    with chat_server(said(answer)) as server:
        [found] = writer(server.url).write([plan(1)])
    assert (found.text, found.reason) == (None, reason)


def test_a_server_that_hangs_refuses_plans_and_keeps_the_others() -> None:
    def reply(body: dict[str, Any], _: int) -> Any:
        if "Oslo 2" in body["messages"][1]["content"]:
            return "hang"
        return {"role": "assistant", "content": f"Hotels {body['seed']}?"}

    with chat_server(reply) as server:
        found = writer(server.url, timeout_s=0.3).write([plan(1), plan(2), plan(3)])
    assert [w.text for w in found] == ["Hotels 1?", None, "Hotels 3?"]
    assert found[1].reason == "timeout"


def test_after_the_spend_limit_nothing_is_asked_again() -> None:
    with chat_server(said("")) as server:
        made = writer(server.url, price_in=1.0, price_out=1.0, spend_limit=1e-9)
        [found] = made.write([plan(1)])
    assert found.reason == "spend_limit" and not server.requests


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (WritingConfig(writer="poet"), "there is no writer 'poet'"),
        (WritingConfig(writer="endpoint"), "needs url and model"),
        (WritingConfig(writer="endpoint", options={"url": "u", "model": "m", "x": 1}), "'x'"),
        (WritingConfig(writer="nowhere:Class"), "cannot be made"),
        (WritingConfig(writer="grammar", options={"x": 1}), "takes no options"),
    ],
)
def test_a_writer_that_cannot_be_made_is_one_line(config: WritingConfig, told: str) -> None:
    with pytest.raises(OrchError, match=told):
        make_writer(config)
