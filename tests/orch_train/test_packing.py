"""Packing changes where a token is computed, never what comes out."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from orch_env.types import OrchError
from orch_train.learner import logprobs as logprobs_module
from orch_train.learner.batch.packing import Layout, make_microbatches, plan_packed, plan_rows
from orch_train.learner.logprobs import action_logprobs, check_head
from orch_train.trajectory.sample import TrainingSample
from tests.orch_train.small_models import VOCABULARY, random_sample, small_llama

TEMPERATURE = 0.7


def some_samples(count: int = 7, seed: int = 0) -> list[TrainingSample]:
    rng = random.Random(seed)
    return [random_sample(rng, rng.randint(1, 4)).weighted(1.0) for _ in range(count)]


def small_gpt2() -> GPT2LMHeadModel:
    """Learned absolute positions: unlike rotary ones they show where a sequence begins."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=80, n_embd=32, n_layer=2, n_head=4,
        initializer_range=0.3,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def small_mistral() -> MistralForCausalLM:
    """A sliding window shorter than the sequences."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=5, initializer_range=0.3,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, sample: TrainingSample) -> torch.Tensor:
    """The oracle: the whole model on one sample alone, shifted by hand."""
    ids_T = torch.from_numpy(sample.ids_T[: sample.num_trained]).long()
    logits_TV = model(input_ids=ids_T[None]).logits[0].float() / TEMPERATURE
    logprobs_TV = logits_TV.log_softmax(-1)
    return torch.stack([logprobs_TV[t - 1, ids_T[t]] for t in sample.actions_N])


@pytest.mark.parametrize("layout", ["rows", "packed"])
@pytest.mark.parametrize("budget", [1, 40, 100, 10_000])
@pytest.mark.parametrize("make_model", [small_llama, small_gpt2, small_mistral])
def test_packed_logprobs_equal_those_of_each_sequence_alone(
    layout: Layout, budget: int, make_model: Callable[[], PreTrainedModel]
) -> None:
    model = make_model()
    given = some_samples()
    got: dict[bytes, torch.Tensor] = {}
    for batch in make_microbatches(given, budget, layout=layout):
        with torch.no_grad():
            logprobs_N = action_logprobs(model, batch, TEMPERATURE).logprobs_N
        for index in batch.sequence_N.unique():
            chosen = batch.sequence_N == index
            targets = batch.targets_N[chosen].numpy().tobytes()
            got[targets] = logprobs_N[chosen]
    assert len(got) == len(given)
    for sample in given:
        mine = got[sample.ids_T[sample.actions_N].astype(np.int64).tobytes()]
        torch.testing.assert_close(mine, plain_logprobs(model, sample), atol=1e-5, rtol=0)


def test_the_plain_and_the_packed_layout_hold_the_same_action_streams() -> None:
    given = some_samples()
    for layout in ("rows", "packed"):
        batches = make_microbatches(given, 60, layout=layout)  # type: ignore[arg-type]
        assert sum(b.num_tokens for b in batches) == sum(s.num_trained for s in given)
        targets = sorted(t for b in batches for t in b.targets_N.tolist())
        assert targets == sorted(t for s in given for t in s.ids_T[s.actions_N].tolist())


def test_what_follows_the_last_action_is_left_out() -> None:
    sample = random_sample(random.Random(3), turns=1)
    sample.append_context([5, 6, 7, 8])
    [batch] = make_microbatches([sample.weighted(1.0)], 100, layout="rows")
    assert batch.input_ids_BT.tolist() == [sample.ids_T[: sample.turns[-1, 1]].tolist()]
    assert batch.num_tokens == sample.turns[-1, 1] < len(sample)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), budget=st.integers(1, 200))
def test_plans_cover_each_sequence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    for plan, cost in (
        (plan_rows(lengths, budget), lambda b: max(b) * len(b)),
        (plan_packed(lengths, budget), sum),
    ):
        assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
        for batch in plan:
            assert len(batch) == 1 or cost([lengths[i] for i in batch]) <= budget


def test_entropy_equals_that_of_the_categorical_distribution() -> None:
    model = small_llama()
    [batch] = make_microbatches(some_samples(3), 10_000, layout="rows")
    with torch.no_grad():
        got = action_logprobs(model, batch, TEMPERATURE).entropy_N
        logits_BTV = model(input_ids=batch.input_ids_BT).logits / TEMPERATURE
    expected = torch.distributions.Categorical(
        logits=logits_BTV[batch.row_N, batch.column_N]
    ).entropy()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@settings(max_examples=5, deadline=None)
@given(limit=st.sampled_from([VOCABULARY, 3 * VOCABULARY, 11 * VOCABULARY]))
def test_a_chunked_head_gives_the_same_gradient(limit: int) -> None:
    [batch] = make_microbatches(some_samples(4), 10_000, layout="rows")
    gradients = []
    whole = logprobs_module.MAX_LOGITS
    for logits in (whole, limit):
        model = small_llama()
        logprobs_module.MAX_LOGITS = logits
        try:
            out = action_logprobs(model, batch, 1.0, entropy_gradient=True)
            (out.logprobs_N.sum() + 0.1 * out.entropy_N.sum()).backward()
        finally:
            logprobs_module.MAX_LOGITS = whole
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_packed_row_costs_no_mask_and_leaves_other_uses_of_the_model_alone() -> None:
    model = small_llama()
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    padded = torch.tensor([[1] * 9, [0] * 4 + [1] * 5])
    with torch.no_grad():
        before = [model(ids).logits, model(ids, attention_mask=padded).logits]
        [batch] = make_microbatches(some_samples(), 10_000, layout="packed")
        action_logprobs(model, batch, 1.0)
        after = [model(ids).logits, model(ids, attention_mask=padded).logits]
    assert batch.borders is not None and batch.borders.shape == (1, 1, 1, len(some_samples()) + 1)
    assert batch.num_cells == batch.num_tokens
    assert all(map(torch.equal, before, after))


def test_packing_a_model_whose_attention_is_not_torchs_is_refused() -> None:
    config = small_llama().config
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config)
    [batch] = make_microbatches(some_samples(), 10_000, layout="packed")
    with pytest.raises(OrchError, match="use layout 'rows'"):
        action_logprobs(model, batch, 1.0)


def test_the_head_never_holds_more_logits_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, and again where the backward pass computes them a second time."""
    seen: list[int] = []
    monkeypatch.setattr(logprobs_module, "MAX_LOGITS", 5 * VOCABULARY + 3)
    model = small_llama()
    model.lm_head.register_forward_hook(lambda _m, _i, out: seen.append(out.numel()))
    [batch] = make_microbatches(some_samples(), 10_000, layout="rows")
    out = action_logprobs(model, batch, 1.0)
    out.logprobs_N.sum().backward()
    assert max(seen) == 5 * VOCABULARY
    assert sum(seen) == 2 * VOCABULARY * len(batch.targets_N)  # only action tokens, twice


def test_an_action_at_the_very_start_is_refused() -> None:
    broken = TrainingSample()
    broken.append_action([4, 5], [0.0, 0.0], [0, 0])
    with pytest.raises(OrchError, match="cannot begin with an action"):
        make_microbatches([broken.weighted(1.0)], 100, layout="rows")


def test_a_sample_that_has_no_advantages_yet_is_refused() -> None:
    with pytest.raises(OrchError, match="an advantage for each"):
        make_microbatches([random_sample(random.Random(0))], 100, layout="rows")


def test_a_model_that_changes_its_logits_after_the_head_is_refused() -> None:
    config = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, final_logit_softcapping=0.5,
        initializer_range=0.5,
    )  # fmt: skip
    with pytest.raises(OrchError, match="after the output head"):
        check_head(Gemma2ForCausalLM(config).eval())
    check_head(small_llama())
