"""Equal files are decoded once, and are written after the file that they equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog.records import FileTask, FoundFile
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.in_flight import InFlight
from birdsearch.model.images.decode import DecodedPhoto, FileDigests
from birdsearch.model.images.exif import read_exif
from birdsearch.model.images.worker.pool import Decoded, DecodeTask, Failed, Known

DIGEST, OTHER = FileDigests(b"a" * 32, b"A" * 33), FileDigests(b"b" * 32, b"B" * 33)


@pytest.fixture
def in_flight(tmp_path: Path) -> Iterator[InFlight]:
    with CatalogStore.open(tmp_path, "create") as store, InFlight(store, 1) as in_flight:
        yield in_flight


def _task(name: str) -> DecodeTask:
    return DecodeTask(name, name.encode(), 1, 0)


def _decodes(in_flight: InFlight, digests: FileDigests) -> bool:
    task = FileTask(1, b"/", FoundFile(b"a.jpg", 1, 0, 0, 1, 1), None, None)
    return in_flight.judge(task, digests).do == "decode"


def _decoded(name: str, digest: FileDigests) -> Decoded:
    photo = DecodedPhoto(
        format="PNG",
        width=1,
        height=1,
        pixels=np.zeros((1, 1, 3), np.uint8),
        capture=read_exif(None),
        phash=bytes(8),
        sharpness=0.0,
    )
    return Decoded(_task(name), digest, photo)


def test_a_content_is_decoded_by_the_first_file_that_has_it(in_flight: InFlight) -> None:
    assert _decodes(in_flight, DIGEST)
    assert not _decodes(in_flight, DIGEST)
    assert _decodes(in_flight, OTHER)


def test_of_a_picture_that_is_being_decoded_only_the_metadata_of_other_files_is_read(
    in_flight: InFlight,
) -> None:
    task = FileTask(1, b"/", FoundFile(b"a.jpg", 1, 0, 0, 1, 1), None, None)
    assert in_flight.judge(task, DIGEST).do == "decode"
    assert in_flight.judge(task, DIGEST).do == "skip"
    edited = FileDigests(DIGEST.picture, b"C" * 33)
    assert in_flight.judge(task, edited).do == "see"


def test_a_copy_that_is_read_first_waits_for_its_original_to_be_decoded(in_flight: InFlight) -> None:
    _decodes(in_flight, DIGEST)
    early, late = Known(_task("early"), DIGEST), Known(_task("late"), DIGEST)
    original = _decoded("original", DIGEST)
    assert list(in_flight.in_order(early)) == []
    (unrelated,) = in_flight.in_order(_decoded("unrelated", OTHER))
    assert unrelated.task.key == "unrelated"
    assert [result.task.key for result in in_flight.in_order(original)] == ["original", "early"]
    assert list(in_flight.in_order(late)) == [late]


def test_a_copy_of_a_file_that_fails_fails_for_the_same_reason(in_flight: InFlight) -> None:
    _decodes(in_flight, DIGEST)
    error = PhotoError("decode", "truncated", "the file ends early")
    assert list(in_flight.in_order(Known(_task("copy"), DIGEST))) == []
    results = list(in_flight.in_order(Failed(_task("original"), DIGEST, error)))
    assert [(result.task.key, type(result)) for result in results] == [("original", Failed), ("copy", Failed)]
    assert all(isinstance(result, Failed) and result.error is error for result in results)
    # Nobody has the content any more: the next file with it is tried for itself.
    assert _decodes(in_flight, DIGEST)


def test_a_copy_whose_original_never_came_is_tried_again_and_not_lost(in_flight: InFlight) -> None:
    _decodes(in_flight, DIGEST)
    copy = Known(_task("copy"), DIGEST)
    assert list(in_flight.in_order(copy)) == []
    (failed,) = in_flight.left()
    assert (failed.task, failed.digests, failed.error.transient) == (copy.task, DIGEST, True)
    assert list(in_flight.left()) == []


def test_a_file_that_could_not_be_read_passes_through(in_flight: InFlight) -> None:
    failed = Failed(_task("gone"), None, PhotoError("read", "vanished", "it is gone", transient=True))
    assert list(in_flight.in_order(failed)) == [failed]


def test_what_was_committed_is_answered_for_by_the_catalog(in_flight: InFlight) -> None:
    _decodes(in_flight, DIGEST)
    in_flight.committed([DIGEST])
    # This catalog holds nothing, so the content is to be decoded again.
    assert _decodes(in_flight, DIGEST)
