"""The story: somebody kills the process while it builds, changes and saves an index.

Every change that was acknowledged is there after opening again, no change is there by half, and the directory opens at
once: no lock of a dead process is in the way. A short number of moments in every run; `SYMBI_LONG=1` tries many.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

MOMENTS = 100 if os.environ.get("SYMBI_LONG", "") not in ("", "0") else 6

_WORK = """
import os, sys
import numpy as np
import symbi

path = sys.argv[1]
index = symbi.VectorIndex.open(path) if os.path.exists(path + "/snapshot") else symbi.VectorIndex(48, "l2")
first = max(index, default=-1) + 1
if first == 0:
    index.save(path)
os.write(1, b"open\\n")
for turn in range(1_000_000):
    # Each step has its own number in every vector: half a step would be seen.
    ids = np.arange(first, first + 40)
    index.add(ids, np.full((40, 48), float(first)) + np.eye(40, 48))
    os.write(1, b"add %d\\n" % first)
    if turn % 3 == 1:
        index.upsert(ids, np.full((40, 48), first + 0.5) + np.eye(40, 48))
        os.write(1, b"replace %d\\n" % first)
    if turn % 5 == 4:
        index.remove(ids)
        os.write(1, b"remove %d\\n" % first)
    if turn % 4 == 3:
        index.save(path)
    first += 40
"""


_BUILD = """
import os, sys
import numpy as np
import symbi

vectors = np.random.default_rng(5).standard_normal((30_000, 32)).astype(np.float32)
index = symbi.VectorIndex(32, "l2", m=4, ef_construct=8)
index.save(sys.argv[1])
index.add(np.arange(30_000), vectors, threads=1, progress=lambda done, total: os.write(1, b"%d\\n" % done))
"""


def test_wr2_a_kill_during_a_long_build_leaves_whole_pieces(tmp_path: Path) -> None:
    """WR2: what `progress` was told is there, and of the piece that was under way all or nothing."""
    path = tmp_path / "index"
    worker = subprocess.Popen([sys.executable, "-c", _BUILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    told = [worker.stdout.readline() for _ in range(3)]
    worker.send_signal(signal.SIGKILL)
    rest, _ = worker.communicate(timeout=30)
    done = max(int(line) for line in [*told, *rest.splitlines(keepends=True)] if line.endswith("\n"))
    index = symbi.VectorIndex.open(path)
    assert done <= len(index) <= done + 1024
    assert len(index) < 30_000
    assert len(index) % 1024 == 0
    assert list(index) == list(range(len(index)))
    vectors = np.random.default_rng(5).standard_normal((30_000, 32)).astype(np.float32)
    for row in range(0, len(index), 500):
        assert index.search(vectors[row], k=1, filter=[row])[1].tolist() == [0.0]
    more = np.arange(len(index), len(index) + 50)
    index.add(more, vectors[more])
    assert len(index) == more[-1] + 1


@pytest.mark.timeout(60 + 10 * MOMENTS)
def test_fs1_jo1_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """FS1, JO1, JO2."""
    moments = random.Random(11)  # noqa: S311 - not for secrets
    path = tmp_path / "index"
    for moment in range(MOMENTS):
        worker = subprocess.Popen([sys.executable, "-c", _WORK, str(path)], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(moments.randrange(2, 40))]
        worker.send_signal(signal.SIGKILL)
        rest, _ = worker.communicate(timeout=30)
        state: dict[int, str] = {}
        for line in [*lines[1:], *rest.splitlines(keepends=True)]:
            if line.endswith("\n"):
                act, _, first = line.partition(" ")
                state[int(first)] = act
        index = symbi.VectorIndex.open(path)
        there = set(index)
        newest = max(state, default=0)
        for first, act in state.items():
            block = set(range(first, first + 40))
            assert there & block in (block, set()), f"moment {moment}: half a change"
            # What came after the last acknowledged act may have happened or not; earlier ones have.
            if first < newest or act == "add":
                assert bool(there & block) == (act != "remove") or first == newest, (
                    f"moment {moment}: {first} {act}"
                )
            if there & block:
                values = index.search(np.full(48, float(first)), k=40, filter=sorted(block))[1]
                assert np.ptp(values) < 1.0, f"moment {moment}: old and new in one change"
        del index
