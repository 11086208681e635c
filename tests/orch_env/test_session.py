"""EpisodeSource and EpisodeSession: one core for frameworks that hold the loop themselves."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import orch_env.session as sources
from orch_env import (
    Episode,
    EpisodeSource,
    ErrorType,
    OrchError,
    StopReason,
    Task,
    ToolCall,
    ToolOrchestrationEnv,
    ToolResult,
    ToolSpec,
)
from orch_env.env.transcript import ToldSession, read_transcript
from orch_env.formats import get_format
from orch_env.replay.policies import make_policy
from orch_env.tasks.files import BUNDLED

HARBOUR = EpisodeSource(tasks="harbour")


def gold_messages(task: Task) -> list[list[dict[str, Any]]]:
    """The calls of each gold step in OpenAI's nested shape."""
    return [
        [
            {"id": f"s{n}-{k}", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for k, c in enumerate(step)
        ]
        for n, step in enumerate(task.gold)
    ]


def play_gold(session: Any) -> list[dict[str, Any]]:
    """Play gold without the answer; the transcript so far."""
    said: list[dict[str, Any]] = []
    for calls in gold_messages(session.task):
        said += [{"role": "assistant", "content": None, "tool_calls": calls}]
        said += session.message(None, calls)
    return said


def answer_of(task: Task) -> str:
    return str(task.answer) if task.answer is not None else "Done."


# -- sources -----------------------------------------------------------------------------------


def test_equal_settings_are_one_source() -> None:
    reward = {"name": "graduated", "edition": 1}
    one = EpisodeSource(tasks="harbour", reward=reward)
    other = EpisodeSource(tasks="harbour", reward=dict(reversed(reward.items())))
    assert one == other and hash(one) == hash(other) and {one: 1}[other] == 1
    assert one != HARBOUR and pickle.loads(pickle.dumps(one)) == one
    assert one.__eq__(1) is NotImplemented


def test_a_caller_s_reward_dict_can_change_and_the_source_does_not() -> None:
    reward = {"name": "graduated", "edition": 1}
    source = EpisodeSource(tasks="harbour", reward=reward)
    reward["edition"] = 2
    assert source.reward == {"name": "graduated", "edition": 1}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"call_format": "hermse"}, "unknown call format 'hermse'"),
        ({"max_turns": 0}, "max_turns must be a whole number, at least 1"),
        ({"reward": lambda task, episode: 1.0}, "a source is plain data"),
        ({"tasks": 7}, "named by text"),
        ({"tasks": None}, "there is nothing to play"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OrchError, match=words) as caught:
        EpisodeSource(**{"tasks": "harbour", **settings})
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_found_when_it_is_used() -> None:
    source = EpisodeSource(tasks="no/such/tasks.jsonl")
    with pytest.raises(OrchError, match=r"no/such/tasks\.jsonl.* does not exist"):
        source.session()


def test_a_source_is_opened_once_for_all_its_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    HARBOUR.session()
    made: list[Any] = []
    monkeypatch.setattr("orch_env.session.ToolOrchestrationEnv", lambda **k: made.append(k))
    for _ in range(3):
        EpisodeSource(tasks="harbour").session()
    assert not made


def test_a_bundled_set_is_read_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ToolOrchestrationEnv("harbour").close()
    monkeypatch.setattr("orch_env.tasks.selection.load_tasks", None)
    ToolOrchestrationEnv("harbour").close()


def test_a_source_whose_file_changed_is_opened_again(tmp_path: Path) -> None:
    lines = [
        json.dumps(task.to_dict()) + "\n" for task in ToolOrchestrationEnv("harbour").tasks[:2]
    ]
    file, cache = tmp_path / "tasks.jsonl", tmp_path / "cache.db"
    shutil.copy(BUNDLED / "harbour" / "cache.db", cache)
    file.write_text(lines[0])
    source = EpisodeSource(tasks=str(file), cache=str(cache))
    assert len(list(source.rows())) == 1
    file.write_text("".join(lines))
    assert len(list(source.rows())) == 2


def test_a_relative_path_holds_where_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ToolOrchestrationEnv("harbour").tasks[0]
    shutil.copy(BUNDLED / "harbour" / "cache.db", tmp_path / "cache.db")
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task.to_dict()) + "\n")
    monkeypatch.chdir(tmp_path)
    source = EpisodeSource(tasks="tasks.jsonl", cache="cache.db")
    monkeypatch.chdir("/")
    assert next(source.rows())["task_id"] == task.id


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_process_opens_its_own_files() -> None:
    HARBOUR.session()
    of_parent = list(sources._kept.values())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        session = HARBOUR.session()
        if any(one in of_parent for one in sources._kept.values()):
            os._exit(1)
        session.reset(index=0)
        play_gold(session)
        done = session.finish(answer_of(session.task))
        os.write(writing, str(done and done.total).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"1.0"


def test_only_some_sources_stay_open() -> None:
    for turns in range(30, 30 + sources._KEPT + 3):
        EpisodeSource(tasks="harbour", max_turns=turns).session()
    assert len(sources._kept) == sources._KEPT


# -- rows and tools ----------------------------------------------------------------------------


def test_a_row_has_what_a_model_may_see_and_never_gold() -> None:
    rows = list(EpisodeSource(tasks="harbour").rows(split="heldout"))
    assert rows and [row["index"] for row in rows] == list(range(len(rows)))
    task = next(t for t in ToolOrchestrationEnv("harbour").tasks if t.id == rows[0]["task_id"])
    assert set(rows[0]) == {"task_id", "index", "messages", "tools", "seed", "domain", "split"}
    assert rows[0]["messages"] == list(task.messages)
    assert {tool["type"] for tool in rows[0]["tools"]} == {"function"}
    for row in rows:
        assert "gold" not in json.dumps(row)


def test_the_tools_of_a_task_are_those_of_its_session() -> None:
    session = HARBOUR.session()
    session.reset(index=5)
    assert session.tools == HARBOUR.tools(session.task.id) and session.tools
    with pytest.raises(OrchError, match="there is no task 'nobody'"):
        HARBOUR.tools("nobody")


def test_the_system_message_can_offer_the_tools() -> None:
    session = HARBOUR.session()
    native = session.reset(index=0)
    task_id = session.task.id
    assert HARBOUR.prompt(task_id) == native
    system = HARBOUR.prompt(task_id, tools="system")
    assert system[0]["role"] == "system" and system[-1] == native[-1]
    assert all(tool.name in system[0]["content"] for tool in session.tools)
    own = {"role": "system", "content": "Be brief."}
    joined = HARBOUR.with_tools([own, *native], session.tools)
    assert len(joined) == len(native) + 1 and joined[0]["content"].startswith("Be brief.\n\n")
    with pytest.raises(OrchError, match="'native' or 'system'"):
        HARBOUR.prompt(task_id, tools="both")  # type: ignore[arg-type]


# -- sessions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["nested", "flat", "responses", "objects", "text"])
def test_gold_earns_all_in_every_shape_of_a_call(shape: str) -> None:
    env = ToolOrchestrationEnv("harbour")
    session = HARBOUR.session()
    session.reset(index=7, seed=3)
    env.reset(seed=3, options={"task_index": 7})
    for calls in gold_messages(session.task):
        bodies = [call["function"] for call in calls]
        made = [ToolCall(body["name"], json.loads(body["arguments"])) for body in bodies]
        action = env._format.render_calls(made)
        read, *_, info = env.step(action)
        if shape == "text":
            answers = session.text(action)
        elif shape == "objects":
            answers = session.message(None, made)
        elif shape == "responses":
            items = [{"type": "function_call", "call_id": "x", **body} for body in bodies]
            answers = session.message("", items)
        elif shape == "flat":
            answers = session.message("", [{"id": "x", **body} for body in bodies])
        else:
            answers = session.message(None, calls)
        assert [a["content"] for a in answers] == [a["content"] for a in info["messages"]]
        assert session.observation == read
    done = session.finish(answer_of(session.task))
    env.step(answer_of(session.task))
    assert done is not None and done.total == session.reward == 1.0 and session.success
    assert session.stop_reason is StopReason.ANSWERED and session.episode == env.episode
    assert session.episode.digest == env.episode.digest


def test_a_result_carries_the_id_of_its_call() -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    name = session.tools[0].name
    [answer] = session.message(None, [{"id": "mine", "name": name, "arguments": {}}])
    assert answer["role"] == "tool" and answer["tool_call_id"] == "mine"
    [answer] = session.message(None, [{"name": name, "arguments": {}}])
    assert answer["tool_call_id"] == "call_1_0"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, None),
        ("{", "malformed_call"),
        ([], "malformed_call"),
        ({"x": float("nan")}, "malformed_call"),
        ({"x": object()}, "malformed_call"),
        (None, None),
    ],
)
def test_whatever_the_arguments_are_a_call_is_answered(arguments: Any, error: str | None) -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    result = session.call(session.tools[0].name, arguments)
    assert result.text and (error is None or result.error == error)
    assert session.call("\ud800", {}).error is not None
    assert session.call(None, {}).error is not None  # type: ignore[arg-type]


def test_after_the_end_calls_get_a_limit_error_and_change_nothing() -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    first = session.finish("I do not know.")
    before = session.episode
    late = session.call(session.tools[0].name, {})
    assert late.error == "limit" and json.loads(late.text)["error"]["type"] == "limit"
    assert [a["tool_call_id"] for a in session.message("", [{"id": "z", "name": "a"}])] == ["z"]
    assert session.message("more") == [] and session.text("more") == []
    assert session.finish("other") == session.finish(reason="infrastructure") == first
    assert session.episode == before
    session.reset(index=0)
    assert not session.done and session.reward is None


@pytest.mark.parametrize(
    ("message", "reason", "expected"),
    [
        (None, None, "output_truncated"),
        (None, "context_overflow", "context_overflow"),
        ("Half an ans", "output_truncated", "output_truncated"),
        ('<tool_call>\n{"name": "x", "arguments": {}}\n</tool_call>', None, "output_truncated"),
        ({"content": None, "tool_calls": [{"name": "x", "arguments": {}}]}, None, None),
        ("The answer.", None, "answered"),
        ({"role": "assistant", "content": "The answer."}, None, "answered"),
    ],
)
def test_finish_says_why_an_episode_is_over(message: Any, reason: Any, expected: Any) -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    breakdown = session.finish(message, reason=reason)
    assert breakdown is not None and session.stop_reason == (expected or "output_truncated")
    calls = [call for turn in session.episode.turns for call in turn.calls]
    assert all(call.error in ("limit", "malformed_call") for call in calls)
    assert bool(calls) == ("tool_call" in str(message))


def test_infrastructure_is_never_scored() -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    play_gold(session)
    assert session.finish(reason="infrastructure") is None
    assert session.done and session.reward is None and not session.success
    assert HARBOUR.score(session.task.id, [], stop_reason="infrastructure") is None


@pytest.mark.parametrize("reason", ["answered", "max_turns", "tired"])
def test_a_reason_that_is_not_the_caller_s_is_refused(reason: str) -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    with pytest.raises(OrchError, match=reason):
        session.finish(reason=reason)
    assert not session.done


def test_a_session_copies_itself_in_the_middle() -> None:
    session = HARBOUR.session()
    session.reset(index=7)
    steps = gold_messages(session.task)
    session.message(None, steps[0])
    state = json.loads(json.dumps(session.get_state()))
    twin, later = session.fork(), HARBOUR.session()
    later.set_state(state)
    session.finish("Something else.")
    for other in (twin, later):
        assert not other.done and other.initial_messages == session.initial_messages
        for calls in steps[1:]:
            other.message(None, calls)
        done = other.finish(answer_of(other.task))
        assert done is not None and done.total == 1.0
    ended = later.get_state()
    session.set_state(ended)
    assert session.done and session.reward == 1.0 and session.success
    for wrong in ({}, [], {"env": 1, "initial": []}, {"env": {}, "initial": 3}):
        with pytest.raises(OrchError, match="state"):
            session.set_state(wrong)  # type: ignore[arg-type]


def test_recorded_tools_hold_no_state_and_say_so() -> None:
    with HARBOUR.session() as session:
        session.reset(index=0)
        with pytest.raises(OrchError, match="hold no state"):
            session.final_state()


def test_an_unknown_task_or_two_names_for_one_are_refused() -> None:
    session = HARBOUR.session()
    for wrong in ({"task_id": "nobody"}, {"index": 10**6}, {"task_id": "x", "index": 1}):
        with pytest.raises(OrchError):
            session.reset(**wrong)


# -- transcripts -------------------------------------------------------------------------------


def transcripts(task_ids: range) -> Any:
    """Episodes of three kinds of players, each with its messages."""
    players = {name: make_policy(name, seed=0) for name in ("gold", "random", "noop")}
    for index in task_ids:
        for name, player in players.items():
            yield index, name, player


def test_the_score_of_a_transcript_is_what_its_episode_is_paid() -> None:
    totals = set()
    session = HARBOUR.session()
    for index in range(0, 60, 3):
        for cut in (None, 1):
            session.reset(index=index)
            said: list[dict[str, Any]] = []
            for calls in gold_messages(session.task)[:cut]:
                said += [{"role": "assistant", "content": "", "tool_calls": calls}]
                said += session.message("", calls)
            said.append({"role": "assistant", "content": answer_of(session.task)})
            done = session.finish(said[-1]["content"])
            assert HARBOUR.score(session.task.id, said) == done
            assert done is not None
            totals.add(done.total)
    assert len(totals) > 1


def test_a_transcript_of_texts_is_read_in_the_source_s_format() -> None:
    session = HARBOUR.session()
    session.reset(index=7)
    style = session._format
    said: list[dict[str, Any]] = []
    broken = '<tool_call>\n{"name": 3}\n</tool_call>'
    for action in [broken, *map(style.render_calls, session.task.gold)]:
        said += [{"role": "assistant", "content": action}, *session.text(action)]
    said.append({"role": "assistant", "content": answer_of(session.task)})
    done = session.finish(said[-1]["content"])
    assert done is not None and 0 < done.total < 1
    assert HARBOUR.score(session.task.id, said) == done


def test_what_follows_the_end_of_an_episode_is_not_counted() -> None:
    source = EpisodeSource(tasks="harbour", max_errors=2)
    session = source.session()
    session.reset(index=7)
    said: list[dict[str, Any]] = []
    wrong = [{"id": "w", "function": {"name": "nothing", "arguments": "{}"}}]
    for calls in [wrong, wrong, *gold_messages(session.task)]:
        said += [{"role": "assistant", "content": "", "tool_calls": calls}]
        said += session.message("", calls)
    assert session.stop_reason is StopReason.MAX_ERRORS
    assert source.score(session.task.id, said) == session.finish()


def test_a_tool_that_is_not_offered_failed_in_whatever_words_a_framework_says_so() -> None:
    session = HARBOUR.session()
    session.reset(index=7)
    made = {"id": "w", "function": {"name": "nothing", "arguments": "{}"}}
    wrong = {"role": "assistant", "content": "", "tool_calls": [made]}
    session.message("", wrong["tool_calls"])
    said = [wrong, {"role": "tool", "tool_call_id": "w", "content": "sorry, what?"}]
    said += [*play_gold(session), {"role": "assistant", "content": answer_of(session.task)}]
    done = session.finish(said[-1]["content"])
    assert done is not None and done.total < 1.0
    assert HARBOUR.score(session.task.id, said) == done


def test_an_episode_that_the_caller_cut_scores_as_its_transcript_with_the_reason() -> None:
    session = HARBOUR.session()
    for reason in ("output_truncated", "context_overflow"):
        session.reset(index=7)
        said = play_gold(session)
        last = {"role": "assistant", "content": "", "tool_calls": gold_messages(session.task)[0]}
        done = session.finish(last, reason=reason)
        assert HARBOUR.score(session.task.id, [*said, last], stop_reason=reason) == done


def by_the_end(task: Task, episode: Episode) -> float:
    """A reward that only looks at how an episode ended and what it left behind."""
    reasons = {"context_overflow": 0.25, "output_truncated": 0.5, "max_errors": 1.0}
    return reasons.get(str(episode.stop_reason), 0.0) + len(episode.state or {})


@pytest.mark.parametrize(
    ("more", "earned"),
    [
        ({}, 0.5),
        ({"stop_reason": "context_overflow"}, 0.25),
        ({"final_state": {"a": {}, "b": {}}}, 2.5),
    ],
)
def test_a_reward_sees_why_a_transcript_ended_and_what_it_left_behind(
    more: dict[str, Any], earned: float
) -> None:
    source = EpisodeSource(tasks="harbour", reward=f"{__name__}:by_the_end", max_errors=3)
    task_id = next(source.rows())["task_id"]
    wrong = {"id": "w", "function": {"name": "nothing", "arguments": "{}"}}
    said: list[dict[str, Any]] = []
    for n in range(2):
        said.append({"role": "assistant", "content": "", "tool_calls": [{**wrong, "id": f"w{n}"}]})
        said.append({"role": "tool", "tool_call_id": f"w{n}", "content": "no"})
    score = source.score(task_id, said, **more)
    assert score is not None and score.total == earned
    if "stop_reason" in more:  # the last message was cut: its call is no third error
        said.append({"role": "assistant", "content": "", "tool_calls": [wrong]})
        score = source.score(task_id, said, **more)
        assert score is not None and score.total == earned


def test_a_row_has_the_seed_of_its_task(tmp_path: Path) -> None:
    task = replace(ToolOrchestrationEnv("harbour").tasks[0], seed=5)
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task.to_dict()) + "\n")
    cache = str(BUNDLED / "harbour" / "cache.db")
    source = EpisodeSource(tasks=str(tmp_path / "tasks.jsonl"), cache=cache)
    assert [row["seed"] for row in source.rows()] == [5]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "tool", "content": "x"}], "before any assistant message"),
        ([{"role": "assistant", "tool_calls": "calls"}], "are a text"),
        ([3], "must be an object"),
    ],
)
def test_a_transcript_of_another_form_is_one_clear_line(messages: Any, words: str) -> None:
    task_id = next(HARBOUR.rows())["task_id"]
    with pytest.raises(OrchError, match=words) as caught:
        HARBOUR.score(task_id, messages)
    assert task_id in str(caught.value)


def test_a_told_call_is_judged_by_the_tools_on_offer_and_their_other_names() -> None:
    told = ToldSession([ToolSpec("find", aliases=("search",))])
    limit = ToolResult.failure(ErrorType.LIMIT, "no")
    calls = [ToolCall("find"), ToolCall("search"), ToolCall("book"), ToolCall("pay")]
    told.results = [ToolResult("a"), ToolResult("b"), ToolResult("c"), limit]
    told.whole_message(calls)
    errors = [result.error for result in told.answer(calls)]
    assert errors == [None, None, ErrorType.UNKNOWN_TOOL, ErrorType.LIMIT]


def test_a_malformed_call_in_a_text_and_a_failed_result_stay_what_they_are() -> None:
    text = '<tool_call>\n{"name": "find", "arguments": [1]}\n</tool_call>'
    failed = {"role": "tool", "content": "oh", "tool_call_id": "f", "status": "error"}
    call = {"id": "f", "name": "find", "arguments": {}}
    said = [
        {"role": "assistant", "content": text},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        failed,
    ]
    (broken, _), (_, results) = read_transcript("t", said, get_format("hermes"), ())
    assert [call.error for call in broken.calls] == [ErrorType.MALFORMED_CALL]
    assert [result and result.error for result in results] == [ErrorType.TOOL_ERROR]


def test_a_last_message_whose_calls_cannot_be_read_is_no_answer() -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    session.finish({"content": "The answer.", "tool_calls": "calls"})
    assert session.stop_reason is StopReason.OUTPUT_TRUNCATED


def test_what_a_session_gives_out_is_the_caller_s_own() -> None:
    session = HARBOUR.session()
    session.reset(index=7).clear()
    session.initial_messages.clear()
    assert session.initial_messages
    play_gold(session)
    session.finish(answer_of(session.task))
    assert session.fork().success


# -- threads -----------------------------------------------------------------------------------


def test_sessions_of_one_source_run_in_parallel() -> None:
    def rollout(number: int) -> tuple[str, float | None]:
        session = HARBOUR.session()
        session.reset(index=number % 30, seed=number)
        play_gold(session)
        session.finish(answer_of(session.task))
        return session.episode.digest, session.reward

    alone = [rollout(n) for n in range(60)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(rollout, range(60))) == alone
    assert {reward for _, reward in alone} == {1.0}


def test_a_second_caller_at_the_same_time_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    session = HARBOUR.session()
    session.reset(index=0)
    entered, release = threading.Event(), threading.Event()
    step = session._env.step

    def slow(action: str) -> Any:
        entered.set()
        release.wait(10)
        return step(action)

    monkeypatch.setattr(session._env, "step", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(session.text, "One moment.")
        assert entered.wait(10)
        for call in (lambda: session.text("x"), lambda: session.finish(), session.fork):
            with pytest.raises(OrchError, match="one caller at a time"):
                call()
        release.set()
        assert first.result() == []
    assert session.done


def test_a_session_costs_microseconds_after_the_first(tmp_path: Path) -> None:
    HARBOUR.session()
    taken = []
    for _ in range(20):
        started = time.perf_counter()
        EpisodeSource(tasks="harbour").session()
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.01  # 255 ms where the tasks are read anew
