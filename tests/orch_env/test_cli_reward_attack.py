"""``orch reward attack``, ``audit`` and ``compare`` as commands, and tool specs for ``score``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orch_env import ToolOrchestrationEnv
from orch_env.audit import EXPLOITS, figures
from orch_env.audit.attack import roll_out
from orch_env.audit.search import EPISODES
from orch_env.cli.main import main
from orch_env.episodes import StoredEpisode, write_episodes
from orch_env.types import OrchError
from tests.journeys import next_commands

HARBOUR = ["--tasks", "harbour/heldout"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four different policies on each of six tasks: six groups of four."""
    env = ToolOrchestrationEnv("harbour", split="heldout")
    chosen = [e for e in EXPLOITS if e.name in ("gold", "honest_half", "every_tool", "names_only")]
    stored = []
    for task in env.tasks[::40]:
        env.reset(options={"task_id": task.id})
        for exploit in chosen:
            plan = exploit.plan(env.backend.resolve(task))
            assert plan is not None
            stored.append(StoredEpisode(roll_out(env, task, plan), task, env.settings))
    env.close()
    path = tmp_path_factory.mktemp("episodes") / "episodes.jsonl"
    write_episodes(stored, path)
    return path


def test_graduated_withstands_the_attack_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, figure = tmp_path / "table.json", tmp_path / "table.png"
    words = ["--limit", "4", "--out", str(out), "--figure", str(figure), "--json"]
    code, text, err = run(capsys, "reward", "attack", "--reward", "graduated", *HARBOUR, *words)
    assert (code, err) == (0, "")
    result = json.loads(text)
    assert result == json.loads(out.read_text())
    assert result["rewards"]["graduated"] == {
        "kept": True,
        "tasks_broken": 0,
        "breaches": {},
        "examples": [],
    }
    assert result["table"]["gold"]["graduated"]["mean"] == 1.0
    assert result["table"]["padded_in_budget"]["graduated"]["mean"] == pytest.approx(0.98)
    assert [e["kind"] for e in result["exploits"][:2]] == ["reference", "reference"]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_reward_that_breaks_a_promise_gives_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--reward", "graduated", "--reward", "paper", "--limit", "3"]
    code, out, _ = run(capsys, "reward", "attack", *words, *HARBOUR)
    assert code == 1
    assert "graduated: every promise kept" in out
    assert "paper: promises broken on 3 of 3 tasks" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("five_duplicates"))
    assert row.split()[2:] == ["*100%", "1.000"]


def test_all_stands_for_every_preset_and_the_first_edition(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from orch_env.rewards import PRESETS

    words = ["--reward", "all", "--limit", "1", "--json"]
    code, out, _ = run(capsys, "reward", "attack", *words, *HARBOUR)
    assert code == 1
    assert list(json.loads(out)["rewards"]) == [*PRESETS, "graduated edition 1"]


def test_a_configured_reward_and_one_of_ones_own_are_attacked_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = '{"name": "graduated", "weights": {"atomic": 1.0, "orchestration": 0.0}}'
    own = "tests.orch_env.own_rewards:brevity"
    words = ["--reward", "graduated", "--reward", spec, "--reward", own, "--limit", "1", "--json"]
    code, out, _ = run(capsys, "reward", "attack", *words, *HARBOUR)
    result = json.loads(out)
    assert code == 1
    assert list(result["rewards"]) == ["graduated", "graduated 2", own]
    # One message without a call: brevity pays 1 - 1/4 for it.
    assert result["table"]["nothing"][own]["mean"] == 0.75


def test_a_search_adds_to_what_an_attack_says_and_to_its_exit_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The suite never says yes, so only the search finds what this reward pays for."""
    out = tmp_path / "best.json"
    own = "tests.orch_env.own_rewards:easily_pleased"
    words = ["--reward", own, "--limit", "2", *HARBOUR]
    code, plain, _ = run(capsys, "reward", "attack", *words, "--json")
    assert code == 0
    more = ["--search", "--search-episodes", "12", "--search-seed", "3", "--out", str(out)]
    code, text, err = run(capsys, "reward", "attack", *words, *more, "--json")
    assert (code, err) == (1, "")
    result = json.loads(text)
    assert result == json.loads(out.read_text())
    searched = result.pop("search")
    assert result == json.loads(plain)
    assert (searched["tasks"], searched["episodes_per_task"], searched["seed"]) == (2, 12, 3)
    assert searched["table"]["does_not_read_results"][own]["not_below_gold"] == 1.0
    best = searched["best"]["does_not_read_results"][own][0]
    assert best["script"] == {"messages": [], "answer": "yes"}
    code, text, _ = run(capsys, "reward", "attack", *words, *more)
    assert code == 1
    assert "worse than gold and paid as much on 2 of 2 tasks" in text
    assert "the best guess, 1.000 on" in text


def test_the_help_says_how_long_a_search_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reward", "attack", "--help")
    assert code == 0 and f"(default {EPISODES})" in " ".join(out.split())


BAD: list[tuple[list[str], str]] = [
    (["attack", *HARBOUR], "--reward"),
    (["attack", "--reward", "grad", *HARBOUR], "did you mean 'graduated'"),
    (["attack", "--reward", "paper", "--reward", "paper", *HARBOUR], "given twice"),
    (["attack", "--reward", "paper", "--reward", "all", *HARBOUR], "given twice"),
    (["attack", "--reward", "paper", "--tasks", "nowhere"], "nowhere"),
    (["attack", "--reward", "paper", "--cache", "missing.db", *HARBOUR], "missing.db"),
    (["attack", "--reward", "paper", "--limit", "0", *HARBOUR], "--limit"),
    (["attack", "--reward", "paper", "--search-episodes", "9", *HARBOUR], "add --search"),
    (["attack", "--reward", "paper", "--search-seed", "0", *HARBOUR], "add --search"),
    (["attack", "--reward", "paper", "--search", "--search-seed", "-1", *HARBOUR], "x>=0"),
    (["attack", "--reward", "{", *HARBOUR], "--reward is not JSON"),
    (["audit", "missing.jsonl"], "missing.jsonl"),
    (["compare", "missing.jsonl", "--reward", "all"], "missing.jsonl"),
]


@pytest.mark.parametrize(("words", "complaint"), BAD)
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    code, out, err = run(capsys, "reward", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and complaint in err


def test_an_out_file_that_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--reward", "graduated", "--limit", "1", *HARBOUR]
    for option in ("--out", "--figure"):
        code, _, err = run(capsys, "reward", "attack", *words, option, str(tmp_path / "no" / "x"))
        assert code == 2
        assert err.count("\n") == 1 and "cannot write" in err


def test_without_matplotlib_a_figure_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(OrchError, match=r"orch-rl\[eval\]"):
        figures.require_matplotlib()
    table = tmp_path / "x.json"
    words = ["--limit", "1", "--out", str(table), "--figure", str(tmp_path / "x.png")]
    code, out, err = run(capsys, "reward", "attack", "--reward", "graduated", *HARBOUR, *words)
    assert (code, out, table.exists()) == (2, "", False)
    assert "pip install 'orch-rl[eval]'" in err


def test_audit_prints_one_object_and_says_what_it_left_out(
    capsys: pytest.CaptureFixture[str], episodes: Path
) -> None:
    code, out, err = run(capsys, "reward", "audit", str(episodes), "--json")
    result = json.loads(out)
    assert code == 0
    assert "the exploit suite is left out" in err
    assert (result["episodes"], result["groups"], result["exploits"]) == (24, 6, None)
    assert result["reward"] == "graduated"
    assert result["success_rate"] == 0.25  # gold alone, of four policies
    total = result["components"]["total"]
    assert total["correlation"] > 0.7
    assert total["flat_groups"] == 0.0


def test_audit_with_tasks_says_what_exploits_move(
    capsys: pytest.CaptureFixture[str], episodes: Path
) -> None:
    words = ["--reward", "prove", "--tasks", "harbour/heldout"]
    code, out, err = run(capsys, "reward", "audit", str(episodes), *words)
    assert code == 0 and [words[:2] for words in next_commands(err)] == [["reward", "compare"]]
    assert "6 groups, success 25.0%" in out
    assert "is what exploits move most" in out
    code, _, err = run(capsys, "reward", "audit", str(episodes), "--reward", "all")
    assert code == 2 and "one reward" in err


def test_compare_prints_one_object_and_draws_the_matrix(
    capsys: pytest.CaptureFixture[str], episodes: Path, tmp_path: Path
) -> None:
    figure = tmp_path / "matrix.png"
    words = ["--reward", "graduated", "--reward", "tier", "--tasks", "harbour/heldout"]
    code, out, err = run(
        capsys, "reward", "compare", str(episodes), *words, "--figure", str(figure), "--json"
    )
    result = json.loads(out)
    assert (code, err) == (0, "")
    (found,) = result["agreement"]
    assert found["rewards"] == ["graduated", "tier"]
    assert found["pairs"] == 24 * 23 // 2
    assert found["pairs_within_groups"] == 6 * 6
    assert found["tau_within_groups"] < 1.0  # tier pays the honest half as much as gold
    assert figure.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, "reward", "compare", str(episodes), *words)
    assert code == 0
    assert "graduated / tier" in out


def test_compare_needs_two_rewards(capsys: pytest.CaptureFixture[str], episodes: Path) -> None:
    code, out, err = run(capsys, "reward", "compare", str(episodes), "--reward", "paper")
    assert (code, out) == (2, "")
    assert "at least two" in err


@pytest.mark.parametrize("command", ["audit", "compare"])
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[]", "must be a JSON object"),
        ("{}", "no stored episode"),
        ('{"task_id": "t", "turns": []}', "--tasks"),
        ('{"task_id": "t", "turns": [], "digest": "0"}', "was changed"),
    ],
)
def test_a_bad_line_is_named_with_its_number(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, line: str, complaint: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(f"\n{line}\n")
    words = [] if command == "audit" else ["--reward", "all"]
    code, out, err = run(capsys, "reward", command, str(file), *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "line 2" in err and complaint in err


def scores(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[dict[str, Any]], str]:
    code, out, err = run(capsys, "reward", "score", *words)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()], err


def test_score_takes_tool_schemas_from_the_cache_that_it_is_given(
    capsys: pytest.CaptureFixture[str], episodes: Path
) -> None:
    from orch_env.tasks.files import bundled

    bare, note = scores(capsys, "--reward", "prove", str(episodes))
    assert "give --cache DB" in note
    cache = str(bundled("harbour", "cache"))
    whole, note = scores(capsys, "--reward", "prove", "--cache", cache, str(episodes))
    assert note == ""
    named, _ = scores(capsys, "--reward", "prove", "--tasks", "harbour/heldout", str(episodes))
    assert [line["id"] for line in whole] == [line["id"] for line in bare]
    # Where schemas are known, arguments that fit them count though the tool refused the values.
    assert sum(line["total"] for line in whole) > sum(line["total"] for line in bare)
    assert named == whole  # bundled data has its own cache


def test_a_cache_without_the_episodes_tools_is_named_with_the_line(
    capsys: pytest.CaptureFixture[str], episodes: Path, tmp_path: Path
) -> None:
    from orch_env import open_cache

    with open_cache(tmp_path / "empty.db", write=True):
        pass
    words = ["--reward", "prove", "--cache", str(tmp_path / "empty.db"), str(episodes)]
    code, out, err = run(capsys, "reward", "score", *words)
    assert (code, out) == (2, "")
    assert "line 1" in err and "find_ship" in err
