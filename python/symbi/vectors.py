"""Vectors by nearness: an index of one's own, in memory or in a directory.

Why: semantic search in the same process, without a server; usable alone. What it walks on are a few bits a dimension;
what it returns was measured in full precision. How the codes were chosen and what they cost: docs/vectors.md.
Not here: texts and how they become vectors, who may see what (pass a filter), the algorithm (the native core).

    index = symbi.VectorIndex(384)
    index.add([1, 2, 3], embeddings)                # float32, (3, 384)
    ids, distances = index.search(query, k=2)       # float32, (384,)
    index.save("notes.index"); symbi.VectorIndex.open("notes.index")

Invariants
- VX1 arrays that are float32 or uint64, contiguous and aligned are read where they lie; others are copied once.
- VX2 nothing that cannot be a vector or an id becomes one silently: NaN, negative ids, text, booleans are refused.
- VX3 any method may be called from any thread; the interpreter is free while the core works.
"""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import numpy as np

from symbi import _core
from symbi.errors import DimensionError, InputError, VectorIndexError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Metric", "Predicate", "Quantization", "VectorFilter", "VectorIndex", "VectorStats"]

Metric: TypeAlias = Literal["cosine", "l2", "dot"]
Quantization: TypeAlias = Literal["auto", "none", "int8", "int4", "binary"]
Predicate: TypeAlias = "Callable[[NDArray[np.uint64]], ArrayLike]"

_SHARED_FROM = 64  # vectors or queries: below it, starting a thread costs more than it saves
_ROOM = 1024  # hits that room is made for before it is known how many there are
# Types as numpy keeps them, one object each: given a class, `np.empty` looks it up, which takes as long again.
_FLOAT32: Any = np.dtype(np.float32)
_UINT64: Any = np.dtype(np.uint64)
_NOTHING = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class VectorStats:
    """What an index is made of.

    Attributes:
        kernels: The arithmetic in use: `avx512`, `avx2`, `neon`, `portable`.
        vectors: Vectors that searches find.
        slots: Places for vectors, free ones included.
        hidden: Places of removed or replaced vectors that the graph still passes through; given back in passes.
        level: Layers of the graph above the lowest.
        m: Links a new node makes.
        ef_construct: Candidates that they are chosen from.
        seed: What layers and rotation were drawn from.
        index_bytes: Graph, codes and directory of ids.
        vector_bytes: Vectors in full precision, in memory.
        mapped_bytes: Vectors in full precision, mapped from a file: in memory as far as they are read.
        log_records: Changes logged since the last `save`; zero without a directory.
        log_bytes: Bytes of the log.
    """

    kernels: str
    vectors: int
    slots: int
    hidden: int
    level: int
    m: int
    ef_construct: int
    seed: int
    index_bytes: int
    vector_bytes: int
    mapped_bytes: int
    log_records: int
    log_bytes: int


class VectorFilter:
    """A set of ids that a search may return, as a compressed bitmap.

    Make it once and pass it to many searches: the first one translates it for an index, and the first after a change
    again.
    """

    __slots__ = ("_native",)

    def __init__(self, ids: ArrayLike) -> None:
        """Takes ids in any order, uint64 (n,); ids that an index does not have do no harm.

        Raises:
            InputError: not a list of whole numbers of 0 or more.
        """
        self._native = _core.VectorFilter(_ids(ids))

    @classmethod
    def where(cls, index: VectorIndex, predicate: Predicate) -> Self:
        """The ids of `index` that a predicate lets through, as they are now.

        Args:
            index: Whose ids are asked about.
            predicate: Called once with all ids, ascending, uint64 (n,); says which pass, bool (n,).

        Raises:
            InputError: what the predicate gave is no bool for each id.
        """
        ids = index.ids
        passing = _array(predicate(ids), "what a predicate gives")
        if passing.dtype != np.bool_ or passing.shape != ids.shape:
            raise InputError(
                f"a predicate gives bool {ids.shape}, and this gave {passing.dtype} {passing.shape}"
            )
        return cls(ids[passing])

    @classmethod
    def from_roaring(cls, data: bytes) -> Self:
        """Takes a 64-bit Roaring bitmap in its portable form, as CRoaring and `pyroaring.BitMap64` write it.

        Raises:
            InputError: other bytes.
        """
        made = cls.__new__(cls)
        made._native = _core.VectorFilter.from_roaring(data)
        return made

    def to_roaring(self) -> bytes:
        """The set as `from_roaring` takes it."""
        return self._native.to_roaring()

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, number: int) -> bool:
        return _is_id(number) and number in self._native

    def __repr__(self) -> str:
        return f"VectorFilter({len(self)} ids)"


class _Closed:
    """What an index is after `close`."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise VectorIndexError("the index is closed: open it again")

    def __len__(self) -> NoReturn:
        raise VectorIndexError("the index is closed: open it again")

    def __contains__(self, number: object) -> NoReturn:
        raise VectorIndexError("the index is closed: open it again")


_CLOSED: Any = _Closed()


class VectorIndex:
    """A set of vectors under 64-bit ids, searched by nearness.

    Searches run beside one another and beside one change; a change is seen whole (pieces of 1,024 vectors of a large
    `add`) as soon as the call that made it returns. Bound to a directory by `save` or `open`, a change is on disk
    before it is seen.
    """

    __slots__ = ("_dimension", "_native")

    def __init__(
        self,
        dimension: int,
        metric: Metric = "cosine",
        m: int = 16,
        ef_construct: int = 200,
        quantization: Quantization = "auto",
        *,
        seed: int = 0,
    ) -> None:
        """Makes an empty index in memory.

        Args:
            dimension: Components of a vector, 1 to 65,536.
            metric: `cosine` (1 - cosine; vectors are normalised), `l2` (squared distance), `dot` (minus the product).
            m: Links a new node makes, 2 to 128; twice as many in the lowest layer. More: better recall, more memory.
            ef_construct: Candidates that a node's links are chosen from, `m` to 65,536. More: better, slower builds.
            quantization: Bits a dimension that are walked on: `none` 32, `int8`, `int4`, `binary` 1. `auto` takes
                `binary` from 1,024 dimensions, `int4` from 64, else `none`. Distances are exact with any.
            seed: Same seed, calls and one thread: the same index.

        Raises:
            InputError: a setting outside its range.
        """
        for name, value in (("dimension", dimension), ("m", m), ("ef_construct", ef_construct)):
            if not 0 <= _whole(name, value) < 2**63:
                raise InputError(f"`{name}` must be a positive whole number, and is `{value}`")
        if not 0 <= _whole("seed", seed) < 2**64:
            raise InputError(f"`seed` must be 0 to 2^64 - 1, and is `{seed}`")
        if not (isinstance(metric, str) and isinstance(quantization, str)):
            raise InputError(
                f"`metric` and `quantization` are words, and these are `{metric!r}`, `{quantization!r}`"
            )
        self._native = _core.VectorIndex(dimension, metric, m, ef_construct, quantization, seed)
        self._dimension = dimension

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Opens the index in the directory `path`: what was saved, and every change since.

        Maps the file rather than reading it: vectors are read as searches need them, and each block is checked
        against its checksum before its first use.

        Args:
            path: What `save` was given.
            read_only: Changes are refused, nothing is locked; any number may read beside one writer, each seeing
                the state of its own opening.

        Raises:
            VectorFileError: no index of ours, or damaged. Damage in graph or vectors shows at their first use.
            VectorIndexLockedError: another has it open for writing.
            VectorIndexError: the system refuses.
        """
        opened = cls.__new__(cls)
        opened._native = _core.VectorIndex.open(os.fspath(path), read_only)
        opened._dimension = opened._native.dimension
        return opened

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a snapshot into the directory `path`, which is made, and logs every later change there.

        Searches go on; changes wait. The old snapshot counts until the new one is whole on disk. Afterwards vectors
        in full precision are mapped from the file, and their memory is given back.

        Raises:
            VectorIndexLockedError: another has that directory open for writing.
            VectorFileError: something that is no index stands there.
            VectorIndexError: the system refuses, as a full disk does: what stood there still does.
        """
        self._native.save(os.fspath(path))

    def close(self) -> None:
        """Lets go of directory and memory, once the searches that are under way have ended.

        What an index in a directory acknowledged is on disk: nothing needs to be saved first. Afterwards every other
        method raises `VectorIndexError`.
        """
        self._native = _CLOSED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Adds vectors under new ids.

        Args:
            ids: Shape (n,), whole numbers, 0 to 2^64 - 2.
            vectors: Shape (n, dimension), real numbers, finite. Not modified.
            threads: That link them; default: the processors that the process may use. One gives the same index
                every time.
            progress: Called with (done, n) after every 1,024 vectors. What it raises stops the call; what is
                done stays.

        Raises:
            DuplicateIdError: an id is there or stands twice; nothing was added.
            DimensionError: another shape.
            VectorValueError: NaN, infinity, a zero vector under cosine; nothing was added.
            InputError: not numbers; ids and vectors of different count.
            VectorIndexError: read-only, or the log cannot be written.

        Cost: about `ef_construct` * 16 comparisons a vector; docs/vectors.md has figures.
        """
        self._put(ids, vectors, False, threads, progress)

    def upsert(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """As `add`; a vector whose id is there takes the other's place, at once for every search.

        Returns:
            How many were replaced.
        """
        return self._put(ids, vectors, True, threads, progress)

    def _put(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        replace: bool,
        threads: int | None,
        progress: Callable[[int, int], object] | None,
    ) -> int:
        if not (progress is None or callable(progress)):
            raise InputError(f"`progress` is called with (done, total), and is `{progress!r}`")
        numbers, rows = _ids(ids), _floats(vectors)
        if rows.ndim != 2 or rows.shape[1] != self._dimension:
            raise DimensionError(f"vectors must have the shape (n, {self._dimension}), and have {rows.shape}")
        if len(numbers) != len(rows):
            raise InputError(f"{len(numbers)} ids were given for {len(rows)} vectors")
        return self._native.add(numbers, rows, replace, _threads(threads, len(rows)), progress)

    def remove(self, ids: ArrayLike) -> int:
        """Removes vectors: no later search finds them. Ids that are not there are passed over.

        Returns:
            How many were there.

        Raises:
            InputError: not a list of whole numbers of 0 or more.
            VectorIndexError: read-only, or the log cannot be written; nothing was removed.
        """
        return self._native.remove(_ids(ids))

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        ef: int | None = None,
        filter: VectorFilter | Predicate | ArrayLike | None = None,  # noqa: A002 - the word that a reader looks for
        threads: int | None = None,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """The vectors nearest to each query, nearest first.

        Args:
            queries: Shape (dimension,) or (n, dimension), real numbers, finite.
            k: Hits wanted, 1 to 16,384.
            ef: Candidates kept on the way, `k` to 65,536; default 64, or 2 k. More: better recall, slower.
            filter: Ids that may be returned. A list of ids, and a predicate (see `VectorFilter.where`), are
                translated for this call; a `VectorFilter` once for all searches until the index changes.
            threads: For several queries; default: the processors that the process may use.

        Returns:
            Ids (uint64) and distances (float32, exact), of shape (k,) or (n, k); k less where fewer vectors may be
            found. Equal distances are ordered by id. (Where vectors are removed while several queries are answered, a
            row may end in 2^64 - 1 and infinity.)

        Raises:
            DimensionError: another shape.
            VectorValueError: NaN, infinity, a zero vector under cosine.
            InputError: `k`, `ef` or `threads` out of range; not numbers.
            VectorFileError: the file turns out to be damaged.

        Cost: about 16 * `ef` comparisons of codes a query. Source: Malkov & Yashunin, arXiv:1603.09320.
        """
        if (
            filter is None
            and threads is None
            and (found := self._native.search_one(queries, k, ef)) is not None
        ):
            return found  # what is asked most, without a step more than it needs
        k, ef = _whole("k", k), None if ef is None else _whole("ef", ef)
        rows = _floats(queries)
        single = rows.ndim == 1
        if not 1 <= rows.ndim <= 2 or rows.shape[-1] != self._dimension:
            raise DimensionError(
                f"queries must have the shape ({self._dimension},) or (n, {self._dimension}), and have {rows.shape}"
            )
        if not 0 < k <= 16_384 or (ef is not None and not k <= ef <= 65_536):
            raise InputError(f"`k` must be 1 to 16,384 and `ef` `k` to 65,536, and they are `{k}` and `{ef}`")
        chosen = None if filter is None else self._filter(filter)
        count = 1 if single else len(rows)
        # More than there are is asked for by habit; room for all of them is not made before that is known.
        room = min(k, max(len(self._native), 1)) if k > _ROOM else k
        ids = np.empty(room if single else (count, room), _UINT64)
        distances = np.empty(ids.shape, _FLOAT32)
        used = _threads(threads, count)
        width = self._native.search(rows, room, ef, chosen, used, ids, distances)
        if single:
            width -= int(np.count_nonzero(ids[:width] == _NOTHING))
        if width != room:
            shape = (width,) if single else (count, width)
            ids = ids.reshape(-1)[: count * width].reshape(shape)
            distances = distances.reshape(-1)[: count * width].reshape(shape)
        return ids, distances

    def _filter(self, given: VectorFilter | Predicate | ArrayLike) -> _core.VectorFilter:
        if isinstance(given, VectorFilter):
            return given._native
        if callable(given):
            return VectorFilter.where(self, given)._native
        return VectorFilter(given)._native

    @property
    def ids(self) -> NDArray[np.uint64]:
        """All ids, ascending, uint64 (n,)."""
        while True:
            places = np.empty(len(self) + 1024, np.uint64)
            count = self._native.ids(places)
            if count <= len(places):
                return places[:count].copy()

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self._dimension

    @property
    def metric(self) -> str:
        """`cosine`, `l2` or `dot`."""
        return self._native.metric

    @property
    def quantization(self) -> str:
        """What is walked on: `none`, `int8`, `int4` or `binary`; `auto` has become one of them."""
        return self._native.quantization

    @property
    def memory_bytes(self) -> int:
        """Bytes of graph, codes and directory. Vectors in full precision stand in `stats()`."""
        return self._native.memory_bytes

    def stats(self) -> VectorStats:
        """What the index is made of; does not wait for a change that is under way."""
        state, settings, sizes = self._native.stats()
        return VectorStats(*state, *settings, *sizes)

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, number: int) -> bool:
        return _is_id(number) and number in self._native

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids.tolist())

    def __repr__(self) -> str:
        if self._native is _CLOSED:
            return f"VectorIndex({self.dimension}, closed)"
        settings = f"{self.dimension}, {self.metric!r}, quantization={self.quantization!r}"
        return f"VectorIndex({settings}, vectors={len(self)})"


def _whole(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"`{name}` is a whole number, and this is `{value!r}`") from None


def _is_id(value: object) -> bool:
    """Whether it can be an id: what cannot stands in no set of them."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= int(value) < 2**64


def _threads(asked: int | None, items: int) -> int:
    if asked is not None:
        asked = _whole("threads", asked)
        if not 1 <= asked <= 1024:
            raise InputError(f"`threads` must be 1 to 1,024, and is `{asked}`")
        return asked
    return 1 if items < _SHARED_FROM else len(os.sched_getaffinity(0))


def _floats(values: ArrayLike) -> NDArray[np.float32]:
    """Rows of float32, contiguous and aligned: the array itself where it is that (VX1)."""
    if type(values) is np.ndarray and values.dtype == np.float32 and values.flags.carray:
        return values
    array = _array(values, "vectors")
    if array.dtype.kind not in "fiu":
        raise InputError(f"vectors are real numbers, and these are `{array.dtype}`")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinity, which is refused (VX2)
        return np.require(array, np.float32, ["C", "A"])


def _ids(values: ArrayLike) -> NDArray[np.uint64]:
    """Ids as uint64, contiguous: the array itself where it is that (VX1)."""
    array = _array(values, "ids")
    if array.ndim != 1:
        raise InputError(f"ids are a list or an array of the shape (n,), and these have {array.shape}")
    if array.size == 0:
        return np.empty(0, np.uint64)
    if array.dtype.kind in "fO" and not isinstance(values, np.ndarray):
        # Numbers on both sides of 2^63 have no common integer type for numpy.
        array = _array_of_whole(array.size, values)
    if array.dtype.kind not in "iu":
        raise InputError(f"ids are whole numbers from 0 to 2^64 - 2, and these are `{array.dtype}`")
    if array.dtype.kind == "i" and array.min() < 0:
        raise InputError("ids are whole numbers from 0 to 2^64 - 2, and one of these is below 0")
    return np.require(array, np.uint64, ["C", "A"])


def _array_of_whole(count: int, values: Any) -> NDArray[Any]:
    try:
        return np.fromiter((operator.index(value) for value in values), np.uint64, count)
    except (TypeError, OverflowError) as error:
        raise InputError(f"ids are whole numbers from 0 to 2^64 - 2: {error}") from None


def _array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name} cannot be an array: {error}") from None
