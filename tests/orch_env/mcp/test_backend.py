"""Episodes on MCP servers: tools, calls, folders, changes of tools, and what is shared."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.mcp import ServerFailure
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolSpec
from tests.orch_env.mcp.conftest import MakeBackend, call, children, raw, task

FOLDER = {"orch": {"folder": True}}


def test_a_servers_tools_are_the_tools_of_a_task(backend: MakeBackend) -> None:
    made = backend({"raw": raw()})
    offered = made.resolve(task()).offered
    echo = next(tool.spec for tool in offered if tool.spec.name == "echo")
    assert echo.description == "The tool echo."
    assert echo.parameters["required"] == ["text"]
    assert echo.read_only is True
    assert call(made.open(task(), seed=0), "echo", text="hi").text == "hi"


def test_a_task_offers_the_tools_that_it_names_and_no_others(backend: MakeBackend) -> None:
    own = ToolSpec("add_numbers", "Mine.", {"type": "object", "properties": {"numbers": {}}})
    made = backend({"raw": raw()})
    session = made.open(task(tools=("echo", own)), seed=0)
    assert [t.spec.description for t in made.resolve(task(tools=("echo", own))).offered] == [
        "The tool echo.",
        "Mine.",
    ]
    assert call(session, "add_numbers", numbers=[1, 2]).text == "3"
    assert call(session, "note", text="x").error is ErrorType.UNKNOWN_TOOL
    with pytest.raises(OrchError, match=r"offers tool 'nope', which no server of .* has"):
        made.resolve(task(tools=("nope",)))


def test_names_that_two_servers_share_carry_the_servers_name(backend: MakeBackend) -> None:
    made = backend({"a": raw(**FOLDER), "b": raw(**FOLDER)})
    both, one = made.tools(), made.tools(["a"])
    assert "a__echo" in both and "b__echo" in both and "echo" not in both
    assert both["a__echo"].name == "a__echo"
    assert "echo" in one
    session = made.open(task(), seed=0)
    assert call(session, "a__echo", text="from a").text == "from a"
    with pytest.raises(OrchError, match=r"no server 'c' \(servers: a, b\)"):
        made.resolve(task("c"))


def test_only_the_servers_that_a_task_names_are_started(backend: MakeBackend) -> None:
    made = backend({"a": raw(), "broken": raw("dead")})
    assert call(made.open(task("a"), seed=0), "echo", text="x").text == "x"
    with pytest.raises(OrchError, match="MCP server 'broken' ended by itself with exit code 4"):
        made.open(task("broken"), seed=0)


def test_calls_of_one_message_run_at_the_same_time_and_answer_in_order(
    backend: MakeBackend,
) -> None:
    session = backend({"raw": raw()}).open(task(), seed=0)
    results = session.answer([ToolCall("meet", {"name": "Ann"}), ToolCall("meet", {"name": "Bo"})])
    assert [result.text for result in results] == ["Ann and Bo", "Ann and Bo"]
    results = session.answer([ToolCall("echo", {"text": str(n)}) for n in range(20)])
    assert [result.text for result in results] == [str(n) for n in range(20)]


def test_a_server_that_wants_calls_one_by_one_gets_them_so(backend: MakeBackend) -> None:
    server = raw(orch={"parallel": False, "timeout": 0.3})
    session = backend({"raw": server}).open(task(), seed=0)
    with pytest.raises(ServerFailure, match=r"did not answer meet within 0\.3 s"):
        session.answer([ToolCall("meet", {"name": "Ann"}), ToolCall("meet", {"name": "Bo"})])


def test_what_a_server_refuses_is_a_tool_error_with_its_words(backend: MakeBackend) -> None:
    session = backend({"raw": raw()}).open(task(), seed=0)
    refused = call(session, "refuse")
    assert refused.error is ErrorType.TOOL_ERROR
    assert json.loads(refused.text)["error"]["message"] == "the ledger is closed on Sundays"
    wrong = call(session, "bad_arguments")
    assert wrong.error is ErrorType.INVALID_ARGUMENTS and "no such account" in wrong.text
    assert call(session, "echo", text="still here").text == "still here"


@pytest.mark.parametrize(
    "arguments",
    [{"text": 5.5e999}, {"text": "\ud800"}, {"text": [math.nan]}, {}, {"text": "a", "more": 1}],
)
def test_arguments_that_cannot_be_sent_or_break_the_schema_are_observations(
    backend: MakeBackend, arguments: dict[str, Any]
) -> None:
    session = backend({"raw": raw()}).open(task(), seed=0)
    assert call(session, "echo", **arguments).error is ErrorType.INVALID_ARGUMENTS
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    assert call(session, "add_numbers", numbers=deep).error is ErrorType.INVALID_ARGUMENTS
    assert call(session, "echo", text="fine").text == "fine"


def test_an_episode_has_a_folder_of_its_own_under_one_name(
    backend: MakeBackend, own_temporary_folder: Path
) -> None:
    made = backend({"raw": raw(**FOLDER)})
    first, second = made.open(task(), seed=0), made.open(task(), seed=0)
    for session in (first, second):
        assert call(session, "working_folder").text == "/workspace"
        assert (
            call(session, "note", text="see /workspace/x").text == "noted in /workspace/notes.txt"
        )
        assert call(session, "read_notes").text == "see /workspace/x\n"
    assert call(second, "note", text="more").error is None
    assert call(first, "read_notes").text == "see /workspace/x\n"
    written = [path.read_text() for path in own_temporary_folder.rglob("notes.txt")]
    assert len(written) == 2 and all(str(own_temporary_folder) in text for text in written)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/workspace", "{root}/workspace"),
        ("/workspace/a b.txt", "{root}/workspace/a b.txt"),
        ("file:///workspace/a", "file://{root}/workspace/a"),
        ("cp /workspace/a '/workspace/b'", "cp {root}/workspace/a '{root}/workspace/b'"),
        ("a/workspace", "a/workspace"),
        ("/workspace2", "/workspace2"),
        ("/workspace.txt", "/workspace.txt"),
        ("see /workspace.", "see {root}/workspace."),
    ],
)
def test_the_alias_stands_for_the_folder_where_it_is_a_path(written: str, sent: str) -> None:
    from orch_env.backends.mcp.folder import EpisodeFolder

    folder = EpisodeFolder()
    try:
        assert folder.in_arguments({"a": [written]}) == {"a": [sent.format(root=folder.root)]}
        assert folder.in_results(sent.format(root=folder.root)) == written
        assert folder.in_results(f"{folder.root}/other, {folder.root}") == "/other, /"
    finally:
        folder.remove()


def test_a_folder_begins_with_its_template(backend: MakeBackend, tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "notes.txt").write_text("from the template\n")
    os.symlink("notes.txt", template / "link")
    made = backend({"raw": raw(orch={"template": "template"})})
    for _ in range(2):
        session = made.open(task(), seed=0)
        assert call(session, "read_notes").text == "from the template\n"
        assert call(session, "note", text="mine").error is None
        session.close()
    assert (template / "notes.txt").read_text() == "from the template\n"


def test_placeholders_name_the_folder_in_arguments_and_variables(backend: MakeBackend) -> None:
    server = raw("{folder}/x", env={"PLACE": "{folder}/data"})
    session = backend({"raw": server}).open(task(), seed=0)
    assert json.loads(call(session, "variables").text)["PLACE"] == "/workspace/data"


def test_a_server_gets_no_variables_but_its_own(
    backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "the trainer's own")
    session = backend({"raw": raw(env={"COLOUR": "red"})}).open(task(), seed=0)
    variables = json.loads(call(session, "variables").text)
    assert variables["COLOUR"] == "red"
    assert "WANDB_API_KEY" not in variables


def test_tools_that_change_are_announced_and_can_be_called(backend: MakeBackend) -> None:
    session = backend({"raw": raw()}).open(task(), seed=0)
    assert call(session, "new_trick", times=2).error is ErrorType.UNKNOWN_TOOL
    text, _, news = call(session, "learn").text.partition("\n[tools changed] ")
    assert text == "learned"
    told = json.loads(news)
    assert [tool["name"] for tool in told["added"]] == ["new_trick"]
    assert told["added"][0]["parameters"]["required"] == ["times"]
    assert told["removed"] == ["refuse"] and "changed" not in told
    assert call(session, "new_trick", times=2).text == "trick trick "
    assert call(session, "new_trick", times="x").error is ErrorType.INVALID_ARGUMENTS
    assert call(session, "refuse").error is ErrorType.UNKNOWN_TOOL
    assert call(session, "learn").text == "learned"


def test_tools_that_a_task_does_not_offer_are_not_announced(backend: MakeBackend) -> None:
    session = backend({"raw": raw()}).open(task(tools=("learn",)), seed=0)
    told = json.loads(call(session, "learn").text.partition("[tools changed] ")[2])
    assert [tool["name"] for tool in told["added"]] == ["new_trick"] and "removed" not in told


def test_a_servers_own_questions_are_refused(backend: MakeBackend) -> None:
    session = backend({"raw": raw()}).open(task(), seed=0)
    refusal = json.loads(call(session, "ask_the_model").text)
    assert refusal["message"] == "Sampling not supported"


def test_a_stateless_server_answers_all_episodes_and_is_replaced_when_it_dies(
    backend: MakeBackend,
) -> None:
    made = backend({"raw": raw(orch={"stateless": True})})
    first, second = made.open(task(), seed=0), made.open(task(), seed=0)
    assert call(first, "process_id").text == call(second, "process_id").text
    first.close()
    assert call(second, "echo", text="x").text == "x"
    with pytest.raises(ServerFailure):
        call(second, "die")
    assert call(made.open(task(), seed=0), "echo", text="again").text == "again"


def test_episodes_get_servers_that_were_started_ahead(backend: MakeBackend) -> None:
    made = backend({"raw": raw()}, ahead=2)
    made.resolve(task())
    running = {process.pid for process in children()}
    first = made.open(task(), seed=0)
    assert int(call(first, "process_id").text) in running
    others = [made.open(task(), seed=0) for _ in range(2)]
    assert len({call(s, "process_id").text for s in (first, *others)}) == 3


def test_a_server_that_died_while_it_waited_is_replaced(backend: MakeBackend) -> None:
    made = backend({"raw": raw()}, ahead=0)
    made.tools()  # starts one, which waits for an episode
    (waiting,) = (p for p in children() if str(p.cmdline()).count("raw_server"))
    waiting.kill()
    assert call(made.open(task(), seed=0), "echo", text="x").text == "x"


def test_episodes_run_side_by_side_in_threads(backend: MakeBackend) -> None:
    made = backend({"raw": raw(**FOLDER)})
    made.resolve(task())
    texts: list[str] = []

    def play(number: int) -> None:
        session = made.open(task(), seed=0)
        call(session, "note", text=str(number))
        texts.append(call(session, "read_notes").text)
        session.close()

    threads = [threading.Thread(target=play, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == [f"{n}\n" for n in range(6)]


def test_the_same_actions_give_the_same_bytes(backend: MakeBackend) -> None:
    made = backend({"raw": raw(**FOLDER)})

    def text() -> str:
        session = made.open(task(), seed=0)
        calls = [ToolCall("note", {"text": "/workspace"}), ToolCall("working_folder", {})]
        results = [session.answer([one])[0].text for one in (*calls, ToolCall("read_notes", {}))]
        session.close()
        return json.dumps(results)

    assert text() == text()


def test_a_gym_environment_plays_on_a_server(backend: MakeBackend) -> None:
    tasks = [
        Task.from_dict(
            {
                "schema": 1,
                "id": "one",
                "messages": [{"role": "user", "content": "?"}],
                "tools": ["echo"],
                "gold": [[{"name": "echo", "arguments": {"text": "hi"}}]],
            }
        )
    ]
    env = ToolOrchestrationEnv.from_backend(
        tasks, backend({"raw": raw()}), limits=Limits(max_turns=3)
    )
    _, info = env.reset(seed=0)
    assert [tool["function"]["name"] for tool in info["tools"]] == ["echo"]
    observation, *_ = env.step(
        '<tool_call>\n{"name": "echo", "arguments": {"text": "hi"}}\n</tool_call>'
    )
    assert observation == "<tool_response>\nhi\n</tool_response>"
    *_, info = env.step("done")
    assert info["success"] and info["reward"]["total"] == 1.0
    with pytest.raises(OrchError, match="cannot be saved, copied or forked"):
        env.get_state()
    env.close()


def test_a_result_beyond_the_limit_of_an_observation_is_cut_by_the_environment(
    backend: MakeBackend,
) -> None:
    limits = Limits(max_observation_chars=100)
    env = ToolOrchestrationEnv.from_backend([task()], backend({"raw": raw()}), limits=limits)
    env.reset(seed=0)
    message = {"tool_calls": [{"function": {"name": "echo", "arguments": {"text": "x" * 10**6}}}]}
    *_, info = env.step_message(message)
    assert len(info["messages"][0]["content"]) <= 100
    env.close()


def test_a_greeting_before_the_first_message_is_passed_over(backend: MakeBackend) -> None:
    session = backend({"raw": raw("noisy")}).open(task(), seed=0)
    assert call(session, "echo", text="x").text == "x"


def test_a_tool_that_cannot_be_offered_is_left_out_and_told(backend: MakeBackend) -> None:
    made = backend({"raw": raw("odd")})
    with pytest.warns(UserWarning, match="MCP server 'raw': a tool is left out: a tool needs"):
        assert "" not in made.tools()
    session = made.open(task(), seed=0)  # a schema that only the server can read is its to judge
    assert call(session, "unclear", text=[1]).text == "unclear [1]"


def test_closing_twice_and_using_it_again_is_fine(backend: MakeBackend) -> None:
    made = backend({"raw": raw()})
    session = made.open(task(), seed=0)
    session.close()
    session.close()
    with pytest.raises(ServerFailure, match="closed"):
        call(session, "echo", text="x")
    made.close()
    made.close()
    assert call(made.open(task(), seed=0), "echo", text="x").text == "x"
