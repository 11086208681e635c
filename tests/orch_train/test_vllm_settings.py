"""What can be said about the vLLM engine without vLLM: its errors, and weights in shared memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch

from orch_env.types import OrchError
from orch_train.engines import make_engine
from orch_train.engines.vllm import adapter
from orch_train.engines.vllm.settings import VllmSettings
from orch_train.weight_sync.shared_memory import SharedWriter, read


@pytest.mark.parametrize("version", ["0.31.9", "0.34.0", "1.0", "0.21.1+cu129"])
def test_other_versions_are_refused_with_the_range(version: str) -> None:
    with pytest.raises(OrchError, match=r"vLLM .* is installed.*>=0\.32,<0\.34"):
        adapter.check_version(version)


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu", "0.33.1rc1", "0.33.0.dev3"])
def test_versions_in_the_range_are_taken(version: str) -> None:
    assert adapter.check_version(version) == version


def test_a_missing_vllm_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OrchError, match=r"not installed.*make vllm.*rollouts\.engine=torch"):
        make_engine("vllm", model="tiny")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"tensor_parallel_size": 1.5}, "tensor_parallel_size"),
        ({"gpu_memory_utilization": 1.2}, "gpu_memory_utilization"),
        ({"hang_timeout_s": 0.0}, "hang_timeout_s"),
        ({"kv_cache_gib": -1.0}, "kv_cache_gib"),
        ({"engine_args": {"logprobs_mode": "raw_logprobs"}}, "logprobs_mode"),
    ],
)
def test_settings_out_of_range_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(OrchError, match=named):
        VllmSettings("m", **given)


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(OrchError, match="max_num_seq"):
        make_engine("vllm", model="tiny", max_num_seq=3)


def test_shared_weights_arrive_in_another_process_bit_for_bit() -> None:
    torch.manual_seed(0)
    weights = {"w": torch.randn(7, 5), "n": torch.arange(3), "empty": torch.zeros(0, 4)}
    writer = SharedWriter()
    for scale in (1.0, 2.0):
        scaled = {k: v * scale for k, v in weights.items()}
        manifest = writer.write(scaled, torch.bfloat16, checksums=True)
        code = (
            "import sys; from orch_train.weight_sync.shared_memory import Manifest, read\n"
            f"for name, tensor in read({manifest!r}): print(name, tensor.double().sum().item())"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        told = dict(line.split() for line in out.stdout.splitlines())
        sums = {k: (v.bfloat16() if v.is_floating_point() else v) for k, v in scaled.items()}
        assert {k: float(v) for k, v in told.items()} == {
            k: v.double().sum().item() for k, v in sums.items()
        }, out.stderr
    writer.close()
    with pytest.raises(OSError):
        list(read(manifest))


def test_the_same_memory_serves_every_version_and_grows_when_it_must() -> None:
    writer = SharedWriter()
    small = writer.write({"a": torch.ones(100)}, torch.float32)
    again = writer.write({"a": torch.zeros(100)}, torch.float32)
    assert small.path == again.path
    large = writer.write({"a": torch.full((100_000,), 3.0)}, torch.float32)
    assert torch.equal(dict(read(large))["a"], torch.full((100_000,), 3.0))
    writer.close()
    writer.close()
