"""The learner's gradient does not depend on how a batch is cut, and its state survives a disk."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from orch_env.types import OrchError, StopReason
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.learner.batch.packing import make_microbatches
from orch_train.learner.learner import Learner
from orch_train.learner.logprobs import action_logprobs
from orch_train.learner.objective.losses import LOSSES, register_loss
from orch_train.learner.optimizer import MAX_BAD_GRADIENTS
from orch_train.models.load import load_model
from orch_train.trajectory.sample import Group
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import group_of, random_groups, random_sample, small_llama

LR = 3e-3


def settings(**changes: Any) -> Settings:
    return settings_of(**{"lr": LR, "grad_clip": 1e9, "seed": 1, **changes})


def gradient(groups: list[Group], **changes: Any) -> dict[str, torch.Tensor]:
    """The summed gradient of one batch, caught before the optimizer takes it."""
    learner = Learner(small_llama(), settings(**changes))
    caught: dict[str, torch.Tensor] = {}

    def catch(*_: Any) -> None:
        caught.update(
            (n, p.grad.clone()) for n, p in learner.model.named_parameters() if p.grad is not None
        )

    hook = register_optimizer_step_pre_hook(catch)
    learner.update(groups)
    hook.remove()
    return caught


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "gspo"])
@pytest.mark.parametrize("layout", ["rows", "packed"])
@pytest.mark.parametrize("budget", [1, 50, 120])
def test_the_gradient_is_the_same_under_any_micro_batching(
    loss: str, layout: str, budget: int
) -> None:
    groups = random_groups(0)
    whole = gradient(groups, loss=loss, length_constant=9, max_tokens_per_microbatch=10**6)
    cut = gradient(
        groups, loss=loss, length_constant=9, max_tokens_per_microbatch=budget, layout=layout
    )
    assert max(g.abs().max() for g in whole.values()) > 1e-3
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=1e-6, rtol=1e-6)


def test_bfloat16_gradients_of_all_micro_batches_add_up() -> None:
    groups = random_groups(0)
    norms = [
        Learner(small_llama(), settings(dtype="bfloat16", max_tokens_per_microbatch=budget)).update(
            groups
        )["grad_norm"]
        for budget in (10**6, 20)
    ]
    exact = Learner(small_llama(), settings()).update(groups)["grad_norm"]
    assert norms == pytest.approx([exact, exact], rel=0.03)


def test_the_gradient_is_the_same_under_any_order_of_groups_and_members() -> None:
    groups = random_groups(0)
    shuffled = [
        Group(g.id, g.task_id, g.seed, random.Random(5).sample(g.samples, len(g.samples)))
        for g in reversed(groups)
    ]
    one = gradient(groups, max_tokens_per_microbatch=50)
    other = gradient(shuffled, max_tokens_per_microbatch=70)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-6, rtol=1e-6)


def test_the_gradient_equals_that_of_the_formula_on_single_sequences() -> None:
    """An oracle without packing, head selection or shared code: mean over all action tokens."""
    groups = random_groups(4, groups=2)
    model = small_llama()
    terms: list[torch.Tensor] = []
    for group in groups:
        mean = sum(group.rewards) / len(group.rewards)
        for sample in group.samples:
            ids, advantage = sample.ids_T.tolist(), sample.reward - mean
            logprobs_TV = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            for t, recorded in zip(sample.actions_N, sample.logprobs_N.tolist(), strict=True):
                ratio = (logprobs_TV[t - 1, ids[t]] - recorded).exp()
                terms.append(-torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
    torch.stack(terms).mean().backward()
    got = gradient(groups, max_tokens_per_microbatch=60)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=2e-6, rtol=1e-4)


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    groups = random_groups(2)
    plain, recomputed = gradient(groups), gradient(groups, gradient_checkpointing=True)
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, atol=1e-6, rtol=1e-6)


def on_policy_groups(model: Any, temperature: float = 1.0) -> list[Group]:
    """Groups whose recorded logprobs are the model's own."""
    groups = random_groups(7)
    for group in groups:
        for sample in group.samples:
            [batch] = make_microbatches([sample.weighted(1.0)], 10**6, layout="rows")
            with torch.no_grad():
                sample.logprobs_N = action_logprobs(model, batch, temperature).logprobs_N.numpy()
    return groups


def test_on_policy_data_shows_no_mismatch_at_the_first_step_and_some_at_the_second() -> None:
    model = small_llama()
    groups = on_policy_groups(model, temperature=0.7)
    learner = Learner(model, settings(temperature=0.7, updates_per_batch=2))
    metrics = learner.update(groups)
    assert metrics["mismatch_kl"] < 1e-9 and metrics["ratio_ess"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["ratio_max"] > 1.001  # the second step is off policy
    assert metrics["num_optimizer_steps"] == 2
    again = Learner(small_llama(), settings(temperature=1.0)).update(groups)
    assert again["mismatch_kl"] > 1e-3  # the wrong temperature is visible


def test_updates_raise_the_probability_of_what_was_rewarded() -> None:
    model = small_llama()
    groups = on_policy_groups(model)
    learner = Learner(model, settings(updates_per_batch=5, lr=1e-3))

    def weighted() -> float:
        total = 0.0
        for group in groups:
            mean = sum(group.rewards) / len(group.rewards)
            for t in group.samples:
                [batch] = make_microbatches([t.weighted(1.0)], 10**6, layout="rows")
                with torch.no_grad():
                    total += float(action_logprobs(model, batch, 1.0).logprobs_N.sum()) * (
                        t.reward - mean
                    )
        return total

    before = weighted()
    learner.update(groups)
    assert weighted() > before + 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_six_updates_equal_three_and_a_checkpoint_and_three(tmp_path: Path, dtype: str) -> None:
    batches = [random_groups(seed) for seed in range(6)]
    chosen = settings(dtype=dtype, updates_per_batch=2, lr_warmup_updates=8)
    straight = Learner(small_llama(), chosen)
    for groups in batches:
        straight.update(groups)

    first = Learner(small_llama(), chosen)
    for groups in batches[:3]:
        first.update(groups)
    first.save(tmp_path / "learner")
    second = Learner(small_llama(seed=9), chosen)
    second.load(tmp_path / "learner")
    assert second.num_updates == 6
    resumed = [second.update(groups) for groups in batches[3:]]

    assert second.num_updates == straight.num_updates == 12
    for name, value in straight.get_weights().items():
        assert torch.equal(second.get_weights()[name], value), name
    masters = second.get_weights(torch.float32)
    for name, value in straight.get_weights(torch.float32).items():
        assert torch.equal(masters[name], value), name
    assert all(math.isfinite(m["grad_norm"]) for m in resumed)


def test_saved_folders_hold_no_pickle_and_the_model_in_them_loads(tmp_path: Path) -> None:
    learner = Learner(small_llama(), settings(dtype="bfloat16"))
    learner.update(random_groups(0))
    learner.save(tmp_path / "state")
    suffixes = {p.suffix for p in (tmp_path / "state").rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".safetensors"}
    loaded = load_model(tmp_path / "state" / "model", "float32")
    assert loaded.get_input_embeddings().weight.data_ptr() == loaded.lm_head.weight.data_ptr()
    for name, value in learner.get_weights(torch.float32).items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_small_steps_are_not_lost_in_bfloat16() -> None:
    """One step of 1e-6 is far below bfloat16's resolution: only the master weights see it."""
    learner = Learner(small_llama(), settings(dtype="bfloat16", lr=1e-6))
    before, shown = learner.get_weights(torch.float32), learner.get_weights()
    learner.update(random_groups(0))
    moved = learner.get_weights(torch.float32)
    assert all(
        (moved[n] - v).abs().max() == pytest.approx(1e-6, rel=0.1) for n, v in before.items()
    )
    visible = [(v != shown[n]).float().mean() for n, v in learner.get_weights().items()]
    assert max(visible) < 0.05


def test_casting_to_bfloat16_leaves_the_rotary_frequencies_alone() -> None:
    model = small_llama()
    exact = model.model.rotary_emb.inv_freq.clone()
    learner = Learner(model, settings(dtype="bfloat16"))
    assert {p.dtype for p in learner.model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.model.rotary_emb.inv_freq, exact)


def test_weights_are_a_copy_that_a_fresh_model_takes_by_name() -> None:
    for tied in (True, False):
        learner = Learner(small_llama(tied=tied), settings())
        weights = learner.get_weights()
        kept = {n: v.clone() for n, v in weights.items()}
        learner.update(random_groups(0))
        assert all(torch.equal(weights[n], kept[n]) for n in kept)
        other = small_llama(tied=tied, seed=5)
        other.load_state_dict(learner.get_weights(), strict=True)
        ids = torch.tensor([[4, 5, 6, 7]])
        with torch.no_grad():
            assert torch.equal(other(ids).logits, learner.model(ids).logits)
        shared = weights["lm_head.weight"].data_ptr()
        assert (shared == weights["model.embed_tokens.weight"].data_ptr()) is tied


def test_a_batch_without_signal_takes_no_step_and_is_counted() -> None:
    rng = random.Random(0)
    groups = [
        group_of([random_sample(rng) for _ in range(3)], [1.0] * 3, "pass"),
        group_of([random_sample(rng) for _ in range(3)], [0.25] * 3, "fail"),
    ]
    learner = Learner(small_llama(), settings(weight_decay=0.1))
    before = learner.get_weights()
    metrics = learner.update(groups)
    assert metrics["num_optimizer_steps"] == 0 and learner.num_updates == 0
    assert metrics["zero_variance_groups"] == 2
    assert (metrics["zero_variance_all_pass"], metrics["zero_variance_all_fail"]) == (1, 1)
    assert all(torch.equal(v, before[n]) for n, v in learner.get_weights().items())


def test_dropping_uniform_groups_takes_their_tokens_out_of_the_denominator() -> None:
    rng = random.Random(1)
    mixed = group_of([random_sample(rng) for _ in range(2)], [0.0, 1.0], "mixed")
    flat = group_of([random_sample(rng) for _ in range(2)], [1.0, 1.0], "flat")
    alone = gradient([mixed])
    dropped = gradient([mixed, flat], zero_variance="drop")
    kept = gradient([mixed, flat], zero_variance="keep")
    mine = sum(t.num_actions for t in mixed.samples)
    all_tokens = mine + sum(t.num_actions for t in flat.samples)
    for name, value in alone.items():
        assert torch.equal(dropped[name], value)
        torch.testing.assert_close(kept[name], value * (mine / all_tokens), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("loss", ["dapo", "grpo"])
def test_masked_episodes_are_compared_but_none_of_their_tokens_counts(loss: str) -> None:
    """What is left is the gradient of the others, as if the cut one had not said a word."""
    rng = random.Random(3)
    samples = [random_sample(rng) for _ in range(4)]
    # The one to be cut is above the mean: below it the clip alone could silence it.
    rewards = [0.0, 1.0, 0.25, 0.5]

    def ended(*reasons: StopReason, silent: int | None = None) -> list[Group]:
        said = [random_sample(rng, turns=0) if i == silent else s for i, s in enumerate(samples)]
        group = group_of(said, rewards)
        for sample, reason in zip(group.samples, reasons, strict=True):
            sample.stop_reason = reason
        return [group]

    done, late = StopReason.ANSWERED, StopReason.MAX_TURNS
    others = gradient(ended(done, done, late, done, silent=1), loss=loss)
    # A mean over episodes still counts four of them.
    share = 1.0 if loss == "dapo" else 3 / 4
    for cut in (StopReason.CONTEXT_OVERFLOW, StopReason.OUTPUT_TRUNCATED):
        masked = gradient(ended(done, cut, late, done), loss=loss, mask_truncated=True)
        for name, value in others.items():
            torch.testing.assert_close(masked[name], value * share, atol=1e-7, rtol=1e-5)
    kept = gradient(ended(done, cut, late, done), loss=loss)
    assert any(float((kept[n] - masked[n]).abs().max()) > 1e-3 for n in kept)


def test_masked_episodes_are_counted_and_a_batch_of_them_takes_no_step() -> None:
    rng = random.Random(4)
    group = group_of([random_sample(rng) for _ in range(3)], [0.0, 1.0, 1.0])
    group.samples[1].stop_reason = StopReason.CONTEXT_OVERFLOW
    tokens = sum(group.samples[member].num_actions for member in (0, 2))
    learner = Learner(small_llama(), settings(mask_truncated=True, entropy_coeff=0.1))
    metrics = learner.update([group])
    assert metrics["num_trajectories_masked"] == 1 and metrics["num_action_tokens"] == tokens
    assert metrics["num_trajectories_learnt"] == 2 and metrics["num_trajectories"] == 3
    plain = Learner(small_llama(), settings()).update([group])
    assert plain["num_trajectories_masked"] == 0 and plain["num_trajectories_learnt"] == 3
    for sample in group.samples:
        sample.stop_reason = StopReason.OUTPUT_TRUNCATED
    assert learner.update([group])["num_optimizer_steps"] == 0


def test_a_trajectory_without_a_single_action_still_counts_in_its_group() -> None:
    rng = random.Random(2)
    empty = random_sample(rng, turns=0)
    group = group_of([random_sample(rng), random_sample(rng), empty], [1.0, 0.0, 0.0])
    metrics = Learner(small_llama(), settings()).update([group])
    assert metrics["num_trajectories"] == 3 and metrics["num_trajectories_learnt"] == 2
    assert metrics["advantage_abs_mean"] == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_an_entropy_bonus_raises_entropy_even_without_rewards() -> None:
    rng = random.Random(3)
    group = group_of([random_sample(rng) for _ in range(4)], [0.0] * 4)
    learner = Learner(small_llama(), settings(entropy_coeff=1.0))
    entropies = [learner.update([group])["entropy"] for _ in range(5)]
    assert entropies[-1] > entropies[0] + 0.05


def test_a_gradient_that_is_not_finite_is_skipped_counted_and_in_the_end_an_error() -> None:
    sound, factor = LOSSES["dapo"], 1.0

    def breaking(inputs: Any, clip: Any) -> torch.Tensor:
        return sound.token_losses(inputs, clip) * factor

    register_loss("breaking", replace(sound, token_losses=breaking))
    learner = Learner(small_llama(), settings(loss="breaking"))
    learner.update(random_groups(0))
    before = learner.get_weights()
    factor = math.nan
    for bad in range(1, MAX_BAD_GRADIENTS):
        metrics = learner.update(random_groups(1))
        assert metrics["num_optimizer_steps"] == 0
        assert metrics["num_bad_gradients_lifetime"] == bad and learner.num_updates == 1
    assert all(torch.equal(v, before[n]) for n, v in learner.get_weights().items())
    with pytest.raises(OrchError, match=f"not finite {MAX_BAD_GRADIENTS} times in a row"):
        learner.update(random_groups(2))


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "raises": ({"token_losses": lambda given, clip: {}["row"]}, "'raises' failed with KeyError"),
    "a mean": ({"token_losses": lambda given, clip: given.logprobs_N.mean()}, r"not shape \(\)"),
    "a number": ({"token_losses": lambda given, clip: 1.0}, "not a float"),
    "detached": (
        {"token_losses": lambda given, clip: -given.logprobs_N.detach()},
        "must give a tensor with gradient",
    ),
    "divides by nothing": ({"denominator": lambda counts: 1 / 0}, "failed with ZeroDivisionError"),
    "clips nothing": ({"clipped": lambda given, clip: None}, "failed with AttributeError"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_registered_loss_that_fails_is_one_line_with_file_and_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, message = FAILING[name]
    monkeypatch.setattr("orch_train.learner.objective.losses.LOSSES", dict(LOSSES))
    known: set[str] = set()
    for module in ("config.groups", "learner.objective.losses"):
        monkeypatch.setattr(f"orch_train.{module}.registered_losses", known)
    register_loss(name, replace(LOSSES["dapo"], **changed))
    learner = Learner(small_llama(), settings(loss=name))
    with pytest.raises(OrchError, match=rf"^training\.loss.*{message}") as caught:
        learner.update(random_groups(0))
    assert name == "clips nothing" or "test_learner.py:" in str(caught.value)


def test_an_error_in_a_loss_of_ours_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(LOSSES["dapo"], token_losses=lambda given, clip: {}["row"])
    monkeypatch.setitem(LOSSES, "dapo", broken)
    with pytest.raises(KeyError):
        Learner(small_llama(), settings(loss="dapo")).update(random_groups(0))


def test_progress_counts_every_token_of_every_update() -> None:
    seen: list[tuple[int, int]] = []
    learner = Learner(small_llama(), settings(updates_per_batch=2, max_tokens_per_microbatch=50))
    metrics = learner.update(random_groups(0), progress=lambda *at: seen.append(at))
    total = 2 * metrics["num_tokens_learnt"]
    assert seen[-1] == (total, total) and [d for d, _ in seen] == sorted({d for d, _ in seen})


@pytest.mark.parametrize("correction", ["none", "token_tis", "sequence_tis"])
def test_an_update_takes_one_forward_pass_per_micro_batch_and_optimizer_step(
    correction: str,
) -> None:
    """A correction's policy before the first update costs none of its own."""
    chosen = settings(correction=correction, updates_per_batch=3, max_tokens_per_microbatch=50)
    learner = Learner(small_llama(), chosen)
    passes: list[int] = []
    learner.model.model.register_forward_hook(lambda *_: passes.append(1))
    metrics = learner.update(random_groups(0))
    assert metrics["num_microbatches"] > 1 and metrics["num_optimizer_steps"] == 3
    assert len(passes) == 3 * metrics["num_microbatches"]


@pytest.mark.parametrize("missing", ["learner.json", "optimizer.safetensors", "rng.safetensors"])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path, missing: str) -> None:
    learner = Learner(small_llama(), settings())
    learner.update(random_groups(0))
    learner.save(tmp_path / "state")
    path = tmp_path / "state" / missing
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OrchError, match="damaged"):
        learner.load(tmp_path / "state")
    path.unlink()
    with pytest.raises(OrchError, match=missing):
        learner.load(tmp_path / "state")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    learner = Learner(small_llama(), settings())
    learner.update(random_groups(0))
    learner.save(tmp_path / "state")
    with pytest.raises(OrchError, match="does not fit this model"):
        Learner(small_llama(kv_heads=4), settings()).load(tmp_path / "state")
    optimizer = tmp_path / "state" / "optimizer.safetensors"
    save_file({**load_file(optimizer), "step/other": torch.zeros(())}, optimizer)
    with pytest.raises(OrchError, match="other"):
        learner.load(tmp_path / "state")


def test_saving_replaces_an_older_state_whole(tmp_path: Path) -> None:
    learner = Learner(small_llama(), settings())
    learner.update(random_groups(0))
    learner.save(tmp_path / "state")
    (tmp_path / "state" / "left_over.txt").write_text("old")
    learner.update(random_groups(1))
    learner.save(tmp_path / "state")
    assert not (tmp_path / "state" / "left_over.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    learner.load(tmp_path / "state")
    assert learner.num_updates == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"rollouts": {"temperature": 0.0}},
        {"training": {"loss": "ppo"}},
        {"training": {"advantage": "none"}},
        {"training": {"clip_low": 1.5}},
        {"training": {"updates_per_batch": 0}},
        {"training": {"correction": "is"}},
        {"training": {"correction": "token_tis", "correction_cap": 0.0}},
        {"training": {"correction": "token_tis", "correction_mask": [1.1, 2.0]}},
        {"training": {"correction_mask": [0.5, 2.0]}},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong: dict[str, dict[str, Any]]) -> None:
    [(group, changes)] = wrong.items()
    with pytest.raises(OrchError, match=rf"{group}\.{list(changes)[-1]}"):
        GRPOConfig().from_dict(wrong).settings  # noqa: B018


def test_clipping_bounds_the_step_and_reports_the_norm_before_it() -> None:
    free, clipped = (Learner(small_llama(), settings(grad_clip=bound)) for bound in (1e9, 1e-12))
    start = free.get_weights()
    norms = [learner.update(random_groups(0))["grad_norm"] for learner in (free, clipped)]
    assert norms[0] == norms[1] > 0
    moved = [
        max(float((v - start[n]).abs().max()) for n, v in learner.get_weights().items())
        for learner in (free, clipped)
    ]
    assert moved[0] == pytest.approx(LR, rel=0.05) and moved[1] < LR / 100


def test_weight_decay_shrinks_matrices_and_leaves_norms_alone() -> None:
    weights = []
    for decay in (0.0, 10.0):
        learner = Learner(small_llama(), settings(weight_decay=decay))
        learner.update(random_groups(0))
        weights.append(learner.get_weights(torch.float32))
    for name, plain in weights[0].items():
        assert torch.equal(weights[1][name], plain) is (plain.ndim < 2)


def test_random_numbers_go_on_where_the_checkpoint_was_taken(tmp_path: Path) -> None:
    learner = Learner(small_llama(), settings())
    learner.save(tmp_path / "state")
    expected = torch.rand(4)
    torch.manual_seed(123)
    learner.load(tmp_path / "state")
    assert torch.equal(torch.rand(4), expected)
