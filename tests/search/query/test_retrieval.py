"""From vectors to photos, in a catalog whose vectors lie in lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.catalog import Catalog


@pytest.fixture
def listed(make_catalog: Callable[..., Any]) -> tuple[Any, np.ndarray]:
    """240 photos of a whole frame and a box each, in lists; and the vectors of the whole frames."""
    made = make_catalog(8)
    rng = np.random.default_rng(6)
    centres = rng.normal(size=(12, 8))
    vectors = normalised(
        (centres[rng.integers(0, 12, 240)] + 0.3 * rng.normal(size=(240, 8))).astype(np.float32)
    )
    for number, vector in enumerate(vectors):
        noise = (vector + 0.02 * rng.normal(size=8)).astype(np.float32)
        made.photo(
            [vector, noise],
            boxes=[(0.1, 0.1, 0.5, 0.5)],
            captured_at=f"2024-01-{number % 28 + 1:02d}T10:00:00",
            camera="even" if number % 2 == 0 else "odd",
        )
    index = made.index()
    index.save(made.store, exact_up_to=0)
    assert index.nprobe is not None
    return made, vectors


@pytest.mark.parametrize("exact", [False, True])
def test_photos_come_best_first_with_exact_similarities(listed: tuple[Any, np.ndarray], exact: bool) -> None:
    made, vectors = listed
    catalog = Catalog(made.store.path, made.store, read_only=True)
    for number in (0, 77, 239):
        hits = catalog.query(number + 1, k=25, include_self=True, exact=exact).hits
        assert len({hit.photo_id for hit in hits}) == len(hits) == 25
        assert hits[0].photo_id == number + 1
        shown = [hit.similarity for hit in hits]
        assert shown == sorted(shown, reverse=True)
        cosines = vectors.astype(np.float64) @ vectors[number].astype(np.float64)
        for hit in hits:
            if hit.view == "whole":
                assert hit.similarity == pytest.approx(cosines[hit.photo_id - 1], abs=1e-6)
        if exact:
            # A photo's box can be nearer than its frame, never farther.
            assert hits[-1].similarity >= np.sort(cosines)[-25] - 1e-6


def test_conditions_hold_in_lists_too(listed: tuple[Any, np.ndarray]) -> None:
    made, _ = listed
    catalog = Catalog(made.store.path, made.store, read_only=True)
    hits = catalog.query(8, k=200, where=Where(camera="odd")).hits
    assert len(hits) == 119
    assert {hit.camera for hit in hits} == {"odd"}
    assert 8 not in {hit.photo_id for hit in hits}
