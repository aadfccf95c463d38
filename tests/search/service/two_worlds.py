"""Two catalogs that differ only in where in its cell a sensitive bird and what is near it were photographed.

Nothing that is told of one may differ from what is told of the other; and what is told of either holds no exact
place. The files are real ones, with their places in their EXIF.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa
from PIL import Image

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.deployments import store_deployments
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.catalog import Catalog
from birdsearch.search.sightings.deployments import parse_deployments

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

SPECIES = "Red kite"
NEST, OTHER_NEST = (47.123456, 8.567891), (46.223344, 7.311122)
TRAP = (47.123489, 8.567777)
HOME, ABROAD = (46.654321, 9.876543), (46.512345, 9.234567)
CELLS = {NEST: (47.1, 8.6), OTHER_NEST: (46.2, 7.3)}
SITE, DEPLOYMENT = "Hollow oak", "oak-camera-7"
MOVED = (-0.017, 0.0203)
"""Degrees that the second world's sensitive places lie from those of the first, in the same cells."""

_METRE = 1 / 111_195


@dataclass(frozen=True)
class Frame:
    """A photo of the worlds.

    Attributes:
        path: Below the archive.
        place: Degrees, or None.
        taken: As EXIF writes it, or None.
        seed: Of its picture.
        camera: Model.
        hidden: Whether its place is to be told coarsely only.
    """

    path: str
    place: tuple[float, float] | None
    taken: str | None
    seed: int
    camera: str | None = "Z 9"
    hidden: bool = True


def _beside(place: tuple[float, float], metres: float) -> tuple[float, float]:
    return round(place[0] + metres * _METRE, 6), round(place[1] - metres * _METRE, 6)


FRAMES = (
    Frame("visit/DSC_0001.jpg", NEST, "2024:05:10 10:00:00", 1),
    Frame("visit/DSC_0002.jpg", _beside(NEST, 4), "2024:05:10 10:00:02", 2),
    Frame("visit/DSC_0003.jpg", _beside(NEST, 30), "2024:05:10 10:20:00", 3),
    Frame("visit/DSC_0004.jpg", _beside(NEST, 2), None, 4),
    # Another camera in the same minute, and what an editor wrote without its time and camera.
    Frame("friend/IMG_7001.jpg", _beside(NEST, 5), "2024:05:10 10:00:31", 5, "EOS R5"),
    Frame("edited/kite.jpg", _beside(NEST, 1), None, 1, None),
    # A camera that stood there for months, and tells no place itself.
    Frame("trap/TRAP0001.jpg", None, "2024:05:10 10:01:00", 6, "BTC-8A"),
    Frame("trap/TRAP0002.jpg", None, "2024:07:20 05:00:00", 7, "BTC-8A"),
    # A verified frame whose file is gone hides what was taken with it.
    Frame("gone/DSC_0100.jpg", OTHER_NEST, "2024:06:01 07:00:00", 8),
    Frame("gone/DSC_0101.jpg", _beside(OTHER_NEST, 6), "2024:06:01 07:00:02", 9),
    Frame("home/DSC_0201.jpg", HOME, "2024:05:10 10:05:00", 10, hidden=False),
    Frame("home/DSC_0202.jpg", _beside(HOME, 3), "2024:05:10 10:05:01", 11, hidden=False),
    Frame("home/DSC_0203.jpg", ABROAD, "2024:05:30 10:05:00", 12, "EOS R5", hidden=False),
    Frame("home/DSC_0204.jpg", _beside(ABROAD, 8), "2024:08:30 10:05:00", 13, "EOS R5", hidden=False),
)


COMMON = tuple(
    Frame(
        f"home/2023/A{number:04d}.jpg",
        _beside(HOME, number),
        f"2023:{number % 12 + 1:02d}:{number % 28 + 1:02d} 10:05:00",
        100 + number,
        hidden=False,
    )
    for number in range(40)
)
"""What an archive needs beside to be measured."""


@dataclass
class World:
    """One of the two.

    Attributes:
        catalog: Its folder.
        archive: The photos, the same files for both.
        ids: Photo ids by path.
        is_first: Whether places are those of the frames.
    """

    catalog: Path
    archive: Path
    ids: Mapping[str, int] = field(default_factory=dict)
    is_first: bool = True

    @property
    def secrets(self) -> set[tuple[float, float]]:
        """The exact places that nothing may tell."""
        places = {TRAP} | {frame.place for frame in FRAMES if frame.hidden and frame.place is not None}
        return {place if self.is_first else moved(place) for place in places}

    def copied(self, folder: Path) -> World:
        """The same with a catalog of its own."""
        name = "one" if self.is_first else "two"
        return replace(self, catalog=Path(shutil.copytree(self.catalog, folder / name / "catalog")))


def moved(place: tuple[float, float]) -> tuple[float, float]:
    """The place in the second world."""
    return round(place[0] + MOVED[0], 6), round(place[1] + MOVED[1], 6)


def _exif(frame: Frame) -> Image.Exif:
    exif = Image.Exif()
    if frame.camera is not None:
        exif[0x010F], exif[0x0110] = "Maker", frame.camera
    if frame.taken is not None:
        exif.get_ifd(0x8769)[0x9003] = frame.taken
    if frame.place is not None:
        gps = exif.get_ifd(0x8825)
        for tag, reference, degrees in ((1, "N", frame.place[0]), (3, "E", frame.place[1])):
            gps[tag], gps[tag + 1] = reference, (degrees, 0.0, 0.0)
    return exif


def _picture(seed: int) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)


def make_worlds(folder: Path, model: Model) -> tuple[World, World]:
    """Write the archive and both catalogs."""
    archive = folder / "archive"
    for frame in (*FRAMES, *COMMON):
        path = archive / frame.path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A copy is saved anew.
        quality = 70 if frame.path.startswith("edited/") else 95
        _picture(frame.seed).save(path, exif=_exif(frame), quality=quality)
    first, second = (folder / name / "catalog" for name in ("one", "two"))
    with Catalog.open(first, "create") as catalog:
        catalog.index([archive], model)
    with CatalogStore.open(first, "write") as store:
        table = deployments_table(archive, TRAP)
        store_deployments(store, parse_deployments(table, "sites.csv"), "deployments import")
        ids, views, taxonomy = _ids(store), _views(store), Taxonomy.load()
        names = {"visit/DSC_0001.jpg": SPECIES, "gone/DSC_0100.jpg": SPECIES}
        common = [frame.path for frame in (*FRAMES, *COMMON) if not frame.hidden]
        names |= {path: ("Great tit", "House sparrow")[place % 2] for place, path in enumerate(common)}
        labels = []
        for photo, name in names.items():
            taxon = taxonomy.find(name)
            assert taxon is not None
            assert taxon.sensitive == (name == SPECIES)
            labels.append((views[ids[photo]], taxon, "positive"))
        record(store, labels, "me", "test")
    (archive / "gone/DSC_0100.jpg").unlink()
    with Catalog.open(first, "write") as catalog:
        catalog.index([archive], model)
    shutil.copytree(first, second)
    with CatalogStore.open(second, "write") as store, store.writing() as connection:
        hidden = [ids[frame.path] for frame in FRAMES if frame.hidden]
        for moving, rows in ((schema.photo, schema.photo.c.id.in_(hidden)), (schema.deployment, sa.true())):
            place = {
                name: sa.func.round(moving.c[name] + by, 6)
                for name, by in zip(("latitude", "longitude"), MOVED, strict=True)
            }
            connection.execute(sa.update(moving).where(rows).values(place))
    return World(first, archive, ids), World(second, archive, ids, is_first=False)


def deployments_table(archive: Path, place: tuple[float, float]) -> str:
    """The CSV that says where the camera stood."""
    return f"deployment,site,folder,latitude,longitude\n{DEPLOYMENT},{SITE},{archive}/trap,{place[0]},{place[1]}\n"


def _ids(store: CatalogStore) -> dict[str, int]:
    file = schema.file.c
    with store.reading() as connection:
        rows = connection.execute(sa.select(file.path, file.photo_id)).all()
    return {row.path.decode(): row.photo_id for row in rows}


def _views(store: CatalogStore) -> dict[int, int]:
    view = schema.view.c
    with store.reading() as connection:
        return {row.photo_id: row.id for row in connection.execute(sa.select(view.photo_id, view.id))}


def notations(place: tuple[float, float]) -> Iterator[bytes]:
    """How a place may be written, to three decimals or more: decimal, in minutes and seconds, as EXIF has it."""
    for degrees in place:
        whole, rest = int(degrees), degrees - int(degrees)
        minutes = int(rest * 60)
        seconds = int((rest * 60 - minutes) * 60)
        decimals = f"{degrees:.6f}"[:-3]
        yield decimals.encode()
        yield decimals.replace(".", ",").encode()
        yield f"{whole}:{minutes:02d}:{seconds:02d}".encode()
        yield f"{whole}°{minutes:02d}'{seconds:02d}".encode()
        yield f"{whole}° {minutes}' {seconds}".encode()
        yield np.float64(degrees).tobytes()
        yield np.float64(degrees).tobytes()[::-1]


def leaks(content: bytes, world: World) -> list[bytes]:
    """What of the secret places stands in a text, a picture or a table."""
    return sorted({text for place in world.secrets for text in notations(place) if text in content})


# When a run was, in UTC, and how long it took.
_UNLIKE = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+\+00:00|\d+(?:\.\d+)? ?(?:ms|s)\b")


def alike(content: bytes, world: World) -> bytes:
    """An output without what differs from run to run and from catalog to catalog."""
    return _UNLIKE.sub(b"#", content.replace(str(world.catalog.parent).encode(), b"WORLD"))
