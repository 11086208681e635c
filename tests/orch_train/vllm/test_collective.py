"""The learner's weights broadcast into vLLM's worker: served in full, or nothing was touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from orch_train.runners.collective_sync import CollectiveSync, LocalSource
from orch_train.weight_sync.collective import TransferError, WeightSender
from tests.orch_train.vllm.conftest import Served, learner_logprobs

PROMPT = [72, 101, 108]


@pytest.fixture(scope="module")
def served(tied: Served) -> Iterator[Served]:
    served = Served(tied.folder, collective=True)
    yield served
    served.close()


def broadcast(served: Served, sync: CollectiveSync, source: LocalSource) -> None:
    (job,) = sync.begin([served], source)
    served.version += 1
    served.run(served.engine.receive(job, served.version))
    assert sync.end() is None


def test_engine_and_learner_agree_after_each_of_three_collective_updates(served: Served) -> None:
    sync, sender = CollectiveSync("127.0.0.1", 1, 60.0), WeightSender()
    model = served.model()
    served.sync(model.state_dict())
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.2)
        broadcast(served, sync, LocalSource(model.state_dict(), sender, bucket_bytes=10_000))
        out = served.sample(PROMPT)
        assert set(out.versions) == {served.version}
        wanted = learner_logprobs(model, PROMPT, out.token_ids)
        assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)
    assert sync.generation == 1


def test_a_transfer_that_never_begins_leaves_the_engine_as_it_was(served: Served) -> None:
    """Another runner is missing; then both ways of bringing weights work again."""
    sync = CollectiveSync("127.0.0.1", 1, 2.0)
    model = served.model()
    served.sync(model.state_dict())
    job, _ = sync.begin(
        [served, "who never comes"], LocalSource(model.state_dict(), WeightSender())
    )
    with pytest.raises(TransferError, match="rank 2 was not ready within 2 s"):
        served.run(served.engine.receive(job, served.version + 1))
    assert "rank 2" in str(sync.end())
    out = served.sample(PROMPT)
    assert set(out.versions) == {served.version}
    wanted = learner_logprobs(model, PROMPT, out.token_ids)
    assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    source = LocalSource(model.state_dict(), WeightSender())
    broadcast(served, CollectiveSync("127.0.0.1", 1, 60.0), source)
    wanted = learner_logprobs(model, PROMPT, (out := served.sample(PROMPT)).token_ids)
    assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)
