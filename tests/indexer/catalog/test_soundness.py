"""Bytes of the database that changed on the disk: each is found, and what decides answers is refused."""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.deployments import read_deployments
from birdsearch.indexer.catalog.probes import probe_in_use
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.indexer.verify import check_catalog
from birdsearch.search.labels.calibration import Calibration, load_calibration
from tests.soak import repeats

REPOSITORY = Path(__file__).parents[3]
CLASSES = ["Mallard", "Barn owl"]
DIM = 16


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A small catalog whose decisive values each are easily found in the file."""
    rng = np.random.default_rng(0)
    rows: dict[str, dict[str, Any]] = {
        "root": {"id": 1, "path": b"/archive-of-old", "added_at": "2024"},
        "model": {
            "id": 1,
            "name": "m",
            "network": "n",
            "sha256": "0" * 64,
            "preprocessing": "p",
            "embedding_size": DIM,
            "classes": json.dumps(CLASSES),
            "head_weight": rng.normal(size=(2, DIM)).astype("<f4").tobytes(),
            "head_bias": b"HEADBIAS",
        },
        "meta": {"key": "model", "value": "1"},
        "run": {"id": 1, "command": "index", "version": "0", "started_at": "2024"},
        "photo": {
            "id": 1,
            "digest": bytes(32),
            "size": 9,
            "format": "JPEG",
            "width": 4,
            "height": 3,
            "captured_at": "2024-05-01T06:30:00",
            "latitude": 51.515625,
            "longitude": 7.1,
            "camera": "Camera",
        },
        "file": {
            "id": 1,
            "root_id": 1,
            "path": b"barn/owl.jpg",
            "state": "present",
            "photo_id": 1,
            "size": 9,
            "mtime_ns": 1,
            "ctime_ns": 1,
            "device": 1,
            "inode": 1,
            "transient": 0,
        },
        "view": {"id": 1, "photo_id": 1, "kind": "whole", "x": 0, "y": 0, "w": 1, "h": 1},
        "taxon": {
            "id": 1,
            "key": "barn owl",
            "name": "Barn owl",
            "scientific_name": "Tyto alba",
            "genus": "Tyto",
            "family": "Tytonidae",
            "order_name": "Strigiformes",
        },
        "annotation": {
            "id": 1,
            "view_id": 1,
            "taxon_id": 1,
            "verdict": "positive",
            "who": "me",
            "at": "2024-05-02",
            "source": "set",
            "run_id": 1,
        },
        "calibration": {
            "id": 1,
            "model_id": 1,
            "run_id": 1,
            "created_at": "2024",
            "parameters": Calibration(photos=9, groups=9, labels=2).to_json(),
        },
        "probe": {
            "id": 1,
            "model_id": 1,
            "run_id": 1,
            "created_at": "2024",
            "classes": json.dumps(["Wren", "Rook"]),
            "weight": rng.normal(size=(2, DIM)).astype("<f4").tobytes(),
            "bias": bytes(8),
            "parameters": "{}",
        },
        "deployment": {
            "id": 1,
            "name": "west",
            "site": "Western pond",
            "folder": b"/west",
            "run_id": 1,
            "latitude": 52.1,
            "longitude": 7.1,
        },
    }
    with CatalogStore.open(tmp_path / "catalog", "create") as store, store.writing() as connection:
        for name, values in rows.items():
            connection.execute(sa.insert(schema.metadata.tables[name]).values(**values))
        connection.execute(sa.insert(schema.meta).values(key="probe:1", value="1"))
    return tmp_path / "catalog"


def places(catalog: Path, value: bytes) -> list[int]:
    content = (catalog / "birdsearch.sqlite").read_bytes()
    found = [content.find(value)]
    while found[-1] >= 0:
        found.append(content.find(value, found[-1] + 1))
    return found[:-1]


def change(catalog: Path, place: int, bit: int = 1) -> None:
    file = catalog / "birdsearch.sqlite"
    content = bytearray(file.read_bytes())
    content[place] ^= bit
    file.write_bytes(content)


def problems(catalog: Path) -> list[str]:
    with CatalogStore.open(catalog) as store:
        return [f"{problem.where}: {problem.what}" for problem in check_catalog(store).problems]


LATITUDE = struct.pack(">d", 51.515625)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"archive-of-old", "root row 1"),
        (b"2024-05-01T06", "/archive-of-old/barn/owl.jpg (photo 1), photo row 1"),
        (LATITUDE, "photo row 1"),
        (b"barn/owl.jpg", "/archive-of-old/barn/"),
        (b"positive", "/archive-of-old/barn/owl.jpg (photo 1), annotation row 1"),
        (b"Tyto alba", "taxon row 1"),
        (b"Western pond", "deployment row 1"),
        (b"HEADBIAS", "model row 1"),
        (b'"Barn owl"]', "model row 1"),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) and not value.isascii() else str(value)[:16],
)
def test_a_changed_byte_of_what_decides_answers_is_found_in_either_copy_and_named(
    catalog: Path, value: bytes, named: str
) -> None:
    assert problems(catalog) == []
    found = [place for place in places(catalog, value) if _is_a_row(catalog, place)]
    assert len(found) >= 2
    for place in found:
        change(catalog, place, 2)
        said = problems(catalog)
        assert said, f"byte {place} of {value!r}"
        change(catalog, place, 2)
    assert problems(catalog) == []
    change(catalog, found[-1], 2)
    assert any(named in one for one in problems(catalog)), problems(catalog)
    assert any("restore the catalog from a backup" in one for one in problems(catalog))


def _is_a_row(catalog: Path, place: int) -> bool:
    """False on the first pages, which hold the statements of the schema."""
    page = (catalog / "birdsearch.sqlite").read_bytes()[place // 4096 * 4096 :][:4096]
    return b"CREATE " not in page


READERS: list[tuple[str, bytes, Callable[[CatalogStore], object]]] = [
    ("model", b"HEADBIAS", lambda store: store.active_model()),
    ("annotation", b"positive", labels_in_force),
    ("taxon", b"Tyto alba", labels_in_force),
    ("calibration", b'"sharpness"', lambda store: load_calibration(store, 1)),
    ("probe", b'"Rook"]', lambda store: probe_in_use(store, 1)),
    ("deployment", b"Western pond", read_deployments),
    ("meta", b"probe:1", lambda store: probe_in_use(store, 1)),
]


@pytest.mark.parametrize(("table", "value", "read"), READERS, ids=[name for name, _, _ in READERS])
def test_what_decides_answers_is_refused_when_it_is_damaged(
    catalog: Path, table: str, value: bytes, read: Callable[[CatalogStore], object]
) -> None:
    with CatalogStore.open(catalog) as store:
        read(store)
    for place in [place for place in places(catalog, value) if _is_a_row(catalog, place)]:
        change(catalog, place + 1)
        damaged = pytest.raises(CatalogError, match=f"{table} row .* Restore the catalog from a backup")
        with CatalogStore.open(catalog) as store, damaged:
            read(store)
        change(catalog, place + 1)


def _held_once() -> Iterator[tuple[str, str]]:
    """Columns that lie in no second place, each with what tells that it changed."""
    # The vector has a crc32; so has a fingerprint, in itself.
    yield from (("embedding", "vector"), ("embedding", "crc32"), ("fingerprint", "content"))
    # Compared with the file itself, which is read again where they differ.
    yield from (("file", name) for name in ("size", "mtime_ns", "ctime_ns"))
    # Compared by the vector index that follows them.
    yield from (("change", name) for name in ("op", "view_id", "model_id"))


def test_every_column_is_held_twice_or_has_a_reason_not_to_be(tmp_path: Path) -> None:
    CatalogStore.open(tmp_path, "create").close()
    connection = sqlite3.connect(tmp_path / "birdsearch.sqlite")
    once = set()
    for name, table in schema.metadata.tables.items():
        indexed = {
            row[0]
            for row in connection.execute(
                "SELECT held.name FROM pragma_index_list(?) AS listed, pragma_index_info(listed.name) AS held",
                (name,),
            )
        }
        # The number of a row is in every index of its table.
        numbers = {column.name for column in table.primary_key} if len(table.primary_key) == 1 else set()
        held = indexed | (numbers if indexed else set())
        once |= {(name, column.name) for column in table.c if column.name not in held}
    connection.close()
    # A new column belongs into the index `<table>_twice`, which its migration makes anew.
    assert once - {("change", "seq")} == set(_held_once())


def test_a_changed_statement_of_the_schema_is_found(catalog: Path) -> None:
    (place,) = places(catalog, b"CREATE INDEX annotation_view ON")
    change(catalog, place + len("CREATE INDEX annotation_"), 32)
    assert any(one.startswith("annotation_view: its definition") for one in problems(catalog))


def test_changed_bytes_of_a_catalog_never_change_an_answer_without_a_word(tmp_path: Path) -> None:
    changes = repeats(5, 25)
    done = subprocess.run(
        [
            *(sys.executable, str(REPOSITORY / "benchmarks" / "damage.py")),
            *("--changes", str(changes), "--photos", "20", "--seed", "3"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{changes} changed bytes" in done.stdout


def test_a_crash_over_a_damaged_row_says_that_the_catalog_is_damaged(catalog: Path) -> None:
    place = next(place for place in places(catalog, b"2024-05-01T06") if _is_a_row(catalog, place))
    change(catalog, place + 5, 0x40)
    with pytest.raises(CatalogError, match="the catalog is damaged: photo row 1"), CatalogStore.open(catalog):
        datetime.fromisoformat("2024-p5-01")
    change(catalog, place + 5, 0x40)
    with pytest.raises(KeyError), CatalogStore.open(catalog):
        raise KeyError("a fault of the program")


def test_a_damaged_place_is_named_and_is_no_answer(catalog: Path, caplog: pytest.LogCaptureFixture) -> None:
    with CatalogStore.open(catalog) as store:
        assert store.photos([1])[1].latitude == 51.515625
    for place in places(catalog, LATITUDE):
        caplog.clear()
        change(catalog, place + 3)
        with CatalogStore.open(catalog) as store:
            found = [store.photos([1])[1] for _ in range(2)][1]
        change(catalog, place + 3)
        assert (found.latitude, found.longitude, found.camera) == (None, 7.1, "Camera")
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith("photo 1 (/archive-of-old/barn/owl.jpg): when or where it was taken")
