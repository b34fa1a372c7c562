"""A vector index whose directory, arguments or callbacks are not what it could hope for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import symbi
from symbi.errors import InputError, VectorIndexError, VectorIndexLockedError, VectorValueError

if TYPE_CHECKING:
    from pathlib import Path

DIMENSION = 16


def _rows(count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


def _saved(path: Path, count: int = 300) -> symbi.VectorIndex:
    index = symbi.VectorIndex(DIMENSION)
    index.add(np.arange(count), _rows(count))
    index.save(path)
    return index


def test_fs3_what_an_index_has_not_named_stays_in_its_directory(tmp_path: Path) -> None:
    index = _saved(tmp_path)
    for name in ("log-book.db", "log-1", "log-00000000000000FF", "snapshot.newer"):
        (tmp_path / name).write_text("mine")
    index.save(tmp_path)
    del index
    symbi.VectorIndex.open(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"mine"} == {
        "log-book.db",
        "log-1",
        "log-00000000000000FF",
        "snapshot.newer",
    }


def test_fs2_a_directory_that_was_removed_and_saved_again_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "index"
    index = _saved(path)
    shutil.rmtree(path)
    index.save(path)
    with pytest.raises(VectorIndexLockedError, match="read-only"):
        symbi.VectorIndex.open(path)
    index.upsert([5], _rows(1))
    assert symbi.VectorIndex.open(path, read_only=True).stats().vectors == 300


def _refusals(index: symbi.VectorIndex, path: Path) -> int:
    refused = 0
    for change in (
        lambda: index.upsert([1000], _rows(1)),
        lambda: index.remove([1]),
        lambda: index.save(path),
    ):
        try:
            change()
        except VectorIndexError as error:
            refused += "forked" in str(error)
    return refused


def test_fs2_the_child_of_a_fork_changes_nothing(tmp_path: Path) -> None:
    index = _saved(tmp_path)
    child = os.fork()
    if child == 0:
        os._exit(_refusals(index, tmp_path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    index.upsert([2000], _rows(1))
    ready, told = os.pipe()
    if (child := os.fork()) == 0:
        os.read(ready, 1)  # lives on, with all that its parent had open
        with symbi.VectorIndex.open(tmp_path) as taken:
            os._exit(len(taken) % 100)
    index.close()
    with symbi.VectorIndex.open(tmp_path) as opened:
        assert (2000 in opened, 1000 in opened, 1 in opened) == (True, False, True)
    os.write(told, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_progress_callback_may_look_at_its_index_and_not_change_it(tmp_path: Path) -> None:
    index, said = symbi.VectorIndex(DIMENSION), list[str]()

    def progress(done: int, total: int) -> None:
        assert index.stats().vectors == len(index) == done <= total
        index.search(_rows(1)[0])
        for change in (
            lambda: index.remove([1]),
            lambda: index.save(tmp_path),
            lambda: index.upsert([1], _rows(1)),
        ):
            with pytest.raises(InputError, match="progress") as refused:
                change()
            said.append(str(refused.value))

    index.add(np.arange(1500), _rows(1500), progress=progress)
    assert len(said) == 6
    other = symbi.VectorIndex(DIMENSION)

    def within(*_: int) -> None:
        other.upsert([1], _rows(1), progress=lambda *_: other.search(_rows(1)[0]) and None)
        for refused in (index, other):
            if refused is index:
                with pytest.raises(InputError, match="progress"):
                    refused.upsert([1], _rows(1))

    index.upsert([1], _rows(1), progress=within)
    assert 1 in other
    index.remove([1])
    with pytest.raises(InputError, match="`progress`"):
        index.add([5000], _rows(1), progress=5)  # type: ignore[arg-type]
    assert 5000 not in index


def test_short_vectors_have_a_direction_and_long_ones_a_bound() -> None:
    for length in (4e-23, 1e-20, 1e-44, 1e15, 3e38):
        index = symbi.VectorIndex(3)
        index.add([1, 2], np.array([[1, 0, 0], [0.9, 0.1, 0]], np.float32))
        index.add([3], np.array([[length, 0, 0]], np.float32))
        ids, distances = index.search(np.array([length, 0, 0], np.float32), 3)
        assert sorted(ids[:2].tolist()) == [1, 3]
        assert np.allclose(distances, [0, 0, 1 - 0.9 / np.hypot(0.9, 0.1)], atol=1e-6), length
    for metric in ("l2", "dot"):
        for code in ("none", "int8", "binary"):
            index = symbi.VectorIndex(64, metric, quantization=code)
            with pytest.raises(VectorValueError, match="longer than"):
                index.add([1], np.full((1, 64), 2e18, np.float32))
            far = 4e18 * np.eye(64, dtype=np.float32)
            index.add(np.arange(64), far)
            assert [int(index.search(row, 1)[0][0]) for row in far] == list(range(64))


def test_jo2_a_last_record_that_does_not_check_is_damage_however_much_of_it_is_zero(tmp_path: Path) -> None:
    index = _saved(tmp_path)
    row = np.zeros((1, DIMENSION), np.float32)
    row[0, 0] = 1  # a synced record with zeros of its own: a bit that rots must not make it look like a crash
    index.upsert([1000], row)
    index.close()
    (log,) = tmp_path.glob("log-*")
    whole = log.read_bytes()
    for place in (len(whole) - 4 * DIMENSION, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        log.write_bytes(flipped)
        with pytest.raises(symbi.errors.VectorFileError, match="damaged"):
            symbi.VectorIndex.open(tmp_path)


@pytest.mark.parametrize("quantization", ["none", "int4", "binary"])
def test_sn2_nothing_of_what_was_removed_stands_in_the_next_snapshot(
    tmp_path: Path, quantization: Any
) -> None:
    rows = _rows(300)
    ids = np.arange(300, dtype=np.uint64) + np.uint64(0xDEADBEEFCAFE0000)
    index = symbi.VectorIndex(DIMENSION, "l2", quantization=quantization)
    index.add(ids, rows)
    index.save(tmp_path)
    index.remove(ids[::3])
    index.save(tmp_path)
    content = (tmp_path / "snapshot").read_bytes()
    stay = [row for row in range(300) if row % 3]
    assert [row for row in range(300) if rows[row].tobytes() in content] == stay
    assert [row for row in range(300) if int(ids[row]).to_bytes(8, "little") in content] == stay
    index.close()
    with symbi.VectorIndex.open(tmp_path) as again:
        again.add(ids[::3], rows[::3])
        found = again.search(rows, 1, ef=64)[0][:, 0]
        assert (found == ids).mean() > 0.98
        again.save(tmp_path)
    content = (tmp_path / "snapshot").read_bytes()
    assert all(row.tobytes() in content for row in rows)


def test_vx2_ids_and_numbers_are_what_they_are_or_refused() -> None:
    index = symbi.VectorIndex(DIMENSION)
    index.upsert([1, 2**63, 2**64 - 2], _rows(3))
    assert index.ids.tolist() == [1, 2**63, 2**64 - 2]
    assert [number in index for number in (1, 2**63, -1, 2**64, True, "1", 1.0, None)] == [True, True] + 6 * [
        False
    ]
    for wrong in ([1.5, 2], [2**64, 1], [-1, 2**63], ["1", "2"], [1 + 2j, 2]):
        with pytest.raises(InputError, match="whole numbers"):
            index.upsert(wrong, _rows(2))  # type: ignore[arg-type]
    query: Any = _rows(1)[0]
    for arguments in ({"k": 3.0}, {"k": "a"}, {"k": None}, {"ef": "x"}, {"threads": 1.5}, {"threads": 0}):
        with pytest.raises(InputError, match=r"`(k|ef|threads)`"):
            index.search(query, **arguments)
    for made in (("3",), (3.0,), (3, None), (3, "l2", "16")):
        with pytest.raises(InputError, match=r"whole number|are words"):
            symbi.VectorIndex(*made)  # type: ignore[arg-type]


def test_fs2_who_closes_an_index_lets_go_of_its_directory(tmp_path: Path) -> None:
    with _saved(tmp_path) as index:
        with pytest.raises(VectorIndexLockedError, match="read-only"):
            symbi.VectorIndex.open(tmp_path)
        query = _rows(1)[0]
    for used in (
        lambda: index.search(query),
        lambda: index.search(query, filter=[1]),
        lambda: index.upsert([1], _rows(1)),
        lambda: index.save(tmp_path),
        index.stats,
        lambda: len(index),
        lambda: 1 in index,
        lambda: index.ids,
    ):
        with pytest.raises(VectorIndexError, match="closed"):
            used()
    assert repr(index) == "VectorIndex(16, closed)"
    index.close()
    with symbi.VectorIndex.open(tmp_path) as again:
        assert len(again) == 300


def test_what_is_no_index_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "snapshot").mkdir(parents=True)
    for name, said in (
        ("file", "it is a file"),
        ("file/within", "no such directory|Not a directory"),
        ("nowhere", "there is no such directory: `save` makes one"),
        ("empty", "holds no `snapshot`"),
        ("other", "is no file"),
    ):
        with pytest.raises(symbi.SymbiError, match=said):
            symbi.VectorIndex.open(tmp_path / name)
    index = _saved(tmp_path / "index")
    index.close()
    for log in (tmp_path / "index").glob("log-*"):
        log.unlink()
    with pytest.raises(symbi.errors.VectorFileError, match="is missing"):
        symbi.VectorIndex.open(tmp_path / "index")


_FULL = """
import resource, signal, sys
import numpy as np
import symbi

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
index = symbi.VectorIndex(16)
index.save(sys.argv[1])
rows = np.random.default_rng(1).standard_normal((3000, 16)).astype(np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    index.add(np.arange(3000), rows)
except symbi.errors.VectorIndexError as error:
    print(error, len(index), index.stats().log_records)
"""


def test_wr1_who_meets_a_full_disk_half_way_is_told_what_is_in(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "File too large" in done.stdout
    assert done.stdout.endswith("the first 1024 of 3000 vectors are in, and stay 1024 1\n"), done.stdout
    assert len(symbi.VectorIndex.open(tmp_path)) == 1024


_LONG_BATCH = """
import os, signal, sys
import numpy as np
import symbi

rows = np.random.default_rng(1).standard_normal((3000, 64)).astype(np.float32)
index = symbi.VectorIndex(64)
index.add(np.arange(3000), rows)
queries = np.tile(rows, (400, 1))  # minutes

def ask():
    index.search(queries, 10, ef=1000, threads=int(sys.argv[1]))

signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    ask()
except KeyboardInterrupt:
    print("stopped", index.search(rows[5])[0][0])
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_batch_of_queries_is_stopped_by_ctrl_c(threads: str) -> None:
    command = [sys.executable, "-c", _LONG_BATCH, threads]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped 5\n"), done.stderr
