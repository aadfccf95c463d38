"""The catalog as a whole: indexing and asking, with a real network and real files."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

import birdsearch
from birdsearch import Catalog
from birdsearch.errors import (
    CatalogError,
    CatalogReadOnlyError,
    InvalidInputError,
    ModelMismatchError,
    PhotoError,
    StalledError,
    WeightsError,
)
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.images.box import Box
from birdsearch.model.images.decode import decode_photo
from birdsearch.search import QueryResult, Where
from birdsearch.settings import Settings

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]
COUNT = 12


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    """Twelve pictures, a copy of the first, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("engine") / "archive"
    for seed in range(COUNT):
        exif = Image.Exif()
        exif[271], exif[272] = "Nikon", f"Z {seed % 3}"
        exif.get_ifd(0x8769)[36867] = f"2023:05:{seed + 1:02d} 06:30:00"
        make_photo(folder / f"day{seed % 2}" / f"{seed:02d}.png", seed, exif=exif)
    shutil.copy(folder / "day0" / "00.png", folder / "day1" / "copy of 00.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_model: Model) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "catalog"
    with Catalog.open(folder) as catalog:
        summary = catalog.index([archive], model=tiny_model, workers=1)
    assert (summary.new, summary.copies, sum(summary.failed.values())) == (COUNT, 1, 1)
    return folder


@pytest.fixture
def catalog(indexed: Path) -> Any:
    with Catalog.open(indexed, "read") as opened:
        yield opened


def names(result: QueryResult) -> list[str]:
    return [Path(hit.path).name for hit in result.hits]


def test_the_hits_are_those_of_brute_force_over_the_network(
    catalog: Catalog, archive: Path, tiny_model: Model, make_photo: MakePhoto, tmp_path: Path
) -> None:
    asked = make_photo(tmp_path / "asked.png", 99)
    files = sorted(archive.rglob("*[0-9].png"), key=lambda path: path.name)[:COUNT]
    files = [path for path in files if "copy" not in path.name]
    vectors = normalised(tiny_model.infer(files).embeddings).astype(np.float64)
    query = normalised(tiny_model.infer([asked]).embeddings)[0].astype(np.float64)
    similarities = vectors @ query
    result = catalog.query(asked, k=5)
    order = np.argsort(-similarities)[:5]
    assert names(result) == [files[place].name for place in order]
    assert [hit.similarity for hit in result.hits] == pytest.approx(similarities[order], abs=1e-5)
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4, 5]
    assert result.query.path == str(asked)
    assert result.query.photo_id is None
    logits = tiny_model.infer([asked]).logits[0]
    assert [label.name for label in result.labels] == [tiny_model.classes[i] for i in np.argsort(-logits)[:5]]
    assert result.unknown is not None
    assert 0 < result.unknown < 1
    assert result.warnings == ()
    first = result.hits[0]
    seed = int(order[0])
    assert (first.captured_at, first.camera) == (f"2023-05-{seed + 1:02d}T06:30:00", f"Nikon Z {seed % 3}")
    stored = tiny_model.infer([files[seed]]).logits[0]
    assert first.label == tiny_model.classes[int(stored.argmax())]
    assert os.fsdecode(first.file) == first.path


def test_a_photo_of_the_catalog_is_answered_without_the_model(
    catalog: Catalog, archive: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copy(archive / "day0" / "04.png", tmp_path / "renamed.bin")
    by_path = catalog.query(archive / "day0" / "04.png", k=COUNT)
    by_content = catalog.query(elsewhere, k=COUNT)
    photo_id = by_path.query.photo_id
    assert photo_id is not None
    by_id, by_text = catalog.query(photo_id, k=COUNT), catalog.query(f"#{photo_id}", k=COUNT)
    assert catalog._model is None
    assert by_path.hits == by_content.hits == by_id.hits == by_text.hits
    assert by_path.labels == by_id.labels
    assert Path(by_id.query.path).name == "04.png"
    assert len(by_path.hits) == COUNT - 1
    assert "04.png" not in names(by_path)


def test_the_photo_itself_and_its_copies_are_hits_only_if_asked_for(catalog: Catalog, archive: Path) -> None:
    copy = archive / "day1" / "copy of 00.png"
    assert not {"00.png", "copy of 00.png"} & set(names(catalog.query(copy, k=50)))
    with_self = catalog.query(copy, k=50, include_self=True)
    assert len(with_self.hits) == COUNT
    assert names(with_self)[0] == "00.png"
    assert with_self.hits[0].similarity == 1.0
    boxed = catalog.query(copy, k=50, box=(0.0, 0.0, 0.99, 1.0))
    assert boxed.query.box == Box(0.0, 0.0, 0.99, 1.0)
    assert len(boxed.hits) == COUNT - 1
    assert "00.png" not in names(boxed)
    assert names(catalog.query(copy, box=(0.0, 0.0, 0.99, 1.0), include_self=True))[0] == "00.png"


def test_fewer_photos_than_asked_for_give_a_short_answer_and_k_0_an_empty_one(
    catalog: Catalog, archive: Path
) -> None:
    photo = archive / "day0" / "02.png"
    assert len(catalog.query(photo, k=10**9).hits) == COUNT - 1
    nothing = catalog.query(photo, k=0)
    assert nothing.hits == ()
    assert len(nothing.labels) == 5
    assert all(hit.photo_id > 0 for hit in catalog.query(photo, k=500).hits)


def test_conditions_hold_before_the_search(catalog: Catalog, archive: Path) -> None:
    photo = archive / "day0" / "02.png"
    where = Where(since="2023-05-05", until="2023-05-08", camera="nikon")
    assert sorted(names(catalog.query(photo, k=4, where=where))) == ["04.png", "05.png", "06.png", "07.png"]
    in_day1 = catalog.query(photo, k=50, where=Where(under=[archive / "day1"]))
    assert sorted(names(in_day1)) == sorted(["00.png", *(f"{seed:02d}.png" for seed in range(1, COUNT, 2))])
    nothing = catalog.query(photo, where=Where(near=(0.0, 0.0, 10.0)))
    assert nothing.hits == ()
    assert nothing.warnings == ("no photo of the catalog meets the conditions",)
    assert catalog.query(photo, where=Where()).hits == catalog.query(photo).hits


def test_many_photos_are_answered_as_each_alone(
    catalog: Catalog, archive: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    photos: list[Any] = [make_photo(tmp_path / f"{seed}.png", seed) for seed in range(200, 240)]
    photos[7], photos[20] = archive / "day0" / "02.png", "#3"
    photos[30] = Image.open(photos[31])
    together = catalog.query_many(photos, k=4)
    assert len(together) == 40
    for photo, result in zip(photos, together, strict=True):
        alone = catalog.query(photo, k=4)
        assert names(alone) == names(result)
        assert alone.query == result.query
        assert [h.similarity for h in alone.hits] == pytest.approx(
            [h.similarity for h in result.hits], abs=1e-5
        )
    assert catalog.query_many([]) == []


def test_an_image_is_answered_like_its_file(catalog: Catalog, make_photo: MakePhoto, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = make_photo(tmp_path / "turned.jpg", 77, exif=exif)
    by_file, by_image = catalog.query(path), catalog.query(Image.open(path))
    assert by_file.hits == by_image.hits
    with Image.open(path) as opened:
        nameless = opened.copy()
    assert catalog.query(nameless).query.path == "image"


def test_a_box_is_cut_out_before_it_is_resized(
    catalog: Catalog, make_photo: MakePhoto, tmp_path: Path
) -> None:
    whole = Image.new("RGB", (101, 67), "white")
    with Image.open(make_photo(tmp_path / "part.png", 5, size=(40, 30))) as part:
        whole.paste(part, (51, 20))
        whole.save(tmp_path / "whole.png")
        found = catalog.query(tmp_path / "whole.png", box=(51 / 101, 20 / 67, 40 / 101, 30 / 67))
        expected = catalog.query(part.copy())
    assert names(found) == names(expected)
    assert [h.similarity for h in found.hits] == pytest.approx(
        [h.similarity for h in expected.hits], abs=1e-6
    )
    assert catalog.query(tmp_path / "whole.png", box=(0, 0, 1, 1)).query.box is None
    tiny = catalog.query(tmp_path / "whole.png", box=(0.999999, 0.999999, 1e-6, 1e-6))
    assert len(tiny.hits) == COUNT


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.5, 0.5, 0.6, 0.5), "reaches out of the photo"),
        ((-0.1, 0, 0.5, 0.5), "reaches out of the photo"),
        ((10, 20, 300, 200), "divide pixels by them"),
        ((0, 0, 0, 1), "must be more than 0"),
        ((0, 0, float("nan"), 1), "must be finite"),
        ((0, 0, 1), "must be four numbers"),
        ("0,0,1,1", "must be four numbers"),
    ],
)
def test_a_box_out_of_the_frame_is_refused(catalog: Catalog, archive: Path, box: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        catalog.query(archive / "day0" / "02.png", box=box)


def test_a_photo_that_cannot_be_read_is_named(catalog: Catalog, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"broken.jpg: ") as caught:
        catalog.query(archive / "broken.jpg")
    assert caught.value.stage == "format"
    with pytest.raises(PhotoError, match=r"absent.jpg: there is no such file"):
        catalog.query(tmp_path / "absent.jpg")
    with pytest.raises(PhotoError, match=r"not a regular file"):
        catalog.query(tmp_path)
    with pytest.raises(PhotoError, match="#999: the catalog has no photo of this id"):
        catalog.query("#999")
    with pytest.raises(PhotoError, match="no photo of this id"):
        catalog.query(10**30)
    with pytest.raises(InvalidInputError, match="got bool"):
        catalog.query(True)
    with pytest.raises(InvalidInputError, match="k must be at least 0, got -1"):
        catalog.query("#1", k=-1)


def test_one_bad_photo_among_many_is_reported_and_the_others_are_answered(
    catalog: Catalog, archive: Path
) -> None:
    bad: list[tuple[Any, str]] = []
    photos: list[Any] = ["#1", archive / "broken.jpg", "#2", "#77"]
    results = catalog.query_many(photos, k=1, on_error=lambda photo, error: bad.append((photo, error.code)))
    assert [result.query.photo_id for result in results] == [1, 2]
    assert bad == [(archive / "broken.jpg", "not-a-picture"), ("#77", "unknown-photo")]


def test_views_of_one_photo_are_one_hit_the_best(make_catalog: Callable[..., Any]) -> None:
    made = make_catalog(4)
    base, other = np.eye(4, dtype=np.float32)[0], np.eye(4, dtype=np.float32)[1]
    asked, _ = made.photo([base])
    many, many_views = made.photo(
        [base + other * (9 - place) for place in range(9)],
        boxes=[(0.0, 0.0, 0.1 * n, 0.5) for n in range(1, 9)],
    )
    rest = [made.photo([base + other * (2 + place)])[0] for place in range(6)]
    made.store.close()
    with Catalog.open(made.store.path) as catalog:
        result = catalog.query(asked, k=4)
        everything = catalog.query(asked, k=100)
    # The second view of `rest` photos ties with views of `many`; only the best view of `many` counts.
    assert [hit.photo_id for hit in result.hits] == [many, *rest[:3]]
    assert [hit.photo_id for hit in everything.hits] == [many, *rest]
    assert result.hits[0].view_id == many_views[8]
    assert (result.hits[0].view, result.hits[0].box) == ("box", Box(0.0, 0.0, 0.8, 0.5))


def test_missing_photos_are_not_hits_and_new_ones_are_found_without_opening_again(
    archive: Path, tiny_model: Model, make_photo: MakePhoto, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    shutil.copytree(archive / "day0", root)
    with Catalog.open(tmp_path / "catalog") as catalog:
        catalog.index([root], model=tiny_model, workers=1)
        assert len(catalog.query("#1", k=50).hits) == 5
        (root / "04.png").unlink()
        make_photo(root / "new.png", 500)
        catalog.index([root], workers=1)
        assert "04.png" not in names(catalog.query("#1", k=50))
        assert "new.png" in names(catalog.query("#1", k=50))


def test_a_catalog_without_photos_gives_labels_and_no_hits(
    tiny_model: Model, tiny_weights: Path, archive: Path, tmp_path: Path
) -> None:
    with Catalog.open(tmp_path / "catalog", "create") as catalog:
        for model in (tiny_model, tiny_weights):
            result = catalog.query(archive / "day0" / "02.png", model=model)
            assert result.hits == ()
            assert len(result.labels) == 5
            assert (result.unknown, result.evidence) == (None, None)
        with pytest.raises(WeightsError, match="model pull"):
            catalog.query(archive / "day0" / "02.png")
        catalog.store.use_model(tiny_model)
        result = catalog.query(archive / "day0" / "02.png")
        assert (result.hits, len(result.labels)) == ((), 5)


def test_there_is_no_catalog_until_something_is_indexed(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no catalog here"):
        Catalog.open(tmp_path / "none", "read")
    with Catalog.open(tmp_path / "none") as catalog, pytest.raises(CatalogError, match="no catalog here"):
        catalog.query("#1")
    assert not (tmp_path / "none").exists()


def test_a_catalog_opened_for_reading_is_not_written(indexed: Path, archive: Path, tiny_model: Model) -> None:
    with Catalog.open(indexed, "read") as catalog:
        with pytest.raises(CatalogReadOnlyError, match="opened for reading"):
            catalog.index([archive], model=tiny_model)
        with pytest.raises(InvalidInputError, match="put a single folder into a list"):
            catalog.index(str(archive), model=tiny_model)
    with Catalog.open(indexed) as catalog, pytest.raises(InvalidInputError, match="'wrokers'"):
        catalog.index([archive], model=tiny_model, wrokers=3)


def test_a_query_works_on_a_catalog_that_cannot_be_written(
    indexed: Path, archive: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "catalog"
    shutil.copytree(indexed, copy)
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with Catalog.open(copy) as catalog:
            assert len(catalog.query(archive / "day0" / "02.png").hits) == COUNT - 1
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)


def test_another_model_is_refused_by_both_names(
    catalog: Catalog, archive: Path, other_model: Model, other_weights: Path, tiny_model: Model
) -> None:
    for given in (other_model, other_weights):
        # Also where the stored embedding would do: its answer would not be that model's.
        with pytest.raises(ModelMismatchError, match="--reembed") as caught:
            catalog.query(archive / "day0" / "02.png", model=given)
        assert tiny_model.sha256 in str(caught.value)
        assert other_model.sha256 in str(caught.value)


def _settings(folder: Path) -> Settings:
    return Settings(folder / "catalog", folder / "cache", None)


def test_weights_that_moved_are_asked_for_and_others_in_their_place_are_refused(
    archive: Path, tiny_weights: Path, other_weights: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    place = tmp_path / "mine.pt"
    shutil.copy(tiny_weights, place)
    asked = make_photo(tmp_path / "asked.png", 99)
    with Catalog.open(tmp_path / "catalog") as catalog:
        catalog.index([archive / "day0"], model=place, workers=1)
    with Catalog.open(tmp_path / "catalog", settings=_settings(tmp_path)) as catalog:
        expected = catalog.query(asked)
        assert len(expected.hits) == 6
    place.rename(tmp_path / "moved.pt")
    with Catalog.open(tmp_path / "catalog", settings=_settings(tmp_path)) as catalog:
        with pytest.raises(
            WeightsError, match=r"mine .*are not at .*mine.pt any more; name the file with --weights"
        ):
            catalog.query(asked)
        assert len(catalog.query("#1").hits) == 5
        assert catalog.query(asked, model=tmp_path / "moved.pt").hits == expected.hits
    shutil.copy(other_weights, place)
    with (
        Catalog.open(tmp_path / "catalog", settings=_settings(tmp_path)) as catalog,
        pytest.raises(ModelMismatchError, match=r"made with mine .* and .*mine.pt is another model"),
    ):
        catalog.query(asked)


def test_a_damaged_vector_of_a_photo_is_computed_again_for_the_query(
    indexed: Path, archive: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "catalog"
    shutil.copytree(indexed, copy)
    photo = archive / "day0" / "02.png"
    with Catalog.open(copy, "write") as catalog:
        before = catalog.query(photo)
        bad = np.full(128, np.nan, "<f4").tobytes()
        with catalog.store.writing() as connection:
            connection.execute(
                sa.update(schema.embedding)
                .where(schema.embedding.c.view_id == before.query.photo_id)
                .values(vector=bad)
            )
        after = catalog.query(photo)
    assert names(before) == names(after)


def test_several_threads_may_ask_while_photos_are_added(
    archive: Path, tiny_model: Model, make_photo: MakePhoto, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    shutil.copytree(archive / "day0", root)
    failures: list[BaseException] = []
    stop = threading.Event()
    with Catalog.open(tmp_path / "catalog") as catalog:
        catalog.index([root], model=tiny_model, workers=1)

        def ask() -> None:
            try:
                while not stop.is_set():
                    hits = catalog.query("#1", k=100).hits
                    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                    assert 5 <= len(hits) <= 25
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seed in range(600, 620):
            make_photo(root / f"{seed}.png", seed)
        catalog.index([root], model=tiny_model, workers=1, batch_size=2)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(catalog.query("#1", k=100).hits) == 25


def test_the_answer_as_json_types_has_the_documented_keys(catalog: Catalog, archive: Path) -> None:
    answer = catalog.query(archive / "day0" / "02.png", k=1).to_dict()
    assert list(answer) == ["query", "hits", "labels", "unknown", "warnings", "evidence"]
    assert answer["query"] == {"path": str(archive / "day0" / "02.png"), "photo_id": 2, "box": None}
    hits, labels = answer["hits"], answer["labels"]
    assert isinstance(hits, list)
    assert isinstance(labels, list)
    assert list(hits[0]) == [
        *("rank", "similarity", "path", "photo_id", "view_id", "view", "box", "label", "label_probability"),
        *("captured_at", "lat", "lon", "camera", "width", "height", "verified", "coarse"),
    ]
    assert hits[0]["box"] == [0.0, 0.0, 1.0, 1.0]
    assert list(labels[0]) == ["name", "scientific_name", "rank", "probability", "p_model", "p_knn"]
    assert isinstance(answer["unknown"], float)
    evidence = answer["evidence"]
    assert isinstance(evidence, dict)
    assert list(evidence) == ["name", "rank", "probability", "lambda", "calibrated", "neighbours"]
    assert (evidence["lambda"], evidence["calibrated"], evidence["neighbours"]) == (0.0, False, [])
    assert birdsearch.Catalog is Catalog


@pytest.mark.parametrize("decode", ["scaled", "full"])
def test_a_query_is_decoded_as_the_catalog_was(
    decode: str, tmp_path: Path, tiny_model: Model, make_photo: MakePhoto
) -> None:
    make_photo(tmp_path / "archive" / "large.jpg", 90, size=(1600, 1200), quality=90)
    # The same pixels, coded in another way: the picture is not known, so that it is decoded.
    make_photo(tmp_path / "same.jpg", 90, size=(1600, 1200), quality=90, optimize=True)
    with Catalog.open(tmp_path / "catalog", "create") as catalog:
        catalog.index([tmp_path / "archive"], model=tiny_model, decode=decode)
        assert catalog.query(tmp_path / "same.jpg", model=tiny_model).hits[0].similarity == 1.0
        # The two ways do differ here, or nothing above would mean anything.
        other = "full" if decode == "scaled" else "scaled"
        assert _pixels(tmp_path / "same.jpg", decode) != _pixels(tmp_path / "same.jpg", other)


def _pixels(path: Path, decode: str) -> bytes:
    return decode_photo(path.read_bytes(), input_size=(32, 32), decode=decode).pixels.tobytes()


def test_a_query_whose_network_hangs_ends_with_an_error_that_says_so(
    indexed: Path,
    make_photo: MakePhoto,
    tiny_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = threading.Event()
    monkeypatch.setattr(type(tiny_model), "infer_pixels", lambda *_: end.wait(60))
    new = make_photo(tmp_path / "new.png", 4711)
    settings = Settings(tmp_path, tmp_path, None, stall_s=0.5)
    try:
        with Catalog.open(indexed, settings=settings) as catalog:
            with pytest.raises(
                StalledError, match=r"^the network gave no sign of life .*BIRDSEARCH_STALL_SECONDS"
            ):
                catalog.query(new, model=tiny_model)
            assert len(catalog.query(1).hits) == COUNT - 1
    finally:
        end.set()


def test_a_query_whose_network_does_not_load_ends_with_an_error_that_says_so(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr("birdsearch.search.catalog.catalog_model", lambda *_: end.wait(60))
    new = make_photo(tmp_path / "new.png", 4711)
    settings = Settings(tmp_path, tmp_path, None, stall_s=0.5)
    try:
        with Catalog.open(indexed, settings=settings) as catalog:
            for _ in range(2):
                with pytest.raises(StalledError, match=r"^the loading of the network gave no sign of life"):
                    catalog.query(new)
    finally:
        end.set()
