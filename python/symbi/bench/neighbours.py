"""Libraries that find nearest neighbours, under one small interface, for the suite `vectors`.

Why: a comparison is fair where everybody gets the same data, the same threads, one query a call, and the setting
that just reaches the recall that was asked for. Each is called as its documentation advises; `ef` is what trades
recall for speed.
Not here: data and rows (`suites.vectors`).
"""

from __future__ import annotations

import importlib
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["LIBRARIES", "Library", "make", "version_of"]

M, EF_CONSTRUCT = 16, 200


class Library(Protocol):
    """An index over normalised rows, ids 0 to n - 1; inner product or cosine, whichever the library prefers."""

    def add(self, rows: NDArray[np.float32], threads: int) -> None:
        """Builds."""
        ...

    def ef(self, ef: int) -> None:
        """How many candidates the searches from now on keep."""
        ...

    def one(self, query: NDArray[np.float32]) -> Any:
        """Ids of the ten nearest to one query, (10,)."""
        ...

    def many(self, queries: NDArray[np.float32], threads: int) -> Any:
        """Ids of the ten nearest to each, (n, 10)."""
        ...

    def held(self) -> int:
        """Bytes of everything that searches read, but for vectors that stay in a file."""
        ...


class Symbi:
    """Ours, as `symbi.VectorIndex(dimension)` gives it."""

    def __init__(self, dimension: int, quantization: Any = "auto") -> None:
        from symbi.vectors import VectorIndex

        self.index = VectorIndex(dimension, "cosine", M, EF_CONSTRUCT, quantization)
        self._ef = 64

    def add(self, rows: NDArray[np.float32], threads: int) -> None:
        self.index.add(np.arange(len(rows), dtype=np.uint64), rows, threads=threads)

    def ef(self, ef: int) -> None:
        self._ef = ef

    def one(self, query: NDArray[np.float32]) -> Any:
        return self.index.search(query, 10, ef=self._ef)[0]

    def many(self, queries: NDArray[np.float32], threads: int) -> Any:
        return self.index.search(queries, 10, ef=self._ef, threads=threads)[0]

    def held(self) -> int:
        return self.index.memory_bytes


class _Faiss:
    def __init__(self, dimension: int, codes: bool) -> None:
        self.faiss = importlib.import_module("faiss")
        inner = self.faiss.METRIC_INNER_PRODUCT
        self.index = (
            self.faiss.IndexHNSWSQ(dimension, self.faiss.ScalarQuantizer.QT_8bit, M, inner)
            if codes
            else self.faiss.IndexHNSWFlat(dimension, M, inner)
        )
        self.index.hnsw.efConstruction = EF_CONSTRUCT

    def add(self, rows: NDArray[np.float32], threads: int) -> None:
        self.faiss.omp_set_num_threads(threads)
        self.index.train(rows)
        self.index.add(rows)
        self.faiss.omp_set_num_threads(1)

    def ef(self, ef: int) -> None:
        self.index.hnsw.efSearch = ef

    def one(self, query: NDArray[np.float32]) -> Any:
        return self.index.search(query[None], 10)[1][0]

    def many(self, queries: NDArray[np.float32], threads: int) -> Any:
        self.faiss.omp_set_num_threads(threads)
        found = self.index.search(queries, 10)[1]
        self.faiss.omp_set_num_threads(1)
        return found

    def held(self) -> int:
        return int(self.faiss.serialize_index(self.index).nbytes)


class _Hnswlib:
    def __init__(self, dimension: int) -> None:
        self.index = importlib.import_module("hnswlib").Index(space="ip", dim=dimension)

    def add(self, rows: NDArray[np.float32], threads: int) -> None:
        self.index.init_index(max_elements=len(rows), ef_construction=EF_CONSTRUCT, M=M)
        self.index.add_items(rows, np.arange(len(rows)), num_threads=threads)

    def ef(self, ef: int) -> None:
        self.index.set_ef(ef)

    def one(self, query: NDArray[np.float32]) -> Any:
        return self.index.knn_query(query, 10, num_threads=1)[0][0]

    def many(self, queries: NDArray[np.float32], threads: int) -> Any:
        return self.index.knn_query(queries, 10, num_threads=threads)[0]

    def held(self) -> int:
        return int(self.index.index_file_size())


class _Usearch:
    def __init__(self, dimension: int, kind: str) -> None:
        self.index = importlib.import_module("usearch.index").Index(
            ndim=dimension, metric="cos", dtype=kind, connectivity=M, expansion_add=EF_CONSTRUCT
        )

    def add(self, rows: NDArray[np.float32], threads: int) -> None:
        self.index.add(np.arange(len(rows)), rows, threads=threads)

    def ef(self, ef: int) -> None:
        self.index.expansion_search = ef

    def one(self, query: NDArray[np.float32]) -> Any:
        return self.index.search(query, 10, threads=1).keys

    def many(self, queries: NDArray[np.float32], threads: int) -> Any:
        return self.index.search(queries, 10, threads=threads).keys

    def held(self) -> int:
        return int(self.index.serialized_length)


class _Lance:
    """One partition: the graph of the whole. Its threads are its own affair."""

    def __init__(self, dimension: int) -> None:
        self.lancedb = importlib.import_module("lancedb")
        self.arrow = importlib.import_module("pyarrow")
        self.dimension = dimension
        self.directory = tempfile.TemporaryDirectory(prefix=".symbi-bench-lance-", dir=Path.cwd())
        self._ef = 64

    def add(self, rows: NDArray[np.float32], threads: int) -> None:  # noqa: ARG002
        flat = self.arrow.array(rows.reshape(-1))
        columns = {
            "id": self.arrow.array(np.arange(len(rows))),
            "vector": self.arrow.FixedSizeListArray.from_arrays(flat, self.dimension),
        }
        table = self.lancedb.connect(self.directory.name).create_table("rows", self.arrow.table(columns))
        table.create_index(
            metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1, m=M, ef_construction=EF_CONSTRUCT
        )
        self.table = table

    def ef(self, ef: int) -> None:
        self._ef = ef

    def one(self, query: NDArray[np.float32]) -> Any:
        found = self.table.search(query).distance_type("cosine").ef(self._ef).nprobes(1)
        return found.limit(10).select(["id", "_distance"]).to_arrow()["id"].to_numpy()

    def many(self, queries: NDArray[np.float32], threads: int) -> Any:  # noqa: ARG002
        return np.stack([self.one(query) for query in queries])

    def held(self) -> int:
        files = Path(self.directory.name).rglob("_indices/**/*")
        return sum(file.stat().st_size for file in files if file.is_file())


# name -> (package, how it is made from a dimension)
LIBRARIES: dict[str, tuple[str, Callable[[int], Library]]] = {
    "faiss-cpu": ("faiss-cpu", lambda dimension: _Faiss(dimension, codes=True)),
    "faiss-cpu flat": ("faiss-cpu", lambda dimension: _Faiss(dimension, codes=False)),
    "hnswlib": ("hnswlib", _Hnswlib),
    "usearch": ("usearch", lambda dimension: _Usearch(dimension, "f32")),
    "usearch bf16": ("usearch", lambda dimension: _Usearch(dimension, "bf16")),
    "usearch i8": ("usearch", lambda dimension: _Usearch(dimension, "i8")),
    "lancedb": ("lancedb", _Lance),
}


def version_of(name: str) -> str:
    """The version of a library's package; empty where it is not installed."""
    try:
        return metadata.version(LIBRARIES[name][0])
    except metadata.PackageNotFoundError:
        return ""


def make(name: str, dimension: int) -> Library:
    """A fresh index: `symbi`, `symbi none` … for a code of ours, or a name of `LIBRARIES`."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if name.startswith("symbi"):
        return Symbi(dimension, name.partition(" ")[2] or "auto")
    return LIBRARIES[name][1](dimension)
