"""The label estimate of a catalog: who votes for whom, with real files, a real network and real rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from birdsearch import Catalog
from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record, undo
from birdsearch.indexer.catalog.calibrations import insert_calibration
from birdsearch.indexer.catalog.label_state import estimate_state
from birdsearch.indexer.catalog.predictions import predictions
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.runs import start_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.catalog.views import ViewTimes
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search import QueryResult, Where
from birdsearch.search.labels.calibration import Calibration
from birdsearch.search.labels.estimator import Answers, LabelEstimator, views_near
from birdsearch.search.labels.fusion import FusionParameters, fuse, neighbour_evidence
from birdsearch.search.labels.predict import label_catalog, mislabelled
from birdsearch.search.query.vote_groups import GroupRules, vote_groups

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]

FAMILY = ("original.png", "again.jpg", "small.png", "burst2.png", "burst3.png")
OTHERS = tuple(f"other{seed}.png" for seed in range(10, 18))
VERIFIED_AS = {name: f"species {'abcde'[seed % 5]}" for seed, name in enumerate(OTHERS)}


def exif(at: str, camera: str = "Z 9") -> Image.Exif:
    made = Image.Exif()
    made[271], made[272] = "Nikon", camera
    made.get_ifd(0x8769)[36867] = at
    return made


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    """An original, a recompressed and a reduced copy of it, two frames of its burst, and eight other photos."""
    folder = tmp_path_factory.mktemp("estimator") / "archive"
    original = make_photo(folder / "original.png", 1, size=(160, 120), exif=exif("2023:05:01 06:30:00"))
    with Image.open(original) as image:
        image.convert("RGB").save(folder / "again.jpg", quality=60)
        image.resize((80, 60)).save(folder / "small.png")
    for number in (2, 3):
        at = f"2023:05:01 06:30:{2 * number:02d}"
        make_photo(folder / f"burst{number}.png", number, size=(160, 120), exif=exif(at))
    for day, name in enumerate(OTHERS, start=10):
        make_photo(folder / name, 100 + day, size=(160, 120), exif=exif(f"2023:06:{day} 06:30:00"))
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_model: Model) -> Path:
    folder = tmp_path_factory.mktemp("estimator") / "catalog"
    with Catalog.open(folder) as catalog:
        assert catalog.index([archive], model=tiny_model, workers=1).new == len(FAMILY) + len(OTHERS)
    return folder


@pytest.fixture
def catalog(indexed: Path, tmp_path: Path) -> Path:
    """The catalog, to be written to."""
    return Path(shutil.copytree(indexed, tmp_path / "catalog"))


def views(store: CatalogStore) -> dict[str, int]:
    """The view of each file name."""
    file, view = schema.file.c, schema.view.c
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(file.path, view.id).join(schema.view, view.photo_id == file.photo_id)
        )
        return {Path(row.path.decode()).name: row.id for row in rows}


def verify(store: CatalogStore, labels: dict[str, str], verdict: str = "positive") -> int:
    places = views(store)
    items = [(places[name], new_taxon(label), verdict) for name, label in labels.items()]
    run_id = record(store, items, "ada", "test").run_id
    assert run_id is not None
    return run_id


def verify_in(path: Path, labels: dict[str, str]) -> None:
    with CatalogStore.open(path, "write") as store:
        verify(store, labels)


def voters(result: QueryResult) -> list[str]:
    assert result.evidence is not None
    return [Path(voter.path).name for voter in result.evidence.neighbours]


def labelled(path: Path, where: Where | None = None, confidence: float = 0.3) -> dict[str, Prediction]:
    """What `label` says of each file."""
    with CatalogStore.open(path, "write") as store:
        model = store.active_model()
        assert model is not None
        summary = label_catalog(store, LabelEstimator.open(store, model), where, confidence)
        found = {one.view_id: one for one in predictions(store, summary.run_id)}
        return {name: found[view_id] for name, view_id in views(store).items() if view_id in found}


def without_ids(found: dict[str, Prediction]) -> dict[str, tuple[object, ...]]:
    names = [name for name in Prediction.__dataclass_fields__ if name != "view_id"]
    return {file: tuple(getattr(one, name) for name in names) for file, one in found.items()}


@pytest.mark.parametrize("asked", FAMILY)
def test_a_photos_copies_and_its_burst_never_vote_for_it(catalog: Path, archive: Path, asked: str) -> None:
    # All of its family say that it is a bird which nobody else is.
    verify_in(catalog, {name: "Moss owl" for name in FAMILY if name != asked} | VERIFIED_AS)
    with Catalog.open(catalog, "read") as opened:
        result = opened.query(archive / asked)
        assert sorted(voters(result)) == sorted(OTHERS)
        assert "Moss owl" not in {label.name for label in result.labels if label.probability > 0}
        # As a hit they are as welcome as any.
        assert set(FAMILY) - {asked} <= {Path(hit.path).name for hit in result.hits}
        for other in OTHERS[:2]:
            voting = set(voters(opened.query(archive / other)))
            # The copies of the original are one witness.
            assert len(voting & set(FAMILY[:3])) == 1
            assert voting - set(FAMILY[:3]) == (set(FAMILY[3:]) | set(OTHERS)) - {asked, other}
    assert labelled(catalog)[asked].species != "Moss owl"


def test_a_verified_photo_has_no_say_about_itself(catalog: Path, archive: Path) -> None:
    verify_in(catalog, {"other10.png": "Moss owl", "other11.png": "species a"})
    with Catalog.open(catalog, "read") as opened:
        result = opened.query(archive / "other10.png")
        assert voters(result) == ["other11.png"]
        assert {label.name: label.probability for label in result.labels}.get("Moss owl", 0.0) == 0.0
        # Nor has it about a part of itself.
        assert voters(opened.query(archive / "other10.png", box=(0.1, 0.1, 0.5, 0.5))) == ["other11.png"]


def test_an_event_is_one_even_if_the_frame_that_links_it_is_not_verified(make_catalog: Any) -> None:
    made = make_catalog(4)
    basis = np.eye(4, dtype=np.float32)
    frames = [
        made.photo([basis[0] + 0.01 * n], camera="Z 9", captured_at=f"2023-05-01T06:{minute:02d}:00")
        for n, minute in enumerate((0, 4, 8))
    ]
    (first,), (between,), (last,) = (view_ids for _, view_ids in frames)
    far, (far_view,) = made.photo([basis[1]], camera="Z 9", captured_at="2023-05-02T06:00:00.250000")
    record(
        made.store,
        [(first, new_taxon("ghost"), "positive"), (far_view, new_taxon("crow"), "positive")],
        "a",
        "t",
    )
    # Alone the two are eight minutes apart; the frame between joins them, asked about or not.
    apart = vote_groups(made.store, made.model_id, [first, last])
    assert apart[0] != apart[1]
    estimator = LabelEstimator.open(made.store, made.store.active_model())
    for asked in ([last], [last, between], [last, first, between], [last, 0, far_view]):
        references, groups = estimator.groups_for(made.store, asked)
        assert groups[0] == references.groups[0] != references.groups[1]
    # So it is where a part of the catalog is labelled, and between verified photos.
    where = Where(since="2023-05-01T06:07", until="2023-05-01")
    summary = label_catalog(made.store, estimator, where)
    (found,) = predictions(made.store, summary.run_id)
    assert (found.view_id, found.species == "ghost") == (last, False)
    record(made.store, [(last, new_taxon("ghost"), "positive")], "a", "t")
    # A photo that comes while a run is under way is a change too.
    before = estimate_state(made.store)
    made.photo([basis[2]])
    assert estimate_state(made.store) != before
    estimator = LabelEstimator.open(made.store, made.store.active_model())
    assert "ghost" not in {one.label for one in mislabelled(made.store, estimator, 0.0)}
    made.store.close()
    with Catalog.open(made.store.path) as opened:
        evidence = opened.query(frames[2][0]).evidence
    assert evidence is not None
    assert [voter.photo_id for voter in evidence.neighbours] == [far]


@pytest.mark.parametrize("verified", ["burst", "export of burst"])
def test_an_export_is_of_the_event_of_its_original(make_catalog: Any, verified: str) -> None:
    made = make_catalog(4)
    basis = np.eye(4, dtype=np.float32)
    one, two = bytes.fromhex("f0e1d2c3b4a59687"), bytes.fromhex("0123456789abcdef")
    taken = {"camera": "Z 9", "captured_at": "2023-05-01T06:00:00"}
    photos = {
        "export": made.photo([basis[0]], phash=one),
        "original": made.photo([basis[0]], phash=one, **taken),
        "burst": made.photo([basis[0]], phash=two, camera="Z 9", captured_at="2023-05-01T06:00:01"),
        "export of burst": made.photo([basis[0]], phash=two),
        "other": made.photo([basis[1]], phash=bytes(8)),
    }
    items = [(photos[name][1][0], new_taxon("ghost"), "positive") for name in (verified, "other")]
    record(made.store, items, "ada", "test")
    made.store.close()
    with Catalog.open(made.store.path) as opened:
        for name, (photo_id, _) in photos.items():
            evidence = opened.query(photo_id).evidence
            assert evidence is not None
            expected = verified if name == "other" else "other"
            assert [voter.photo_id for voter in evidence.neighbours] == [photos[expected][0]]


def test_predictions_never_vote(catalog: Path, archive: Path) -> None:
    verify_in(catalog, VERIFIED_AS)
    first = labelled(catalog)
    with Catalog.open(catalog, "read") as opened:
        before = [opened.query(archive / name) for name in FAMILY]
    # The same again, bit for bit; and once more after a run that says nonsense of every photo.
    assert labelled(catalog) == first
    with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
        run_id = start_run(connection, "label", 1)
        for view_id in views(store).values():
            connection.execute(
                sa.insert(schema.prediction).values(
                    view_id=view_id, run_id=run_id, name="Moss owl", rank="species", probability=1.0,
                    species="Moss owl", species_probability=1.0, margin=1.0, p_model=1.0, p_knn=1.0,
                    knn_weight=1.0, unknown=0.0, flags="",
                )
            )  # fmt: skip
    assert labelled(catalog) == first
    with Catalog.open(catalog, "read") as opened:
        assert [opened.query(archive / name) for name in FAMILY] == before


def test_the_order_in_which_photos_were_verified_does_not_matter(indexed: Path, tmp_path: Path) -> None:
    labels = VERIFIED_AS | {"burst3.png": "Moss owl", "other13.png": "Ghost finch"}
    orders: list[list[str]] = [list(labels), list(labels)[::-1], sorted(labels, key=lambda name: name[::-1])]
    found = []
    for number, order in enumerate(orders):
        path = Path(shutil.copytree(indexed, tmp_path / str(number)))
        with CatalogStore.open(path, "write") as store:
            if number == 2:
                # By and by, with a change of mind.
                undo(store, verify(store, {"other10.png": "Snow goose"}))
                verify(store, {"burst3.png": "species a", "other11.png": "Snow goose"})
                for name in order:
                    verify(store, {name: labels[name]})
            else:
                verify(store, {name: labels[name] for name in order})
        found.append(labelled(path))
    assert found[0] == found[1] == found[2]


def test_the_order_in_which_photos_were_indexed_does_not_matter(
    archive: Path, tiny_model: Model, tmp_path: Path
) -> None:
    root, found = tmp_path / "archive", []
    names = [*FAMILY, *OTHERS]
    for number, order in enumerate(([names], [names[9:], names[2:9], names[:2]])):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        path = tmp_path / str(number)
        with Catalog.open(path) as opened:
            for part in order:
                for name in part:
                    shutil.copy(archive / name, root / name)
                # One at a time: the last bits of a vector depend on the batch that the network ran on.
                opened.index([root], model=tiny_model, workers=1, batch_size=1)
        verify_in(path, VERIFIED_AS | {"burst3.png": "Moss owl"})
        found.append(labelled(path))
    one, two = found
    assert [one[name].view_id for name in FAMILY] != [two[name].view_id for name in FAMILY]
    for name in names:
        for mine, theirs in zip(without_ids(one)[name], without_ids(two)[name], strict=True):
            assert theirs == (mine if isinstance(mine, str | None) else pytest.approx(mine, abs=1e-6)), name


def test_the_answer_is_the_formula_on_what_the_catalog_holds(
    catalog: Path, archive: Path, tiny_model: Model
) -> None:
    verify_in(catalog, VERIFIED_AS | {"burst2.png": "Moss owl"})
    result_of = {}
    with Catalog.open(catalog, "read") as opened:
        result_of = {name: opened.query(archive / name) for name in FAMILY}
        estimator = opened.label_estimator()
        store = opened.store
        places = views(store)
        assert estimator.space.names == (*tiny_model.classes, "Moss owl")
        assert estimator.references.view_ids.tolist() == sorted(
            places[name] for name in (*VERIFIED_AS, "burst2.png")
        )
        vectors = store.embeddings(1, [places[name] for name in FAMILY])
    for name, result in result_of.items():
        vector = vectors[places[name]][None, :]
        logits = (vector @ tiny_model.head_weight.T + tiny_model.head_bias).astype(np.float32)
        unit = normalised(vector)
        # No photo but those of the family shares a group, and of these only one is verified.
        shown = estimator.references.where(estimator.references.view_ids != places["burst2.png"])
        evidence = neighbour_evidence(unit, np.array([-1]), shown, 6)
        expected = fuse(logits, evidence, FusionParameters(), estimator.references.background)
        order = np.argsort(-expected.probabilities[0], kind="stable")[:5]
        assert [label.name for label in result.labels] == [estimator.space.names[place] for place in order]
        for label, place in zip(result.labels, order, strict=True):
            assert label.probability == pytest.approx(expected.probabilities[0, place], abs=1e-6)
            assert label.p_model == pytest.approx(expected.p_model[0, place], abs=1e-6)
            assert label.p_knn == pytest.approx(expected.p_knn[0, place], abs=1e-6)
        assert result.evidence is not None
        assert result.evidence.knn_weight == pytest.approx(expected.knn_weight[0], abs=1e-5)
        assert [voter.similarity for voter in result.evidence.neighbours] == sorted(
            (voter.similarity for voter in result.evidence.neighbours), reverse=True
        )
        assert {Path(v.path).name: v.label for v in result.evidence.neighbours} == VERIFIED_AS


def test_a_query_and_a_label_run_say_the_same(catalog: Path, archive: Path) -> None:
    verify_in(catalog, VERIFIED_AS)
    found = labelled(catalog, confidence=0.5)
    with Catalog.open(catalog, "read") as opened:
        for name, one in found.items():
            result = opened.query(archive / name, confidence=0.5)
            assert result.evidence is not None
            assert (result.evidence.name, result.evidence.rank) == (one.name, one.rank)
            assert result.evidence.probability == one.probability
            assert result.evidence.knn_weight == one.knn_weight
            assert result.unknown == one.unknown
            first = result.labels[0]
            assert (first.name, first.probability, first.p_model, first.p_knn) == (
                one.species, one.species_probability, one.p_model, one.p_knn
            )  # fmt: skip


def test_a_part_of_the_catalog_is_labelled_as_the_whole_is(catalog: Path) -> None:
    verify_in(catalog, VERIFIED_AS | {"burst3.png": "Moss owl"})
    whole = labelled(catalog)
    some = labelled(catalog, Where(since="2023-06-12"))
    assert sorted(some) == [name for name in OTHERS if int(name[5:7]) >= 12]
    assert some == {name: whole[name] for name in some}


def test_without_verified_photos_the_network_speaks_alone(
    catalog: Path, archive: Path, tiny_model: Model
) -> None:
    logits = tiny_model.infer([archive / "original.png"]).logits[0].astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    with Catalog.open(catalog, "read") as opened:
        result = opened.query(archive / "original.png")
    assert [label.name for label in result.labels] == [tiny_model.classes[place] for place in np.argsort(-p)]
    assert [label.probability for label in result.labels] == pytest.approx(sorted(p, reverse=True), abs=1e-5)
    assert all(label.p_knn is None for label in result.labels)
    assert result.evidence is not None
    assert (result.evidence.knn_weight, result.evidence.neighbours) == (0.0, ())
    assert not result.evidence.calibrated
    assert 0 <= (result.unknown or 0.0) <= 1


def test_only_positive_labels_in_force_vote(catalog: Path, archive: Path) -> None:
    with CatalogStore.open(catalog, "write") as store:
        verify(store, {"other10.png": "species a", "other11.png": "species b"}, "negative")
        verify(store, {"other12.png": "species c"}, "uncertain")
        undone = verify(store, {"other13.png": "species d"})
        undo(store, undone)
        verify(store, {"other14.png": "species d"})
        verify(store, {"other14.png": "species e"})
    with Catalog.open(catalog, "read") as opened:
        evidence = opened.query(archive / "original.png").evidence
    assert evidence is not None
    assert [(Path(voter.path).name, voter.label) for voter in evidence.neighbours] == [
        ("other14.png", "species e")
    ]


def test_neither_a_damaged_vector_nor_a_photo_that_is_gone_votes(
    archive: Path, tiny_model: Model, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(archive, tmp_path / "archive"))
    path = tmp_path / "catalog"
    with Catalog.open(path) as opened:
        opened.index([root], model=tiny_model, workers=1)
    verify_in(path, dict.fromkeys(OTHERS[:4], "species a"))
    (root / OTHERS[0]).unlink()
    with Catalog.open(path) as opened:
        opened.index([root], workers=1)
    with CatalogStore.open(path, "write") as store, store.writing() as connection:
        for name, blob in ((OTHERS[1], np.full(128, np.nan, "<f4").tobytes()), (OTHERS[2], b"short")):
            connection.execute(
                sa.update(schema.embedding)
                .where(schema.embedding.c.view_id == views(store)[name])
                .values(vector=blob)
            )
    with Catalog.open(path, "read") as opened:
        assert sorted(voters(opened.query(root / "original.png"))) == [OTHERS[3]]


def test_an_open_catalog_sees_new_labels_photos_and_calibrations(catalog: Path, archive: Path) -> None:
    with Catalog.open(catalog, "read") as opened:
        plain = opened.query(archive / "original.png")
        estimator = opened.label_estimator()
        assert opened.label_estimator() is estimator
        verify_in(catalog, VERIFIED_AS)
        by_photos = opened.query(archive / "original.png")
        assert by_photos.labels != plain.labels
        assert sorted(voters(by_photos)) == sorted(OTHERS)
        with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
            run_id = start_run(connection, "label --fit", 1)
            # A reader sees the run and its calibration together or not at all.
            state = estimate_state(opened.store)
            fitted = Calibration(FusionParameters(sharpness=0.01), photos=30)
            insert_calibration(connection, 1, run_id, fitted.to_json())
            assert estimate_state(opened.store) == state
        calibrated = opened.query(archive / "original.png")
        assert calibrated.evidence is not None
        assert calibrated.evidence.calibrated
        assert calibrated.labels != by_photos.labels


def test_verified_photos_are_read_again_only_if_one_of_them_came_or_went(catalog: Path) -> None:
    verify_in(catalog, VERIFIED_AS)

    def changed(view_id: int) -> None:
        with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
            connection.execute(sa.insert(schema.change).values(op="add", view_id=view_id, model_id=1))

    with Catalog.open(catalog, "read") as opened:
        before = opened.label_estimator()
        places = views(opened.store)
        changed(places["burst2.png"])
        after = opened.label_estimator()
        assert after.references is before.references
        # What is taken around the time of a photo may be new.
        assert after.times is not before.times
        changed(places[OTHERS[2]])
        assert opened.label_estimator().references is not before.references


def test_photos_asked_about_together_are_answered_as_each_alone(catalog: Path) -> None:
    verify_in(catalog, VERIFIED_AS | {"burst2.png": "Moss owl"})
    with Catalog.open(catalog, "read") as opened:
        ids: list[Any] = [f"#{number}" for number in range(1, 14)]
        for one, result in zip(ids, opened.query_many(ids, k=2), strict=True):
            alone = opened.query(one, k=2)
            assert (result.labels, result.unknown, result.evidence) == (
                alone.labels,
                alone.unknown,
                alone.evidence,
            )


def test_what_is_rolled_up_is_a_clade_of_the_taxonomy(make_catalog: Any) -> None:
    made = make_catalog(4)
    taxonomy = Taxonomy.load()
    crake, darter = taxonomy.find("African crake"), taxonomy.find("African darter")
    rail = next(taxon for taxon in taxonomy if taxon.family == "Rallidae" and taxon is not crake)
    assert crake is not None
    assert darter is not None
    basis = np.eye(4, dtype=np.float32)
    items = []
    for number, taxon in enumerate([crake, rail, darter] * 3):
        side = 0.05 if taxon is crake else -0.05
        direction = basis[2] if taxon is darter else basis[0] + side * basis[1]
        _, (view_id,) = made.photo([direction + 0.01 * number * basis[3]])
        items.append((view_id, taxon, "positive"))
    record(made.store, items, "ada", "test")
    # A model that only embeds: nothing but the verified photos says what is what.
    bare = replace(made.store.active_model(), classes=(), head_weight=np.zeros((0, 4)), head_bias=np.zeros(0))
    estimator = LabelEstimator.open(made.store, bare)
    assert len(estimator.space) == 3

    def asked(confidence: float) -> Answers:
        return estimator.answer(basis[:1], np.array([-1]), confidence)

    evidence = estimator.evidence(made.store, asked(0.6))[0]
    assert (evidence.name, evidence.rank) == ("Rallidae", "family")
    assert 0.6 <= evidence.probability < 1
    assert evidence.knn_weight == 1.0
    assert [label.p_model for label in estimator.labels(asked(0.6), 0)] == [0.0] * 3
    assert estimator.labels(asked(0.6), 0)[2].scientific_name == darter.scientific_name
    assert asked(0.0).rolled[0].rank == "species"
    assert asked(1.0).rolled[0].name == "bird"
    with pytest.raises(InvalidInputError, match=r"confidence is 1\.5"):
        asked(1.5)


def test_a_damaged_calibration_stops_a_query_with_what_to_do(catalog: Path, archive: Path) -> None:
    with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
        run_id = start_run(connection, "label --fit", 1)
        connection.execute(
            sa.insert(schema.calibration).values(model_id=1, run_id=run_id, created_at="", parameters="{")
        )
    with Catalog.open(catalog, "read") as opened, pytest.raises(CatalogError, match="birdsearch label --fit"):
        opened.query(archive / "original.png")


def test_views_near_others_are_their_copies_and_what_was_taken_around_the_times_of_either() -> None:
    hour = np.timedelta64(round(GroupRules().longest_s), "s")
    start = np.datetime64("2024-05-01T12:00:00", "us")
    day = np.timedelta64(1, "D")
    # View, time, hash: the asked one; within its hour; just outside; its copy of another day; at the copy's time; a
    # view without a time or a hash.
    rows = [
        (2, start, 0b1011),
        (3, start + hour, None),
        (5, start + hour + np.timedelta64(1, "us"), None),
        (8, start + 9 * day, 0b1010),
        (9, start + 9 * day - hour, None),
        (11, np.datetime64("NaT"), None),
    ]
    known = ViewTimes(
        np.array([view for view, _, _ in rows]),
        np.array([time for _, time, _ in rows], dtype="datetime64[us]"),
        np.array([0 if one is None else one for _, _, one in rows], dtype=np.uint64),
        np.array([one is not None for _, _, one in rows]),
    )
    assert views_near(known, np.array([2])).tolist() == [3, 8, 9]
    assert views_near(known, np.array([11])).tolist() == []
    assert views_near(known, np.array([5])).tolist() == [3]
