from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from birdsearch.indexer.vectors import scan as scan_module
from birdsearch.indexer.vectors.build import write_index
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.indexer.vectors.scan import TOGETHER, scan
from birdsearch.indexer.vectors.snapshot import BLOCK, IndexSnapshot, read_snapshot


def _expected(queries: np.ndarray, vectors: np.ndarray, positions: np.ndarray, fetch: int) -> list[list[int]]:
    scores = queries.astype(np.float64) @ vectors[positions].T.astype(np.float64)
    return [positions[np.argsort(-row, kind="stable")[:fetch]].tolist() for row in scores]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threads", [1, 3])
def test_the_highest_are_found_however_many_there_are_and_in_any_number_of_threads(
    seed: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "_threads", lambda: threads)
    rng = np.random.default_rng(seed)
    count, dim = int(rng.integers(1, 70_000)), 8
    vectors = normalised(rng.normal(size=(count, dim)).astype(np.float32))
    if seed % 2:
        # The nearest come last: what was found first is no bar for them.
        vectors = vectors[np.argsort(vectors[:, 0], kind="stable")]
    positions = np.flatnonzero(rng.random(count) < 0.8) if seed % 3 else np.arange(count)
    for many in (1, TOGETHER, 40):
        queries = normalised(rng.normal(size=(many, dim)).astype(np.float32))
        queries[0] = np.eye(dim, dtype=np.float32)[0]
        for fetch in (1, 20, 5000):
            scores, places = scan(queries, positions, vectors.__getitem__, fetch)
            assert scores.shape == places.shape == (many, fetch)
            expected = _expected(queries, vectors, positions, fetch)
            for row, right in enumerate(expected):
                found = places[row][places[row] >= 0].tolist()
                # Equal float32 scores may be in any order, and which of them is the last as well.
                assert len(found) == len(set(found)) == len(right), f"seed {seed}"
                np.testing.assert_allclose(
                    vectors[found] @ queries[row],
                    vectors[right] @ queries[row],
                    atol=1e-6,
                    err_msg=f"seed {seed}",
                )
                assert (places[row, len(found) :] == -1).all()


def test_what_was_found_elsewhere_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_threads", lambda: 2)
    rng = np.random.default_rng(7)
    vectors = normalised(rng.normal(size=(40_000, 8)).astype(np.float32))
    queries = vectors[:9]
    first = np.full((9, 1), 2.0, np.float32), np.full((9, 1), 99_999, np.int64)
    scores, places = scan(queries, np.arange(40_000), vectors.__getitem__, 3, first)
    assert (places[:, 0] == 99_999).all()
    assert places[:, 1].tolist() == list(range(9))
    assert (scores[:, 0] == 2.0).all()


def test_threads_are_used_only_where_products_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "cores", lambda: 8)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert scan_module._threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert scan_module._threads() == 4
    positions = np.arange(3, 100_003)
    shares = scan_module._shares(positions)
    assert len(shares) == 4
    assert np.array_equal(np.concatenate(shares), positions)
    assert all((share[0] - 3) % 4096 == 0 for share in shares)
    assert len(scan_module._shares(positions[:20_000])) == 1
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert scan_module._threads() == 1


def _snapshot(folder: Path, vectors: np.ndarray) -> IndexSnapshot:
    written = write_index(VectorIndex.of(np.arange(len(vectors)), vectors), folder / "vectors")
    return read_snapshot(folder / "vectors", written, vectors.shape[1])


@pytest.mark.parametrize("dim", [3, 8, 128])
def test_a_run_of_a_block_is_read_where_it_lies(tmp_path: Path, dim: int) -> None:
    rng = np.random.default_rng(8)
    vectors = normalised(rng.normal(size=(2 * BLOCK + 5, dim)).astype(np.float32))
    snapshot = _snapshot(tmp_path, vectors)
    assert snapshot.is_sound()
    runs = [(0, BLOCK), (17, 19), (BLOCK, BLOCK + 2), (2 * BLOCK, 2 * BLOCK + 5)]
    kept = []
    for start, end in runs:
        found = snapshot.take(np.arange(start, end))
        assert not found.flags.writeable
        assert found.flags.aligned
        assert np.shares_memory(found, snapshot.take(np.arange(start, end)))
        kept.append(found)
    # Beyond a block, in another order, with gaps: copies.
    for positions in ([BLOCK - 1, BLOCK], [3, 2, 1], [1, 3], [5], [4, 4]):
        copied = snapshot.take(np.array(positions))
        assert np.array_equal(copied, vectors[positions])
        assert not np.shares_memory(copied, snapshot.take(np.array(positions)))
    # What was taken outlives the snapshot.
    del snapshot
    gc.collect()
    for (start, end), found in zip(runs, kept, strict=True):
        assert np.array_equal(found, vectors[start:end])
