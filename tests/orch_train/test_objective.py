"""The whole objective: the same however a batch is cut, and equal to its formula."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.learner.batch.batch import batch_counts, samples_to_learn, with_advantages
from orch_train.learner.batch.packing import Microbatch, make_microbatches
from orch_train.learner.logprobs import action_logprobs
from orch_train.learner.objective.losses import BatchCounts
from orch_train.learner.objective.objective import Objective
from orch_train.learner.objective.statistics import Sums, merge_sums
from orch_train.learner.reference import FrozenReference
from orch_train.trajectory.sample import Group, TrainingSample
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import group_of, random_groups, random_sample, small_llama

LOSS_NAMES = ("grpo", "dapo", "dr_grpo", "bnpo", "gspo", "cispo")


def reference() -> FrozenReference:
    return FrozenReference(lambda: small_llama(seed=3))


def with_turn_shares(groups: list[Group], seed: int) -> list[Group]:
    """Split each reward over its turns at random."""
    rng = random.Random(seed)
    for group in groups:
        for sample in group.samples:
            shares = [rng.random() for _ in sample.turns[1:]]
            sample.turn_rewards = [*shares, sample.reward - sum(shares)]
    return groups


def batch_of(groups: list[Group], settings: Settings) -> tuple[list[TrainingSample], BatchCounts]:
    """What is learned from, and what its loss is divided by."""
    samples = with_advantages(groups, settings.training)
    return samples_to_learn(samples, settings.training), batch_counts(samples, settings.training)


def objective_of(settings: Settings, policy: FrozenReference | None = None) -> Objective:
    return Objective(settings.training, settings.rollouts.temperature, policy)


def run(
    groups: list[Group], settings: Settings, *, passes: int = 1
) -> tuple[list[torch.Tensor], dict[str, float]]:
    """Gradient and statistics of one batch; the model moves a little between passes."""
    model = small_llama()
    objective = objective_of(settings, reference() if settings.training.kl_coeff > 0 else None)
    samples, counts = batch_of(groups, settings)
    learners = settings.learners
    microbatches = make_microbatches(
        samples, learners.max_tokens_per_microbatch, layout=learners.layout
    )
    objective.begin(counts)
    totals: Sums = {}
    for number in range(passes):
        totals = {}
        model.zero_grad()
        for index, microbatch in enumerate(microbatches):
            objective.prepare(index, microbatch)
            current = action_logprobs(
                model, microbatch, settings.rollouts.temperature, entropy_gradient=True
            )
            loss, sums = objective.loss(index, current)
            loss.backward()
            merge_sums(totals, sums)
        if number + 1 < passes:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.02)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return gradients, {key: float(value) for key, value in totals.items()}


OBJECTIVES = st.fixed_dictionaries(
    {
        "loss": st.sampled_from(LOSS_NAMES),
        "correction": st.sampled_from(["none", "token_tis", "sequence_tis"]),
        "kl_coeff": st.sampled_from([0.0, 0.1]),
        "kl_estimator": st.sampled_from(["k1", "k2", "k3"]),
        "entropy_coeff": st.sampled_from([0.0, 0.05]),
        "advantage": st.sampled_from(["group_mean", "group_std", "leave_one_out"]),
        "credit": st.sampled_from(["trajectory", "turn"]),
        "zero_variance": st.sampled_from(["keep", "drop"]),
    }
)


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    chosen=OBJECTIVES,
    seed=st.integers(0, 10**6),
    budget=st.integers(1, 150),
    layout=st.sampled_from(["rows", "packed"]),
    passes=st.sampled_from([1, 2]),
)
def test_gradients_and_statistics_are_the_same_under_any_cut_order_and_layout(
    chosen: dict[str, Any], seed: int, budget: int, layout: Any, passes: int
) -> None:
    if chosen["correction"] != "none":
        chosen = {**chosen, "correction_mask": (0.5, 2.0)}
    changes = {"length_constant": 7, "temperature": 0.8, **chosen}
    groups = with_turn_shares(random_groups(seed, groups=2, size=3), seed)
    rng = random.Random(seed)
    shuffled = [
        replace(group, samples=rng.sample(group.samples, len(group.samples)))
        for group in rng.sample(groups, len(groups))
    ]
    one = settings_of(max_tokens_per_microbatch=10**6, **changes)
    many = settings_of(max_tokens_per_microbatch=budget, layout=layout, **changes)
    whole, sums = run(groups, one, passes=passes)
    cut, cut_sums = run(shuffled, many, passes=passes)
    # Relative to the largest value: float32 sums of e^20 cannot agree to 1e-6 absolutely.
    scale = max(1.0, *(float(g.abs().max()) for g in whole))
    for one, other in zip(whole, cut, strict=True):
        assert float((one - other).abs().max()) <= 1e-6 * scale
    assert cut_sums == pytest.approx(sums, rel=1e-4, abs=1e-4)


def plain_logprobs(model: Any, microbatch: Microbatch, temperature: float) -> torch.Tensor:
    logits = model(input_ids=microbatch.input_ids_BT).logits.float() / temperature
    return logits.log_softmax(-1)[microbatch.row_N, microbatch.column_N]


def test_the_objective_equals_its_formula_on_whole_tensors() -> None:
    """Token weights, truncated; the clip around the proximal policy; k2; entropy: by hand."""
    settings = settings_of(
        loss="dapo", clip_low=0.05, clip_high=0.05, correction="token_tis", correction_cap=1.5,
        kl_coeff=0.1, kl_estimator="k2", entropy_coeff=0.01, max_tokens_per_microbatch=10**6,
    )  # fmt: skip
    groups = random_groups(1, groups=1)
    for sample in groups[0].samples:  # behaviour close to the policy: ratios near 1
        sample.logprobs_N = np.full_like(sample.logprobs_N, -4.2)
    gradients, sums = run(groups, settings, passes=2)

    model, other = small_llama(), small_llama(seed=3)
    [microbatch] = make_microbatches(batch_of(groups, settings)[0], 10**6, layout="rows")
    targets_N1 = microbatch.targets_N[:, None]

    def logprobs(which: Any) -> tuple[torch.Tensor, torch.Tensor]:
        all_NV = plain_logprobs(which, microbatch, 1.0)
        return all_NV.gather(1, targets_N1)[:, 0], -(all_NV.exp() * all_NV).sum(-1)

    with torch.no_grad():
        proximal_N, reference_N = logprobs(model)[0], logprobs(other)[0]
        for parameter in model.parameters():
            parameter.mul_(1.02)
    current_N, entropy_N = logprobs(model)
    weights_N = (proximal_N - microbatch.behaviour_logprobs_N).exp().clamp(max=1.5)
    assert 0 < (weights_N == 1.5).float().mean() < 1
    ratio_N = (current_N - proximal_N).exp()
    advantages_N = microbatch.advantages_N
    surrogate_N = torch.minimum(ratio_N * advantages_N, ratio_N.clamp(0.95, 1.05) * advantages_N)
    kl_N = (current_N - reference_N) ** 2 / 2
    loss = (-weights_N * surrogate_N + 0.1 * kl_N - 0.01 * entropy_N).mean()
    loss.backward()
    assert sums["policy_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert sums["reference_kl"] == pytest.approx(kl_N.sum().item(), rel=1e-5)
    assert sums["correction_truncated"] == (weights_N == 1.5).sum()
    for got, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, atol=2e-6, rtol=1e-4)


def test_a_dropped_sequence_leaves_no_trace_but_its_place_in_the_denominator() -> None:
    settings = settings_of(correction="token_tis", correction_mask=(0.5, 2.0))
    rng = random.Random(0)
    near, far = random_sample(rng), random_sample(rng)
    model = small_llama()
    for sample, gap in ((near, 0.0), (far, 5.0)):
        [microbatch] = make_microbatches([sample.weighted(1.0)], 10**6, layout="rows")
        with torch.no_grad():
            own_N = action_logprobs(model, microbatch, 1.0).logprobs_N
        sample.logprobs_N = (own_N - gap).clamp(max=0.0).numpy()
    # The far one alone would teach something; under the mask only the near one does.
    group = group_of([near, far], [1.0, 0.0])
    both, sums = run([group], settings)
    assert sums["correction_masked"] == far.num_actions
    objective = objective_of(settings)
    samples, counts = batch_of([group], settings)
    [microbatch] = make_microbatches(samples[:1], 10**6, layout="rows")
    objective.begin(counts)
    loss, _ = objective.loss(0, action_logprobs(model, microbatch, 1.0))
    loss.backward()
    for got, parameter in zip(both, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, atol=1e-6, rtol=1e-5)


def test_without_a_correction_the_ratio_is_to_the_recorded_policy_in_every_pass() -> None:
    groups = random_groups(5)
    plain = settings_of()
    first, _ = run(groups, plain)
    second, sums = run(groups, plain, passes=2)
    assert "correction_weight" not in sums
    # With one, the first pass is exactly on its own proximal policy: nothing is clipped.
    _, corrected = run(groups, settings_of(correction="token_tis", correction_cap=100.0))
    assert corrected["clipped"] == 0 and sums["clipped"] > 0
    assert max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True)) > 1e-4


def test_the_reference_is_loaded_at_first_use_and_asked_once_per_micro_batch() -> None:
    asked: list[int] = []

    class Counting(FrozenReference):
        def logprobs(self, microbatch: Microbatch, temperature: float) -> torch.Tensor:
            asked.append(len(microbatch.targets_N))
            return super().logprobs(microbatch, temperature)

    loaded: list[int] = []
    policy = Counting(lambda: loaded.append(1) or small_llama(seed=3))  # type: ignore[func-returns-value]
    settings = settings_of(kl_coeff=0.1, max_tokens_per_microbatch=40)
    objective = objective_of(settings, policy)
    assert not loaded
    samples, counts = batch_of(random_groups(0), settings)
    microbatches = make_microbatches(samples, 40, layout="rows")
    for _ in range(2):
        objective.begin(counts)
        for _ in range(3):
            for index, microbatch in enumerate(microbatches):
                objective.prepare(index, microbatch)
    assert loaded == [1] and len(asked) == 2 * len(microbatches) > 2


def test_a_policy_equal_to_its_reference_pays_no_penalty() -> None:
    groups = random_groups(2)
    settings = settings_of(kl_coeff=1.0)
    objective = objective_of(settings, FrozenReference(small_llama))
    samples, counts = batch_of(groups, settings)
    [microbatch] = make_microbatches(samples, 10**6, layout="rows")
    objective.begin(counts)
    objective.prepare(0, microbatch)
    _, sums = objective.loss(0, action_logprobs(small_llama(), microbatch, 1.0))
    assert abs(float(sums["reference_kl"])) < 1e-6


def test_a_penalty_without_a_reference_is_refused() -> None:
    with pytest.raises(OrchError, match="needs a reference"):
        objective_of(settings_of(kl_coeff=0.1))


def test_a_run_with_penalty_and_correction_reports_both(toy_config: GRPOConfig) -> None:
    config = toy_config.training(
        loss="grpo", kl_coeff=0.01, correction="token_tis", correction_mask=[0.5, 2.0],
        updates_per_batch=2,
    )  # fmt: skip
    with config.build_algo() as algo:
        first, second = (algo.train()["learners"]["default_policy"] for _ in range(2))
    # The first step starts at the reference; synchronous data is on policy.
    assert abs(first["reference_kl"]) < 1e-5 < 1e-4 < second["reference_kl"]
    for metrics in (first, second):
        assert metrics["correction_weight_mean"] == pytest.approx(1.0, abs=1e-3)
        assert metrics["correction_truncated_frac"] == metrics["correction_masked_frac"] == 0.0
        assert metrics["num_optimizer_steps"] == 2
