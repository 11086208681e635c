"""A group of learners is one learner: the same weights, the same files, and one clear end."""

from __future__ import annotations

import os
import re
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.batch.packing import balance_by_tokens, microbatches_for_rank
from orch_train.learner.group.learner_group import GroupShape, LearnerGroup
from orch_train.learner.group.learner_rank import LearnerRank, load_learner
from orch_train.learner.learner import Learner
from orch_train.learner.optimizer import BETAS
from orch_train.models.load import load_model
from orch_train.weight_sync.buckets import Manifest
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import random_groups, small_llama

MakeGroup = Callable[[Path, Settings], LearnerGroup]
TOLERANCE = 1e-6
"""Weights after 4 AdamW steps of 1e-3; sums are taken in another order."""
LORA = {"lora_rank": 4, "lora_alpha": 8.0}


def settings(**changes: Any) -> Settings:
    # The bound on the gradient is in reach: its norm must be that of all shards together.
    given = {"lr": 1e-3, "grad_clip": 0.05, "weight_decay": 0.1, "max_tokens_per_microbatch": 60}
    return settings_of(seed=1, **{**given, **changes})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "small"
    small_llama().save_pretrained(folder)
    return folder


@contextmanager
def fresh_group(model: Path, chosen: Settings, size: int = 2) -> Iterator[LearnerGroup]:
    """Processes of its own: some ten seconds, most of them imports."""
    shape = GroupShape([{"num_cpus": 0.25}] * size, 240.0, 120.0)
    learners = LearnerGroup(str(model), chosen, shape)
    try:
        yield learners
    finally:
        learners.stop()


@pytest.fixture(scope="module")
def two_processes(ray_local: None, model: Path) -> Iterator[LearnerGroup]:
    with fresh_group(model, settings()) as learners:
        yield learners


@pytest.fixture
def group(two_processes: LearnerGroup) -> MakeGroup:
    """Makes a new group in processes that are there already."""

    def begin(model: Path, chosen: Settings) -> LearnerGroup:
        two_processes.begin(str(model), chosen)
        return two_processes

    return begin


@pytest.fixture(scope="module")
def one_process(ray_local: None, model: Path) -> Iterator[LearnerGroup]:
    with fresh_group(model, settings(), size=1) as learner:
        yield learner


def alone(model: Path, chosen: Settings) -> Learner:
    return load_learner(str(model), chosen, None)


def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


def test_sequences_are_dealt_out_evenly_and_each_once() -> None:
    lengths = [900, 30, 500, 410, 20, 20, 350, 8]
    shares = balance_by_tokens(lengths, 3)
    assert sorted(i for share in shares for i in share) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in share) for share in shares]
    assert max(loads) == 900 and min(loads) == 578
    assert balance_by_tokens([5], 3) == [[0], [], []]


@pytest.mark.parametrize("layout", ["rows", "packed"])
def test_every_rank_runs_equally_many_micro_batches_and_idle_ones_hold_no_tokens(
    layout: Any,
) -> None:
    samples = [sample.weighted(1.0) for g in random_groups(3) for sample in g.samples]
    shares = [microbatches_for_rank(r, 5, samples, 1, layout=layout) for r in range(5)]
    assert len({len(share) for share in shares}) == 1
    real = [m for share in shares for m in share if not m.idle]
    assert sum(m.num_tokens for m in real) == sum(s.num_trained for s in samples)
    idle = [m for share in shares for m in share if m.idle]
    assert idle and all(m.num_tokens == 0 and m.num_cells > 0 for m in idle)


CASES = {
    "full": {},
    "long sequences alone, more of them on one rank": {"max_tokens_per_microbatch": 1},
    "packed, recomputed": {"layout": "packed", "gradient_checkpointing": True},
    "lora": LORA,
    "lora with its own base as reference": {**LORA, "kl_coeff": 0.1},
    "two updates a batch, corrected": {"updates_per_batch": 2, "correction": "token_tis"},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_two_ranks_learn_what_one_process_learns(
    group: MakeGroup, model: Path, changes: dict[str, Any]
) -> None:
    chosen = settings(**changes)
    single = alone(model, chosen)
    start = single.get_weights()
    learners = group(model, chosen)
    for seed in range(4 // chosen.training.updates_per_batch):
        # Nine sequences: alone in their micro-batches, one rank must idle once.
        ours = single.update(random_groups(seed, size=3))
        theirs = learners.update(random_groups(seed, size=3))
    assert learners.num_updates == single.num_updates == 4
    assert gap(learners.get_weights(), single.get_weights()) < TOLERANCE
    assert gap(start, single.get_weights()) > 1e-3
    for key in ("policy_loss", "entropy", "mismatch_kl", "grad_norm", "ratio_ess", "ratio_max"):
        assert theirs[key] == pytest.approx(ours[key], rel=1e-4, abs=1e-6), key
    for key in ("num_action_tokens", "num_tokens_learnt", "num_trajectories"):
        assert theirs[key] == ours[key]
    assert theirs.keys() == ours.keys()
    if chosen.learners.max_tokens_per_microbatch == 1:
        assert theirs["num_microbatches"] == ours["num_microbatches"] + 1 == 10


@pytest.mark.parametrize(
    "changes", [{}, {"dtype": "bfloat16", "kl_coeff": 0.1}, LORA], ids=["full", "bfloat16", "lora"]
)
def test_one_actor_learns_what_this_process_learns_to_the_bit(
    one_process: LearnerGroup, model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    chosen = settings(**changes)
    reference = str(model) if "kl_coeff" in changes else None
    here = load_learner(str(model), chosen, reference)
    one_process.begin(str(model), chosen, reference)
    for seed in range(2):
        ours = here.update(random_groups(seed, size=3))
        theirs = one_process.update(random_groups(seed, size=3))
        assert theirs.keys() == ours.keys()
        timed = {key for key in ours if key.startswith("time_") or key == "tokens_per_s"}
        assert {k: v for k, v in theirs.items() if k not in timed} == {
            k: v for k, v in ours.items() if k not in timed
        }
    assert one_process.num_updates == here.num_updates == 2
    assert gap(one_process.get_weights(), here.get_weights()) == 0.0
    here.save(tmp_path / "here")
    one_process.save(tmp_path / "there")
    for name in ("optimizer.safetensors", "model/model.safetensors"):
        kept, known = (load_file(tmp_path / place / name) for place in ("there", "here"))
        assert gap(kept, known) == 0.0 and {t.dtype for t in kept.values()} == {torch.float32}


def test_one_actor_is_in_no_process_group(one_process: LearnerGroup) -> None:
    (joined,) = one_process.on_every_rank(lambda _: torch.distributed.is_initialized())
    assert not joined


def test_held_weights_are_those_of_their_version_until_a_later_one_is_used(
    one_process: LearnerGroup, model: Path
) -> None:
    one_process.begin(str(model), settings())
    first, before = one_process.hold_weights(), one_process.get_weights()
    one_process.update(random_groups(0))
    second, after = one_process.hold_weights(), one_process.get_weights()
    assert gap(before, after) > 0.0
    assert first.manifest == second.manifest == Manifest.of(after)
    assert gap(dict(first.fetch()), before) == 0.0
    assert gap(dict(second.fetch()), after) == 0.0
    with pytest.raises(OrchError, match="cannot be fetched"):
        first.fetch()


def test_bfloat16_ranks_keep_float32_weights(group: MakeGroup, model: Path, tmp_path: Path) -> None:
    """A step of 1e-6 is below bfloat16's resolution: only the float32 shards can hold it."""
    chosen = settings(dtype="bfloat16", lr=1e-6, grad_clip=1.0, weight_decay=0.0)
    learners = group(model, chosen)
    learners.update(random_groups(0))
    learners.save_model(tmp_path / "out")
    assert {w.dtype for w in learners.get_weights().values()} == {torch.bfloat16}
    before = load_model(model).state_dict()
    after = load_model(tmp_path / "out").state_dict()
    for name, weight in before.items():
        assert float((after[name] - weight).abs().max()) == pytest.approx(1e-6, rel=0.2), name


@pytest.mark.parametrize("changes", [{}, LORA], ids=["full", "lora"])
def test_six_updates_are_three_a_checkpoint_and_three_to_the_bit(
    group: MakeGroup, model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    chosen = settings(**changes)
    straight = group(model, chosen)
    for seed in range(3):
        straight.update(random_groups(seed))
    straight.save(tmp_path / "half")
    for seed in range(3, 6):
        straight.update(random_groups(seed))
    end = straight.get_weights()
    # The checkpoint brings its own model, as a resumed run has it.
    resumed = group(tmp_path / "half" / "model", chosen)
    resumed.load(tmp_path / "half")
    assert resumed.num_updates == 3
    for seed in range(3, 6):
        resumed.update(random_groups(seed))
    assert gap(resumed.get_weights(), end) == 0.0


def test_checkpoints_go_from_one_learner_to_several_and_back(
    group: MakeGroup, model: Path, tmp_path: Path
) -> None:
    chosen = settings()
    single = alone(model, chosen)
    single.update(random_groups(0))
    single.save(tmp_path / "by_one")
    learners = group(model, chosen)
    learners.load(tmp_path / "by_one")
    assert gap(learners.get_weights(), single.get_weights()) == 0.0
    learners.save(tmp_path / "by_two")
    single.update(random_groups(1))
    learners.update(random_groups(1))
    assert gap(learners.get_weights(), single.get_weights()) < TOLERANCE
    by_one, by_two = (
        load_file(tmp_path / name / "optimizer.safetensors") for name in ("by_one", "by_two")
    )
    assert by_one.keys() == by_two.keys()
    assert all(torch.equal(by_one[key], by_two[key]) for key in by_one)
    back = alone(model, chosen)
    back.load(tmp_path / "by_two")
    back.update(random_groups(1))
    assert gap(back.get_weights(), single.get_weights()) == 0.0


def test_a_tied_head_travels_once_and_arrives_under_both_names(
    group: MakeGroup, model: Path
) -> None:
    learners = group(model, settings())
    weights = learners.get_weights()
    shared = weights["lm_head.weight"].data_ptr()
    assert shared == weights["model.embed_tokens.weight"].data_ptr()


class ReadOnce:
    """Run on a rank: from the second on, reading any weights is an error until it is undone."""

    def __init__(self, forbidden: bool) -> None:
        self.forbidden = forbidden

    def __call__(self, rank: LearnerRank) -> None:
        import orch_train.learner.group.learner_rank as learner_rank
        import orch_train.learner.learner as learner
        import orch_train.learner.saved_state as saved_state

        def refused(*_: Any, **__: Any) -> None:
            raise AssertionError("only the first rank reads weights")

        if rank.rank:
            for module in (learner, learner_rank):
                module.load_model = refused if self.forbidden else load_model  # type: ignore
            saved_state.load_file = refused if self.forbidden else load_file  # type: ignore


@pytest.mark.parametrize("changes", [{}, LORA], ids=["full", "lora"])
def test_only_the_first_rank_reads_weights_and_buffers_are_right_everywhere(
    group: MakeGroup,
    two_processes: LearnerGroup,
    model: Path,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    chosen = settings(**changes)
    single = alone(model, chosen)
    single.update(random_groups(0))
    single.save(tmp_path / "saved")
    two_processes.on_every_rank(ReadOnce(True))
    try:
        learners = group(model, chosen)
        assert gap(learners.get_weights(), alone(model, chosen).get_weights()) == 0.0
        learners.load(tmp_path / "saved")
    finally:
        two_processes.on_every_rank(ReadOnce(False))
    assert gap(learners.get_weights(), single.get_weights()) == 0.0
    expected = dict(single.model.named_buffers())
    assert any(name.endswith("inv_freq") for name in expected)
    for buffers in two_processes.on_every_rank(
        lambda rank: dict(rank.learner.model.named_buffers())
    ):
        assert buffers.keys() == expected.keys()
        assert all(torch.equal(buffers[name], value) for name, value in expected.items())


def test_heads_that_differ_in_the_file_stay_two_on_every_rank(
    group: MakeGroup, tmp_path: Path
) -> None:
    """The configuration ties them, the file does not, and transformers believes the file."""
    untied = small_llama(tied=False)
    untied.config.tie_word_embeddings = True
    untied.config.save_pretrained(tmp_path)
    weights = {name: w.clone() for name, w in untied.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    chosen = settings()
    single, learners = alone(tmp_path, chosen), group(tmp_path, chosen)
    single.update(random_groups(0))
    learners.update(random_groups(0))
    end = learners.get_weights()
    assert gap(end, single.get_weights()) < TOLERANCE
    assert not torch.equal(end["lm_head.weight"], end["model.embed_tokens.weight"])


def test_ranks_that_find_different_models_say_so(
    two_processes: LearnerGroup, model: Path, tmp_path: Path
) -> None:
    small_llama(kv_heads=4).save_pretrained(tmp_path)

    def begin(rank: LearnerRank) -> str:
        try:
            rank.build(str(tmp_path if rank.rank else model), settings(), None)
        except OrchError as problem:
            return str(problem)
        return "all agree"

    for said in two_processes.on_every_rank(begin):
        assert re.search(r"rank 1 disagrees .*k_proj.*same model folder", said)


class MostAtOnce:
    """Run on a rank: the largest sum of full tensors that were alive at one time, in bytes."""

    def __init__(self, method: str, *arguments: Any) -> None:
        self.method, self.arguments = method, arguments

    def __call__(self, rank: LearnerRank) -> int:
        ranks: Any = rank.ranks  # the learner's
        gather, alive, most = ranks.gather_full, [], [0]

        def gather_full(tensor: torch.Tensor) -> torch.Tensor:
            full: torch.Tensor = gather(tensor)
            alive.append(weakref.ref(full))
            there = [known for ref in alive if (known := ref()) is not None]
            most[0] = max(most[0], sum(known.nbytes for known in there))
            return full

        ranks.gather_full = gather_full
        try:
            getattr(rank, self.method)(*self.arguments)
        finally:
            del ranks.gather_full
        return most[0]


@pytest.mark.parametrize("changes", [{}, LORA], ids=["full", "lora"])
def test_only_the_first_rank_gathers_the_model_or_the_optimizer(
    group: MakeGroup, model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    learners = group(model, settings(**changes))
    learners.update(random_groups(0))
    largest = max(w.nbytes for w in load_model(model).state_dict().values())
    for call in (
        MostAtOnce("get_weights"),
        MostAtOnce("save", str(tmp_path / "saved")),
        MostAtOnce("save_model", str(tmp_path / "model")),
    ):
        most = learners.on_every_rank(call)
        # One tensor, the one that is just being dropped, and scalars.
        assert 0 < most[1] <= 2.1 * largest, call.method


def test_the_gradient_is_clipped_by_its_norm_over_all_shards(
    group: MakeGroup, model: Path, tmp_path: Path
) -> None:
    """Adam forgets the scale of a gradient, so the moments are looked at: they keep it."""
    chosen = settings(weight_decay=0.0)
    single, learners = alone(model, chosen), group(model, chosen)
    for learner, name in ((single, "one"), (learners, "two")):
        metrics = learner.update(random_groups(0, size=3))
        assert metrics["grad_norm"] > 3 * chosen.training.grad_clip
        learner.save(tmp_path / name)
    one, two = (load_file(tmp_path / name / "optimizer.safetensors") for name in ("one", "two"))
    first = {key: value for key, value in two.items() if key.startswith("exp_avg/")}
    norm = sum(float(value.double().square().sum()) for value in first.values()) ** 0.5
    assert norm == pytest.approx((1 - BETAS[0]) * chosen.training.grad_clip, rel=1e-4)
    # The shards are uneven, and so are their norms: neither alone is the bound.
    halves = [
        sum(float(h.square().sum()) for h in half) ** 0.5
        for half in zip(*(value.chunk(2) for value in first.values()), strict=True)
    ]
    assert all(half < 0.95 * norm for half in halves)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-9)


def test_a_folder_that_is_no_checkpoint_leaves_the_group_as_it_was(
    group: MakeGroup, model: Path, tmp_path: Path
) -> None:
    learners = group(model, settings())
    before = learners.get_weights()
    with pytest.raises(OrchError, match="no saved learner"):
        learners.load(tmp_path / "gone")
    assert gap(learners.get_weights(), before) == 0.0
    learners.update(random_groups(0))


def test_a_killed_rank_ends_the_group_with_one_clear_error(ray_local: None, model: Path) -> None:
    with fresh_group(model, settings()) as learners:
        learners.update(random_groups(0))
        os.kill(learners.on_every_rank(lambda _: os.getpid())[1], signal.SIGKILL)
        with pytest.raises(OrchError, match=r"after 1 updates: rank \d.*--resume") as caught:
            learners.update(random_groups(1))
        assert "\n" not in str(caught.value)
        with pytest.raises(OrchError, match="gone"):
            learners.get_weights()


@pytest.mark.long
def test_a_rank_that_hangs_ends_the_group_in_time(ray_local: None, model: Path) -> None:
    with fresh_group(model, settings()) as learners:
        pid = learners.on_every_rank(lambda _: os.getpid())[1]
        learners.shape = replace(learners.shape, call_timeout_s=2.0)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(OrchError, match=r"rank .*1 did not finish 'update' within 2 s"):
            learners.update(random_groups(1))
        os.kill(pid, signal.SIGKILL)


def test_a_batch_that_all_ranks_refuse_leaves_the_group_as_it_was(
    group: MakeGroup, model: Path
) -> None:
    learners = group(model, settings())
    before = learners.get_weights()
    with pytest.raises(OrchError, match="at least one group"):
        learners.update([])
    assert gap(learners.get_weights(), before) == 0.0
    learners.update(random_groups(0))


def test_progress_of_a_group_ends_at_its_whole(group: MakeGroup, model: Path) -> None:
    seen: list[tuple[int, int]] = []
    learners = group(model, settings(max_tokens_per_microbatch=1))
    learners.update(random_groups(0), progress=lambda *at: seen.append(at))
    assert seen[-1][0] == seen[-1][1] and all(done <= total for done, total in seen)
