"""Threat: a disk that does not take what it was given. What an index acknowledged is there when it is opened again.

The real program under syncs that fail, one after the other, wherever it calls one (FS1, JO1, JO3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import interposed
import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

SYNCS_MAX = 30

# On `argv`: the index. Adds and saves; where a step fails, goes on with the next. Prints the ids that were acknowledged.
_WORK = """
import os, sys
import numpy as np
import symbi

index = symbi.VectorIndex(16, "l2")
index.add([0], np.eye(1, 16))
index.save(sys.argv[1])
try:
    os.unlink("/arm-now")
except FileNotFoundError:
    pass
acknowledged, refused = [0], 0
for identity in range(1, 7):
    try:
        if identity % 3 == 2:
            index.save(sys.argv[1])
        index.add([identity], np.full((1, 16), float(identity)))
        acknowledged.append(identity)
    except symbi.VectorIndexError:
        refused += 1
print(refused, *acknowledged)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interposed.build(tmp_path_factory.mktemp("interposed"))


def test_fs1_what_was_acknowledged_outlives_any_sync_that_fails(library: Path, tmp_path: Path) -> None:
    for sync in range(1, SYNCS_MAX):
        path = tmp_path / f"index-{sync}"
        done = interposed.run(library, _WORK, path, SYNC_FAILS_AT=sync)
        assert done.returncode == 0, done.stderr
        refused, *acknowledged = map(int, done.stdout.split())
        index = symbi.VectorIndex.open(path)
        missing = set(acknowledged) - set(index)
        assert not missing, f"sync {sync} failed: {missing} were acknowledged, and are gone"
        index.add([100], [[0.0] * 16])
        if not refused:
            break  # there are no more syncs to fail
    else:
        pytest.fail(f"more than {SYNCS_MAX} syncs")
    assert sync > 10
