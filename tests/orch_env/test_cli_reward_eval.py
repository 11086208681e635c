"""``orch reward score`` and ``orch eval``: what they print, and how they refuse bad input."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env import ToolOrchestrationEnv
from orch_env.backends.local import LocalBackend
from orch_env.cli.main import main
from orch_env.episodes import StoredEpisode, write_episodes
from orch_env.formats import get_format
from orch_env.servers import ServerSession
from orch_env.servers.domains.harbour import Harbour
from orch_env.tasks.files import bundled, load_tasks
from orch_env.types import GoldCall, RewardBreakdown, Task, ToolCall, ToolSpec

CASE = {
    "id": "one",
    "weights": {"atomic": 0.25, "orchestration": 0.75},
    "task": {
        "query": "q",
        "tools": ["f"],
        "steps": [{"name": "f", "arguments": {"a": 1}, "depends_on": [], "candidate_tools": ["f"]}],
    },
    "completion": '<tool_call>{"name": "f", "arguments": {"a": 2}}</tool_call>\n'
    '<tool_response>{"status": true, "data": []}</tool_response>',
}


def write(path: Path, *records: Any) -> str:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def score(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    code, out, _ = run(capsys, "reward", "score", *words)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def test_a_case_is_scored_with_its_own_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "cases.jsonl.gz", CASE)
    (line,) = score(capsys, "--reward", "paper", file)
    # AST 0.33 + 0.33 + 0, semantic 1: atomic (0.66 + 1) / 2 = 0.83; orchestration 1.
    assert line["id"] == "one"
    assert line["total"] == pytest.approx(0.25 * 0.83 + 0.75)
    assert "score" not in line["components"]
    assert line["components"]["R_atomic_validity"] == pytest.approx(0.83)
    (line,) = score(capsys, "--reward", "paper", "--weights", '{"atomic": 1}', file)
    assert line["total"] == pytest.approx(0.83)
    # graduated: T = 1, V = K = 0, ok = 1: atomic 0.1 + (0.2 + 0.2) / 2, orchestration 0.
    (line,) = score(capsys, "--reward", "graduated", file)
    assert line["total"] == pytest.approx(0.25 * 0.3)
    (line,) = score(capsys, "--reward", "binary", file)
    assert line == {"id": "one", "total": 0.0, "components": {"matched": 0.0}}


@pytest.mark.shared_data
def test_the_reference_cases_come_out_as_published(
    capsys: pytest.CaptureFixture[str], shared_data: Path
) -> None:
    path = shared_data / "rewards" / "graduated_reference_cases.jsonl.gz"
    lines = score(capsys, "--reward", "paper", str(path))
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [line["id"] for line in lines] == [record["id"] for record in records]
    for line, record in zip(lines, records, strict=True):
        expected = dict(record["expected"])
        assert line["total"] == pytest.approx(expected.pop("score"), abs=1e-9)
        assert line["components"] == pytest.approx(expected, abs=1e-9)


def test_stored_episodes_carry_their_task_or_take_it_from_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "episodes.jsonl"
    replay = ["--tasks", "harbour/heldout", "--policy", "gold", "--limit", "3"]
    assert run(capsys, "replay", *replay, "--out", str(file))[0] == 0
    lines = score(capsys, "--reward", "graduated", str(file))
    assert [line["total"] for line in lines] == [1.0, 1.0, 1.0]
    bare = [json.loads(line) for line in file.read_text().splitlines()]
    for record in bare:
        del record["task"]
    other = write(tmp_path / "bare.jsonl", *bare)
    code, _, err = run(capsys, "reward", "score", "--reward", "graduated", other)
    assert code == 2 and "line 1" in err and "--tasks" in err
    found = score(capsys, "--reward", "graduated", "--tasks", "harbour/heldout", other)
    assert found == lines


HARBOUR = ServerSession(Harbour, 0).server
assert isinstance(HARBOUR, Harbour)
SHIPS, PERMITS = list(HARBOUR.ships.values()), list(HARBOUR.permits)
READS = (
    GoldCall("find_ship", {"name": SHIPS[0].name}),
    GoldCall("ship_cargo", {"ship": SHIPS[0].id}),
    GoldCall("ship_agent", {"ship": SHIPS[0].id}),
)
RENEW = GoldCall("renew_permit", {"permit": PERMITS[0]})
NAMES = ("find_ship", "ship_cargo", "ship_agent", "renew_permit")
SERVED: dict[str, tuple[tuple[GoldCall, ...], tuple[str | ToolSpec, ...]]] = {
    "gold that only reads": (READS, NAMES),
    "gold that writes": ((*READS, RENEW), NAMES),
    "no gold": ((), NAMES),
    "all tools": (READS, ()),
    "a spec of its own": (READS, (ToolSpec("find_ship", "Mine."), *NAMES[1:])),
}


def played_on_servers(path: Path, reward: str | dict[str, Any]) -> list[RewardBreakdown]:
    """Store an episode of each task: another spelling, a value of a wrong type, a stray change."""
    said = ({"role": "user", "content": f"{SHIPS[0].name} {SHIPS[0].id}"},)
    tasks = [Task(name, said, tools, (gold,)) for name, (gold, tools) in SERVED.items()]
    tasks = [replace(task, servers=("harbour",), seed=0) for task in tasks]
    env = ToolOrchestrationEnv.from_backend(tasks, LocalBackend(), reward=reward)
    stored: list[StoredEpisode] = []
    for task in tasks:
        env.reset(seed=0, options={"task_id": task.id})
        calls = [
            ToolCall("find_ship", {"name": f" {SHIPS[0].name.upper()}"}),
            ToolCall("ship_cargo", {"ship": 7}),
            ToolCall("renew_permit", {"permit": PERMITS[1]}),
        ]
        for call in calls:
            env.step(get_format("hermes").render_calls([call]))
        env.step("done")
        stored.append(StoredEpisode(env.episode, env.task, env.settings))
    write_episodes(stored, path)
    return [one.episode.reward for one in stored if one.episode.reward is not None]


@pytest.mark.parametrize(
    "reward", ["graduated", '{"name": "graduated", "edition": 1}', "binary", "prove", "tier"]
)
def test_an_episode_on_servers_scores_as_it_did_in_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reward: str
) -> None:
    file = tmp_path / "served.jsonl"
    spec = json.loads(reward) if reward.startswith("{") else reward
    earned = played_on_servers(file, spec)
    totals = [
        pytest.approx(one.total, abs=2**-40) for one in earned
    ]  # what steps pay is a multiple
    assert len(earned) == len(SERVED)
    cache = str(bundled("harbour", "cache"))  # of the same tools, which says less of them
    for source in ((), ("--cache", cache)):
        code, out, err = run(capsys, "reward", "score", "--reward", reward, *source, str(file))
        found = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [line["total"] for line in found] == totals
        assert [line["components"] for line in found] == [one.components for one in earned]
        assert err == ""


def test_an_episode_on_a_server_that_is_not_here_is_refused_by_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    played_on_servers(tmp_path / "served.jsonl", "binary")
    records = [json.loads(line) for line in (tmp_path / "served.jsonl").read_text().splitlines()]
    records[1]["task"]["servers"] = ["os:system"]
    file = write(tmp_path / "away.jsonl", *records)
    code, _, err = run(capsys, "reward", "score", "--reward", "binary", file)
    assert code == 2 and "line 2: there is no server 'os:system' (servers: " in err


BAD = [
    ("not json", "is not JSON"),
    ("[]", "must be a JSON object"),
    ('{"x": 1}', "neither a stored episode"),
    ('{"id": "a", "completion": "", "task": {}}', "list 'steps'"),
    ('{"id": "a", "completion": 1, "task": {"steps": []}}', "'completion' must be a string"),
    ('{"id": "a", "completion": "", "task": {"steps": [{}]}}', "string 'name'"),
    ('{"completion": "", "task": {"steps": []}}', "'id'"),
    ('{"task_id": "t", "turns": 5}', "'turns' must be a list"),
    ('{"task_id": "t", "turns": [], "digest": "0"}', "was changed"),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_a_bad_line_is_named_with_its_number(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, words: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(CASE) + "\n\n" + line + "\n")
    code, out, err = run(capsys, "reward", "score", "--reward", "paper", str(file))
    assert code == 2
    assert len(out.splitlines()) == 1
    assert err.count("\n") == 1 and "line 3" in err and words in err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--reward", "grad"], "did you mean 'graduated'"),
        (["--reward", "binary", "--weights", "{}"], "no option 'weights'"),
        (["--reward", "paper", "--weights", "{"], "--weights is not JSON"),
        (["--reward", "paper", "--weights", "[]"], "--weights must be a JSON object"),
        (["--reward", "paper", "--tasks", "nowhere"], "nowhere"),
        ([], "--reward"),
    ],
)
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], complaint: str
) -> None:
    file = write(tmp_path / "cases.jsonl", CASE)
    code, out, err = run(capsys, "reward", "score", *words, file)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and complaint in err


def test_eval_prints_one_json_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    words = ["eval", "--benchmark", "complexfuncbench", "--tasks", "harbour/heldout"]
    code, out, err = run(
        capsys, *words, "--policy", "gold", "--limit", "5", "--json", "--out", str(scores)
    )
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert {
        "success",
        "call_accuracy",
        "turn_accuracy",
        "by_domain",
        "errors",
        "decided_by",
        "n",
    } <= (set(result))
    assert (result["success"], result["n"]) == (1.0, 5)
    written = [json.loads(line) for line in scores.read_text().splitlines()]
    assert [w["score"]["success"] for w in written] == [True] * 5
    assert all(w["stop_reason"] == "answered" for w in written)


def test_eval_shows_people_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "eval", "--tasks", "harbour/heldout", "--policy", "noop")
    assert code == 0
    assert "episodes failed by: stop_early 240" in out
    assert "0.0%" in out


def test_eval_plays_a_file_of_actions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    task = load_tasks("harbour/heldout")[0]
    first, second = task.gold_calls
    assert second.name != first.name == "find_ship"
    call = json.dumps({"name": first.name, "arguments": first.arguments})
    action = f"<tool_call>{call}</tool_call>"
    actions = write(tmp_path / "actions.jsonl", {"task_id": task.id, "actions": [action, action]})
    words = ["eval", "--tasks", "harbour/heldout", "--policy", actions, "--limit", "1", "--json"]
    code, out, _ = run(capsys, *words)
    result = json.loads(out)
    assert code == 0
    assert (result["call_accuracy"], result["errors"]) == (0.5, {"func_error": 1})


def test_the_rate_of_a_policy_has_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--policy", "gold", "--limit", "20", "--pass-at", "1", "--json"]
    code, out, _ = run(capsys, "eval", "--tasks", "harbour/heldout", *words)
    found = json.loads(out)
    assert code == 0 and found["avg_at_1"] == found["pass_at_1"]
    # Wilson: all of 20 leaves 20 / (20 + 1.96^2).
    assert found["avg_at_1"]["low"] == pytest.approx(0.838875, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "--model PATH or --policy NAME"),
        (["--policy", "gold", "--model", "x"], "one of them"),
        (["--policy", "nobody"], "nobody"),
        (["--policy", "gold", "--exact-match-values", "missing.json"], "missing.json"),
        (["--policy", "gold", "--cache", "missing.db"], "missing.db"),
        (["--policy", "gold", "--benchmark", "bfcl"], "complexfuncbench"),
        (["--policy", "gold", "--limit", "0"], "--limit"),
        (["--policy", "gold", "--split", "nowhere"], "nowhere"),
        (["--policy", "gold", "--samples", "2"], "--temperature above 0"),
        (["--model", "x", "--samples", "2"], "--temperature above 0"),
        (["--policy", "gold", "--pass-at", "2"], "--samples of at least as many"),
    ],
)
def test_wrong_eval_options_are_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    code, out, err = run(capsys, "eval", "--tasks", "harbour", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and complaint in err
