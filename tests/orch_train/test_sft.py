"""SFT imitates actions only, stops for the reason it says, and can go on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.models.load import load_model
from orch_train.sft.trainer import SFTStop, SFTTrainer
from orch_train.trajectory.sample import NO_VERSION, TrainingSample
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import VOCABULARY, random_sample, small_llama


def samples(count: int = 12, seed: int = 0) -> list[TrainingSample]:
    rng = random.Random(seed)
    return [random_sample(rng, turns=2) for _ in range(count)]


def settings(**changes: Any) -> Settings:
    """Keys of the group ``sft``, and those that it takes from others."""
    others = ("max_tokens_per_microbatch", "layout", "dtype")
    elsewhere = {key: changes.pop(key) for key in others if key in changes}
    bounds = {"max_epochs": None, "lr": 3e-3, "batch_size": 4}
    return settings_of(sft={**bounds, **changes}, **{"layout": "rows", **elsewhere})


def echo_sample(rng: random.Random, noise: bool) -> TrainingSample:
    """The action repeats the prompt's last token; the rest of the prompt is random."""
    sample = TrainingSample()
    word = rng.randrange(3, 20)
    sample.append_context([*(rng.randrange(20, VOCABULARY) for _ in range(4)), word])
    sample.append_action([word], [0.0], [NO_VERSION])
    if noise:
        sample.append_context([rng.randrange(20, VOCABULARY) for _ in range(6)])
    return sample


def test_training_teaches_what_was_demonstrated() -> None:
    rng = random.Random(0)
    data = [echo_sample(rng, noise=True) for _ in range(200)]
    trainer = SFTTrainer(small_llama(), settings(max_steps=120, batch_size=32, lr=1e-2))
    summary = trainer.train(data)
    assert summary.stop is SFTStop.MAX_STEPS and summary.steps == 120
    assert summary.loss_first is not None and summary.loss_last is not None
    assert summary.loss_last < 0.1 < 2.0 < summary.loss_first
    fresh = [echo_sample(rng, noise=False) for _ in range(50)]
    right = sum(
        int(trainer.model(torch.from_numpy(t.ids_T[None, :-1]).long()).logits[0, -1].argmax())
        == t.ids_T[-1]
        for t in fresh
    )
    assert right >= 45


def test_the_loss_is_the_mean_cross_entropy_over_action_tokens_alone() -> None:
    data = samples(4)
    model = small_llama()
    terms: list[torch.Tensor] = []
    with torch.no_grad():
        for sample in data:
            ids_T = torch.from_numpy(sample.ids_T).long()
            logprobs_TV = model(ids_T[None]).logits[0].log_softmax(-1)
            terms += [-logprobs_TV[t - 1, ids_T[t]] for t in sample.actions_N]
    summary = SFTTrainer(small_llama(), settings(max_steps=1)).train(data)
    assert summary.loss_first == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)


@pytest.mark.parametrize("layout", ["rows", "packed"])
def test_micro_batches_do_not_change_the_training(layout: Any) -> None:
    losses = []
    for budget, chosen in ((10**6, "rows"), (30, layout)):
        seen: list[float] = []
        SFTTrainer(
            small_llama(),
            settings(max_steps=4, max_tokens_per_microbatch=budget, layout=chosen),
        ).train(samples(), on_metrics=lambda m, seen=seen: seen.append(m["loss"]))
        losses.append(seen)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> torch.Tensor:
        trainer = SFTTrainer(small_llama(), settings(max_steps=5, seed=seed))
        trainer.train(samples())
        return trainer.model.get_input_embeddings().weight.detach().clone()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("successes", "stop", "steps"),
    [
        ([0.0, 0.1, 0.3, 0.9], SFTStop.TARGET, 6),
        ([0.0, 0.7], SFTStop.ABOVE_TARGET, 4),
        ([0.0, 0.0, 0.1, 0.1, 0.1], SFTStop.MAX_STEPS, 10),
    ],
)
def test_held_out_success_stops_it_within_the_band(
    successes: list[float], stop: SFTStop, steps: int
) -> None:
    left = iter(successes)
    modes: list[bool] = []

    def evaluate(model: Any) -> dict[str, float]:
        modes.append(model.training)
        return {"success": next(left), "greedy": 1.0}

    seen: list[dict[str, float]] = []
    trainer = SFTTrainer(
        small_llama(), settings(max_steps=10, eval_every=2, target_success=(0.2, 0.6))
    )
    summary = trainer.train(samples(), evaluate=evaluate, on_metrics=seen.append)
    assert (summary.stop, summary.steps) == (stop, steps)
    assert [e["success"] for e in summary.evaluations] == successes[: steps // 2]
    assert summary.evaluations[0]["greedy"] == 1.0 and summary.evaluations[0]["step"] == 2
    assert [m["step"] for m in seen if "evaluation/success" in m] == list(range(2, steps + 1, 2))
    assert modes == [False] * len(modes)


def test_a_model_that_is_good_enough_already_is_left_alone() -> None:
    before = small_llama().get_input_embeddings().weight.detach().clone()
    trainer = SFTTrainer(
        small_llama(), settings(max_steps=10, eval_at_start=True, target_success=(0.2, 0.6))
    )
    summary = trainer.train(samples(), evaluate=lambda model: {"success": 0.4})
    assert summary.stop is SFTStop.TARGET and summary.steps == 0
    assert summary.to_dict()["loss_first"] is None
    assert torch.equal(trainer.model.get_input_embeddings().weight, before)


def test_bounds_by_epochs_by_time_and_by_interruption() -> None:
    epochs = SFTTrainer(small_llama(), settings(max_epochs=2)).train(samples(12))
    assert (epochs.stop, epochs.steps, epochs.epochs) == (SFTStop.MAX_EPOCHS, 6, 2.0)
    timed = SFTTrainer(small_llama(), settings(max_seconds=1e-9)).train(samples())
    assert (timed.stop, timed.steps) == (SFTStop.MAX_SECONDS, 1)
    answers = iter([False, False, True])
    interrupted = SFTTrainer(small_llama(), settings(max_steps=10)).train(
        samples(), should_stop=lambda: next(answers)
    )
    assert (interrupted.stop, interrupted.steps) == (SFTStop.INTERRUPTED, 2)


def test_an_epoch_shows_every_demonstration_once() -> None:
    data = [TrainingSample() for _ in range(9)]
    for number, sample in enumerate(data):
        sample.append_context([5])
        sample.append_action([10 + number], [0.0], [NO_VERSION])
    seen: list[int] = []
    trainer = SFTTrainer(small_llama(), settings(max_epochs=2, batch_size=3))
    step = trainer.step
    trainer.step = lambda batch: (  # type: ignore[method-assign]
        seen.extend(int(s.ids_T[-1]) for s in batch),
        step(batch),
    )[1]
    trainer.train(data)
    assert sorted(seen[:9]) == sorted(seen[9:]) == list(range(10, 19))
    assert seen[:9] != seen[9:]


def test_a_saved_model_goes_on_where_it_was(tmp_path: Path) -> None:
    data = samples()
    trainer = SFTTrainer(small_llama(), settings(max_steps=20, dtype="bfloat16"))
    first = trainer.train(data)
    trainer.save(tmp_path / "model")
    assert {p.suffix for p in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    again = SFTTrainer(load_model(tmp_path / "model"), settings(max_steps=20)).train(data)
    assert first.loss_last is not None and again.loss_first is not None
    assert first.loss_first is not None
    assert abs(again.loss_first - first.loss_last) < abs(first.loss_first - first.loss_last) / 2


def test_wrong_requests_are_one_clear_line() -> None:
    for wrong, says in (
        ({"max_epochs": None}, "a bound is needed"),
        ({"max_steps": 0}, "greater than or equal to 1"),
        ({"target_success": [0.2, 0.6]}, "eval_every"),
        ({"target_success": [0.6, 0.2], "eval_every": 1}, "low first"),
    ):
        with pytest.raises(OrchError, match=says):
            GRPOConfig().from_dict({"sft": wrong}).settings  # noqa: B018
    with pytest.raises(OrchError, match="nothing to evaluate with"):
        SFTTrainer(small_llama(), settings(max_steps=1, eval_every=1)).train(samples())
    with pytest.raises(OrchError, match="no demonstration"):
        SFTTrainer(small_llama(), settings(max_steps=1)).train([TrainingSample()])


def test_the_last_evaluation_is_of_the_final_weights() -> None:
    trainer = SFTTrainer(small_llama(), settings(max_steps=5, eval_every=2))
    summary = trainer.train(samples(), evaluate=lambda model: {"success": 0.0})
    assert [e["step"] for e in summary.evaluations] == [2, 4, 5]
