"""The bench of the vector index: data that are what they are said to be, ratios that are those of the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from symbi.bench import million, neighbours, points, searched
from symbi.bench.frame import BenchContext, NotMeasured
from symbi.bench.suites import vectors

if TYPE_CHECKING:
    from pathlib import Path

TINY = searched.Searched(16, 400)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchContext:
    monkeypatch.chdir(tmp_path)
    return BenchContext(directory=tmp_path)


def test_clustered_points_are_normalised_and_come_from_their_seed() -> None:
    rows = points.clustered(300, 48, seed=1)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(rows, points.clustered(300, 48, seed=1))
    for other in (points.clustered(300, 48, seed=2), points.clustered(300, 48, seed=1, surface=1)):
        assert not np.array_equal(rows, other)
    kept = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    assert kept[:24].sum() > 0.95 * kept.sum(), "nearly all of it lies in 24 dimensions of 48"


def test_recall_is_the_share_of_the_true_ten() -> None:
    rows = np.eye(40, dtype=np.float32) + np.linspace(0, 0.2, 40, dtype=np.float32)[:, None]
    truth = points.nearest(rows, rows[:3])
    exact = [set(np.argsort(-(rows @ query))[:10].tolist()) for query in rows[:3]]
    assert truth == exact
    found = [sorted(ids) for ids in exact]
    assert points.recall(found, truth) == 1.0
    found[0][:3] = [1000, 1001, 1002]
    assert points.recall(found, truth) == pytest.approx(0.9)


def test_a_row_names_as_many_vectors_as_its_run_has(tmp_path: Path) -> None:
    for quick, said in ((True, "5,000 x 1536"), (False, "50,000 x 1536")):
        context = BenchContext(directory=tmp_path, quick=quick)
        data = vectors._sets(context)[0]
        assert said in data.name
        assert f"{data.count:,}" in data.name
        names = [row.name for row in vectors.rows(context)]
        assert any(name.startswith(f"clustered {said}") for name in names)
        assert any("1,000,000 x" in name for name in names) is not quick


def test_a_ratio_is_ours_over_the_best_other_run_by_run(context: BenchContext) -> None:
    noted = vectors._noted(context, f"{TINY.name}/0.95/0")
    noted.update({"symbi": [9.0, 8.0], "hnswlib": [3.0, 1.0], "faiss-cpu": [1.0, 2.0]})
    ratios = [vectors._times(context, TINY, 0.95).value for _ in range(2)]
    assert ratios == [3.0, 4.0]
    with pytest.raises(NotMeasured):
        vectors._times(context, TINY, 0.95)  # a run that was not


def test_without_others_and_without_their_recall_there_is_no_ratio(context: BenchContext) -> None:
    vectors._speed(context, TINY, 0.95, "symbi")
    with pytest.raises(NotMeasured, match="no other library was run"):
        vectors._times(context, TINY, 0.95)
    vectors._noted(context, f"{TINY.name}/0.99/0").update({"symbi": [9.0], "usearch i8": [0.0]})
    with pytest.raises(NotMeasured, match="reaches this recall"):
        vectors._times(context, TINY, 0.99)


def test_our_speed_is_measured_at_the_smallest_ef_that_reaches_the_recall(context: BenchContext) -> None:
    assert vectors._speed(context, TINY, 0.95, "symbi").value > 0
    ef = searched.ef_for(context, TINY, "symbi", 0.95)
    assert ef is not None
    data = searched.data_of(context, TINY)
    index = searched.index_of(context, TINY, "symbi")
    index.ef(ef)
    assert points.recall(index.many(data.queries, 1), data.truth) >= 0.95
    assert searched.ef_for(context, TINY, "symbi", 1.1) is None
    assert vectors._speed(context, TINY, 1.1, "symbi").value == 0


@pytest.mark.parametrize("name", ["symbi", *neighbours.LIBRARIES])
@pytest.mark.filterwarnings("ignore")
def test_every_library_that_is_here_finds_the_nearest(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "symbi" and not neighbours.version_of(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    both = points.clustered(1250, 64, seed=1)
    rows, queries = both[:1200], both[1200:]
    index = neighbours.make(name, 64)
    index.add(rows, 1)
    index.ef(128)
    truth = points.nearest(rows, queries)
    assert points.recall(index.many(queries, 1), truth) >= 0.85
    assert points.recall(np.stack([np.asarray(index.one(query)) for query in queries]), truth) >= 0.85
    assert index.held() > 1200 * 32


def test_the_million_is_built_saved_opened_and_searched_at_any_size(tmp_path: Path) -> None:
    found = million.run(tmp_path / "index", 1000)
    assert found["count"] == 1000
    assert found["recall"] >= 0.95
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert 0 < found["building_gib"] <= found["memory_gib"] < 8
    assert all(found[name] > 0 for name in ("build_s", "save_s", "open_ms", "of_float32"))


def test_the_rows_of_a_million_are_left_out_unless_they_are_asked_for(
    context: BenchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYMBI_LONG", raising=False)
    with pytest.raises(NotMeasured, match="SYMBI_LONG=1"):
        vectors._million(context, "p99_ms")
