"""The filesystem server does what coreutils do in a real folder.

Each call is run as a real command too; what it prints, the whole tree after it and, where it is
refused, what it was refused for are compared. What may differ is listed in
docs/servers/filesystem.md.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from orch_env.servers.domains.filesystem import Filesystem
from tests.orch_env.servers import coreutils
from tests.orch_env.servers.filesystem_sequences import Small, described, drawn

FEW, MANY = 100, 2000
BATCH = 250
REASON = coreutils.possible()

pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(autouse=True)
def _folder() -> Iterator[None]:
    """A folder that the other user can reach; pytest's own is closed to others."""
    base = Path(tempfile.mkdtemp(prefix="orch-files-"))
    base.chmod(0o755)
    # Deep, so that no row of `..` in a link leads to where the other user may write.
    above = base.joinpath(*"abcdefghijklmnop")
    above.mkdir(parents=True)
    os.chown(above, coreutils.USERS["root"], coreutils.GROUPS["root"])
    Small.root = str(above / "w")
    Small.worlds = type(Small.worlds)(64 << 20)
    yield
    shutil.rmtree(base)


def compare(seeds: range) -> Counter[tuple[str, bool]]:
    """Run the sequences of these seeds on both sides; how often each tool worked and refused."""
    sequences = [drawn(seed) for seed in seeds]
    real = coreutils.run_real(Small.root, sequences)
    seen: Counter[tuple[str, bool]] = Counter()
    for seed, (start, steps), results in zip(seeds, sequences, real, strict=True):
        different = coreutils.differences(start, steps, results)
        assert not different, f"seed {seed}: {different[0]}\n{described(steps)}"
        seen.update((step.tool, not step.reason) for step in steps)
    return seen


def test_random_sequences_do_what_coreutils_do() -> None:
    seen = compare(range(FEW))
    assert [tool for tool in Filesystem.tools if not seen[tool, True]] == [], "never compared"
    assert sum(count for (_, worked), count in seen.items() if not worked) > 100


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_many_random_sequences_do_what_coreutils_do() -> None:
    for start in range(FEW, FEW + MANY, BATCH):
        compare(range(start, start + BATCH))


def test_the_comparison_sees_a_difference() -> None:
    sequences = [drawn(seed) for seed in range(5)]
    real = coreutils.run_real(Small.root, sequences)
    printed = 0
    for (start, steps), results in zip(sequences, real, strict=True):
        assert coreutils.differences(start, steps, results) == []
        for step, result in zip(steps, results, strict=True):
            if step.tool in ("ls", "cat", "stat") and not step.reason:
                result[1] += "x"
                printed += 1
                break
        else:
            continue
        assert coreutils.differences(start, steps, results)
    assert printed
