"""Adapters learn, the base stays, and nobody but the learner hears of them."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.learner.batch.packing import make_microbatches
from orch_train.learner.learner import Learner
from orch_train.learner.logprobs import action_logprobs
from orch_train.learner.lora import adapted_layers
from orch_train.learner.reference import AdapterFreeReference
from orch_train.models.load import load_model
from tests.orch_train.replies import groups_of
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import random_groups, small_llama

LORA = {"lora_rank": 4, "lora_alpha": 8.0}
IDS = torch.tensor([[5, 9, 23, 4, 41, 8]])


def learner(model: Any = None, **changes: Any) -> Learner:
    settings = settings_of(**{"lr": 1e-2, "seed": 1, **LORA, **changes})
    return Learner(model or small_llama(), settings)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result


def test_only_the_adapters_learn_and_what_they_learn_is_in_the_weights() -> None:
    base = small_llama()
    before = {n: w.clone() for n, w in base.state_dict().items()}
    lora = learner(base)
    assert lora.get_weights().keys() == before.keys()
    assert all(torch.equal(w, before[n]) for n, w in lora.get_weights().items())
    for seed in range(3):
        lora.update(random_groups(seed))
    trained = {n for n, p in lora.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2 and all(".lora_" in n for n in trained)
    changed = {n for n, w in lora.get_weights().items() if not torch.equal(w, before[n])}
    assert changed == {n for n in before if "_proj." in n}
    for name, layer in adapted_layers(lora.model).items():
        assert torch.equal(layer.base_layer.weight, before[f"{name}.weight"])


def test_merged_weights_in_a_plain_model_say_what_the_adapted_model_says() -> None:
    lora = learner()
    lora.update(random_groups(0))
    plain = small_llama(seed=5)
    plain.load_state_dict(lora.get_weights(), strict=True)
    assert float((logits(plain) - logits(lora.model)).abs().max()) < 1e-5
    assert float((logits(plain) - logits(small_llama())).abs().max()) > 1e-2


def test_the_reference_speaks_without_adapters_and_they_are_back_afterwards() -> None:
    lora = learner(kl_coeff=0.1)
    lora.update(random_groups(0))
    adapted = logits(lora.model)
    sample = random_groups(1)[0].samples[0]
    [batch] = make_microbatches([sample.weighted(1.0)], 10**6, layout="rows")
    spoken = AdapterFreeReference(lora.model, partial(action_logprobs, lora.model)).logprobs(
        batch, 1.0
    )
    base = action_logprobs(small_llama(), batch, 1.0).logprobs_N
    torch.testing.assert_close(spoken, base.detach(), atol=1e-6, rtol=0)
    assert not spoken.requires_grad
    assert torch.equal(logits(lora.model), adapted)
    assert all(p.requires_grad for n, p in lora.model.named_parameters() if ".lora_" in n)
    samples = [sample.weighted(1.0) for g in random_groups(1) for sample in g.samples]
    [whole] = make_microbatches(samples, 10**6, layout="rows")
    with torch.no_grad():
        now, then = (action_logprobs(m, whole, 1.0).logprobs_N for m in (lora.model, small_llama()))
    expected = float(((then - now).expm1() - (then - now)).mean())
    metrics = lora.update(random_groups(1))
    assert metrics["reference_kl"] == pytest.approx(expected, rel=1e-4) and expected > 1e-4
    assert metrics["num_optimizer_steps"] == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_six_updates_equal_three_and_a_checkpoint_and_three(tmp_path: Path, dtype: str) -> None:
    straight, first = learner(dtype=dtype), learner(dtype=dtype)
    for seed in range(6):
        straight.update(random_groups(seed))
    for seed in range(3):
        first.update(random_groups(seed))
    first.save(tmp_path / "half")
    # A resumed run starts from the merged model: the base must come out of the checkpoint.
    second = learner(load_model(tmp_path / "half" / "model"), dtype=dtype)
    second.load(tmp_path / "half")
    for seed in range(3, 6):
        second.update(random_groups(seed))
    mine, theirs = straight.model.state_dict(), second.model.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(theirs[name], value) for name, value in mine.items())


def test_a_saved_model_is_a_normal_one_and_its_adapter_fits_the_base(tmp_path: Path) -> None:
    from peft import PeftModel

    lora = learner()
    lora.update(random_groups(0))
    lora.save_model(tmp_path / "model")
    merged = load_model(tmp_path / "model")
    assert float((logits(merged) - logits(lora.model)).abs().max()) < 1e-5
    assert {p.suffix for p in (tmp_path / "model").rglob("*") if p.is_file()} <= {
        ".json",
        ".safetensors",
        ".md",
    }
    on_base = PeftModel.from_pretrained(small_llama(), tmp_path / "model" / "adapter")
    assert float((logits(on_base) - logits(lora.model)).abs().max()) < 1e-6


def test_adapters_of_another_shape_or_none_are_refused(tmp_path: Path) -> None:
    lora = learner()
    lora.update(random_groups(0))
    lora.save(tmp_path / "state")
    off = {"lora_rank": 0, "lora_alpha": None}
    for other in ({"lora_alpha": 4.0}, {"lora_rank": 2}, off):
        with pytest.raises(OrchError, match=r"model\.lora_"):
            learner(**other).load(tmp_path / "state")


def test_unknown_targets_are_answered_with_the_layers_that_there_are() -> None:
    with pytest.raises(OrchError, match=r"lora_targets qkv: .*gate_proj, k_proj"):
        learner(lora_targets=("qkv",))


def test_without_peft_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(OrchError, match=r"orch-rl\[lora\]"):
        learner()


def test_a_run_with_lora_and_a_penalty_resumes_to_the_bit(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    config = toy_config.model(lora_rank=4).training(kl_coeff=0.01, lr=1e-2)

    def steps(algo: GRPO, count: int) -> list[tuple[float, ...]]:
        rewards = []
        for _ in range(count):
            result = algo.train()
            rewards += [tuple(group.rewards) for group in groups_of(algo)]
        assert result["learners"]["default_policy"]["mismatch_kl"] < 1e-6
        return rewards

    with config.copy().build_algo() as straight:
        whole = steps(straight, 4)
        end = straight.learner.get_weights()
    with config.copy().build_algo() as first:
        begun = steps(first, 2)
        first.save_to_path(tmp_path / "half")
    with GRPO.from_checkpoint(tmp_path / "half") as second:
        assert begun + steps(second, 2) == whole
        weights = second.learner.get_weights()
    assert all(torch.equal(weights[name], value) for name, value in end.items())


def test_alpha_without_a_rank_is_a_mistake() -> None:
    with pytest.raises(OrchError, match="lora_alpha is only read"):
        _ = GRPOConfig().model(lora_alpha=16.0).settings
