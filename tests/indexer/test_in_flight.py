"""Equal files are decoded once, and are written after the file that they equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog.records import FileTask, FoundFile
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.in_flight import Claims
from birdsearch.model.images.decode import DecodedPhoto, FileDigests
from birdsearch.model.images.exif import read_exif
from birdsearch.model.images.worker.pool import Decoded, DecodeTask, Failed, Known

DIGEST, OTHER = FileDigests(b"a" * 32, b"A" * 33), FileDigests(b"b" * 32, b"B" * 33)


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    with CatalogStore.open(tmp_path, "create") as store, Claims(store, 1) as claims:
        yield claims


def _task(name: str) -> DecodeTask:
    return DecodeTask(name, name.encode(), 1, 0)


def _decodes(claims: Claims, digests: FileDigests) -> bool:
    task = FileTask(1, b"/", FoundFile(b"a.jpg", 1, 0, 0, 1, 1), None, None)
    return claims.judge(task, digests).do == "decode"


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


def test_a_content_is_decoded_by_the_first_file_that_has_it(claims: Claims) -> None:
    assert _decodes(claims, DIGEST)
    assert not _decodes(claims, DIGEST)
    assert _decodes(claims, OTHER)


def test_of_a_picture_that_is_being_decoded_only_the_metadata_of_other_files_is_read(claims: Claims) -> None:
    task = FileTask(1, b"/", FoundFile(b"a.jpg", 1, 0, 0, 1, 1), None, None)
    assert claims.judge(task, DIGEST).do == "decode"
    assert claims.judge(task, DIGEST).do == "skip"
    edited = FileDigests(DIGEST.picture, b"C" * 33)
    assert claims.judge(task, edited).do == "see"


def test_a_copy_that_is_read_first_waits_for_its_original_to_be_decoded(claims: Claims) -> None:
    _decodes(claims, DIGEST)
    early, late = Known(_task("early"), DIGEST), Known(_task("late"), DIGEST)
    original = _decoded("original", DIGEST)
    assert list(claims.in_order(early)) == []
    (unrelated,) = claims.in_order(_decoded("unrelated", OTHER))
    assert unrelated.task.key == "unrelated"
    assert [result.task.key for result in claims.in_order(original)] == ["original", "early"]
    assert list(claims.in_order(late)) == [late]


def test_a_copy_of_a_file_that_fails_fails_for_the_same_reason(claims: Claims) -> None:
    _decodes(claims, DIGEST)
    error = PhotoError("decode", "truncated", "the file ends early")
    assert list(claims.in_order(Known(_task("copy"), DIGEST))) == []
    results = list(claims.in_order(Failed(_task("original"), DIGEST, error)))
    assert [(result.task.key, type(result)) for result in results] == [("original", Failed), ("copy", Failed)]
    assert all(isinstance(result, Failed) and result.error is error for result in results)
    # Nobody has the content any more: the next file with it is tried for itself.
    assert _decodes(claims, DIGEST)


def test_a_copy_whose_original_never_came_is_tried_again_and_not_lost(claims: Claims) -> None:
    _decodes(claims, DIGEST)
    copy = Known(_task("copy"), DIGEST)
    assert list(claims.in_order(copy)) == []
    (failed,) = claims.left()
    assert (failed.task, failed.digests, failed.error.transient) == (copy.task, DIGEST, True)
    assert list(claims.left()) == []


def test_a_file_that_could_not_be_read_passes_through(claims: Claims) -> None:
    failed = Failed(_task("gone"), None, PhotoError("read", "vanished", "it is gone", transient=True))
    assert list(claims.in_order(failed)) == [failed]


def test_what_was_committed_is_answered_for_by_the_catalog(claims: Claims) -> None:
    _decodes(claims, DIGEST)
    claims.committed([DIGEST])
    # This catalog holds nothing, so the content is to be decoded again.
    assert _decodes(claims, DIGEST)
