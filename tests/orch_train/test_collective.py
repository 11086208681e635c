"""Weights over a process group: they arrive bit for bit, or every rank hears why not, in time.

The receivers are real processes over gloo; only the backend and the device differ on GPUs.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orch_train.weight_sync.buckets import Manifest, buckets
from orch_train.weight_sync.collective import (
    BroadcastJob,
    Rendezvous,
    TransferError,
    WeightReceiver,
    WeightSender,
)

RECEIVERS = 2
LIMIT_S = 30.0
KINDS = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


def weights(spec: list[tuple[torch.dtype, tuple[int, ...]]], seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        f"layer{i}.weight": torch.randint(0, 200, shape, generator=draw).to(kind)
        for i, (kind, shape) in enumerate(spec)
    }


def receive_for_ever(pipe: Connection, rank: int) -> None:
    """Answers (job, tensors to take before it dies) by the weights, or why they did not come."""
    torch.set_num_threads(1)
    receiver = WeightReceiver(offset=rank)
    pipe.send("here")
    while (order := pipe.recv()) is not None:
        job, dies_after = order
        try:
            if dies_after == "at once":
                os._exit(1)
            taken = {}
            for name, tensor in receiver.open(job):
                taken[name] = tensor
                if len(taken) == dies_after:
                    os._exit(1)
            # Bytes, since tensors would travel as shared memory of a process that may end.
            pipe.send({name: (t.dtype, tuple(t.shape), as_bytes(t)) for name, t in taken.items()})
        except TransferError as problem:
            pipe.send(str(problem))


def as_bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class Receivers:
    """Processes that live over many tests; one that died is made anew."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._members: dict[int, tuple[Any, Connection]] = {}
        self._point: Rendezvous | None = None
        self._sender = WeightSender()
        self._transfer_id = self._generation = 0

    def new_group(self, timeout_s: float = LIMIT_S) -> None:
        for rank in range(1, RECEIVERS + 1):
            if rank not in self._members or not self._members[rank][0].is_alive():
                ours, theirs = self._context.Pipe()
                process = self._context.Process(target=receive_for_ever, args=(theirs, rank))
                process.start()
                self._members[rank] = (process, ours)
                assert self.heard(rank) == "here"
        self._generation += 1
        self._point = Rendezvous("127.0.0.1", self._generation, RECEIVERS + 1, "gloo", timeout_s)

    def order(self, manifest: Manifest, dies_after: dict[int, Any] | None = None) -> int:
        """Have everyone receive; returns the transfer's number."""
        assert self._point is not None
        self._transfer_id += 1
        job = BroadcastJob(self._point.address, manifest, self._transfer_id, rank=0)
        for rank, (_, pipe) in self._members.items():
            pipe.send((job, (dies_after or {}).get(rank)))
        return self._transfer_id

    def send(self, sent: dict[str, Tensor], manifest: Manifest, transfer_id: int) -> None:
        assert self._point is not None
        self._sender.send(sent, manifest, self._point.address, transfer_id)

    def abort(self, why: str) -> None:
        assert self._point is not None
        self._point.abort(why)

    def heard(self, rank: int) -> Any:
        assert self._members[rank][1].poll(LIMIT_S)
        return self._members[rank][1].recv()

    def process(self, rank: int) -> Any:
        return self._members[rank][0]

    def close(self) -> None:
        for process, pipe in self._members.values():
            if process.is_alive():
                pipe.send(None)
            process.join(10)


@pytest.fixture(scope="module")
def group() -> Iterator[Receivers]:
    receivers = Receivers()
    receivers.new_group()
    yield receivers
    receivers.close()


SPECS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 7), max_size=3).map(tuple)),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(spec=SPECS, bucket_bytes=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_whatever_is_sent_arrives_bit_for_bit(
    group: Receivers, spec: list[tuple[torch.dtype, tuple[int, ...]]], bucket_bytes: int, seed: int
) -> None:
    sent = weights(spec, seed)
    sent["tied"] = sent["layer0.weight"] if spec else torch.tensor(1.0)
    manifest = Manifest.of(sent, bucket_bytes)
    group.send(sent, manifest, group.order(manifest))
    for rank in range(1, RECEIVERS + 1):
        got = group.heard(rank)
        assert got == {n: (t.dtype, tuple(t.shape), as_bytes(t)) for n, t in sent.items()}


@given(spec=SPECS, bucket_bytes=st.integers(1, 300))
def test_buckets_are_bounded_and_hold_every_byte_once(
    spec: list[tuple[torch.dtype, tuple[int, ...]]], bucket_bytes: int
) -> None:
    sent = weights(spec, 0)
    manifest = Manifest.of(sent, bucket_bytes)
    cut = list(buckets(manifest))
    stream = []
    for number, bucket in enumerate(cut):
        place = 0
        for piece in bucket:
            assert piece.place == place
            place += piece.length
            stream += [(piece.tensor, piece.start + i) for i in range(piece.length)]
        assert place <= bucket_bytes
        assert place == bucket_bytes or number == len(cut) - 1
    sizes = [t.numel() * t.element_size() for t in sent.values()]
    assert stream == [(n, i) for n, size in enumerate(sizes) for i in range(size)]
    ends = [piece.tensor for bucket in cut for piece in bucket if piece.last]
    assert ends == list(range(len(sizes)))  # each becomes complete once, empty ones too


def test_tied_tensors_travel_once() -> None:
    shared = torch.ones(3, 4)
    manifest = Manifest.of({"a": shared, "b": shared, "c": shared.t(), "d": shared.clone()})
    assert (manifest.names, manifest.again) == (["a", "c", "d"], {"b": "a"})


def test_a_receiver_with_another_manifest_refuses_before_anything_is_sent(
    group: Receivers,
) -> None:
    group.new_group()
    sent = weights([(torch.float32, (4, 4))], 0)
    expected = Manifest.of(weights([(torch.bfloat16, (4, 4))], 0))
    with pytest.raises(TransferError, match=r"rank \d expects other weights than the sender has"):
        group.send(sent, Manifest.of(sent), group.order(expected))
    for rank in range(1, RECEIVERS + 1):
        assert "expects other weights" in group.heard(rank)
    assert all(group.process(rank).is_alive() for rank in range(1, RECEIVERS + 1))


BIG = [(torch.float32, (256, 1024))] * 4
"""4 MiB: more than the kernel's socket buffers would swallow for a receiver that is gone."""


def test_a_receiver_that_dies_in_the_middle_is_one_error_for_all_the_others(
    group: Receivers,
) -> None:
    group.new_group(timeout_s=3600.0)
    sent = weights(BIG, 0)
    manifest = Manifest.of(sent, 1 << 16)
    with pytest.raises(TransferError, match="the connection broke"):
        group.send(sent, manifest, group.order(manifest, {1: 2}))
    assert isinstance(group.heard(2), str)
    assert not group.process(1).is_alive() and group.process(2).is_alive()


def test_a_receiver_that_never_comes_is_named_when_the_time_is_up(group: Receivers) -> None:
    group.new_group(timeout_s=5.0)  # rank 1 has to be ready by then, on a busy machine too
    sent = weights(BIG, 0)
    manifest = Manifest.of(sent)
    began = time.monotonic()
    with pytest.raises(TransferError, match="rank 2 was not ready within 5 s"):
        group.send(sent, manifest, group.order(manifest, {2: "at once"}))
    assert time.monotonic() - began >= 5.0
    assert "within 5 s" in group.heard(1)


def test_a_transfer_that_is_called_off_ends_for_everyone_before_its_time_is_up(
    group: Receivers,
) -> None:
    group.new_group(timeout_s=3600.0)
    sent = weights(BIG, 0)
    manifest = Manifest.of(sent)
    transfer_id = group.order(manifest, {1: "at once"})
    group.process(1).join(LIMIT_S)
    caller = threading.Thread(target=group.abort, args=("runner 0 was lost",))
    caller.start()
    with pytest.raises(TransferError, match="runner 0 was lost"):
        group.send(sent, manifest, transfer_id)
    assert group.heard(2) == "runner 0 was lost"
    caller.join()


def test_a_new_group_works_after_a_failed_one(group: Receivers) -> None:
    group.new_group()
    sent = weights(BIG, 3)
    manifest = Manifest.of(sent)
    group.send(sent, manifest, group.order(manifest))
    for rank in range(1, RECEIVERS + 1):
        assert group.heard(rank).keys() == sent.keys()
