"""Refined ranking: against a slow oracle, and as a follower of a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.search.catalog import Catalog
from birdsearch.search.metrics.retrieval import retrieval_scores
from birdsearch.search.query.background import background_cosine
from birdsearch.search.query.query_expansion import RefinedVectors, expand, refined_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from birdsearch.model.inference import Model


def _unit(seed: int, count: int, size: int = 12) -> NDArray[np.float32]:
    return normalised(np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32) + 0.4)


def _slow(
    queries: NDArray[np.float32], unit: NDArray[np.float32], mu: float, k: int, alpha: float, among: bool
) -> NDArray[np.float64]:
    moved = []
    for place, query in enumerate(queries.astype(np.float64)):
        pairs = [(float(query @ other), j) for j, other in enumerate(unit.astype(np.float64))]
        pairs = [pair for pair in pairs if not (among and pair[1] == place)]
        total = query.copy()
        for cosine, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:k]:
            total = total + max(0.0, (cosine - mu) / (1 - mu)) ** alpha * unit[j]
        moved.append(total / np.linalg.norm(total))
    return np.array(moved)


@pytest.mark.parametrize(("count", "k"), [(1, 10), (2, 10), (9, 10), (60, 10), (60, 1)])
def test_refined_vectors_are_those_of_a_slow_oracle(count: int, k: int) -> None:
    unit = _unit(3, count)
    mu = background_cosine(unit)
    expected = _slow(unit, unit, mu, k, 3.0, among=True)
    np.testing.assert_allclose(refined_vectors(unit, k), expected, atol=2e-6)
    queries = _unit(4, 7)
    np.testing.assert_allclose(
        expand(queries, unit, mu, k), _slow(queries, unit, mu, k, 3.0, among=False), atol=2e-6
    )


def test_the_background_is_the_mean_cosine_of_two_vectors() -> None:
    unit = _unit(5, 40)
    cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
    assert background_cosine(unit) == pytest.approx(cosines[~np.eye(40, dtype=bool)].mean(), abs=1e-6)
    assert background_cosine(unit[:1]) == 0.0


def test_refining_helps_where_photos_of_a_species_are_many_and_harms_none_that_are_few() -> None:
    rng = np.random.default_rng(11)
    sizes = [2, 2, 2, 5, 5, 5, 12, 12, 12, 30, 30, 30]
    centres = rng.normal(size=(len(sizes), 32))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    asked = np.repeat(np.arange(len(sizes)), 20)
    noise = 1.3
    stored = normalised((centres[labels] + noise * rng.normal(size=(len(labels), 32))).astype(np.float32))
    queries = normalised((centres[asked] + noise * rng.normal(size=(len(asked), 32))).astype(np.float32))
    groups = [f"s{place}" for place in range(len(labels))], [f"q{place}" for place in range(len(asked))]
    plain = retrieval_scores(queries, asked, groups[1], stored, labels, groups[0])
    moved = expand(queries, stored, background_cosine(stored))
    refined = retrieval_scores(moved, asked, groups[1], refined_vectors(stored), labels, groups[0])
    assert refined.mean_average_precision_at_r > plain.mean_average_precision_at_r + 0.05
    for size in (2, 5, 12, 30):
        of_size = np.isin(asked, np.flatnonzero(np.array(sizes) == size))
        assert refined.average_precision[of_size].mean() >= plain.average_precision[of_size].mean()


@pytest.mark.parametrize(("k", "alpha"), [(0, 3.0), (5, 0.0), (5, float("nan"))])
def test_numbers_that_mean_nothing_are_refused(k: int, alpha: float) -> None:
    with pytest.raises(InvalidInputError, match="at least 1 and above 0"):
        expand(_unit(1, 3), _unit(1, 3), 0.0, k, alpha)


def test_refined_hits_show_plain_similarities_and_the_vectors_are_kept_and_made_again(
    tmp_path: Path, tiny_model: Model, make_photo: Callable[..., Path]
) -> None:
    archive = tmp_path / "archive"
    for number in range(8):
        make_photo(archive / f"{number}.jpg", seed=number)
    with Catalog.open(tmp_path / "catalog", "create") as catalog:
        catalog.index([archive], model=tiny_model)
        photo = archive / "3.jpg"
        plain = {hit.photo_id: hit.similarity for hit in catalog.query(photo, k=7).hits}
        refined = catalog.query(photo, k=7, refined=True).hits
        assert {hit.photo_id: hit.similarity for hit in refined} == pytest.approx(plain, abs=1e-6)
        assert [hit.rank for hit in refined] == list(range(1, 8))
        store = catalog.store
        record = store.active_model()
        assert record is not None
        files = list((tmp_path / "catalog" / "refined").iterdir())
        assert len(files) == 1
        index = VectorIndex.open(store, record.id, record.embedding_size)
        # The vectors are a view into the index: it has to outlive them.
        kept = RefinedVectors.open(store, index)
        before = kept.index.vectors.copy()
        # Damaged: noticed by its hash, and made again.
        files[0].write_bytes(files[0].read_bytes()[:-7] + b"damaged")
        again = RefinedVectors.open(store, index)
        np.testing.assert_array_equal(again.index.vectors, before)
        make_photo(archive / "new.jpg", seed=99)
        catalog.index([archive], model=tiny_model)
        assert len(catalog.query(photo, k=20, refined=True).hits) == 8
    with CatalogStore.open(tmp_path / "catalog") as store:
        index = VectorIndex.open(store, record.id, record.embedding_size)
        assert len(RefinedVectors.open(store, index).index) == 9
