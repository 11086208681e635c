"""``orch reward list`` and ``orch reward show``: what they say is what the rewards do."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from orch_env.cli.main import main
from orch_env.rewards import PRESETS, make_reward


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["reward", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, err = run(capsys, *words, "--json")
    assert code == 0 and not err
    return json.loads(out)


def test_the_list_names_every_reward_with_range_and_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = record(capsys, "list")["rewards"]
    assert [row["name"] for row in rows] == ["graduated", "paper", "prove", "tier", "binary"]
    by_name = {row["name"]: row for row in rows}
    assert by_name["prove"]["range"] == [None, 1.3]
    assert by_name["tier"] | {"summary": ""} == {
        "name": "tier",
        "range": [0.0, 1.0],
        "summary": "",
        "source": "arXiv 2605.16790",
    }
    code, out, err = run(capsys, "list")
    assert code == 0 and not err
    lines = out.splitlines()
    assert len(lines) == 1 + len(PRESETS) + 2  # a head, the presets, mix and module:function
    assert any("prove" in line and "-inf..1.3" in line for line in lines)
    assert [line.split()[0] for line in lines[-2:]] == ["mix", "module:function"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_reward_is_shown_with_components_and_options(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shown = record(capsys, "show", name)
    preset = PRESETS[name]
    assert [part["name"] for part in shown["components"]] == [c.name for c in preset.components]
    for part, component in zip(shown["components"], preset.components, strict=True):
        ends = [end if math.isfinite(end) else None for end in (component.low, component.high)]
        assert part["range"] == ends
        assert part["equation"] and part["source"]
    code, out, err = run(capsys, "show", name)
    assert code == 0 and not err
    for part in shown["components"]:
        assert part["name"] in out and part["equation"] in out
    assert preset.summary.split()[0] in out and json.dumps(shown["example"]) in out


@pytest.mark.parametrize("name", PRESETS)
def test_the_documented_defaults_are_the_defaults(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    example = record(capsys, "show", name)["example"]
    assert make_reward(example) == make_reward(name)
    options = {option["name"] for option in record(capsys, "show", name)["options"]}
    assert {"name", *options} == set(example)


def test_every_weight_option_can_be_scheduled_and_every_option_set() -> None:
    for name, preset in PRESETS.items():
        for option, setting in preset.options.items():
            if option == "weights":
                for part, weight in setting.default.items():
                    weights = {**setting.default, part: [[0, weight], [5, weight]]}
                    reward: Any = make_reward({"name": name, "weights": weights})
                    assert reward.at_step(3) == make_reward(name), (name, part)
            else:
                made = make_reward({"name": name, option: setting.default})
                assert made == make_reward(name), (name, option)


def test_the_mix_is_shown_with_an_example_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    shown = record(capsys, "show", "mix")
    example = shown["example"]
    own = [key for key in example["components"] if ":" in key]
    assert len(own) == 1  # a function of the user's, which is not there
    del example["components"][own[0]]
    assert make_reward(example).name == "mix"
    code, out, _ = run(capsys, "show", "mix")
    assert code == 0 and "module:function" in out and "[[step, value], ...]" in out


def test_an_unknown_reward_is_refused_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, "show", "gradated")
    assert (code, out) == (2, "")
    assert "did you mean 'graduated'?" in err and err.count("\n") == 1
