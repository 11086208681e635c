"""Configuration: what is accepted, what is refused, and how it is said."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train import engines
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings, TrainingSettings
from orch_train.config.groups import ENGINES, GROUPS, LOSSES
from orch_train.config.reading import dump_yaml, parse_yaml
from orch_train.config.validation import OTHER_NAMES
from orch_train.learner.objective import losses


def _yaml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _problem(config: GRPOConfig) -> str:
    with pytest.raises(OrchError) as caught:
        _ = config.settings
    return str(caught.value)


@pytest.mark.parametrize(
    "use", ["import orch_train.config", "from orch_train import GRPOConfig; GRPOConfig().settings"]
)
def test_importing_the_configuration_loads_neither_torch_nor_ray(use: str) -> None:
    code = (
        f"import sys; {use}; "
        "print([m for m in ('torch', 'ray', 'transformers', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_all_problems_are_reported_in_one_error() -> None:
    message = _problem(
        GRPOConfig().from_dict(
            {
                "trainings": {"lr": 1},
                "training": {"lr": -1.0, "groupsize": 4, "group_size": 1},
                "rollouts": {"temperature": 0, "max_tokens_per_turn": 8192},
                "reporting": "everything",
            }
        )
    )
    assert "\n" not in message
    for piece in (
        "7 problems",
        "unknown group 'trainings' (did you mean 'training'?)",
        "unknown key training.groupsize (did you mean 'group_size'?)",
        "training.lr: must be greater than 0 (got -1.0)",
        "training.group_size: must be greater than or equal to 2 (got 1)",
        "rollouts.temperature: must be greater than 0 (got 0)",
        "reporting: must be a mapping",
    ):
        assert piece in message


def test_fields_are_checked_against_each_other() -> None:
    message = _problem(
        GRPOConfig()
        .rollouts(max_tokens_per_turn=512, max_context=512, engine="vlm")
        .training(updates_per_batch=9, groups_per_batch=2, group_size=4)
        .training(lr_schedule="cosine", lr_warmup_updates=900, correction_mask=[0.5, 2.0])
        .model("tiny", reference="tiny")
        .evaluation(evaluation_interval=5)
        .environment(env_config={"tasks": object()})
    )
    for piece in (
        "rollouts.max_tokens_per_turn (512) must be below rollouts.max_context (512)",
        "no engine 'vlm'",
        "updates_per_batch (9) exceeds the batch's 8 episodes",
        "training.lr_warmup_updates (900) must be below the run's 900 optimizer steps",
        "training.correction_mask needs training.correction",
        "model.reference is only read with a training.kl_coeff above 0",
        "evaluation.tasks",
        "environment.env_config: must be plain JSON data",
    ):
        assert piece in message


def test_conflicts_of_one_group_are_reported_beside_unsound_fields_of_another() -> None:
    message = _problem(
        GRPOConfig()
        .model("tiny", reference="tiny")
        .training(correction_mask=[0.5, 2.0])
        .rollouts(temperature=-1.0)
        .evaluation(pass_at=[4])
    )
    assert "4 problems" in message
    for piece in (
        "rollouts.temperature: must be greater than 0 (got -1.0)",
        "training.correction_mask needs training.correction",
        "evaluation.pass_at: pass@4 needs evaluation.samples_per_task of at least as many, got 1",
        "model.reference is only read with a training.kl_coeff above 0",
    ):
        assert piece in message


@pytest.mark.parametrize(
    "wrong",
    [
        {"rollouts": {"max_context": 256, "max_tokens_per_turn": 48, "temperature": 0}},
        {"rollouts": {"max_context": "256", "max_tokens_per_turn": 48}},
        {"rollouts": {"max_contex": 256, "max_tokens_per_turn": 48}},
        {"rollouts": {"length": 256}},
        {"rollouts": [256]},
        {"rollout": {"max_context": 256}, "rollouts": {}},
        {"training": {"max_context": 256}, "rollouts": {}},
        {"environment": {"name": "me/Guess-v0"}},
        {"environment": {"env_config": "harbour"}},
        {"model": {"pth": "tiny"}},
        {"model": {"path": "tiny", "reference": "tiny"}, "training": {"kl_coef": 0.1}},
        {"model": {"path": "tiny", "lora_alpha": 2.0, "lora_rank": "8"}},
        {"training": {"loss": "foo"}, "learners": {"num_learners": 1}},
        {"training": {"group_size": "64", "groups_per_batch": 1, "updates_per_batch": 9}},
        {"training": {"iterations": "5000", "lr_schedule": "linear", "lr_warmup_updates": 200}},
        {"evaluation": {"evaluation_interval": 1, "splt": "test"}},
        {"evaluation": {"pass_at": [4], "samples_per_task": "8"}},
        {"sft": {"max_epochs": None, "max_steps": "5"}},
    ],
)
def test_one_wrong_key_is_one_problem(wrong: dict[str, Any]) -> None:
    """What would be said of its default value is not said."""
    sound = {
        "environment": {"env_config": {"tasks": "harbour"}},
        "model": {"path": "tiny"},
        "rollouts": {"max_context": 256, "max_tokens_per_turn": 48},
    }
    GRPOConfig().from_dict(sound).validate()
    with pytest.raises(OrchError, match=r"^configuration: 1 problem: [^;]*$"):
        GRPOConfig().from_dict({**sound, **wrong}).validate()


def test_sound_keys_beside_a_wrong_one_are_still_checked() -> None:
    given = {"max_context": 5000, "max_tokens_per_turn": 6000, "temperature": 0}
    config = GRPOConfig().model("tiny").environment(env_config={"tasks": "harbour"})
    with pytest.raises(OrchError, match=r"3 problems.*must be below.*exceeds the model's 1024"):
        config.rollouts(**given).validate()


def test_a_group_made_without_a_configuration_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"needs a training\.max_staleness above 0"):
        TrainingSettings(straggler_steps=1)
    with pytest.raises(ValueError, match="no loss 'dappo'"):
        TrainingSettings(loss="dappo")


def test_a_key_in_the_wrong_group_is_told_where_it_belongs() -> None:
    message = _problem(GRPOConfig().from_dict({"training": {"temperature": 1.0}}))
    assert "unknown key training.temperature (it belongs to 'rollouts')" in message


def test_numbers_are_not_read_out_of_text() -> None:
    message = _problem(GRPOConfig().from_dict({"training": {"lr": "0.1", "group_size": True}}))
    assert "training.lr" in message and "training.group_size" in message


def test_missing_files_are_named_with_the_folder_that_was_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    config = (
        GRPOConfig()
        .model("models/tiny")
        .environment(env_config={"tasks": "t.jsonl", "cache": "c.db"})
    )
    with pytest.raises(OrchError) as caught:
        config.validate()
    message = str(caught.value)
    assert "3 problems" in message and str(tmp_path) in message
    for piece in ("model.path: folder 'models/tiny'", "env_config.tasks", "env_config.cache"):
        assert piece in message


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"training": {"num_generations": 8}}, "did you mean 'group_size'?"),
        ({"training": {"learning_rate": 1e-6}}, "did you mean 'lr'?"),
        ({"training": {"n_samples_per_prompt": 8}}, "did you mean 'group_size'?"),
        ({"training": {"kl_loss_coef": 0.1}}, "did you mean 'kl_coeff'?"),
        ({"training": {"num_workers": 2}}, "did you mean 'env_runners.num_env_runners'?"),
        ({"training": {"max_steps": 8}}, "did you mean 'iterations'?"),
        ({"rollouts": {"n": 8}}, "did you mean 'training.group_size'?"),
        ({"training": {"temperature": 1.0}}, "it belongs to 'rollouts'"),
        ({"training": {"lrr": 1.0}}, "did you mean 'lr'?"),
        ({"training": {"num-generations": 8}}, "did you mean 'group_size'?"),
        ({"training": {"Learning_Rate": 8}}, "did you mean 'lr'?"),
        ({"training": {"seed": 8}}, "it belongs to 'evaluation' or 'debugging' or 'sft'"),
        ({"sft": {"learning_rate": 1.0}}, "did you mean 'lr'?"),
        ({"environment": {"max_turns": 8}}, "own arguments go into environment.env_config"),
        ({"environment": {"tasks": "x"}}, "own arguments go into environment.env_config"),
        ({"learning_rate": 1e-6}, "did you mean 'training.lr'?"),
        ({"iterations": 8}, "did you mean 'training.iterations'?"),
        ({"weight_decay": 0.1}, "did you mean 'training.weight_decay or sft.weight_decay'?"),
        ({"trainer": {}}, "did you mean 'training'?"),
    ],
)
def test_the_names_of_other_trainers_are_understood(given: dict[str, Any], meant: str) -> None:
    with pytest.raises(OrchError, match=re.escape(meant)):
        _ = GRPOConfig().from_dict(given).settings


def test_every_other_name_stands_for_a_setting_and_is_none_itself() -> None:
    for name, setting in OTHER_NAMES.items():
        group, _, key = setting.partition(".")
        assert key in GROUPS[group].model_fields
        assert name not in GROUPS[group].model_fields, name


def test_the_model_that_a_warm_start_will_make_is_looked_up_on_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = GRPOConfig().environment(env_config={"tasks": "harbour"}).model("warm/model")
    config.validate()  # could be on a hub
    with pytest.raises(OrchError, match="`orch sft` with this configuration makes it"):
        config.sft(out="warm").validate()


def test_a_reference_that_is_not_there_is_refused() -> None:
    with pytest.raises(OrchError, match=r"model\.reference: 'nowhere' is no folder"):
        GRPOConfig().model("tiny", reference="nowhere").training(kl_coeff=0.1).validate()


@pytest.mark.parametrize("value", [None, 3, ["harbour"], {}])
def test_what_is_no_name_of_a_file_is_refused_before_it_is_opened(value: Any) -> None:
    config = GRPOConfig().model("tiny").environment(env_config={"tasks": value, "cache": [value]})
    with pytest.raises(OrchError) as caught:
        config.validate()
    message = str(caught.value)
    assert "env_config.tasks: must name a task file or bundled data set, got" in message
    assert "env_config.cache: must name a cache, or be null, got" in message


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match="holds no model"):
        GRPOConfig().model(str(tmp_path)).validate()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("1E3", 1e3), ("2e-6", 2e-6), (".5", 0.5), ("1_000", 1000), ("-3", -3)],
)
def test_yaml_numbers_are_numbers(text: str, value: float) -> None:
    got = parse_yaml(f"x: {text}", "here")["x"]
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize("text", ["no", "on", "1:30", "2024-10-13", "0x10", "1e", "e5"])
def test_yaml_keeps_other_words_as_text(text: str) -> None:
    assert parse_yaml(f"x: {text}", "here") == {"x": text}


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("training:\n  lr: 1\n  lr: 2\n", "line 3: key 'lr' is given twice"),
        ("training: {}\ntraining: {}\n", "line 2: key 'training' is given twice"),
        ("training: !!omap [{lr: 1}, {lr: 2}]\n", "a key is given twice"),
        ("training:\n  lr: .nan\n", "line 2: .nan is not a finite number"),
        ("training:\n  lr: 1e999\n", "line 2: 1e999 is not a finite number"),
        ("training: [1\n", "not valid YAML"),
        ("- training\n", "mapping of groups"),
        ("training: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("1: {}\n", "keys must be text"),
    ],
)
def test_broken_yaml_is_one_clear_line(tmp_path: Path, text: str, piece: str) -> None:
    path = _yaml(tmp_path, text)
    with pytest.raises(OrchError) as caught:
        GRPOConfig().from_yaml(path)
    assert piece in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=r"nowhere\.yaml' does not exist"):
        GRPOConfig().from_yaml(tmp_path / "nowhere.yaml")


def test_overrides_are_read_as_yaml_and_reach_into_mappings(tmp_path: Path) -> None:
    path = _yaml(tmp_path, "environment:\n  env_config: {tasks: harbour, max_turns: 3}\n")
    config = (
        GRPOConfig()
        .from_yaml(path)
        .with_overrides(
            [
                "training.lr=2e-6",
                "environment.env_config.max_turns=5",
                "evaluation.temperatures=[0.7]",
                "evaluation.num_tasks=null",
                "debugging.log_level=DEBUG",
            ]
        )
    )
    settings = config.settings
    assert settings.training.lr == 2e-6
    assert settings.environment.env_config == {"tasks": "harbour", "max_turns": 5}
    assert settings.evaluation.temperatures == (0.7,)
    assert settings.evaluation.num_tasks is None


@pytest.mark.parametrize("text", ["lr=1", "training.lr", "=1", "training.=1", ".lr=1"])
def test_a_malformed_override_is_refused(text: str) -> None:
    with pytest.raises(OrchError, match=r"group\.key=value"):
        GRPOConfig().with_overrides([text])


def test_an_override_below_a_plain_value_is_refused() -> None:
    with pytest.raises(OrchError, match="is a value"):
        GRPOConfig().training(lr=1e-3).with_overrides(["training.lr.start=1"])


def test_yaml_round_trips(tmp_path: Path) -> None:
    config = (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour", "reward": {"name": "graduated"}})
        .model("some/model", dtype="bfloat16")
        .training(lr=1e-6)
        .evaluation(temperatures=[1.0, 0.0], tasks="no")
    )
    again = GRPOConfig().from_yaml(_yaml(tmp_path, config.to_yaml()))
    assert again.settings == config.settings
    assert GRPOConfig().from_dict(config.to_dict()).settings == config.settings
    # An ordinary YAML reader must see the same numbers.
    assert yaml.safe_load(config.to_yaml())["training"]["lr"] == 1e-6


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
_LOOKALIKES = st.sampled_from(["no", "1e-6", "0x10", "0o7", "2024-10-13", "=", "<<", "null", "._"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS | _LOOKALIKES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(_TEXTS, _VALUES, max_size=3))
@example({"a": "one\x85two"})
def test_plain_data_is_the_same_after_writing_and_reading(data: dict[str, Any]) -> None:
    assert repr(parse_yaml(dump_yaml(data), "here")) == repr(data)


def test_files_that_pyyaml_wrote_read_back_the_same(tmp_path: Path) -> None:
    """Runs of earlier versions hold such files."""
    config = (
        GRPOConfig()
        .environment(env_config={"tasks": "no", "cache": "0x10", "split": "2024-10-13", "f": 1e22})
        .training(lr=1e-6)
        .evaluation(tasks="1:30", temperatures=[0.7])
        .sft(tasks="~", out="päth: x")
    )
    old = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, width=100)
    again = GRPOConfig().from_yaml(_yaml(tmp_path, old))
    assert again.settings == config.settings


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_any_learning_rate_survives_yaml(lr: float) -> None:
    text = GRPOConfig().training(lr=lr).to_yaml()
    assert parse_yaml(text, "here")["training"]["lr"] == lr


def test_a_frozen_configuration_refuses_changes_and_its_copy_does_not() -> None:
    config = GRPOConfig().training(lr=0.1).freeze()
    with pytest.raises(OrchError, match="frozen"):
        config.training(lr=0.2)
    with pytest.raises(OrchError, match="frozen"):
        config.with_overrides(["training.lr=0.2"])
    assert config.copy().training(lr=0.2).settings.training.lr == 0.2
    assert config.settings.training.lr == 0.1


def test_settings_do_not_share_what_the_caller_can_still_change() -> None:
    mine = {"tasks": "harbour"}
    config = GRPOConfig().environment(env_config=mine)
    mine["tasks"] = "other"
    assert config.settings.environment.env_config == {"tasks": "harbour"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_a_method_that_takes_its_keys(group: str) -> None:
    method = getattr(GRPOConfig, group)
    assert (method.__name__, method.__doc__) == (group, inspect.getdoc(GROUPS[group]))
    _, *keys = inspect.signature(method).parameters.values()
    assert [key.name for key in keys] == list(GROUPS[group].model_fields)
    values = {key: getattr(getattr(Settings(), group), key) for key in GROUPS[group].model_fields}
    assert method(GRPOConfig(), **values).settings == Settings()


def test_one_key_of_two_groups_needs_no_name() -> None:
    config = GRPOConfig().environment("mine:Env-v0", env_config={"a": 1}).model("tiny")
    assert config.settings.environment.env == "mine:Env-v0"
    assert config.settings.environment.env_config == {"a": 1}
    assert config.settings.model.path == "tiny"
    with pytest.raises(TypeError, match="too many positional arguments"):
        GRPOConfig().training(3)
    with pytest.raises(TypeError, match="multiple values for argument 'path'"):
        GRPOConfig().model("tiny", path="other")


def test_a_misspelt_key_of_a_method_is_refused_with_all_other_problems() -> None:
    values: dict[str, Any] = {"groupsize": 8}
    message = _problem(GRPOConfig().training(**values, lr=0.0))
    assert "2 problems" in message
    assert "unknown key training.groupsize (did you mean 'group_size'?)" in message


def test_the_registries_hold_the_names_that_the_configuration_accepts() -> None:
    assert tuple(losses.LOSSES) == LOSSES
    assert tuple(engines._FACTORIES) == ENGINES
