"""Similar sightings: the same look at another time or place, one hit an event."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import CatalogError, InvalidInputError, PhotoError
from birdsearch.indexer.catalog.deployments import Deployment, store_deployments
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.sightings.find import find_sightings
from birdsearch.search.sightings.similar import SimilarResult, similar
from birdsearch.search.sightings.store import known_events, store_sightings

DIM = 8
START = datetime(2024, 5, 4, 6, 0)
DAY = 86_400


def look(cosine: float) -> np.ndarray:
    """A vector with this cosine to the first axis."""
    found = np.zeros(DIM, np.float32)
    found[:2] = cosine, np.sqrt(1 - cosine**2)
    return found


class Made:
    def __init__(self, made: Any) -> None:
        self.made = made
        self.store: CatalogStore = made.store
        self.ids: dict[str, int] = {}

    def add(
        self, name: str, seconds: float | None, vector: np.ndarray, *, folder: str = "fen", **facts: object
    ) -> None:
        taken = None
        if seconds is not None:
            taken = (START + timedelta(seconds=seconds + 0.001)).isoformat(timespec="microseconds")
        self.ids[name], _ = self.made.photo(
            [vector],
            [(f"/archive/{folder}".encode(), name.encode(), "present")],
            digest=hashlib.sha256(name.encode()).digest(),
            captured_at=taken,
            camera="Norvik D50",
            serial="1",
            **facts,
        )

    def run(self) -> None:
        record = self.store.active_model()
        assert record is not None
        store_sightings(self.store, find_sightings(self.store, record), {})

    def names(self, result: SimilarResult) -> list[str]:
        known = {photo_id: name for name, photo_id in self.ids.items()}
        return [known[hit.hit.photo_id] for hit in result.hits]

    def ask(self, asked: str | int, **options: Any) -> list[str]:
        return self.names(similar(self.store, self.ids.get(str(asked), asked), **options))


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Made:
    """Four events: the asked one with a second frame, and three others, one of them with two frames."""
    found = Made(make_catalog(DIM))
    found.add("a1", 0, look(1.0), latitude=50.0, longitude=8.0)
    found.add("a2", 5, look(0.99))
    found.add("b1", 2 * 3600, look(0.9), folder="wood", latitude=50.5, longitude=8.0)
    found.add("b2", 2 * 3600 + 5, look(0.95), folder="wood", latitude=50.5, longitude=8.0)
    found.add("c", 3 * DAY, look(0.8), latitude=50.0, longitude=8.0)
    found.add("d", None, look(0.97), folder="sent")
    return found


@pytest.mark.parametrize("is_stored", [False, True])
def test_each_event_is_hit_once_by_its_best_frame(made: Made, is_stored: bool) -> None:
    if is_stored:
        made.run()
    assert made.ask("a1") == ["d", "b2", "c"]
    assert made.ask("a1", k=1) == ["d"]
    assert made.ask("a1", k=0) == []
    result = similar(made.store, made.ids["a1"])
    assert result.photo_ids == (made.ids["a1"],)
    hit = result.hits[1]
    assert hit.hit.rank == 2
    assert hit.hit.similarity == pytest.approx(0.95)
    assert (hit.event, hit.away_s) == (made.ids["b1"], 7205.0)
    assert hit.away_km == pytest.approx(55.6, abs=0.1)
    assert hit.sighting == (2 if is_stored else None)
    assert result.hits[0].away_s is result.hits[0].away_km is None
    assert set(hit.to_dict()) >= {"rank", "similarity", "path", "event", "sighting", "away_s", "away_km"}


def test_frames_of_the_same_sighting_are_no_hits(made: Made) -> None:
    made.add("a3", 900, look(0.98))
    assert made.ask("a1") == ["a3", "d", "b2", "c"]
    made.run()
    assert made.ask("a1") == ["d", "b2", "c"]


def test_a_sighting_is_asked_by_the_mean_of_its_photos(made: Made) -> None:
    with pytest.raises(
        InvalidInputError, match="s1: no sightings are stored yet; run `birdsearch sightings`"
    ):
        similar(made.store, "s1")
    made.run()
    result = similar(made.store, "s1")
    assert made.names(result) == ["d", "b2", "c"]
    assert sorted(result.photo_ids) == [made.ids["a1"], made.ids["a2"]]
    mean = look(1.0).astype(float) + look(0.99)
    expected = float(mean @ look(0.97)) / np.linalg.norm(mean)
    assert result.hits[0].hit.similarity == pytest.approx(expected, abs=1e-6)
    assert result.hits[1].away_s == 7200.0
    for wrong in ("s0", "s99"):
        with pytest.raises(InvalidInputError, match="the newest run has s1 to s4"):
            similar(made.store, wrong)


def test_other_times_and_places(made: Made) -> None:
    assert made.ask("a1", other_time=True) == ["c"]
    assert made.ask("a1", elsewhere=True) == ["b2"]
    assert made.ask("a1", elsewhere=True, other_time=True) == []
    with pytest.raises(InvalidInputError, match="its time is not known"):
        made.ask("d", other_time=True)
    with pytest.raises(InvalidInputError, match="its place is not known"):
        made.ask("d", elsewhere=True)
    # Sites of deployments go before positions.
    store_deployments(
        made.store,
        [Deployment(name, name.title(), f"/archive/{name}".encode()) for name in ("fen", "sent")],
        "test",
    )
    assert made.ask("a1", elsewhere=True) == ["d", "b2"]
    assert similar(made.store, made.ids["a1"]).hits[2].site == "Fen"


def test_conditions_hold_for_the_hits(made: Made) -> None:
    assert made.ask("a1", where=Where(since="2024-05-05")) == ["c"]
    assert made.ask("a1", where=Where(since="2030")) == []


def test_hits_are_those_of_a_comparison_with_all(make_catalog: Callable[..., Any]) -> None:
    rng = np.random.default_rng(2)
    made = Made(make_catalog(DIM))
    vectors = rng.normal(size=(60, DIM)).astype(np.float32)
    for number in range(60):
        made.add(f"p{number:02d}", (number // 12) * 4000.0 + number, vectors[number])
    made.run()
    record = made.store.active_model()
    assert record is not None
    known = known_events(made.store, record)
    sighting = dict(zip(known.frames.photo_ids.tolist(), known.sightings.tolist(), strict=True))
    event = dict(zip(known.frames.photo_ids.tolist(), known.events.tolist(), strict=True))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in (0, 30):
        own = made.ids[f"p{number:02d}"]
        best: dict[int, tuple[float, int]] = {}
        for other in range(60):
            photo_id = made.ids[f"p{other:02d}"]
            if sighting[photo_id] != sighting[own] and event[photo_id] != event[own]:
                score = float(unit[number] @ unit[other])
                best[event[photo_id]] = max(best.get(event[photo_id], (-2.0, 0)), (score, photo_id))
        expected = [photo_id for _, photo_id in sorted(best.values(), reverse=True)]
        hits = similar(made.store, own).hits
        assert [hit.hit.photo_id for hit in hits] == expected
        assert [hit.hit.photo_id for hit in similar(made.store, own, k=2).hits] == expected[:2]


def test_an_event_with_many_alike_frames_does_not_hide_the_next(made: Made) -> None:
    for number in range(12):
        made.add(f"m{number:02d}", 50 * DAY + number, look(0.999 - number / 1000))
    assert made.ask("a1", k=2) == ["m00", "d"]
    assert made.ask("a1", k=20) == ["m00", "d", "b2", "c"]


def test_what_cannot_be_asked_is_an_error(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="k must be at least 0"):
        similar(made.store, made.ids["a1"], k=-1)
    with pytest.raises(PhotoError, match="#999"):
        similar(made.store, "#999")
    with pytest.raises(PhotoError, match="no such file"):
        similar(made.store, str(tmp_path / "none.jpg"))
    with (
        CatalogStore.open(tmp_path / "empty", "create") as empty,
        pytest.raises(CatalogError, match="no photo is indexed"),
    ):
        similar(empty, "#1")
