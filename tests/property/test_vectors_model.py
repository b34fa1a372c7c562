"""An index beside a dictionary: any history of changes, saves and openings, the same content and the same nearest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import symbi
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSION = 5
LONG = os.environ.get("SYMBI_LONG", "") not in ("", "0")
IDS = st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True)


def vector(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


class IndexBesideDictionary(RuleBasedStateMachine):
    """Small sets are searched exactly, so every answer is known."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="symbi-vectors-"))
        self.model: dict[int, NDArray[np.float32]] = {}

    @initialize(quantization=st.sampled_from(["none", "int8", "int4", "binary"]))
    def begin(self, quantization: str) -> None:
        self.index = symbi.VectorIndex(DIMENSION, "l2", quantization=quantization)  # type: ignore[arg-type]

    @rule(ids=IDS, seed=st.integers(0, 1000))
    def upsert(self, ids: list[int], seed: int) -> None:
        vectors = [vector(seed * 100 + number) for number in ids]
        replaced = self.index.upsert(ids, vectors)
        assert replaced == len(self.model.keys() & set(ids))
        self.model.update(zip(ids, vectors, strict=True))

    @rule(ids=IDS)
    def remove(self, ids: list[int]) -> None:
        assert self.index.remove(ids) == len(self.model.keys() & set(ids))
        for number in ids:
            self.model.pop(number, None)

    @rule()
    def save(self) -> None:
        self.index.save(self.directory)

    @rule()
    def open_again(self) -> None:
        """FS1: what was acknowledged is there."""
        if (self.directory / "snapshot").exists():
            del self.index
            self.index = symbi.VectorIndex.open(self.directory)

    @rule(seed=st.integers(0, 1000), k=st.integers(1, 30), allowed=st.none() | IDS)
    def search(self, seed: int, k: int, allowed: list[int] | None) -> None:
        """FI1, QU1: with and without a filter."""
        query = vector(seed)
        ids, distances = self.index.search(query, k=k, filter=allowed)
        model = {n: v for n, v in self.model.items() if allowed is None or n in allowed}
        far = {number: float(((other - query) ** 2).sum()) for number, other in model.items()}
        expected = sorted(far.values())[:k]
        np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose([far[number] for number in ids.tolist()], expected, rtol=1e-4, atol=1e-4)

    @invariant()
    def same_content(self) -> None:
        if hasattr(self, "index"):
            assert list(self.index) == sorted(self.model)

    def teardown(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


TestIndexBesideDictionary = IndexBesideDictionary.TestCase
TestIndexBesideDictionary.settings = settings(
    max_examples=500 if LONG else 25, stateful_step_count=25, deadline=None
)
