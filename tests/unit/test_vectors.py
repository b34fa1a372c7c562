"""The index at its border: arrays in and out, bad input, threads, files, a full disk.

What is nearest is held against a list in `rust/symbi-vectors/tests` and `tests/property`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import symbi
from symbi.errors import (
    DimensionError,
    DuplicateIdError,
    InputError,
    SymbiError,
    VectorFileError,
    VectorIndexError,
    VectorIndexLockedError,
    VectorValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def points(count: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def filled(
    count: int = 500, dimension: int = 32, **options: Any
) -> tuple[symbi.VectorIndex, NDArray[np.float32]]:
    vectors = points(count, dimension)
    index = symbi.VectorIndex(dimension, **options)
    index.add(np.arange(count, dtype=np.uint64) * 10, vectors, threads=1)
    return index, vectors


def test_the_nearest_of_a_few_are_exact_and_ordered() -> None:
    index, vectors = filled(200, 16, metric="l2")
    query = points(1, 16, seed=9)[0]
    far = ((vectors - query) ** 2).sum(axis=1)
    ids, distances = index.search(query, k=5)
    assert ids.dtype == np.uint64
    assert distances.dtype == np.float32
    assert ids.tolist() == (np.argsort(far)[:5] * 10).tolist()
    np.testing.assert_allclose(distances, np.sort(far)[:5], rtol=1e-5)


def test_shapes_follow_the_query_and_what_there_is() -> None:
    index, vectors = filled(7, 4)
    assert index.search(vectors[0], k=3)[0].shape == (3,)
    assert index.search(vectors[0], k=100)[0].shape == (7,)
    assert index.search(vectors[:3], k=3)[0].shape == (3, 3)
    ids, distances = index.search(vectors[:3], k=2000)
    assert ids.shape == distances.shape == (3, 7)
    assert ids[:, 0].tolist() == [0, 10, 20]
    assert index.search(vectors[:0], k=3)[0].shape == (0, 3)
    assert index.search(vectors[0], k=3, filter=[10, 99])[0].tolist() == [10]
    assert index.search(vectors[0], k=3, filter=[])[0].shape == (0,)
    assert symbi.VectorIndex(4).search(vectors[:2], k=3)[0].shape == (2, 0)


def test_it_behaves_as_a_collection_of_ids() -> None:
    index, _ = filled(5, 4)
    assert (len(index), 20 in index, 21 in index, list(index)) == (5, True, False, [0, 10, 20, 30, 40])
    assert index.ids.dtype == np.uint64
    assert index.remove([20, 20, 77]) == 1
    assert (len(index), 20 in index, list(index)) == (4, False, [0, 10, 30, 40])
    assert repr(index) == "VectorIndex(4, 'cosine', quantization='none', vectors=4)"


def test_an_upsert_takes_the_place_and_is_seen_at_once() -> None:
    index, vectors = filled(50, 8, metric="l2")
    there = np.full(8, 9.0, np.float32)
    assert index.upsert([70, 1_000], np.stack([there, there + 1])) == 1
    ids, distances = index.search(there, k=2)
    assert (ids.tolist(), distances.tolist()) == ([70, 1_000], [0.0, 8.0])
    assert index.search(vectors[7], k=1)[0].tolist() != [70]
    assert len(index) == 51


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("quantization", ["none", "int8", "int4", "binary"])
def test_every_code_and_metric_finds_what_was_put_in(metric: str, quantization: str) -> None:
    index, vectors = filled(600, 64, metric=metric, quantization=quantization)
    if metric == "dot":
        vectors = vectors * 3
    found = [index.search(vectors[row], k=10, ef=128)[0].tolist() for row in range(0, 600, 20)]
    hits = sum(row * 20 * 10 in ids for row, ids in enumerate(found))
    assert hits >= 29
    assert index.quantization == quantization
    assert index.metric == metric


def test_auto_chooses_and_says_what() -> None:
    chosen = {dimension: symbi.VectorIndex(dimension).quantization for dimension in (8, 64, 384, 1024, 1536)}
    assert chosen == {8: "none", 64: "int4", 384: "int4", 1024: "binary", 1536: "binary"}


def test_stats_say_what_it_is_made_of(tmp_path: Path) -> None:
    index, _ = filled(300, 1536, m=8)
    stats = index.stats()
    assert (stats.vectors, stats.m, stats.log_records) == (300, 8, 0)
    assert stats.vector_bytes == 300 * 1536 * 4
    assert stats.index_bytes == index.memory_bytes
    assert index.memory_bytes < 0.1 * stats.vector_bytes
    index.save(tmp_path / "index")
    index.remove([0])
    stats = index.stats()
    assert (stats.vector_bytes, stats.mapped_bytes, stats.log_records) == (0, 300 * 1536 * 4, 1)


# --- arrays ---


def test_vx1_arrays_are_read_where_they_lie_and_others_as_what_they_mean() -> None:
    """VX1: strides, byte order, other floats, read-only, lists: the same answer."""
    index, vectors = filled(40, 6)
    expected = index.search(vectors[3], k=4)[0].tolist()
    frozen = vectors[3].copy()
    frozen.flags.writeable = False
    wide = np.zeros((40, 12), np.float32)
    wide[:, ::2] = vectors
    forms: list[Any] = [
        frozen,
        wide[3, ::2],
        np.asfortranarray(vectors)[3],
        vectors[3].astype(np.float64),
        vectors[3].astype(">f4"),
        vectors[3].tolist(),
        memoryview(frozen),
    ]
    for form in forms:
        assert index.search(form, k=4)[0].tolist() == expected, type(form)
    other = symbi.VectorIndex(6)
    other.add(np.arange(40, dtype=np.int16)[::-1], wide[::-1, ::2])
    assert other.search(vectors[3], k=4)[0].tolist() == [number // 10 for number in expected]
    assert (wide[:, ::2] == vectors).all()


BAD_VECTORS: list[tuple[Any, type[SymbiError]]] = [
    ([[1.0, float("nan"), 0.0]], VectorValueError),
    ([[1.0, float("inf"), 0.0]], VectorValueError),
    ([[1.0, 1e300, 0.0]], VectorValueError),
    ([[0.0, 0.0, 0.0]], VectorValueError),
    ([[1.0, 2.0]], DimensionError),
    ([1.0, 2.0, 3.0], DimensionError),
    ([[[1.0, 2.0, 3.0]]], DimensionError),
    (5.0, DimensionError),
    ([["a", "b", "c"]], InputError),
    ([[True, False, True]], InputError),
    ([[1j, 0, 0]], InputError),
    ([[1.0, 2.0], [3.0]], InputError),
    ([[None, None, None]], InputError),
]


@pytest.mark.parametrize(("vectors", "error"), BAD_VECTORS)
def test_vx2_what_is_no_vector_is_refused(vectors: Any, error: type[SymbiError]) -> None:
    """VX2: and nothing is added."""
    index = symbi.VectorIndex(3)
    with pytest.raises(error):
        index.add([1], vectors)
    assert len(index) == 0
    index.add([1, 2], [[1, 2, 3], [3, 2, 1]])
    query = vectors if not isinstance(vectors, list) or error is DimensionError else vectors[0]
    if vectors != [1.0, 2.0, 3.0]:
        with pytest.raises(SymbiError):
            index.search(query, k=1)


BAD_IDS: list[tuple[Any, type[SymbiError]]] = [
    ([-1], InputError),
    ([1.0], InputError),
    (["1"], InputError),
    ([True], InputError),
    ([[1]], InputError),
    ([2**64], InputError),
    ([2**64 - 1], InputError),
    ([1, 2], InputError),
    ([], InputError),
    ([7], DuplicateIdError),
]


@pytest.mark.parametrize(("ids", "error"), BAD_IDS)
def test_vx2_what_is_no_id_is_refused(ids: Any, error: type[SymbiError]) -> None:
    """VX2: and nothing is added."""
    index = symbi.VectorIndex(3)
    index.add([7], [[1.0, 2.0, 3.0]])
    with pytest.raises(error):
        index.add(ids, [[1.0, 2.0, 3.0]])
    assert list(index) == [7]
    with pytest.raises(DuplicateIdError):
        index.upsert([8, 8], [[1.0, 2.0, 3.0]] * 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: symbi.VectorIndex(0),
        lambda: symbi.VectorIndex(65_537),
        lambda: symbi.VectorIndex(-1),
        lambda: symbi.VectorIndex(3, "hamming"),  # type: ignore[arg-type]
        lambda: symbi.VectorIndex(3, m=1),
        lambda: symbi.VectorIndex(3, ef_construct=4),
        lambda: symbi.VectorIndex(3, quantization="pq"),  # type: ignore[arg-type]
        lambda: symbi.VectorIndex(3, seed=-1),
        lambda: filled(9, 3)[0].search([1, 2, 3], k=0),
        lambda: filled(9, 3)[0].search([1, 2, 3], k=20_000),
        lambda: filled(9, 3)[0].search([1, 2, 3], k=5, ef=4),
        lambda: filled(9, 3)[0].search([[1, 2, 3]], threads=0),
        lambda: filled(9, 3)[0].search([1, 2, 3], filter=[-4]),
        lambda: symbi.VectorFilter([0.5]),
    ],
)
def test_settings_out_of_range_are_named(call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"must|are"):
        call()


def test_one_and_65536_dimensions_work() -> None:
    for dimension in (1, 65_536):
        index = symbi.VectorIndex(dimension, "l2")
        index.add([4, 5], np.stack([np.zeros(dimension), np.ones(dimension)]))
        assert index.search(np.ones(dimension), k=1)[0].tolist() == [5]


# --- filters ---


def test_a_filter_is_made_once_and_follows_changes() -> None:
    index, vectors = filled(400, 16)
    wanted = symbi.VectorFilter(np.arange(0, 4000, 70, dtype=np.uint64))
    assert (len(wanted), 70 in wanted, 71 in wanted) == (58, True, False)
    ids = index.search(vectors[1], k=20, filter=wanted)[0]
    assert len(ids) == 20
    assert not (ids % 70).any()
    index.remove(ids)
    again = index.search(vectors[1], k=20, filter=wanted)[0]
    assert not set(again.tolist()) & set(ids.tolist())


# --- threads ---


def test_a_filter_comes_from_ids_from_a_predicate_or_from_a_roaring_bitmap() -> None:
    index, vectors = filled(400, 16, metric="l2")
    ids = np.arange(0, 4000, 70, dtype=np.uint64)
    asked: list[int] = []

    def sevenths(all_ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        asked.append(len(all_ids))
        return all_ids % 70 == 0

    made = symbi.VectorFilter.where(index, sevenths)
    again = symbi.VectorFilter.from_roaring(made.to_roaring())
    expected = index.search(vectors[3], 20, filter=ids)[0]
    assert len(made) == len(again) == len(ids)
    assert not (expected % 70).any()
    for one in (made, again, sevenths, ids.tolist()):
        np.testing.assert_array_equal(index.search(vectors[3], 20, filter=one)[0], expected)
    assert asked == [400, 400], "a predicate is asked once a filter, about all ids together"
    for wrong in (lambda _: True, lambda all_ids: all_ids, lambda all_ids: (all_ids > 3)[:-1]):
        with pytest.raises(symbi.InputError, match="a predicate gives bool"):
            index.search(vectors[3], filter=wrong)
    for data in (b"", b"roaring", made.to_roaring()[:-1], made.to_roaring() + b"\0"):
        with pytest.raises(symbi.InputError, match="Roaring bitmap"):
            symbi.VectorFilter.from_roaring(data)


def test_ix1_vx3_searches_run_beside_changes() -> None:
    """IX1, VX3: every search during replacements sees each id exactly once."""
    index, vectors = filled(300, 16, metric="l2")
    stop = threading.Event()
    faults: list[str] = []

    def search() -> None:
        while not stop.is_set():
            ids, _ = index.search(vectors[:4], k=300, ef=300)
            if any(len(set(row)) != 300 for row in ids.tolist()):
                faults.append("an id twice, or missing")
                return

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seed in range(8):
        index.upsert(np.arange(300, dtype=np.uint64) * 10, points(300, 16, seed), threads=2)
    stop.set()
    for reader in readers:
        reader.join(timeout=30)
    assert not faults


def test_batches_on_threads_give_the_same_as_single_queries() -> None:
    index, _ = filled(3000, 64)
    queries = points(200, 64, seed=3)
    ids, distances = index.search(queries, k=7, threads=3)
    for row in range(0, 200, 17):
        one = index.search(queries[row], k=7)
        assert ids[row].tolist() == one[0].tolist()
        assert distances[row].tolist() == one[1].tolist()


def test_progress_is_told_and_may_stop() -> None:
    told: list[tuple[int, int]] = []
    vectors = points(2500, 4)
    index = symbi.VectorIndex(4)
    index.add(np.arange(2500), vectors, progress=lambda done, total: told.append((done, total)))
    assert told == [(1024, 2500), (2048, 2500), (2500, 2500)]

    def enough(done: int, total: int) -> None:
        raise KeyboardInterrupt

    other = symbi.VectorIndex(4)
    with pytest.raises(KeyboardInterrupt):
        other.add(np.arange(2500), vectors, progress=enough)
    assert len(other) == 1024
    other.add(np.arange(1024, 2500), vectors[1024:])
    assert other.search(vectors[2000], k=1)[0].tolist() == [2000]


# --- files ---


def test_fs2_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    index, vectors = filled(20, 4)
    index.save(tmp_path)
    with pytest.raises(VectorIndexLockedError):
        symbi.VectorIndex.open(tmp_path)
    reader = symbi.VectorIndex.open(tmp_path, read_only=True)
    with pytest.raises(VectorIndexError, match="read-only"):
        reader.add([1], vectors[:1])
    index.remove([0])
    assert (len(reader), len(symbi.VectorIndex.open(tmp_path, read_only=True))) == (20, 19)
    del index
    assert len(symbi.VectorIndex.open(tmp_path)) == 19


def test_what_is_no_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match="no vector index"):
        symbi.VectorIndex.open(tmp_path / "missing")
    (tmp_path / "snapshot").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(VectorFileError, match="does not begin as one"):
        symbi.VectorIndex.open(tmp_path)


_FULL = """
import resource, signal, sys
import numpy as np
import symbi

path = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
vectors = np.random.default_rng(0).standard_normal((900, 64)).astype(np.float32)
index = symbi.VectorIndex(64)
index.add(np.arange(300), vectors[:300])
index.save(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))  # the disk is full from here on
for act in (
    lambda: index.add(np.arange(300, 900), vectors[300:]),
    lambda: index.save(path),
    lambda: index.save(path + ".other"),
):
    try:
        act()
    except symbi.VectorIndexError as error:
        print(error.code)
    assert len(index) == 300 and index.search(vectors[5], k=1)[0].tolist() == [5]
index.upsert([1000], vectors[:1])  # a small change still fits
assert len(index) == 301
"""


def test_jo3_a_full_disk_refuses_and_changes_nothing(tmp_path: Path) -> None:
    """JO3: what could not be written is not there, in memory or after opening again."""
    path = tmp_path / "index"
    ran = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["vectors"] * 3), ran.stderr
    opened = symbi.VectorIndex.open(path)
    assert len(opened) == 301
    assert sorted(name.name[:4] for name in path.iterdir()) == ["lock", "log-", "snap"]


def test_importing_symbi_does_not_import_numpy() -> None:
    program = (
        "import sys, symbi; symbi.VectorIndexError; assert 'numpy' not in sys.modules; symbi.VectorIndex(3)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
