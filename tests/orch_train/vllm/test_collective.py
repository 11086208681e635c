"""The learner's weights broadcast into vLLM's worker: served in full, or nothing was touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from orch_train.runners.collective_sync import CollectiveSync
from orch_train.weight_sync.collective import TransferError
from orch_train.weight_sync.delivery import ThreadSender
from tests.orch_train.vllm.conftest import Served, learner_logprobs

PROMPT = [72, 101, 108]


@pytest.fixture(scope="module")
def served(tied: Served) -> Iterator[Served]:
    served = Served(tied.folder, collective=True)
    yield served
    served.close()


def deliver(served: Served, sync: CollectiveSync, weights: Any) -> None:
    (delivery,) = sync.begin([served], weights)
    served.version += 1
    served.run(served.engine.take(delivery, served.version))
    assert sync.end() is None


def test_engine_and_learner_agree_after_each_of_three_collective_updates(served: Served) -> None:
    sync = CollectiveSync(ThreadSender(), "127.0.0.1", 1, 60.0, bucket_bytes=10_000)
    model = served.model()
    served.sync(model.state_dict())
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.2)
        deliver(served, sync, model.state_dict())
        out = served.sample(PROMPT)
        assert set(out.versions) == {served.version}
        wanted = learner_logprobs(model, PROMPT, out.token_ids)
        assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)
    assert sync.generation == 1


def test_a_transfer_that_never_begins_leaves_the_engine_as_it_was(served: Served) -> None:
    """Another runner is missing; then both ways of bringing weights work again."""
    sync = CollectiveSync(ThreadSender(), "127.0.0.1", 1, 2.0)
    model = served.model()
    served.sync(model.state_dict())
    delivery, _ = sync.begin([served, "who never comes"], model.state_dict())
    with pytest.raises(TransferError, match="rank 2 was not ready within 2 s"):
        served.run(served.engine.take(delivery, served.version + 1))
    assert "rank 2" in str(sync.end())
    out = served.sample(PROMPT)
    assert set(out.versions) == {served.version}
    wanted = learner_logprobs(model, PROMPT, out.token_ids)
    assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    deliver(served, CollectiveSync(ThreadSender(), "127.0.0.1", 1, 60.0), model.state_dict())
    wanted = learner_logprobs(model, PROMPT, (out := served.sample(PROMPT)).token_ids)
    assert torch.tensor(out.logprobs) == pytest.approx(wanted, abs=1e-3)
