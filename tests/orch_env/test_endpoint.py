"""The endpoint client against a real server that misbehaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orch_env.endpoint import Endpoint, EndpointSettings, only_model
from orch_env.types import OrchError
from tests.orch_env.chat_server import ChatServer, chat_server, completion, said

ASK = {"messages": [{"role": "user", "content": "Hello?"}]}


def client(server: ChatServer, **settings: Any) -> Endpoint:
    given = {"timeout_s": 5.0, "retries": 2, "concurrency": 4, **settings}
    return Endpoint(EndpointSettings(server.url, "m", **given))


def ask(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Number {number}?"}]}


def test_answers_come_in_the_order_of_the_requests() -> None:
    with chat_server(
        lambda body, _: {"role": "assistant", "content": body["messages"][0]["content"][::-1]}
    ) as server:
        answers = client(server).ask([ask(n) for n in range(20)])
    assert [a.text for a in answers] == [f"Number {n}?"[::-1] for n in range(20)]
    assert server.requests[0]["model"] == "m"


def test_a_busy_server_is_asked_again_and_told_how_long_to_wait() -> None:
    replies = [(429, {"Retry-After": "0.01"}), (503, {"Retry-After": "0.01"})]
    with chat_server(
        lambda _, n: replies[n] if n < 2 else {"role": "assistant", "content": "yes"}
    ) as server:
        [answer] = client(server).ask([ASK])
    assert answer.text == "yes" and answer.error is None
    assert len(server.requests) == 3


def test_a_server_that_stays_broken_costs_one_answer_and_no_other() -> None:
    def reply(body: dict[str, Any], _: int) -> Any:
        if "3" in body["messages"][0]["content"]:
            return (500, {"Retry-After": "0.01"})
        return {"role": "assistant", "content": "fine"}

    with chat_server(reply) as server:
        answers = client(server).ask([ask(n) for n in range(6)])
    assert [a.error for a in answers] == [None, None, None, "status_500", None, None]


def test_a_server_that_hangs_is_a_timeout() -> None:
    with chat_server(lambda _body, _n: "hang") as server:
        [answer] = client(server, timeout_s=0.2, retries=0).ask([ASK])
    assert answer.error == "timeout" and answer.message is None


@pytest.mark.parametrize(
    "body", [b"not json at all", b'{"choices": []}', b"[]", b'{"choices": [{"mess', b"null"]
)
def test_a_body_that_is_no_completion_is_counted(body: bytes) -> None:
    with chat_server(lambda _body, _n: body) as server:
        [answer] = client(server, retries=0).ask([ASK])
    assert answer.error == "no_message"


@pytest.mark.parametrize(
    ("status", "told"), [(401, "put the right one into OPENAI_API_KEY"), (404, "has no model 'm'")]
)
def test_what_will_not_get_better_stops_with_one_line(status: int, told: str) -> None:
    with (
        chat_server(lambda _body, _n: (status, {})) as server,
        pytest.raises(OrchError, match=told) as caught,
    ):
        client(server).ask([ASK])
    assert "\n" not in str(caught.value)


def test_nothing_listening_is_one_line() -> None:
    with chat_server(said("x")) as server:
        url = server.url
    endpoint = Endpoint(EndpointSettings(url, "m", retries=0))
    with pytest.raises(OrchError, match="cannot be reached"):
        endpoint.ask([ASK])


def test_the_key_comes_from_the_environment_and_is_not_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    answers = tmp_path / "answers.db"
    with chat_server(said("hi")) as server:
        endpoint = client(server, api_key_env="MY_KEY", answers=answers)
        endpoint.ask([ASK])
        endpoint.close()
    assert server.keys == ["Bearer secret-123"]
    assert all(b"secret-123" not in p.read_bytes() for p in tmp_path.iterdir())


def test_the_spend_limit_stops_before_it_is_passed() -> None:
    with chat_server(said("hi")) as server:
        endpoint = client(
            server, concurrency=1, price_in=1.0, price_out=10.0, max_tokens=50, spend_limit=0.002
        )
        answers = endpoint.ask([ask(n) for n in range(10)])
    done = sum(a.error is None for a in answers)
    assert 0 < done < 10
    assert {a.error for a in answers[done:]} == {"spend_limit"}
    assert len(server.requests) == done
    assert endpoint.spent == pytest.approx(done * (100 * 1.0 + 50 * 10.0) / 1e6)
    assert endpoint.spent <= 0.002


def test_the_spend_limit_holds_for_all_that_share_the_answers(tmp_path: Path) -> None:
    limits = {"price_in": 1.0, "price_out": 10.0, "max_tokens": 50, "spend_limit": 0.002}
    with chat_server(said("hi")) as server:
        clients = [client(server, answers=tmp_path / "answers.db", **limits) for _ in range(3)]
        for number, endpoint in enumerate(clients):
            endpoint.ask([ask(10 * number + n) for n in range(10)])
            endpoint.close()
        rerun = client(server, answers=tmp_path / "answers.db", **limits)
        [refused] = rerun.ask([ask(99)])
        rerun.close()
    assert clients[0].asked > 0
    assert sum(c.spent for c in clients) <= 0.002
    assert refused.error == "spend_limit"


def test_a_server_that_tells_no_tokens_is_paid_as_expected() -> None:
    message = {"role": "assistant", "content": "hi"}
    silent = json.dumps({**completion(message), "usage": None}).encode()
    with chat_server(lambda _body, _n: silent) as server:
        endpoint = client(server, concurrency=1, price_out=10.0, max_tokens=50, spend_limit=0.0012)
        answers = endpoint.ask([ask(n) for n in range(4)])
    assert [a.error for a in answers] == [None, None, "spend_limit", "spend_limit"]
    assert endpoint.spent == pytest.approx(0.001)


def test_a_spend_limit_without_prices_is_refused() -> None:
    with pytest.raises(OrchError, match="price_in"):
        Endpoint(EndpointSettings("http://127.0.0.1:1/v1", "m", spend_limit=1.0))


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    answers = tmp_path / "answers.db"
    with chat_server(said("hi")) as server:
        first = client(server, answers=answers)
        first.ask([ask(n) for n in range(3)])
        first.close()
        again = client(server, answers=answers)
        found = again.ask([ask(n) for n in range(5)])
        again.close()
    assert len(server.requests) == 5
    assert [a.cached for a in found] == [True, True, True, False, False]


KILLED = """
import sys
from orch_env.endpoint import Endpoint, EndpointSettings, only_model
url, answers = sys.argv[1:]
endpoint = Endpoint(EndpointSettings(url, "m", concurrency=1, answers=answers))
endpoint.ask([{"messages": [{"role": "user", "content": f"Number {n}?"}]} for n in range(8)])
"""


def test_a_killed_process_asks_only_the_rest_again(tmp_path: Path) -> None:
    answers = tmp_path / "answers.db"
    victim: list[subprocess.Popen[bytes]] = []

    def reply(_: dict[str, Any], number: int) -> Any:
        if number == 4:  # in the middle of the fifth request
            os.kill(victim[0].pid, signal.SIGKILL)
        return {"role": "assistant", "content": "hi"}

    with chat_server(reply) as server:
        arguments = [sys.executable, "-c", KILLED, server.url, str(answers)]
        victim.append(subprocess.Popen(arguments))
        assert victim[0].wait(60) == -signal.SIGKILL
        before = len(server.requests)
        endpoint = client(server, answers=answers)
        found = endpoint.ask([ask(n) for n in range(8)])
        endpoint.close()
    assert before == 5
    assert len(server.requests) == before + 4  # the four that were never answered
    assert all(a.text == "hi" for a in found)


def test_the_only_model_of_an_endpoint_needs_no_name() -> None:
    with chat_server(said("hi")) as server:
        assert only_model(server.url) == "m"
        server.models = ("a", "b")
        with pytest.raises(OrchError, match=r"has 2 models \(a, b\): name one"):
            only_model(server.url)
    with pytest.raises(OrchError, match="does not tell its models"):
        only_model(server.url)
