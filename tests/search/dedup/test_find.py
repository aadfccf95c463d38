"""Groups of copies in catalogs of real files: what is one, what is none, and which file is kept."""

from __future__ import annotations

import functools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.copies import read_distinct_pairs
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.outcomes import EmbeddedFile
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.plan import make_plan
from birdsearch.indexer.writer import CatalogWriter
from birdsearch.model.images.decode import DecodedPhoto, decode_photo, digest_file
from birdsearch.search.dedup.distinct import reject, unreject
from birdsearch.search.dedup.files import Folders
from birdsearch.search.dedup.find import CopyGroup, DedupOptions, DedupResult, find_copies
from birdsearch.search.dedup.fingerprint import FINGERPRINT_VERSION, fingerprint
from birdsearch.search.dedup.keep import KeepRules
from birdsearch.search.dedup.photos import PhotoArrays, compare_exposures, reaching, without

SEED = int(os.environ.get("BIRDSEARCH_TEST_SEED", "20240501"))
DIM = 16
MakePhoto = Callable[..., Path]
Index = Callable[..., CatalogStore]


@functools.cache
def looked_at(content: bytes, suffix: str) -> tuple[DecodedPhoto, bytes]:
    """A photo and its fingerprint; the same few are indexed over and over."""
    photo = decode_photo(content, input_size=(256, 256), suffix=suffix)
    return photo, fingerprint(photo.pixels, photo.width, photo.height).to_bytes()


@pytest.fixture
def index(make_catalog: Any) -> Index:
    """Index a folder as `birdsearch index` does, but in this process, and with fingerprints made along the way."""
    made: dict[str, Any] = {}

    def run(folder: Path, *, catalog: str = "catalog", shuffled: random.Random | None = None) -> CatalogStore:
        if catalog not in made:
            made[catalog] = make_catalog(DIM, catalog)
        store: CatalogStore = made[catalog].store
        model_id: int = made[catalog].model_id
        options: Any = {
            "follow_links": False,
            "retry_failed": False,
            "confirm_missing": True,
            "on_scan": lambda _: None,
        }
        plan = make_plan(store, [os.fsencode(folder)], model_id, **options)
        writer = CatalogWriter(store, model_id, "index")
        tasks = list(plan.tasks())
        if shuffled is not None:
            shuffled.shuffle(tasks)
        kept, found = {}, []
        for task in tasks:
            path = Path(os.fsdecode(task.absolute))
            content = path.read_bytes()
            photo, kept[digest_file(content).picture] = looked_at(content, path.suffix)
            # (256, 256, 3) -> (4, 64, 4, 64 * 3) -> (16,)
            vector = photo.pixels.reshape(4, 64, 4, -1).mean((1, 3)).ravel().astype(np.float32) - 127
            found.append(EmbeddedFile(task, digest_file(content), photo, vector))
        writer.commit(found)
        writer.reconcile(plan, confirm_missing=True)
        writer.finish("done", {})
        plan.close()
        with store.writing() as connection:
            for digest, photo_id in store.photo_ids(digests=sorted(kept)).items():
                connection.execute(
                    sa.insert(schema.fingerprint)
                    .prefix_with("OR REPLACE")
                    .values(photo_id=photo_id, version=FINGERPRINT_VERSION, content=kept[digest])
                )
        return store

    return run


def copies(store: CatalogStore, where: Where | None = None, **options: Any) -> DedupResult:
    model = store.active_model()
    assert model is not None
    return find_copies(store, model, DedupOptions(workers=1, **options), where)


def names(group: CopyGroup, folder: Path) -> tuple[str, ...]:
    """The kept file, then the others."""
    return tuple(os.fsdecode(file.path).removeprefix(f"{folder}/") for file in group.files)


def groups(result: DedupResult, folder: Path) -> list[tuple[str, ...]]:
    return [names(group, folder) for group in result.groups]


def exif(at: str | None = None, fraction: str | None = None, camera: str = "Nikon", serial: str = "") -> Any:
    made = Image.Exif()
    made[271] = camera
    ifd = made.get_ifd(0x8769)
    if at is not None:
        ifd[36867] = at
    if fraction is not None:
        ifd[37521] = fraction
    if serial:
        ifd[42033] = serial
    return made


def edited(source: Path, target: Path, width: int = 160, **options: Any) -> Path:
    """The same picture, of another size or compression."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        height = image.height * width // image.width
        image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(target, **options)
    return target


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    """Eight pictures; two have a smaller copy, one an exact one."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(8):
        make_photo(folder / "birds" / f"p{seed}.png", seed, size=(320, 240))
    edited(folder / "birds/p3.png", folder / "web/p3.jpg")
    edited(folder / "birds/p5.png", folder / "birds/p5-small.jpg")
    shutil.copy(folder / "birds/p4.png", folder / "birds/p4 (1).png")
    return folder


@pytest.fixture
def archive(tmp_path: Path, pictures: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "archive"))


FOUND = [
    ("birds/p3.png", "web/p3.jpg"),
    ("birds/p4.png", "birds/p4 (1).png"),
    ("birds/p5.png", "birds/p5-small.jpg"),
]


# -- what is a copy, and what is none ------------------------------------------------------------------------


def test_copies_and_near_copies_are_found_and_the_largest_is_kept(index: Index, archive: Path) -> None:
    result = copies(index(archive))
    assert groups(result, archive) == FOUND
    assert [group.is_exact for group in result.groups] == [False, True, False]
    assert result.warnings == ()
    assert result.photos == 10
    near, exact, _ = result.groups
    assert near.kept.reason == "0.077 megapixels, the other has 0.019"
    assert near.kept.role == "keep"
    assert exact.others[0].reason == "same content"
    assert exact.others[0].similarity == 1.0
    assert 0.8 < near.others[0].similarity <= 1.0
    assert result.movable == 3
    assert result.movable_bytes == sum(
        (archive / name).stat().st_size for name in ("web/p3.jpg", "birds/p4 (1).png", "birds/p5-small.jpg")
    )


def test_hard_links_and_links_never_count_as_copies(index: Index, archive: Path) -> None:
    (archive / "birds/linked.png").hardlink_to(archive / "birds/p1.png")
    (archive / "birds/soft.png").symlink_to(archive / "birds/p2.png")
    assert groups(copies(index(archive)), archive) == FOUND


def test_a_hard_linked_copy_is_one_file_that_stays(index: Index, archive: Path) -> None:
    (archive / "web/linked.jpg").hardlink_to(archive / "web/p3.jpg")
    result = copies(index(archive))
    group = result.groups[0]
    assert names(group, archive) == ("birds/p3.png", "web/linked.jpg")
    assert group.others[0].links == (os.fsencode(archive / "web/p3.jpg"),)
    assert group.others[0].role == "linked"
    assert group.movable == ()
    # Of equal files, the one that cannot be moved with any gain is kept.
    shutil.copy2(archive / "web/p3.jpg", archive / "a.jpg")
    store = index(archive)
    (group,) = (group for group in copies(store, Where(under=[archive / "web", archive / "a.jpg"])).groups)
    assert names(group, archive) == ("web/linked.jpg", "a.jpg")
    assert "several paths" in group.kept.reason


def test_missing_changed_and_unreadable_files_are_left_out_with_a_warning(
    index: Index, archive: Path
) -> None:
    store = index(archive)
    (archive / "birds/p4 (1).png").unlink()
    (archive / "web/p3.jpg").write_bytes(b"")
    result = copies(store)
    assert groups(result, archive) == FOUND[2:]
    assert sorted(warning.partition(": ")[2] for warning in result.warnings) == [
        "it cannot be found (No such file or directory); `birdsearch index` looks again",
        "it changed since it was indexed; run `birdsearch index` first",
    ]
    with store.writing() as connection:
        connection.execute(sa.update(schema.file).values(state="missing"))
    assert copies(store).groups == ()
    with store.writing() as connection:
        connection.execute(
            sa.update(schema.file).values(
                state="error", stage="read", code="io-error", reason="?", transient=1
            )
        )
    assert copies(store).groups == ()


@pytest.mark.parametrize(
    ("first", "second", "are_copies"),
    [
        (exif("2023:05:01 06:30:00"), exif("2023:05:01 06:30:01"), False),
        (exif("2023:05:01 06:30:00", "10"), exif("2023:05:01 06:30:00", "45"), False),
        (exif("2023:05:01 06:30:00", "10"), exif("2023:05:01 06:30:00"), True),
        (exif("2023:05:01 06:30:00"), exif("2023:05:01 06:30:00"), True),
        (exif("2023:05:01 06:30:00"), exif(None), True),
        (
            exif("2023:05:01 06:30:00", serial="1"),
            exif("2023:05:01 06:30:00", serial="2"),
            False,
        ),
    ],
    ids=["another second", "another fraction", "fraction dropped", "same second", "no time", "another body"],
)
def test_two_exposures_of_a_camera_are_no_copies_however_alike(
    index: Index, tmp_path: Path, make_photo: MakePhoto, first: Any, second: Any, are_copies: bool
) -> None:
    folder = tmp_path / "burst"
    make_photo(folder / "one.jpg", 1, size=(320, 240), exif=first, quality=95)
    edited(folder / "one.jpg", folder / "two.jpg", 320, exif=second, quality=80)
    assert bool(copies(index(folder)).groups) == are_copies


def test_frames_of_one_second_are_told_apart_by_the_numbers_of_their_camera(
    index: Index, tmp_path: Path, make_photo: MakePhoto
) -> None:
    folder = tmp_path / "burst"
    # A camera that writes no fraction, or whose first frame is at .000.
    taken = exif("2023:05:01 06:30:00")
    make_photo(folder / "IMG_1048.JPG", 1, size=(320, 240), exif=taken, quality=95)
    edited(folder / "IMG_1048.JPG", folder / "IMG_1049.JPG", 320, exif=exif("2023:05:01 06:30:00", "12"))
    edited(folder / "IMG_1048.JPG", folder / "web/IMG_1048_web.jpg", 200, exif=taken)
    (group,) = groups(copies(index(folder)), folder)
    assert group == ("IMG_1048.JPG", "web/IMG_1048_web.jpg")


def test_sizes_of_one_exposure_are_copies_whatever_numbers_they_are_named_by(
    index: Index, tmp_path: Path, make_photo: MakePhoto
) -> None:
    folder = tmp_path / "web"
    taken = exif("2023:05:01 06:30:00")
    make_photo(folder / "X-800.jpg", 1, size=(800, 600), exif=taken, quality=95)
    edited(folder / "X-800.jpg", folder / "X-640.jpg", 640, exif=taken)
    edited(folder / "X-800.jpg", folder / "X-320.jpg", 320, exif=taken)
    (group,) = groups(copies(index(folder)), folder)
    assert group == ("X-800.jpg", "X-320.jpg", "X-640.jpg")


def test_raw_and_heic_pairs_of_a_camera_are_no_copies(
    index: Index, tmp_path: Path, make_photo: MakePhoto
) -> None:
    folder = tmp_path / "camera"
    make_photo(folder / "DSC_1.JPG", 1, size=(320, 240), quality=95)
    edited(folder / "DSC_1.JPG", folder / "dsc_1.png", 320)
    edited(folder / "DSC_1.JPG", folder / "other/DSC_1.png", 200)
    store = index(folder)
    assert groups(copies(store), folder) == [("dsc_1.png", "DSC_1.JPG", "other/DSC_1.png")]
    # The camera's own formats cannot be written here; what the catalog says of them is what counts.
    for made in ("RAW", "HEIF"):
        with store.writing() as connection:
            connection.execute(
                sa.update(schema.photo).where(schema.photo.c.format == "PNG").values(format=made)
            )
            connection.execute(
                sa.update(schema.photo).where(schema.photo.c.format.in_(["RAW", "HEIF"])).values(format=made)
            )
        for group in groups(copies(store), folder):
            assert not {"dsc_1.png", "DSC_1.JPG"} <= set(group)


def test_a_wrong_pair_table_row_excludes_both_orders() -> None:
    pairs = np.array([[0, 1], [2, 1], [3, 4]])
    assert without(pairs, np.array([[1, 2], [4, 3]]), 5).tolist() == [[0, 1]]
    assert without(pairs, np.zeros((0, 2), np.int64), 5).tolist() == pairs.tolist()


def test_pairs_that_hang_together_with_a_wanted_place_are_reached() -> None:
    pairs = np.array([[0, 1], [1, 2], [3, 4], [5, 6]])
    wanted = np.isin(np.arange(8), [2, 6, 7])
    assert reaching(pairs, wanted).tolist() == [[0, 1], [1, 2], [5, 6]]
    assert reaching(np.zeros((0, 2), np.int64), wanted).tolist() == []


def test_exposures_compare_only_what_both_tell() -> None:
    nat = np.datetime64("NaT", "us")
    at, later = np.datetime64("2023-05-01T06:30:00.25", "us"), np.datetime64("2023-05-01T06:30:00.75", "us")
    camera = np.array([[1, 1], [1, 2], [1, -1], [1, 1], [1, 1]])
    serial = np.full((5, 2), -1)
    times = np.array([[at, later], [at, later], [at, later], [at, nat], [at, later]])
    has_fraction = np.array([[True, True]] * 4 + [[True, False]])
    apart, doubtful = compare_exposures(camera, serial, times, has_fraction)
    assert apart.tolist() == [True, False, False, False, False]
    assert doubtful.tolist() == [False, False, False, False, True]


# -- which is kept, and what is shown ------------------------------------------------------------------------


def test_files_in_a_reference_folder_are_kept_whatever_they_are(index: Index, archive: Path) -> None:
    shutil.copy(archive / "web/p3.jpg", archive / "web/again.jpg")
    store = index(archive)
    result = copies(store, references=[archive / "web"])
    group = result.groups[0]
    assert names(group, archive) == ("birds/p4.png", "birds/p4 (1).png")
    (of_p3,) = (group for group in result.groups if "web" in os.fsdecode(group.kept.path))
    assert of_p3.kept.reason.startswith("in a reference folder")
    assert [file.role for file in of_p3.others] == ["move", "reference"]
    assert [file.path.rpartition(b"/")[2] for file in of_p3.movable] == [b"p3.png"]
    # A group that lies wholly within is left out, by whatever name the folder is called.
    (archive.parent / "alias").symlink_to(archive)
    result = copies(store, references=[archive.parent / "alias"])
    assert result.groups == ()
    assert result.in_references == 3
    with pytest.raises(InvalidInputError, match="there is no such folder"):
        copies(store, references=[archive / "typo"])
    (archive.parent / "elsewhere").mkdir()
    assert "no indexed folder" in copies(store, references=[archive.parent / "elsewhere"]).warnings[0]


def test_across_folders_shows_what_is_hidden_elsewhere(index: Index, archive: Path) -> None:
    assert groups(copies(index(archive), across_folders=True), archive) == FOUND[:1]


def test_only_new_shows_what_the_last_import_brought_that_was_there_already(
    index: Index, archive: Path, make_photo: MakePhoto
) -> None:
    store = index(archive)
    make_photo(archive / "card/new.png", 50, size=(320, 240))
    shutil.copy(archive / "birds/p1.png", archive / "card/IMG.png")
    edited(archive / "birds/p2.png", archive / "card/IMG2.jpg")
    index(archive)
    index(archive)
    expected = [("birds/p1.png", "card/IMG.png"), ("birds/p2.png", "card/IMG2.jpg")]
    found = groups(copies(store, only_new=True), archive)
    assert sorted(tuple(sorted(group)) for group in found) == expected
    everything = copies(store)
    assert len(everything.groups) == 5
    assert copies(store, only_new=True).pairs < everything.pairs


def test_conditions_leave_files_elsewhere_alone(index: Index, archive: Path) -> None:
    store = index(archive)
    assert groups(copies(store, Where(under=[archive / "birds"])), archive) == FOUND[1:]
    assert groups(copies(store, Where(exclude_under=[archive / "birds"])), archive) == []
    assert groups(copies(store, Where(camera="nikon")), archive) == []


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>Mallard</rdf:li>'
    "</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def test_of_two_equal_files_the_one_whose_sidecar_names_the_species_is_kept(
    index: Index, archive: Path
) -> None:
    (archive / "birds/p4 (1).xmp").write_text(XMP)
    result = copies(index(archive))
    (group,) = [group for group in result.groups if b"p4" in group.kept.path]
    assert names(group, archive) == ("birds/p4 (1).png", "birds/p4.png")
    assert group.kept.reason == "keywords Mallard; the other has none"
    assert not any("keywords" in line for line in result.warnings)


def test_keywords_that_would_go_with_a_worse_file_are_warned_of(index: Index, archive: Path) -> None:
    (archive / "web/p3.jpg.xmp").write_text(XMP)
    store = index(archive)
    result = copies(store)
    (warning,) = [line for line in result.warnings if "keywords" in line]
    assert "1 file that would go has keywords that no file that stays has" in warning
    assert "web/p3.jpg (Mallard)" in warning
    result = copies(store, keep=KeepRules.parse("labels,resolution"))
    assert "web/p3.jpg" in [names(group, archive)[0] for group in result.groups]
    assert not any("keywords" in line for line in result.warnings)


def test_a_label_that_would_go_is_warned_of(index: Index, archive: Path) -> None:
    store = index(archive)
    photo_id = store.photo_at(os.fsencode(archive / "web/p3.jpg"))
    assert photo_id is not None
    record(store, [(store.whole_views([photo_id])[photo_id], new_taxon("Moss owl"), "positive")], "ada", "t")
    (warning,) = copies(store).warnings
    assert "1 kept photos bear no verified label" in warning
    assert "birds/p3.png" in warning


def test_raw_files_count_with_the_size_that_they_have_not_that_they_were_developed_to(
    index: Index, tmp_path: Path, make_photo: MakePhoto
) -> None:
    folder = tmp_path / "raw"
    make_photo(folder / "full.jpg", 1, size=(1600, 1200), quality=95)
    edited(folder / "full.jpg", folder / "raw.png", 800)
    store = index(folder)
    with store.writing() as connection:
        connection.execute(sa.update(schema.photo).where(schema.photo.c.format == "PNG").values(format="RAW"))
    (group,) = copies(store).groups
    assert names(group, folder) == ("raw.png", "full.jpg")
    assert group.kept.reason == "RAW, the other is JPEG"


# -- what a person says --------------------------------------------------------------------------------------


def test_a_rejected_group_comes_back_only_with_a_new_member_and_stays_apart(
    index: Index, archive: Path
) -> None:
    edited(archive / "birds/p3.png", archive / "more/p3.jpg", 180)
    store = index(archive)
    (three,) = (group for group in copies(store).groups if len(group.files) == 3)
    ids = [file.photo_id for file in three.files]
    assert reject(store, ids, "ada") == 3
    assert reject(store, ids, "ada") == 0
    assert [(pair.who, pair.first_id < pair.second_id) for pair in read_distinct_pairs(store)] == [
        ("ada", True)
    ] * 3
    assert groups(copies(store), archive) == FOUND[1:]
    edited(archive / "birds/p3.png", archive / "more/p3-new.jpg", 220)
    index(archive)
    new = store.photo_at(os.fsencode(archive / "more/p3-new.jpg"))
    (again,) = (group for group in copies(store).groups if new in {file.photo_id for file in group.files})
    assert len(again.files) == 2
    assert unreject(store, ids) == 3
    assert max(len(group.files) for group in copies(store).groups) == 4


def test_what_cannot_be_rejected_is_refused(index: Index, archive: Path) -> None:
    store = index(archive)
    with pytest.raises(InvalidInputError, match="these are one photo"):
        reject(store, [1, 1], "ada")
    with pytest.raises(InvalidInputError, match="photo 999 is not in the catalog"):
        reject(store, [1, 999], "ada")
    with pytest.raises(InvalidInputError, match="at most 500"):
        reject(store, list(range(1, 600)), "ada")


# -- what does not matter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_number", range(2))
def test_any_order_of_indexing_gives_the_same_groups_and_the_same_kept_files(
    index: Index, archive: Path, make_photo: MakePhoto, round_number: int
) -> None:
    print(f"seed {SEED} + {round_number}")
    generator = random.Random(SEED + round_number)
    for number in range(6):
        width = generator.choice([160, 200, 260])
        edited(archive / f"birds/p{generator.randrange(8)}.png", archive / f"x/{number}.jpg", width)
    result = copies(index(archive))
    shown = [(group.kept.path, group.kept.reason, group.is_exact) for group in result.groups]
    for catalog in ("second", "third"):
        other = copies(index(archive, catalog=catalog, shuffled=generator))
        assert groups(other, archive) == groups(result, archive)
        assert [(group.kept.path, group.kept.reason, group.is_exact) for group in other.groups] == shown
        similar = [[file.similarity for file in group.files] for group in result.groups]
        assert [[file.similarity for file in group.files] for group in other.groups] == similar


def test_a_catalog_open_for_reading_gives_the_same_and_keeps_the_fingerprints_alone(
    index: Index, archive: Path, tmp_path: Path
) -> None:
    store = index(archive)
    with store.writing() as connection:
        connection.execute(sa.delete(schema.fingerprint))
    count = sa.select(sa.func.count()).select_from(schema.fingerprint)
    with CatalogStore.open(store.path) as reader:
        result = copies(reader)
        assert groups(result, archive) == FOUND
        with reader.reading() as connection:
            # Those of the photos in question.
            assert 4 <= connection.execute(count).scalar_one() < 10
            runs = connection.execute(sa.select(schema.run.c.command)).scalars().all()
    assert "dedup" not in runs
    assert groups(copies(store), archive) == FOUND
    with store.reading() as connection:
        assert "dedup" in connection.execute(sa.select(schema.run.c.command)).scalars().all()


def test_a_photo_is_read_from_another_of_its_files_if_one_has_changed(index: Index, archive: Path) -> None:
    shutil.copy(archive / "birds/p3.png", archive / "a.png")
    store = index(archive)
    with store.writing() as connection:
        connection.execute(sa.delete(schema.fingerprint))
    # Other content under the old size and time: only reading it tells.
    before = (archive / "a.png").stat()
    content = bytearray((archive / "a.png").read_bytes())
    content[-1] ^= 1
    (archive / "a.png").write_bytes(content)
    os.utime(archive / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    (group, *_) = copies(store).groups
    assert {"birds/p3.png", "web/p3.jpg"} <= set(names(group, archive))


def test_a_fingerprint_that_is_damaged_or_of_another_version_is_made_again(
    index: Index, archive: Path
) -> None:
    store = index(archive)
    row = schema.fingerprint
    with store.writing() as connection:
        connection.execute(sa.update(row).where(row.c.photo_id % 2 == 0).values(content=b"damaged" * 9))
        connection.execute(sa.update(row).where(row.c.photo_id % 2 == 1).values(version=0))
    assert groups(copies(store), archive) == FOUND


def test_files_that_changed_places_are_left_out(index: Index, tmp_path: Path, make_photo: MakePhoto) -> None:
    folder = tmp_path / "swapped"
    for seed in (1, 2):
        make_photo(folder / f"{seed}.bmp", seed, size=(320, 240))
        edited(folder / f"{seed}.bmp", folder / f"{seed}-small.png")
    store = index(folder)
    with store.writing() as connection:
        connection.execute(sa.delete(schema.fingerprint))
    paths = [folder / "1.bmp", folder / "2.bmp"]
    times = [path.stat().st_mtime_ns for path in paths]
    contents = [path.read_bytes() for path in paths]
    for path, content, at in zip(paths, reversed(contents), times, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(at, at))
    result = copies(store)
    assert result.groups == ()
    assert result.warnings == (
        f"{paths[0]} and 1 more file left out: its content changed since it was indexed",
    )


def test_photos_are_in_the_order_of_their_contents(index: Index, archive: Path) -> None:
    store = index(archive, shuffled=random.Random(1))
    model = store.active_model()
    assert model is not None
    ids = PhotoArrays.read(store, model, Where()).ids.tolist()
    digests = [store.photos(ids)[photo_id].digest for photo_id in ids]
    assert digests == sorted(digests)
    assert ids != sorted(ids)


def test_an_empty_catalog_has_no_copies(index: Index, tmp_path: Path, make_photo: MakePhoto) -> None:
    make_photo(tmp_path / "one" / "one.png", 1)
    store = index(tmp_path / "one")
    result = copies(store)
    assert (result.groups, result.photos, result.pairs) == ((), 1, 0)
    with store.writing() as connection:
        connection.execute(sa.update(schema.file).values(state="missing"))
    assert copies(store).photos == 0


def test_folders_hold_what_lies_in_them_and_no_namesake(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folders = Folders([tmp_path / "a"])
    assert folders.hold(os.fsencode(tmp_path / "a/b.jpg"))
    assert not folders.hold(os.fsencode(tmp_path / "ab/b.jpg"))
    assert not Folders([])


def test_keep_rules_decide(index: Index, archive: Path) -> None:
    kept = groups(copies(index(archive), keep=KeepRules.parse("path:web,oldest")), archive)
    assert ("web/p3.jpg", "birds/p3.png") in kept
