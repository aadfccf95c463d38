"""Labels for a whole catalog, what to verify next, and verified labels that look wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogReadOnlyError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.predictions import last_predictions, predictions
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.labels import predict
from birdsearch.search.labels.calibration import load_calibration
from birdsearch.search.labels.checklist import open_checklist
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.predict import fit_catalog, label_catalog, mislabelled
from birdsearch.search.labels.suggest import suggest

DIM = 16
SPECIES = ("crow", "wren", "rook", "ghost finch", "moss owl")
"""The first three are classes of the model; photos of each are around an axis of their own."""


class Made:
    """A catalog of clusters of photos, each an event of its own unless said otherwise."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.store: CatalogStore = made.store
        self.rng = np.random.default_rng(1)
        head = 5 * np.eye(3, DIM, dtype="<f4")
        with self.store.writing() as connection:
            connection.execute(
                sa.update(schema.model).values(
                    head_weight=head.tobytes(), head_bias=np.zeros(3, "<f4").tobytes()
                )
            )

    def add(self, species: str | int, count: int = 1, noise: float = 0.15, **facts: object) -> list[int]:
        """Photos of a species, or around another axis; their views."""
        axis = SPECIES.index(species) if isinstance(species, str) else species
        views = []
        for _ in range(count):
            vector = np.eye(DIM)[axis] + noise * self.rng.normal(size=DIM)
            views += self.made.photo([vector.astype(np.float32) * 3], **facts)[1]
        return views

    def verify(self, views: Sequence[int], name: str, verdict: str = "positive") -> None:
        record(self.store, [(view, new_taxon(name), verdict) for view in views], "ada", "test")

    @property
    def estimator(self) -> LabelEstimator:
        model = self.store.active_model()
        assert model is not None
        return LabelEstimator.open(self.store, model)

    def label(self, where: Where | None = None, confidence: float = 0.5) -> list[Prediction]:
        summary = label_catalog(self.store, self.estimator, where, confidence)
        return list(predictions(self.store, summary.run_id))


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Made:
    return Made(make_catalog(DIM))


@pytest.fixture
def clusters(made: Made) -> dict[str, list[int]]:
    """Ten photos of each species, the first six verified."""
    views = {name: made.add(name, 10) for name in SPECIES}
    for name in SPECIES:
        made.verify(views[name][:6], name)
    return views


# -- labels ------------------------------------------------------------------------------------------------


def test_every_photo_is_labelled_and_the_run_says_what_was_done(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    told: list[tuple[int, int]] = []
    summary = label_catalog(
        made.store, made.estimator, None, 0.5, lambda done, total: told.append((done, total))
    )
    found = list(predictions(made.store, summary.run_id))
    assert [one.view_id for one in found] == sorted(itertools.chain(*clusters.values()))
    truth = {view: name for name, views in clusters.items() for view in views}
    assert {one.view_id: one.species for one in found} == truth
    assert (summary.views, summary.skipped, summary.is_calibrated) == (50, 0, False)
    assert told == [(50, 50)]
    assert sum(summary.ranks.values()) == sum(summary.names.values()) == 50
    assert list(summary.names.values()) == sorted(summary.names.values(), reverse=True)
    with made.store.reading() as connection:
        run = connection.execute(sa.select(schema.run).where(schema.run.c.id == summary.run_id)).one()
        rows = connection.execute(
            sa.select(schema.prediction).where(schema.prediction.c.run_id == summary.run_id)
        ).all()
    assert (run.command, run.model_id, run.outcome) == ("label", made.made.model_id, "done")
    assert run.finished_at is not None
    counts = json.loads(run.counts)
    assert (counts["views"], counts["confidence"], counts["ranks"]) == (50, 0.5, summary.ranks)
    by_view = {row.view_id: row for row in rows}
    for one in found:
        row = by_view[one.view_id]
        assert all(getattr(row, name) == getattr(one, name) for name in Prediction.__dataclass_fields__)
        assert 0 <= one.margin <= one.species_probability <= 1
        assert 0 <= one.unknown <= 1
        assert 0 <= one.knn_weight <= 1
        assert one.p_knn is not None
        assert (one.p_model > 0) == (one.species in SPECIES[:3])
        if one.rank == "bird":
            assert (one.name, one.probability) == ("bird", 1.0)
        else:
            assert one.name == one.species
            assert one.probability == pytest.approx(one.species_probability * (1 - one.unknown))


def test_a_run_that_fails_is_recorded_and_the_labels_of_the_last_whole_one_stay(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    before = made.label()

    def fail(done: int, total: int) -> None:
        raise OSError(f"{done} of {total} were written")

    with pytest.raises(OSError, match="50 of 50"):
        label_catalog(made.store, made.estimator, None, 0.9, fail)
    with made.store.reading() as connection:
        outcomes = connection.execute(
            sa.select(schema.run.c.outcome).where(schema.run.c.command == "label").order_by(schema.run.c.id)
        ).scalars()
        assert list(outcomes) == ["done", "failed"]
    assert list(last_predictions(made.store)) == before


def test_no_picture_is_read(made: Made, clusters: dict[str, list[int]]) -> None:
    # The rows name files under a folder that does not exist.
    paths = {photo.path for photo in made.store.photos(list(range(1, 51))).values()}
    assert len(paths) == 50
    assert not any(Path(path.decode()).exists() for path in paths)
    assert len(made.label()) == 50


def test_chunks_make_no_difference(
    made: Made, clusters: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, doubts = made.label(), mislabelled(made.store, made.estimator, 0.0)
    proposed = suggest(made.store, made.estimator, 5)
    monkeypatch.setattr(predict, "_CHUNK", 3)
    told: list[tuple[int, int]] = []
    summary = label_catalog(
        made.store, made.estimator, None, 0.5, lambda done, total: told.append((done, total))
    )
    assert list(predictions(made.store, summary.run_id)) == whole
    assert told == [(min(3 * n, 50), 50) for n in range(1, 18)]
    assert mislabelled(made.store, made.estimator, 0.0) == doubts
    assert suggest(made.store, made.estimator, 5) == proposed


def test_damaged_vectors_are_skipped_and_counted(made: Made, clusters: dict[str, list[int]]) -> None:
    before = {one.view_id: one for one in made.label()}
    free = [view for name in SPECIES for view in clusters[name][6:]]
    huge = np.zeros(DIM, "<f4")
    huge[0] = 3e38
    with made.store.writing() as connection:
        for view, blob in zip(
            free, [np.full(DIM, np.nan, "<f4").tobytes(), b"short", b"", huge.tobytes()], strict=False
        ):
            connection.execute(
                sa.update(schema.embedding).where(schema.embedding.c.view_id == view).values(vector=blob)
            )
    summary = label_catalog(made.store, made.estimator, None, 0.5)
    assert (summary.views, summary.skipped) == (46, 4)
    after = {one.view_id: one for one in predictions(made.store, summary.run_id)}
    assert after == {view: one for view, one in before.items() if view not in free[:4]}
    assert not {one.view_id for one in suggest(made.store, made.estimator, 50)} & set(free[:4])
    assert mislabelled(made.store, made.estimator, 0.0) == []


def test_only_photos_that_meet_the_conditions_are_labelled(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    extra = made.add("wren", 2, camera="Nikon Z 9", captured_at="2023-05-01T06:00:00")
    assert [one.view_id for one in made.label(Where(camera="nikon"))] == extra
    assert len(made.label(Where(verified=True))) == 30
    assert len(made.label(Where(verified=False))) == 22
    assert sorted(one.view_id for one in made.label(Where(taxon="moss owl"))) == clusters["moss owl"][:6]
    assert made.label(Where(since="2030")) == []
    whole = {one.view_id: one for one in made.label()}
    assert made.label(Where(camera="nikon")) == [whole[view] for view in extra]


def test_photos_that_are_gone_are_not_labelled_and_do_not_vote(made: Made) -> None:
    gone = made.made.photo([np.eye(DIM, dtype=np.float32)[4]], [(b"/archive", b"gone.jpg", "missing")])[1]
    made.verify(gone, "moss owl")
    asked = made.add("moss owl")
    (found,) = made.label()
    assert (found.view_id, found.species == "moss owl", found.p_knn) == (asked[0], False, None)


def test_a_confidence_outside_its_limits_and_a_catalog_without_labels_are_refused(made: Made) -> None:
    made.add("crow")
    for confidence in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInputError, match=r"confidence is .*; it has to be 0 to 1"):
            label_catalog(made.store, made.estimator, None, confidence)
    bare = replace(made.estimator.record, classes=(), head_weight=np.zeros((0, DIM)), head_bias=np.zeros(0))
    with pytest.raises(InvalidInputError, match="no label to choose"):
        label_catalog(made.store, LabelEstimator.open(made.store, bare))
    with made.store.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.run)).scalar_one() == 0
    with CatalogStore.open(made.store.path) as reader, pytest.raises(CatalogReadOnlyError):
        label_catalog(reader, made.estimator)


def test_an_empty_catalog_is_labelled_in_no_time(made: Made) -> None:
    summary = label_catalog(made.store, made.estimator)
    assert (summary.views, summary.skipped, summary.ranks, summary.names) == (0, 0, {}, {})
    assert list(predictions(made.store, summary.run_id)) == []
    assert suggest(made.store, made.estimator, 3) == []
    assert mislabelled(made.store, made.estimator) == []


def test_runs_are_kept_apart_and_read_in_pieces(
    made: Made, clusters: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "_CHUNK", 7)
    first = made.label(confidence=0.0)
    second = made.label(confidence=1.0)
    assert {one.rank for one in first} == {"species"}
    assert {one.rank for one in second} == {"bird"}
    assert [one.species for one in first] == [one.species for one in second]


# -- the checklist -----------------------------------------------------------------------------------------


def test_a_checklist_flags_answers_and_changes_nothing_else(
    made: Made, clusters: dict[str, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters["crow"] += made.add("crow", 3, captured_at="2023-05-01T06:00:00", latitude=46.5, longitude=8.0)
    late = made.add("crow", 2, captured_at="2023-12-24T06:00:00", latitude=46.5, longitude=8.0)
    far = made.add("crow", 1, latitude=-33.9, longitude=151.2)
    (tmp_path / "list.csv").write_text(
        "species,months,south,west,north,east,status\ncrow,3-10,46,6,48,10.5,\n"
        "wren,all,,,,,vagrant\nmoss owl,all,,,,,\nghost finch,,,,,,\n"
    )
    plain = made.label(confidence=0.0)
    assert {one.flags for one in plain} == {""}
    checklist = open_checklist(made.store, tmp_path / "list.csv")
    assert checklist.warnings == ()
    monkeypatch.setattr(predict, "_CHUNK", 7)
    summary = label_catalog(made.store, made.estimator, None, 0.0, None, checklist)
    found = list(predictions(made.store, summary.run_id))
    assert [replace(one, flags="") for one in found] == plain
    expected = dict.fromkeys(late, "out-of-season") | dict.fromkeys(far, "out-of-range")
    expected |= dict.fromkeys(clusters["rook"], "not-on-list") | dict.fromkeys(clusters["wren"], "rare")
    assert {one.view_id: one.flags for one in found if one.flags} == expected
    assert list(summary.flags.items()) == [
        *(("not-on-list", 10), ("out-of-range", 1), ("out-of-season", 2), ("rare", 10))
    ]
    with made.store.reading() as connection:
        rows = connection.execute(
            sa.select(schema.prediction.c.view_id, schema.prediction.c.flags).where(
                schema.prediction.c.run_id == summary.run_id, schema.prediction.c.flags != ""
            )
        ).all()
        counts = json.loads(
            connection.execute(
                sa.select(schema.run.c.counts).where(schema.run.c.id == summary.run_id)
            ).scalar_one()
        )
    assert {row.view_id: row.flags for row in rows} == expected
    assert (counts["checklist"], counts["flags"]) == (str(tmp_path / "list.csv"), summary.flags)


def test_without_a_checklist_a_run_says_nothing_of_one(made: Made, clusters: dict[str, list[int]]) -> None:
    summary = label_catalog(made.store, made.estimator, None, 0.5)
    assert summary.flags == {}
    with made.store.reading() as connection:
        counts = json.loads(
            connection.execute(sa.select(schema.run.c.counts).order_by(-schema.run.c.id)).scalars().first()
            or ""
        )
    assert list(counts) == ["views", "confidence", "ranks"]


# -- the fit -----------------------------------------------------------------------------------------------


def test_a_fit_is_stored_with_its_run_and_in_use(made: Made, clusters: dict[str, list[int]]) -> None:
    before = made.label()
    found = fit_catalog(made.store, made.estimator)
    assert (found.photos, found.groups, found.labels) == (30, 30, 5)
    assert load_calibration(made.store, made.made.model_id) == found
    assert made.estimator.calibration == found
    with made.store.reading() as connection:
        run = connection.execute(
            sa.select(schema.run)
            .join(schema.calibration, schema.calibration.c.run_id == schema.run.c.id)
            .where(schema.calibration.c.id == found.id)
        ).one()
    assert (run.command, run.outcome) == ("label --fit", "done")
    assert json.loads(run.counts) == {"photos": 30, "groups": 30, "labels": 5}
    summary = label_catalog(made.store, made.estimator)
    assert summary.is_calibrated
    assert made.label() != before
    again = fit_catalog(made.store, made.estimator)
    assert replace(again, id=None) == replace(found, id=None)


def test_a_fit_may_be_on_some_of_the_verified_photos(made: Made, clusters: dict[str, list[int]]) -> None:
    for day, name in enumerate(SPECIES * 5, start=1):
        made.verify(made.add(name, camera="Canon", captured_at=f"2023-05-{day:02d}T06:00:00"), name)
    found = fit_catalog(made.store, made.estimator, Where(camera="canon"))
    assert (found.photos, found.groups) == (25, 25)
    assert fit_catalog(made.store, made.estimator, Where()).photos == 55
    with pytest.raises(InvalidInputError, match="0 verified photos in 0 groups"):
        fit_catalog(made.store, made.estimator, Where(since="2030"))


def test_photos_of_one_event_are_one_group_of_the_fit(made: Made) -> None:
    for name in SPECIES:
        # An event of three frames, one of which nobody verified; it links the two others.
        for day in range(1, 6):
            at = [f"2023-{SPECIES.index(name) + 1:02d}-{day:02d}T06:{minute:02d}:00" for minute in (0, 4, 8)]
            views = [made.add(name, camera="Z 9", captured_at=one)[0] for one in at]
            made.verify([views[0], views[2]], name)
    found = fit_catalog(made.store, made.estimator)
    assert (found.photos, found.groups) == (50, 25)


def test_too_few_verified_photos_write_nothing(made: Made) -> None:
    made.verify(made.add("crow", 3), "crow")
    with pytest.raises(InvalidInputError, match="too few to fit on"):
        fit_catalog(made.store, made.estimator)
    assert not made.estimator.calibration.is_fitted


# -- what to verify next -----------------------------------------------------------------------------------


def test_neither_verified_photos_nor_two_of_a_group_are_proposed(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    burst = [
        made.add(9, camera="Z 9", captured_at=f"2023-05-01T06:00:{second:02d}")[0] for second in range(8)
    ]
    half = [
        made.add(10, camera="Z 9", captured_at=f"2023-05-02T06:00:{second:02d}")[0] for second in range(4)
    ]
    made.verify(half[:1], "snow goose")
    verified = {view for views in clusters.values() for view in views[:6]} | set(half)
    found = suggest(made.store, made.estimator, 100)
    views = [one.view_id for one in found]
    assert len(views) == len(set(views)) == 21
    assert not set(views) & verified
    assert len(set(views) & set(burst)) == 1
    # The most doubtful first: it is near to none of the species.
    assert views[0] in burst
    assert suggest(made.store, made.estimator, 100) == found
    assert suggest(made.store, made.estimator, 5) == found[:5]
    assert [one.view_id for one in suggest(made.store, made.estimator, 3, Where(camera="z 9"))] == views[:1]
    with made.store.reading() as connection:
        assert not connection.execute(sa.select(sa.func.count()).select_from(schema.prediction)).scalar_one()


def test_without_verified_photos_one_of_a_group_is_enough_too(made: Made) -> None:
    for day in range(1, 4):
        for second in range(5):
            made.add(day, camera="Z 9", captured_at=f"2023-05-{day:02d}T06:00:{second:02d}")
    found = suggest(made.store, made.estimator, 10)
    assert len(found) == 3
    assert len({(one.view_id - 1) // 5 for one in found}) == 3


def test_the_next_proposal_is_the_most_doubtful_that_is_not_like_those_before(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    made.add(8, 6, noise=0.01)
    made.add(9, 4, noise=0.01)
    made.add(10, 2, noise=0.01)
    estimator = made.estimator
    found = suggest(made.store, estimator, 6)
    everything = made.label(Where(verified=False), confidence=0.0)
    vectors = made.store.embeddings(made.made.model_id, [one.view_id for one in everything])
    unit = dict(zip(vectors, normalised(np.stack(list(vectors.values()))), strict=True))
    chosen: list[int] = []
    for _ in range(6):
        value = {
            one.view_id: (1 - one.margin * (1 - one.unknown))
            * (1 - max((max(float(unit[one.view_id] @ unit[other]), 0.0) for other in chosen), default=0.0))
            for one in everything
            if one.view_id not in chosen
        }
        chosen.append(max(value, key=lambda view: value[view]))
    assert [one.view_id for one in found] == chosen
    # Of the three heaps of nearly equal photos, one each comes first.
    assert {(one.view_id > 56) + (one.view_id > 60) for one in found[:3]} == {0, 1, 2}


def test_photos_with_the_same_vector_are_not_proposed_twice(made: Made) -> None:
    for _ in range(4):
        made.made.photo([np.eye(DIM, dtype=np.float32)[5]])
    assert [one.view_id for one in suggest(made.store, made.estimator, 3)] == [1, 2, 3]
    assert len(suggest(made.store, made.estimator, 9)) == 4
    with pytest.raises(InvalidInputError, match="suggest is 0; ask for 1 photo or more"):
        suggest(made.store, made.estimator, 0)


# -- labels that look wrong --------------------------------------------------------------------------------


def test_planted_wrong_labels_are_found_and_no_right_ones(made: Made, clusters: dict[str, list[int]]) -> None:
    assert mislabelled(made.store, made.estimator) == []
    wrong = {
        made.add("crow")[0]: ("wren", "crow"),
        made.add("moss owl")[0]: ("ghost finch", "moss owl"),
        made.add("rook")[0]: ("moss owl", "rook"),
        clusters["ghost finch"][3]: ("crow", "ghost finch"),
    }
    for view, (label, _) in wrong.items():
        made.verify([view], label)
    found = mislabelled(made.store, made.estimator)
    assert {one.view_id: (one.label, one.better) for one in found} == wrong
    gaps = [one.p_better - one.p_label for one in found]
    assert gaps == sorted(gaps, reverse=True)
    assert min(gaps) >= 0.5
    assert all(one.knn_better > one.knn_label for one in found)
    assert mislabelled(made.store, made.estimator, 1.0) == []


def test_a_copy_with_the_same_wrong_label_does_not_vouch_for_it(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    views = [
        made.add("rook", noise=0.05, camera="Z 9", captured_at=f"2023-05-01T06:00:{second:02d}")[0]
        for second in range(6)
    ]
    made.verify(views, "moss owl")
    assert {one.view_id for one in mislabelled(made.store, made.estimator)} == set(views)


def test_a_label_that_nobody_else_knows_is_not_called_wrong(
    made: Made, clusters: dict[str, list[int]]
) -> None:
    # The only photo of a new species looks like a crow.
    made.verify(made.add("crow"), "snow goose")
    burst = [made.add("wren", captured_at=f"2023-05-01T06:00:0{n}", camera="Z 9")[0] for n in range(3)]
    made.verify(burst, "ice wren")
    assert mislabelled(made.store, made.estimator, 0.0) == []
    made.verify(made.add(9), "snow goose")
    assert [one.label for one in mislabelled(made.store, made.estimator)] == ["snow goose"]
